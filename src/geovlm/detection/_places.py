"""A map of logits becomes places: connected cells above a threshold, outlined at a fraction of a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from geovlm._optional import require
from geovlm.detection._scoring import probability

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# Outlines are drawn on a grid so many times as fine as the cells, between which logits are interpolated: odd, so that
# the centre of a cell is on it. A place of very many cells is drawn less finely.
FINE = 9
FINE_CELLS = 1 << 22
# Cells of nearly the largest score, in the middle of which the peak is.
NEARLY = 0.98


@frozen(kw_only=True)
class Place:
    """One place on the cells of a map; coordinates count cells from the map's corner, x to the right, y down.

    Args:
        logit: The largest in the place.
        peak: Where that is.
        polygon: Its outline, a shapely polygon.
    """

    logit: float
    peak: tuple[float, float]
    polygon: Any


def find_places(logits: NDArray[np.float32], threshold: float) -> Iterator[Place]:
    """Connected cells whose logit is above a threshold, as places.

    The outline follows the threshold between the centres of the cells, by bilinear interpolation: an estimate at a
    fraction of a cell. Places do not overlap.

    Args:
        logits: `(rows, columns)`, NaN where there is no data; read in pieces.
        threshold: A logit.
    """
    features = require("rasterio.features", extra="geo", purpose="outlines of places")
    above = np.zeros(logits.shape, dtype=np.uint8)
    for row in range(0, len(logits), 1024):  # a map that lies on disk is never read as a whole
        above[row : row + 1024] = logits[row : row + 1024] > threshold
    for shape, _ in features.shapes(above, mask=above, connectivity=8):
        yield from _Blob(logits, shape).places(threshold)


class _Blob:
    """Cells above the threshold that touch, also at their corners, with the ring of cells around them."""

    def __init__(self, logits: NDArray[np.float32], shape: dict[str, Any]) -> None:
        outer = np.asarray(shape["coordinates"][0]).astype(int)
        (left, top), (right, bottom) = outer.min(axis=0) - 1, outer.max(axis=0) + 1
        rows, columns = np.arange(top, bottom), np.arange(left, right)
        on_map = (_within(rows, logits.shape[0])[:, None]) & _within(columns, logits.shape[1])
        inner = logits[max(top, 0) : bottom, max(left, 0) : right]
        self.corner = (int(left), int(top))
        self.values = np.pad(inner, [_outside(rows, logits.shape[0]), _outside(columns, logits.shape[1])], mode="edge")
        self.is_known = on_map & np.isfinite(self.values)
        self.is_inside = _burn(shape, self.values.shape, self.corner, 1).astype(bool)
        self.fine = max((n for n in range(1, FINE + 1, 2) if n * n * self.values.size <= FINE_CELLS), default=1)

    def places(self, threshold: float) -> Iterator[Place]:
        """Usually one; corners that touch may not hold together."""
        features = require("rasterio.features", extra="geo", purpose="outlines of places")
        geometry = require("shapely.geometry", extra="geo", purpose="outlines of places")
        above = (_enlarge(_filled(self.values, self.is_known), self.fine) > threshold) & self._reach()
        step = 1 / self.fine
        transform = _affine(step, self.corner)
        for shape, _ in features.shapes(above.astype(np.uint8), mask=above, connectivity=4, transform=transform):
            own = _burn(shape, above.shape, self.corner, self.fine)[
                self.fine // 2 :: self.fine, self.fine // 2 :: self.fine
            ]
            cells = self.is_inside & own.astype(bool)
            if cells.any():
                row, column = _peak(self.values, cells)
                yield Place(
                    logit=float(self.values[cells].max()),
                    peak=(self.corner[0] + column, self.corner[1] + row),
                    polygon=geometry.shape(shape).simplify(step, preserve_topology=True),
                )

    def _reach(self) -> NDArray[np.bool_]:
        """Where an outline may run on the finer grid: over known cells, up to half a cell from the blob's own."""
        reach = _repeated(self.is_inside, self.fine)
        distance = self.fine // 2
        for axis in (0, 1):
            grown = reach.copy()
            for shift in range(1, distance + 1):  # the outermost cells are not inside, so nothing comes round
                grown |= np.roll(reach, shift, axis=axis) | np.roll(reach, -shift, axis=axis)
            reach = grown
        return reach & _repeated(self.is_known, self.fine)


def _within(places: NDArray[np.intp], count: int) -> NDArray[np.bool_]:
    return (places >= 0) & (places < count)


def _outside(places: NDArray[np.intp], count: int) -> tuple[int, int]:
    return int((places < 0).sum()), int((places >= count).sum())


def _affine(step: float, corner: tuple[int, int]) -> Any:
    affine = require("affine", extra="geo", purpose="outlines of places")
    return affine.Affine(step, 0.0, float(corner[0]), 0.0, step, float(corner[1]))


def _burn(shape: dict[str, Any], size: tuple[int, ...], corner: tuple[int, int], fine: int) -> NDArray[np.uint8]:
    features = require("rasterio.features", extra="geo", purpose="outlines of places")
    burnt: NDArray[np.uint8] = features.rasterize(
        [shape], out_shape=size, transform=_affine(1 / fine, corner), dtype="uint8"
    )
    return burnt


def _peak(values: NDArray[np.float32], inside: NDArray[np.bool_]) -> tuple[float, float]:
    """Row and column of the middle of the best cells: an object of even score has its peak in its middle.

    Where the middle is not among them, it is the centre of the one nearest to it.
    """
    scores = np.where(inside, probability(values), 0)
    is_best = scores >= NEARLY * scores.max()
    centres = np.argwhere(is_best) + 0.5
    middle = centres.mean(axis=0)
    if not is_best[tuple(middle.astype(int))]:
        middle = centres[np.square(centres - middle).sum(axis=1).argmin()]
    return float(middle[0]), float(middle[1])


def _filled(values: NDArray[np.float32], is_known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Values for cells without data, from the known ones around, so that interpolation has something to hold on to."""
    if is_known.all():
        return values
    padded = np.pad(np.where(is_known, values, 0), 1)
    counts = np.pad(is_known.astype(np.float32), 1)
    height, width = values.shape
    shifts = [(row, column) for row in range(3) for column in range(3)]
    total = sum(padded[row : row + height, column : column + width] for row, column in shifts)
    around = sum(counts[row : row + height, column : column + width] for row, column in shifts)
    return np.where(is_known, values, total / np.maximum(around, 1)).astype(np.float32)


def _enlarge(values: NDArray[np.float32], fine: int) -> NDArray[np.float32]:
    """Bilinear interpolation between the centres of cells, on a grid `fine` times as fine."""
    if fine == 1:
        return values
    for axis in (0, 1):
        count = values.shape[axis]
        place = np.clip((np.arange(count * fine) + 0.5) / fine - 0.5, 0, count - 1)
        low = np.minimum(place.astype(int), count - 2)
        share = (place - low).astype(np.float32)
        share = share[:, None] if axis == 0 else share
        values = values.take(low, axis=axis) * (1 - share) + values.take(low + 1, axis=axis) * share
    return values


def _repeated(cells: NDArray[np.bool_], fine: int) -> NDArray[np.bool_]:
    return cells.repeat(fine, axis=0).repeat(fine, axis=1)
