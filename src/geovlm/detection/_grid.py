"""The cells of a raster and the windows on them. Pure integers, no rasterio.

Scores live on square cells, numbered from the raster's first pixel; the last row and column may reach beyond it.
Windows are whole numbers of cells and start on cells, so that overlapping windows speak of the same cells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from geovlm.errors import UsageError
from geovlm.sources.raster.grid import cover

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geovlm.sources.raster.grid import Grid as Windows

# Cells a side of a window that has one score: finer than the steps between windows.
WINDOW_CELLS = 4


@frozen(kw_only=True)
class Grid:
    """Cells and windows of one raster.

    Args:
        width: Of the raster, in pixels.
        height: Of the raster, in pixels.
        cell: Side of a cell in pixels.
        side: Side of a window in cells.
        step: Cells from one window to the next, at most `side`.
    """

    width: int
    height: int
    cell: int
    side: int
    step: int

    @property
    def columns(self) -> int:
        """Cells a row."""
        return -(-self.width // self.cell)

    @property
    def rows(self) -> int:
        """Rows of cells."""
        return -(-self.height // self.cell)

    @property
    def _windows(self) -> Windows:
        return cover(self.columns, self.rows, window=self.side, overlap=self.side - self.step)

    @property
    def across(self) -> list[int]:
        """The first columns of the windows of a row."""
        return list(self._windows.columns)

    @property
    def down(self) -> list[int]:
        """The first rows of the rows of windows."""
        return list(self._windows.rows)

    def __len__(self) -> int:
        return len(self.across) * len(self.down)

    def bands(self, count: int, *, done: int = 0) -> Iterator[list[int]]:
        """Rows of windows, after the first `done`, in groups of at least `count` windows."""
        down, rows = self.down, -(-count // len(self.across))
        for start in range(done, len(down), rows):
            yield down[start : start + rows]


def make_grid(
    width: int, height: int, *, window: int | None, overlap: float, image_size: int, patches: int | None
) -> Grid:
    """Cells and windows for an encoder.

    Args:
        width: Of the raster, in pixels.
        height: Of the raster, in pixels.
        window: Side of a window in pixels; made a whole number of cells, upwards. `None` is the encoder's own.
        overlap: The share of a window that the next one covers again.
        image_size: Side of the encoder's input.
        patches: Patches a side of that, which become cells; `None` where a window has one score, and four cells a side.

    Raises:
        UsageError: A number cannot be right.
    """
    if not isinstance(overlap, int | float) or not 0 <= overlap < 1:
        raise UsageError(f"overlap is a share of the window, from 0 to below 1, not {overlap!r}.")
    side = patches or WINDOW_CELLS
    pixels = image_size if window is None else window
    if isinstance(pixels, bool) or not isinstance(pixels, int) or pixels < side:
        raise UsageError(f"A window has at least one pixel for each of its {side} cells a side, not {pixels!r}.")
    step = max(1, min(side, round(side * (1 - overlap))))
    return Grid(width=width, height=height, cell=-(-pixels // side), side=side, step=step)
