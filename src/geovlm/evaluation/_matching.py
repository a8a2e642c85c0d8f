"""Which detection is which true place, and average precision of that, for many draws at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen

if TYPE_CHECKING:
    from numpy.typing import NDArray

VALUES_AT_ONCE = 4_000_000
# Peaks may lie on an outline, and files round them to a centimetre.
ROUNDING = 0.02


@frozen(kw_only=True, eq=False)
class Pairs:
    """Detections and true places that touch each other.

    Args:
        found: The detection of each pair; these are numbered from the best score on.
        true: The true place of each pair.
        overlap: Intersection over union of each pair.
        hits: Whether the detection hits the true place as a point.
        detections: How many there are, with those in no pair.
        truths: The same of true places.
        has_points: Whether some of the truth has no area.
    """

    found: NDArray[np.intp]
    true: NDArray[np.intp]
    overlap: NDArray[np.float64]
    hits: NDArray[np.bool_]
    detections: int
    truths: int
    has_points: bool


def near_pairs(found: NDArray[np.object_], true: NDArray[np.object_], points: NDArray[np.object_]) -> Pairs:
    """The pairs of polygons that touch; of true places without an area, those that lie in a detection."""
    import shapely

    has_points = bool(len(true)) and bool((shapely.area(true) == 0).any())
    one, other = shapely.STRtree(true).query(found, predicate="intersects") if len(true) and len(found) else _NONE
    shared = shapely.area(shapely.intersection(found[one], true[other]))
    whole = shapely.area(found[one]) + shapely.area(true[other]) - shared
    overlap = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
    hits = (shapely.area(true[other]) == 0) | shapely.dwithin(points[one], true[other], ROUNDING)
    # The largest overlap first; of equal ones the first true place.
    order = np.lexsort((other, -overlap, one))
    return Pairs(
        found=one[order],
        true=other[order],
        overlap=overlap[order],
        hits=hits[order],
        detections=len(found),
        truths=len(true),
        has_points=has_points,
    )


_NONE = np.empty((2, 0), dtype=np.intp)


def match(pairs: Pairs, fits: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The true place that each detection takes, or −1; the best scored chooses first."""
    taken = np.full(pairs.detections, -1, dtype=np.intp)
    is_free = np.ones(pairs.truths, dtype=bool)
    for one, other in zip(pairs.found[fits].tolist(), pairs.true[fits].tolist(), strict=True):
        if taken[one] < 0 and is_free[other]:
            taken[one] = other
            is_free[other] = False
    return taken


def average_precision(
    is_true: NDArray[np.bool_], weights: NDArray[np.float64], total: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Area under falling precision over recall, all points; NaN where there is no truth.

    Args:
        is_true: `(n,)`, best score first.
        weights: `(draws, n)`, how often each counts.
        total: `(draws,)`, how many true places there are.

    Examples:
        >>> average_precision(np.array([True, False, True]), np.ones((1, 3)), np.array([4.0])).round(4).tolist()
        [0.4167]
    """
    step = max(1, VALUES_AT_ONCE // max(1, len(is_true)))
    parts = [
        _average_precision(is_true, weights[start : start + step], total[start : start + step])
        for start in range(0, len(weights), step)
    ]
    return np.concatenate(parts)


def _average_precision(
    is_true: NDArray[np.bool_], weights: NDArray[np.float64], total: NDArray[np.float64]
) -> NDArray[np.float64]:
    gained = weights * is_true
    seen = np.cumsum(weights, axis=1)
    precision = np.divide(np.cumsum(gained, axis=1), seen, out=np.zeros_like(seen), where=seen > 0)
    falling = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    area = np.full(len(total), np.nan)
    np.divide((falling * gained).sum(axis=1), total, out=area, where=total > 0)
    return area
