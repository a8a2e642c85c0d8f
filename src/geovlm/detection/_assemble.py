"""Scores of cells become results: heat maps and places in the raster's coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from geovlm._optional import require
from geovlm.detection._ledger import read_floats, scratch, write_bytes
from geovlm.detection._places import find_places
from geovlm.detection._scoring import logit_of, probability
from geovlm.detection.detections import Detection, HeatMap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from geovlm.detection._grid import Grid
    from geovlm.sources.raster import Raster

ROWS_A_BLOCK = 1024


@frozen(kw_only=True)
class Cut:
    """What is made of the logits of one query.

    Args:
        query: The query.
        threshold: The least probability of a place.
        slope: Of the calibration; 1 without one.
        intercept: Of the calibration; 0 without one.
    """

    query: str
    threshold: float
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def least_logit(self) -> float:
        """The threshold before calibration."""
        return (logit_of(self.threshold) - self.intercept) / self.slope

    def probability(self, logits: Any) -> NDArray[np.float32]:
        """Calibrated probabilities."""
        return probability(np.float32(self.slope) * np.asarray(logits, dtype=np.float32) + np.float32(self.intercept))


def heat_map(raster: Raster, grid: Grid, cut: Cut, logits: NDArray[np.float32]) -> HeatMap:
    """Probabilities of all cells `(rows, columns)`; a large map lies on disk, without a name."""
    with scratch(4 * logits.size) as file:
        for row in range(0, len(logits), ROWS_A_BLOCK):
            write_bytes(file, cut.probability(logits[row : row + ROWS_A_BLOCK]))
        scores = read_floats(file, logits.shape)
    a, b, c, d, e, f = raster.transform or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    side = grid.cell
    return HeatMap(
        query=cut.query, scores=scores, transform=(a * side, b * side, c, d * side, e * side, f), crs=raster.crs
    )


def detections(
    raster: Raster, grid: Grid, cut: Cut, logits: NDArray[np.float32], *, min_area: float | None
) -> Iterator[Detection]:
    """The places of one query, cut off at the border of the raster."""
    shapely = require("shapely", extra="geo", purpose="places")
    border = shapely.box(0, 0, raster.width, raster.height)
    for place in find_places(logits, cut.least_logit):
        pixels = shapely.intersection(shapely.transform(place.polygon, lambda cells: cells * grid.cell), border)
        area = _area(raster, pixels)
        if pixels.area > 0 and (min_area is None or area is None or area >= min_area):
            peak = np.minimum(np.array([place.peak]) * grid.cell, [raster.width, raster.height])
            x, y = raster.to_crs(peak)[0]
            yield Detection(
                query=cut.query,
                score=float(cut.probability(place.logit)),
                polygon=shapely.transform(pixels, raster.to_crs),
                area_m2=area,
                peak=(float(x), float(y)),
                raster=raster.path,
            )


def _area(raster: Raster, pixels: Any) -> float | None:
    """Square metres of a polygon, or of several, in pixels: outlines less holes."""
    total = 0.0
    for polygon in getattr(pixels, "geoms", [pixels]):
        if polygon.geom_type != "Polygon" or polygon.is_empty:
            continue
        for sign, ring in [(1, polygon.exterior), *((-1, hole) for hole in polygon.interiors)]:
            area = raster.area_m2(np.asarray(ring.coords))
            if area is None:
                return None
            total += sign * area
    return total
