"""JSON as rows: a row a line, a list of rows, and Karpathy's caption files."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from geovlm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

# Rows need not have the same names; those of the first ones are the columns.
FIRST_ROWS = 1000


@frozen(kw_only=True)
class LinesReader:
    """JSON lines."""

    path: Path
    columns: Sequence[str]

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    def rows(self, columns: Sequence[str] | None = None, *, texts: frozenset[str]) -> Iterator[dict[str, Any]]:  # noqa: ARG002 - cells have types
        """Yield rows, whole."""
        yield from _json_lines(self.path)


def open_lines(path: Path) -> LinesReader:
    """Read the columns from the first rows."""
    return LinesReader(path=path, columns=_names(islice(_json_lines(path), FIRST_ROWS)))


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    number = 0
    with path.open(encoding="utf-8-sig") as file:
        try:
            for number, line in enumerate(file, 1):
                if not line.isspace():
                    yield _as_row(json.loads(line), f"{path}, line {number}")
        except json.JSONDecodeError as error:
            raise UsageError(f"{path}, line {number}, column {error.colno}: not valid JSON ({error.msg}).") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{path}, after line {number}: not UTF-8 text; save it as UTF-8.") from error


@frozen(kw_only=True)
class RowsReader:
    """Rows in memory, from a JSON file, which cannot be read in pieces."""

    name: str
    columns: Sequence[str]
    held: Sequence[dict[str, Any]] = field(repr=False)

    def rows(self, columns: Sequence[str] | None = None, *, texts: frozenset[str]) -> Iterator[dict[str, Any]]:  # noqa: ARG002 - cells have types
        """Yield rows, whole."""
        yield from self.held


def open_json(path: Path) -> RowsReader | LinesReader:
    """Read a list of rows, a Karpathy file, or JSON lines that are called `.json`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and error.lineno > 1:
            return open_lines(path)
        raise UsageError(f"{path}, line {error.lineno}, column {error.colno}: not valid JSON ({error.msg}).") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8.") from error
    if isinstance(content, dict) and isinstance(content.get("images"), list) and "annotations" not in content:
        rows = [_karpathy(_as_row(entry, f"{path}, images[{i}]")) for i, entry in enumerate(content["images"])]
    elif isinstance(content, list):
        rows = [_as_row(entry, f"{path}, entry {i}") for i, entry in enumerate(content)]
    else:
        raise UsageError(
            f"{path} is neither a list of rows nor a Karpathy file"
            ' ({"images": [{"filename": …, "sentences": [{"raw": …}]}]}).'
        )
    return RowsReader(name=path.name, columns=_names(rows), held=rows)


def _karpathy(entry: dict[str, Any]) -> dict[str, Any]:
    """One image: `filepath` is its path, or (as for COCO) the folder of `filename`."""
    name, path = entry.get("filename"), entry.get("filepath")
    if name and path and not path.endswith(name):
        path = f"{path}/{name}"
    row = {"filepath": path or name, "captions": [sentence["raw"] for sentence in entry.get("sentences", ())]}
    return row | {
        key: value for key, value in entry.items() if key not in ("filename", "filepath", "sentences", "sentids")
    }


def _as_row(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{place}: a row is an object with named values, not {value!r:.60}.")
    return value


def _names(rows: Iterable[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))
