"""The grid of windows over a raster; plain arithmetic, no library of rasters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from attrs import field, frozen, validators

from geovlm.errors import UsageError

__all__ = ["Grid", "Window", "cover"]


@frozen(kw_only=True)
class Window:
    """A rectangle of pixels, counted from the raster's first column and row.

    Args:
        col: Its first column; negative where it begins before the raster does.
        row: Its first row.
        width: Columns.
        height: Rows.

    Examples:
        >>> Window(col=10, row=20, width=4, height=2).ring
        ((10, 20), (14, 20), (14, 22), (10, 22))
    """

    col: int
    row: int
    width: int = field(validator=validators.ge(1))
    height: int = field(validator=validators.ge(1))

    @property
    def ring(self) -> tuple[tuple[int, int], ...]:
        """Its four corners `(x, y)`, clockwise on the screen from the upper left."""
        right, bottom = self.col + self.width, self.row + self.height
        return (self.col, self.row), (right, self.row), (right, bottom), (self.col, bottom)


def _starts(size: int, window: int, step: int) -> range | list[int]:
    """Where windows begin along one side; the last one is moved inwards, so that it ends where the raster does."""
    last = size - window
    if last <= 0:
        return [0]
    regular = range(0, last, step)
    return [*regular, last]


class Grid(Sequence[Window]):
    """Windows that cover every pixel, row by row; made by `cover`, and no larger for a larger raster.

    Args:
        width: Of the raster, in pixels.
        height: The same.
        window: Side of a window, in pixels.
        overlap: Of neighbours, in pixels.

    Examples:
        >>> grid = cover(1000, 500, window=256, overlap=32)
        >>> len(grid), grid[0]
        (15, Window(col=0, row=0, width=256, height=256))
    """

    def __init__(self, width: int, height: int, *, window: int, overlap: int) -> None:
        step = window - overlap
        self.columns: range | list[int] = _starts(width, window, step)
        self.rows: range | list[int] = _starts(height, window, step)
        self.window_width: int = min(window, width)
        self.window_height: int = min(window, height)

    def __len__(self) -> int:
        return len(self.columns) * len(self.rows)

    @overload
    def __getitem__(self, place: int) -> Window: ...
    @overload
    def __getitem__(self, place: slice) -> list[Window]: ...
    def __getitem__(self, place: int | slice) -> Window | list[Window]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(f"There are {len(self)} windows, none of number {place}.")
        row, column = divmod(place % len(self), len(self.columns))
        return Window(col=self.columns[column], row=self.rows[row], width=self.window_width, height=self.window_height)


def cover(width: int, height: int, *, window: int, overlap: int = 0) -> Grid:
    """Cut a raster into windows so that every pixel lies in at least one.

    All windows have the full size on every side on which the raster is at least that long; the last window of a row or
    a column is moved inwards instead of being cut or dropped, so it may overlap more than the others.

    Args:
        width: Of the raster, in pixels.
        height: Of the raster, in pixels.
        window: Side of a window, in pixels.
        overlap: Pixels that neighbours share at least, less than `window`.

    Raises:
        UsageError: A number is out of its range.

    Examples:
        >>> [(w.col, w.row) for w in cover(700, 400, window=400)]
        [(0, 0), (300, 0)]
        >>> len(cover(20_000, 20_000, window=448, overlap=112))
        3600
    """
    for name, value, least in (
        ("width", width, 1),
        ("height", height, 1),
        ("window", window, 1),
        ("overlap", overlap, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UsageError(f"{name} is a whole number of pixels, at least {least}, not {value!r}.")
    if overlap >= window:
        raise UsageError(
            f"An overlap of {overlap} px leaves windows of {window} px no step forward; choose a smaller one."
        )
    return Grid(width, height, window=window, overlap=overlap)
