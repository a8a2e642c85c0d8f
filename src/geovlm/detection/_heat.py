"""Overlapping windows of cells become one map without seams, a strip at a time. Pure functions on arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def taper(side: int, overlap: int) -> NDArray[np.float32]:
    """Weights `(side, side)` of a window's cells: less towards the edges, where the model sees least around a cell.

    They rise over the cells that the neighbour covers too, so that one window fades into the next.
    """
    from_edge = np.minimum(np.arange(side), np.arange(side)[::-1]) + 1
    line = (np.minimum(from_edge, overlap + 1) / (overlap + 1)).astype(np.float32)
    return np.outer(line, line)


class Stitcher:
    """Adds up windows row by row, and gives away the rows of cells that no later window covers.

    It holds as many rows as a window has, whatever the size of the raster.

    Args:
        channels: Values a cell.
        side: Cells a side of a window.
        columns: Cells a row of the raster.
        weights: Of the cells of a window, `(side, side)`.
    """

    def __init__(self, *, channels: int, side: int, columns: int, weights: NDArray[np.float32]) -> None:
        self.top = 0
        self.sums = np.zeros((channels, side, max(columns, side)), dtype=np.float32)
        self.totals = np.zeros((side, max(columns, side)), dtype=np.float32)
        self._columns, self._weights = columns, weights

    def add(self, values: NDArray[np.float32], is_valid: NDArray[np.bool_], column: int) -> None:
        """Add a window that starts at the row `top`: values `(channels, side, side)`, and the cells that have data."""
        place = slice(column, column + len(self._weights))
        weights = self._weights * is_valid
        self.sums[:, :, place] += values * weights
        self.totals[:, place] += weights

    def take(self, row: int) -> NDArray[np.float32]:
        """The means `(channels, rows, columns)` of all rows above `row`, NaN where no window had data.

        `row` is the top of the next windows.
        """
        count = min(row - self.top, len(self.totals))
        sums, totals = self.sums[:, :count], self.totals[:count]
        with np.errstate(invalid="ignore", divide="ignore"):
            means: NDArray[np.float32] = np.where(totals > 0, sums / totals, np.float32(np.nan))
        self._move_up(count)
        self.top += count
        return means[:, :, : self._columns]

    def _move_up(self, count: int) -> None:
        for array in (self.sums, self.totals):
            kept = array[..., count:, :].copy()
            array[..., : kept.shape[-2], :] = kept
            array[..., kept.shape[-2] :, :] = 0


def cells_of(mask: NDArray[np.bool_], cell: int) -> NDArray[np.bool_]:
    """Which cells `(h / cell, w / cell)` of a mask of pixels `(h, w)` have at least one true pixel."""
    height, width = mask.shape
    return np.asarray(mask.reshape(height // cell, cell, width // cell, cell).any(axis=(1, 3)), dtype=np.bool_)


def fill_empty(pixels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pixels with the mean colour of the others where there is no data: an edge to black is something to see."""
    if mask.all() or not mask.any():
        return pixels
    filled = pixels.copy()
    filled[~mask] = pixels[mask].mean(axis=0).round().astype(np.uint8)
    return filled
