"""Results as a table, as JSON or as a page, on standard output or in a file."""

from __future__ import annotations

import json
import math
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import typer
from attrs import field, frozen

from geovlm._files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Result", "as_page", "frame_rows", "write_through"]

ENDINGS = {".json": "json", ".html": "html", ".htm": "html", ".geojson": "geojson"}


@frozen(kw_only=True)
class Result:
    """A result in the forms in which it can be written; each is made when it is asked for.

    Args:
        table: As text for people.
        json: As JSON-like values for programs.
        html: As a page.
        more: Further formats, by name.
    """

    table: Callable[[], str]
    json: Callable[[], Any]
    html: Callable[[], str]
    more: Mapping[str, Callable[[], str]] = field(factory=dict)

    @classmethod
    def of(cls, value: Any, *, title: str, json: Callable[[], Any]) -> Self:
        """The result that is a value with a text and a picture of its own for notebooks."""
        return cls(table=lambda: str(value), json=json, html=lambda: as_page(title, value))

    def write(self, format_: str | None, out: Path | None) -> None:
        """Write it.

        Raises:
            StorageError: The file cannot be written.
            typer.BadParameter: There is no such form of it.
        """
        name = format_ or (ENDINGS.get(out.suffix.lower(), "table") if out else "table")
        forms = {"table": self.table, "json": lambda: _dump(self.json()), "html": self.html, **self.more}
        if name not in forms:
            raise typer.BadParameter(f"this result has no {name}, only {', '.join(forms)}", param_hint="--format")
        text = forms[name]().rstrip("\n") + "\n"
        if out is None:
            sys.stdout.write(text)
        else:
            target = out.expanduser()
            write_atomically(target, lambda path: path.write_text(text, encoding="utf-8", errors="replace"))


def as_page(title: str, *values: Any) -> str:
    """A page of what notebooks show of values."""
    from geovlm._html import page

    return page(title, *(value._repr_html_() for value in values))


def write_through(write: Callable[[Path], object]) -> str:
    """What a method that only writes files would write."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result"
        write(path)
        return path.read_text(encoding="utf-8")


def frame_rows(frame: Any, *, index: str | None = None) -> list[dict[str, Any]]:
    """The rows of a DataFrame, with its index under a name if one is given."""
    named = frame if index is None else frame.rename_axis(index).reset_index()
    rows: list[dict[str, Any]] = named.to_dict("records")
    return rows


def _dump(value: Any) -> str:
    from geovlm._tables import plain

    return json.dumps(_finite(value), indent=2, ensure_ascii=False, default=plain, allow_nan=False)


def _finite(value: Any) -> Any:
    """The same with null for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
