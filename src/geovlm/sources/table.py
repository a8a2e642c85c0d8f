"""A table of images with what is known of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from geovlm._files import must_exist
from geovlm.errors import UnknownName, UsageError
from geovlm.sources._columns import Roles, choose, merge, to_record
from geovlm.sources._readers import FrameReader, open_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from geovlm.records import Record
    from geovlm.sources._columns import Row

__all__ = ["TableSource"]


class TableSource:
    """The images that a table names: CSV, JSON lines, JSON, Parquet or a pandas DataFrame.

    Columns are told by their names (`filepath`, `path`, `image` …; `title`, `captions`, `text` …; `label`, `class` …)
    unless they are named here. Columns in degrees called `west`, `south`, `east`, `north` or `lon`, `lat` give the
    footprint. All other columns become `meta`, where cells are not missing and JSON can write them.

    A record's id is the path as the table has it, or the cell of the column `id`. Rows of one image that follow each
    other become one record with all captions; in a DataFrame they may lie anywhere. When an image comes again later in
    a file, it is yielded again under the same id, and the calls that keep accounts (`embed`, `caption`,
    `Dataset.write`) report the second as failed: sort the file by image to have its captions together.

    CSV, JSON lines and Parquet are read in pieces, so that memory does not grow with the table.

    Args:
        table: A path (`.csv`, `.tsv`, `.jsonl`, `.json`, `.parquet`) or a DataFrame. SkyScript's tables and
            Karpathy-style caption files (`{"images": [{"filename": …, "sentences": [{"raw": …}]}]}`) are understood.
        root: The folder that paths are relative to; the table's own folder if not given, for a DataFrame the
            working directory.
        image: The column of paths; also of encoded bytes, PIL images or arrays.
        caption: The column of captions, or several. A cell may hold a list.
        label: The column of classes.
        id: The column of ids.
        split: Take only rows of this split, such as `"train"`, by a column called `split`.

    Raises:
        UsageError: The table, `root`, a column or the split does not exist, with the nearest that does; or the table is
            broken, with the line.

    Examples:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"filepath": ["a.jpg", "a.jpg"], "title": ["a port", "ships at a quay"], "year": 2024})
        >>> [record] = TableSource(table, root="/")
        >>> record.uri, record.captions, record.meta
        ('/a.jpg', ('a port', 'ships at a quay'), {'year': 2024})
    """

    def __init__(
        self,
        table: str | os.PathLike[str] | pd.DataFrame,
        *,
        root: str | os.PathLike[str] | None = None,
        image: str | None = None,
        caption: str | Sequence[str] | None = None,
        label: str | None = None,
        id: str | None = None,  # noqa: A002 - the word that users know
        split: str | None = None,
    ) -> None:
        reader = open_table(table)
        self._roles = choose(reader.columns, table=reader.name, image=image, caption=caption, label=label, id=id)
        self._reader = reader.together(self._roles.keys[0]) if isinstance(reader, FrameReader) else reader
        self._split = split
        self._root = _root(table, root)
        self._check()

    def __iter__(self) -> Iterator[Record]:
        return merge(self._records())

    def __len__(self) -> int:
        return sum(1 for _ in merge(self._records(self._roles.keys)))

    def __repr__(self) -> str:
        chosen = "" if self._split is None else f", split={self._split!r}"
        return f"TableSource({self._reader.name}{chosen})"

    @property
    def labels(self) -> list[str]:
        """The classes in the table, sorted; read from the whole table."""
        return sorted({record.label for record in self if record.label is not None})

    def _records(self, columns: Sequence[str] | None = None) -> Iterator[Record]:
        for position, row in enumerate(self._reader.rows(columns, texts=self._roles.texts)):
            if self._split is None or row.get(self._roles.split or "") == self._split:
                yield to_record(row, self._roles, position=position, locate=self._locate)

    def _locate(self, path: str) -> str:
        return path if "://" in path else os.path.join(self._root, path)  # noqa: PTH118 - speed, millions of rows

    def _check(self) -> None:
        """Read until the first wanted row, so that what is wrong everywhere is told at once."""
        first = next(self._records(self._roles.keys), None)
        if first is None and self._split is not None:
            raise _unknown_split(self._split, self._roles, self._reader.rows(self._roles.keys, texts=self._roles.texts))
        if first is None:
            raise UsageError(f"{self._reader.name} has no rows.")
        if first.uri is not None and "://" in first.uri:
            raise UsageError(
                f"The column {self._roles.image!r} of {self._reader.name} holds addresses ({first.uri}), and images are"
                " read from files: download them, and name the column of the files with image='…'."
            )


def _root(table: object, root: str | os.PathLike[str] | None) -> Path:
    if root is None:
        root = Path(table).expanduser().parent if isinstance(table, str | os.PathLike) else Path()
    folder = Path(root).expanduser().absolute()
    must_exist(folder)
    return folder


def _unknown_split(split: str, roles: Roles, rows: Iterator[Row]) -> UsageError:
    if roles.split is None:
        return UsageError(f"{roles.table} has no column called split, so that split={split!r} cannot be chosen.")
    return UnknownName(f"split of {roles.table}", split, {str(row.get(roles.split)) for row in rows})
