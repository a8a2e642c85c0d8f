"""What a structure that is derived from rows has yet to read of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Changes:
    """Rows that were written or moved since they were last read.

    A store tells of each change; what it derives from its rows is brought up to date when it is next used.
    """

    def __init__(self, read: int = 0) -> None:
        self.read = read
        self._stale: set[int] = set()

    def touch(self, row: int) -> None:
        """The row at this place is another."""
        if row < self.read:
            self._stale.add(row)

    def shrink(self, count: int) -> None:
        """Only the first rows are left; what comes behind them is new."""
        self.read = min(self.read, count)

    def take(self, count: int) -> tuple[NDArray[np.int64], int]:
        """The rows to read again, and the first of those never read; afterwards all `count` rows count as read."""
        stale = np.array(sorted(row for row in self._stale if row < self.read), dtype=np.int64)
        first, self.read = self.read, count
        self._stale.clear()
        return stale, first


def grown(array: NDArray[np.generic], rows: int) -> NDArray[np.generic]:
    """An array with room for at least so many rows along its first axis, twice as many as before if it must grow."""
    if rows <= len(array):
        return array
    larger = np.zeros((max(rows, 2 * len(array)), *array.shape[1:]), dtype=array.dtype)
    larger[: len(array)] = array
    return larger
