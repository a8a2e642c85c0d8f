"""The Lance table behind a `LanceStore`: opened when it is there, made when it is written to, its refusals translated.

What ties it to an encoder stands in the metadata of its column `vector`, so that a table is one thing on disk, and
everything about it changes in one step that happens or does not.
"""

from __future__ import annotations

import os
import re
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from attrs import frozen

from geovlm._files import locked, to_disk
from geovlm._optional import require
from geovlm.errors import GeovlmError, RunLocked, StorageError, StoreError, UsageError
from geovlm.stores._lance_columns import KINDS, Layout, layout_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import ModuleType

FORMAT = "1"
FORMAT_KEY, FINGERPRINT_KEY = "geovlm.format", "geovlm.fingerprint"

# How long a writer waits for another one, in seconds; building an index over millions of rows takes minutes.
PATIENCE = 600.0
PAUSE = 0.05

# The disk's words, as Lance passes them on.
_DISK = ("No space left", "Permission denied", "Read-only file system", "Disk quota exceeded")


@frozen(kw_only=True)
class About:
    """What a table's schema says of it.

    Args:
        dim: Length of its vectors.
        fingerprint: The encoder it is tied to, if it is.
        columns: All its columns.
        layout: Those of them that hold metadata.
        settings: What else is kept with it.
    """

    dim: int
    fingerprint: str | None
    columns: frozenset[str]
    layout: Layout
    settings: dict[str, str]


class LanceTable:
    """One table of a directory of Lance tables.

    Args:
        path: The directory; it is made by the first write.
        name: The table.
    """

    def __init__(self, path: Path, name: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise UsageError(f"A table's name is made of letters, digits and _ . -, not {name!r:.80}.")
        self.path, self.name = path, name
        self._lancedb = _lancedb()
        self._opened: Any = None
        self._synced = time.time()
        self._opening, self._writer = threading.Lock(), threading.Lock()

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.path / f"{self.name}.lance"

    def open(self) -> Any:
        """The `lancedb` table, which follows what others write; `None` if nothing has been written.

        Raises:
            StoreError: There is something else, or a broken or newer table.
        """
        with self._opening:
            if self._opened is None and self._is_there():
                with self.translated():
                    table = self._connect().open_table(self.name)
                    self.about(table)
                self._opened = table
            return self._opened

    def close(self) -> None:
        """Let go; the next call opens again."""
        with self._opening:
            self._opened = None

    def open_or_create(self, dim: int) -> Any:
        """The table, made now if it is not there; only inside `writing`."""
        table = self.open()  # an empty table is false
        return self._create(dim) if table is None else table

    def _create(self, dim: int) -> Any:
        described = {FORMAT_KEY: FORMAT}
        schema = pa.schema(
            [
                pa.field("id", pa.string(), nullable=False),
                pa.field("vector", pa.list_(pa.float32(), dim), nullable=False, metadata=described),
                pa.field("metadata", pa.string(), nullable=False),
            ]
        )
        with self.translated():
            self._connect().create_table(self.name, schema=schema)
        return self.open()

    def describe(self, table: Any, settings: dict[str, str]) -> None:
        """Keep settings with the table, beside those that there are."""
        with self.translated():
            table.update_field_metadata({"path": "vector", "metadata": settings})

    def about(self, table: Any) -> About:
        """What the table's schema says.

        Raises:
            StoreError: It is not ours, or a newer geovlm made it.
        """
        with self.translated():
            schema = table.schema
        settings: dict[str, str] = {}
        if {"id", "vector", "metadata"} <= set(schema.names):
            described = schema.field("vector").metadata or {}
            settings = {key.decode(): value.decode() for key, value in described.items()}
        if FORMAT_KEY not in settings:
            raise StoreError(f"{self.folder} is a Lance table that no LanceStore made; choose another `table` or path.")
        if settings[FORMAT_KEY] != FORMAT:
            raise StoreError(
                f"{self.folder} was made in format {settings[FORMAT_KEY]}, and this geovlm reads {FORMAT}:"
                " update geovlm."
            )
        return About(
            dim=schema.field("vector").type.list_size,
            fingerprint=settings.get(FINGERPRINT_KEY),
            columns=frozenset(schema.names),
            layout=layout_of(schema.names),
            settings=settings,
        )

    def add_columns(self, table: Any, columns: Sequence[str]) -> None:
        """Add columns for metadata, null in all rows there are."""
        if columns:
            with self.translated():
                table.add_columns([pa.field(column, KINDS[column[0]]) for column in sorted(columns)])

    def sync(self) -> None:
        """Have the disk keep what was written since the last time; until then a power cut can undo it."""
        # Two seconds, because some file systems do not tell times more exactly.
        since, self._synced = self._synced - 2, time.time()
        for path in (self.path, self.folder, *self.folder.rglob("*")):
            with suppress(FileNotFoundError):  # a version that nobody needs any more
                if path.stat().st_mtime >= since:
                    to_disk(path)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only writer, of all threads and processes; waits for the one before.

        Raises:
            RunLocked: Another process did not finish within `PATIENCE` seconds.
            StorageError: The directory cannot be written to.
        """
        if self._opened is None:
            self._is_there()  # nothing is written beside other things
        deadline = time.monotonic() + PATIENCE
        with self._writer, ExitStack() as held:
            while True:
                try:
                    held.enter_context(locked(self.path))
                    break
                except RunLocked:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(PAUSE)
            yield

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what `lancedb` raises into an error that says what to do.

        Raises:
            StorageError: The disk refused.
            StoreError: Anything else.
        """
        try:
            yield
        except GeovlmError:
            raise
        except (RuntimeError, ValueError, OSError, pa.ArrowException) as error:
            # Lance adds a line of its own source code to each message.
            reason = str(error).partition(", /")[0].strip()[:500]
            if any(words in reason for words in _DISK):
                raise StorageError(
                    f"The disk refused {self.folder} ({reason}). What was written before is kept: make room or mend the"
                    " disk, then repeat the same call."
                ) from error
            raise StoreError(
                f"Lance could not work with {self.folder} ({reason}). If other programs change this table, repeat the"
                " call. If files of _indices are missing or damaged, call build_index(); if others are, bring a whole"
                " copy, or remove the directory and fill it anew."
            ) from error

    def _connect(self) -> Any:
        return self._lancedb.connect(str(self.path), read_consistency_interval=timedelta(0))

    def _is_there(self) -> bool:
        """Whether the table has been made.

        Raises:
            StoreError: Other things are in its place, or a part of it is gone.
        """
        if not self.path.exists():
            return False
        if not self.path.is_dir():
            raise StoreError(f"{self.path} is a file; a LanceStore needs a directory of its own.")
        names = [entry.name for entry in self.path.iterdir() if not entry.name.startswith(".")]
        strange = sorted(name for name in names if not name.endswith(".lance"))
        if strange:
            raise StoreError(
                f"{self.path} holds other things, such as {strange[0]}; a LanceStore needs a directory of its own."
            )
        if any(self.folder.glob("_versions/*.manifest")):
            return True
        # A process that was killed while it made the table leaves a folder without rows.
        if any(self.folder.glob("data/*")):
            raise StoreError(
                f"{self.folder} has lost its list of versions and cannot be read. Bring a whole copy, or remove it and"
                " fill a new store."
            )
        return False


def _lancedb() -> ModuleType:
    """The library. It reads once what to log, and would remark on partitions and files whenever an index is made."""
    asked = "LANCEDB_LOG" in os.environ
    os.environ.setdefault("LANCEDB_LOG", "error")
    try:
        return require("lancedb", extra="lance", purpose="LanceStore")
    finally:
        if not asked:
            del os.environ["LANCEDB_LOG"]
