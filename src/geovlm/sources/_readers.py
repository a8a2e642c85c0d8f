"""Tables as rows, read in pieces: CSV, Parquet, pandas; JSON is in its own module."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from attrs import frozen

from geovlm._files import must_exist
from geovlm.errors import UsageError
from geovlm.sources._json import open_json, open_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

ROWS_AT_ONCE = 1024
SUFFIXES = ".csv .tsv .txt .jsonl .ndjson .json .parquet"

# Missing numbers, as programs write them; in a column of texts these are words.
MISSING = {"", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "null", "NULL", "None"}
# A leading zero is part of a code, not of a number.
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")


class Reader(Protocol):
    """A table that can be read again and again.

    Attributes:
        name: What it is called in messages.
        columns: The names of its columns.
    """

    @property
    def name(self) -> str: ...
    @property
    def columns(self) -> Sequence[str]: ...

    def rows(self, columns: Sequence[str] | None = None, *, texts: frozenset[str]) -> Iterator[dict[str, Any]]:
        """Yield rows, or some columns of them; cells of the columns in `texts` are not taken for numbers."""
        ...


def open_table(table: str | os.PathLike[str] | pd.DataFrame) -> Reader:
    """Choose a reader by what the table is, for files by their suffix.

    Raises:
        UsageError: There is no such file, it is of no known kind, or it is broken at its beginning.
    """
    import pandas as pd

    if isinstance(table, pd.DataFrame):
        return FrameReader(frame=table.set_axis([str(name) for name in table.columns], axis=1))
    if not isinstance(table, str | os.PathLike):
        raise UsageError(f"A table is a path or a pandas DataFrame, not a {type(table).__name__}.")
    path = Path(table).expanduser()
    must_exist(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not a table. For a folder of images, use FolderSource.")
    if path.stat().st_size == 0:
        raise UsageError(f"{path} is empty.")
    match path.suffix.lower():
        case ".csv" | ".tsv" | ".txt":
            return _open_csv(path)
        case ".jsonl" | ".ndjson":
            return open_lines(path)
        case ".json":
            return open_json(path)
        case ".parquet":
            return _open_parquet(path)
    raise UsageError(f"{path}: the name of a table ends in one of {SUFFIXES}.")


@frozen(kw_only=True)
class FrameReader:
    """A pandas DataFrame with names of text."""

    frame: pd.DataFrame
    name: str = "the DataFrame"

    @property
    def columns(self) -> Sequence[str]:
        """The names of its columns."""
        return list(self.frame.columns)

    def rows(self, columns: Sequence[str] | None = None, *, texts: frozenset[str]) -> Iterator[dict[str, Any]]:  # noqa: ARG002 - cells have types
        """Yield rows."""
        frame = self.frame if columns is None else self.frame[list(columns)]
        for start in range(0, len(frame), ROWS_AT_ONCE):
            for row in frame.iloc[start : start + ROWS_AT_ONCE].to_dict("records"):
                yield {str(name): cell for name, cell in row.items()}

    def together(self, column: str) -> FrameReader:
        """The same rows, those of one path or id beside each other, in the order of their first."""
        import numpy as np
        import pandas as pd

        cells = self.frame[column]
        if pd.api.types.infer_dtype(cells) not in ("string", "integer") or not cells.duplicated().any():
            return self
        order = np.argsort(pd.factorize(cells, use_na_sentinel=False)[0], kind="stable")
        return FrameReader(frame=self.frame.iloc[order])


@frozen(kw_only=True)
class CsvReader:
    """Text with separators."""

    path: Path
    separator: str
    columns: Sequence[str]

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    def rows(self, columns: Sequence[str] | None = None, *, texts: frozenset[str]) -> Iterator[dict[str, Any]]:
        """Yield rows."""
        wanted = [
            (place, name, name in texts)
            for place, name in enumerate(self.columns)
            if name and (columns is None or name in columns)
        ]
        lines = _csv_lines(self.path, self.separator)
        next(lines)
        for cells in lines:
            yield {name: (cells[place] or None) if is_text else _typed(cells[place]) for place, name, is_text in wanted}


def _open_csv(path: Path) -> CsvReader:
    """Read the header; its most frequent one of comma, semicolon, tab and bar is the separator."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8.") from error
    separator = max(",;\t|", key=header.count)
    columns = next(_csv_lines(path, separator))
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise UsageError(f"{path} has more than one column called {', '.join(twice)}; rename them.")
    return CsvReader(path=path, separator=separator, columns=columns)


def _csv_lines(path: Path, separator: str) -> Iterator[list[str]]:
    """The header and the rows, blank lines left out."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, delimiter=separator, strict=True)
        width = None
        try:
            for cells in lines:
                if not cells:
                    continue
                width = width or len(cells)
                if len(cells) != width:
                    raise UsageError(
                        f"{path}, line {lines.line_num}: {len(cells)} cells, but {width} in the header. A cell with a"
                        f" {separator!r} in it must be in double quotes."
                    )
                yield cells
        except csv.Error as error:
            raise UsageError(f"{path}, line {lines.line_num}: {error}.") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{path}, after line {lines.line_num}: not UTF-8 text; save it as UTF-8.") from error


def _typed(text: str) -> str | int | float | bool | None:
    if text in MISSING:
        return None
    if text in ("true", "True", "false", "False"):
        return text in ("true", "True")
    number = NUMBER.fullmatch(text)
    if number is None:
        return text
    return float(text) if number[2] or number[3] else int(text)


@frozen(kw_only=True)
class ParquetReader:
    """A Parquet file."""

    path: Path
    columns: Sequence[str]

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    def rows(self, columns: Sequence[str] | None = None, *, texts: frozenset[str]) -> Iterator[dict[str, Any]]:  # noqa: ARG002 - cells have types
        """Yield rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path) as file:
            try:
                for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns):
                    yield from batch.to_pylist()
            except (pa.ArrowException, OSError) as error:
                raise UsageError(f"{self.path} is broken: {error}") from error


def _open_parquet(path: Path) -> ParquetReader:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return ParquetReader(path=path, columns=pq.read_schema(path).names)
    except pa.ArrowException as error:
        raise UsageError(f"{path} is not a Parquet file: {error}") from error
