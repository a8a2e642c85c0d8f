"""What a scan has finished: rows of scores on disk or in memory, and how to go on after a kill.

A directory holds `scores.f32`, the logits `(rows, queries, columns)` of all finished rows of cells, to which rows are
only ever added, and `state.npz`: how far the scan is, and the sums of the cells that later windows still add to. The
state is replaced as a whole after the rows are on disk, and says how many of them count; so a kill at any moment loses
at most the band of windows it was in.
"""

from __future__ import annotations

import json
import os
import tempfile
from io import BytesIO
from typing import IO, TYPE_CHECKING, Self

import numpy as np
from attrs import asdict, evolve, frozen

from geovlm._files import write_atomically
from geovlm.errors import StorageError
from geovlm.records import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from geovlm.detection._heat import Stitcher

SCORES = "scores.f32"
STATE = "state.npz"
# Maps larger than this lie in a file instead of in memory.
MEMORY_BYTES = 1 << 27


@frozen(kw_only=True)
class Progress:
    """How far a scan is.

    Args:
        lines: Rows of windows that are finished.
        rows: Rows of cells whose scores are final.
        done: Windows that were scored.
        empty: Windows without data.
        failures: Windows that could not be read or scored.
    """

    lines: int = 0
    rows: int = 0
    done: int = 0
    empty: int = 0
    failures: tuple[Failure, ...] = ()

    @property
    def windows(self) -> int:
        """All windows so far."""
        return self.done + self.empty + len(self.failures)

    def plus(self, outcomes: Sequence[object], empty: object, *, lines: int, rows: int) -> Progress:
        """With the outcomes of so many more rows of windows, after which so many rows of cells are final."""
        failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
        nothing = sum(outcome is empty for outcome in outcomes)
        return evolve(
            self,
            lines=self.lines + lines,
            rows=rows,
            done=self.done + len(outcomes) - len(failures) - nothing,
            empty=self.empty + nothing,
            failures=(*self.failures, *failures),
        )


class Ledger:
    """Scores of finished rows.

    Args:
        folder: Where they are kept; `None` is for this call only.
        queries: How many there are.
        columns: Cells a row.
        rows: Rows of cells of the whole raster.
    """

    def __init__(self, folder: Path | None, *, queries: int, columns: int, rows: int) -> None:
        self._folder, self._shape = folder, (rows, queries, columns)
        self._file: IO[bytes] = scratch(4 * rows * queries * columns) if folder is None else _opened(folder / SCORES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the file; arrays that were handed out stay good."""
        self._file.close()

    def resume(self, stitcher: Stitcher) -> Progress:
        """How far an earlier call came; the stitcher gets its sums back, and rows that do not count are cut off."""
        path = None if self._folder is None else self._folder / STATE
        if path is None or not path.exists():
            self._file.truncate(0)
            return Progress()
        with np.load(path, allow_pickle=False) as state:
            told = json.loads(state["progress"].tobytes())
            stitcher.sums[:], stitcher.totals[:] = state["sums"], state["totals"]
        stitcher.top = told["rows"]
        self._file.truncate(4 * told["rows"] * self._shape[1] * self._shape[2])
        failures = [Failure(**failure) for failure in told.pop("failures")]
        return Progress(**told, failures=tuple(failures))

    def append(self, strip: NDArray[np.float32]) -> None:
        """Add logits `(queries, rows, columns)` of the rows that come next."""
        write_bytes(self._file, np.ascontiguousarray(strip.transpose(1, 0, 2)))

    def settle(self, progress: Progress, stitcher: Stitcher) -> None:
        """Make what was added count.

        Raises:
            StorageError: The disk refused.
        """
        if self._folder is None:
            return
        told = np.frombuffer(json.dumps(asdict(progress), sort_keys=True).encode(), dtype=np.uint8)
        os.fsync(self._file.fileno())

        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.savez(file, progress=told, sums=stitcher.sums, totals=stitcher.totals)

        write_atomically(self._folder / STATE, write)

    def logits(self) -> NDArray[np.float32]:
        """All scores `(rows, queries, columns)`, read-only; large ones stay on disk."""
        return read_floats(self._file, self._shape)


def scratch(size: int) -> IO[bytes]:
    """A nameless file of a size to come: in memory, or on disk if it is large."""
    return BytesIO() if size <= MEMORY_BYTES else tempfile.TemporaryFile(prefix="geovlm-scan-", buffering=0)


def write_bytes(file: IO[bytes], array: NDArray[np.float32]) -> None:
    """Add an array to the end of a file. Not through a mapping: there, a full disk kills the process.

    Raises:
        StorageError: The disk refused.
    """
    try:
        file.seek(0, os.SEEK_END)
        left = array.ravel().view(np.uint8).data
        while left:  # files without a buffer may take less than they are given
            left = left[file.write(left) :]
    except OSError as error:
        raise StorageError(
            f"Scores could not be written ({error.strerror or error}). What was finished before is kept: make room or"
            " mend the disk, then repeat the same call."
        ) from error


def read_floats(file: IO[bytes], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A file as an array, read-only: its bytes in memory, or mapped."""
    if isinstance(file, BytesIO):
        return np.frombuffer(file.getvalue(), dtype=np.float32).reshape(shape)
    return np.memmap(file, dtype=np.float32, mode="r", shape=shape)


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("r+b" if path.exists() else "w+b", buffering=0)
    except OSError as error:
        raise StorageError(f"{path} cannot be used for results ({error.strerror or error}).") from error
