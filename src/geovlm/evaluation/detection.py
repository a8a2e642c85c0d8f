"""How good detections are: average precision at overlaps, hits of points, with intervals over blocks of the land."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from attrs import field, frozen

from geovlm._markup import frame, panel
from geovlm._vectors import check_count
from geovlm.errors import UsageError
from geovlm.evaluation._geometry import on_one_sheet, read_places
from geovlm.evaluation._matching import Pairs, average_precision, match, near_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["IOU_THRESHOLDS", "DetectionResult", "evaluate_detections"]

IOU_THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""0.50, 0.55 … 0.95, as COCO takes them."""

MEAN = "(mean)"
BLOCKS_ACROSS = 10
PERCENTILES = (2.5, 97.5)


@frozen(kw_only=True, eq=False)
class DetectionResult:
    """How well places were found, for each query and on average over the queries that have a truth.

    Args:
        table: One row a query and their mean: `truths`, `detections`, average precision (`AP50`, and the mean over all
            thresholds, such as `AP50:95`), `precision`, `recall` and `F1` of points; each with the ends of its 95 %
            interval in `… low` and `… high`.
        average_precision: One row a query, one column an IoU threshold.
        block: The side of the blocks that intervals were drawn over, in metres; in pixels where there is no CRS.
        blocks: How many of them hold anything; intervals over few mean little.

    Examples:
        >>> import geopandas
        >>> from shapely import box
        >>> places = {"query": ["a pond"], "score": [0.9]}
        >>> ponds = geopandas.GeoDataFrame(places, geometry=[box(8, 47, 8.01, 47.01)], crs=4326)
        >>> print(evaluate_detections(ponds, ponds).table.loc["a pond", "AP50"])
        1.0
    """

    table: pd.DataFrame = field(repr=False)
    average_precision: pd.DataFrame = field(repr=False)
    block: float
    blocks: int

    def __str__(self) -> str:
        shown = [name for name in self.table.columns if not name.endswith((" low", " high"))]
        head = f"detections: 95 % intervals over {self.blocks} blocks of {self.block:.4g}"
        return f"{head}\n{self.table[shown].round(4).to_string()}\n{self._intervals()}"

    def _intervals(self) -> str:
        mean = self.table.loc[MEAN]
        measured = [name.removesuffix(" low") for name in self.table.columns if name.endswith(" low")]
        return "  ".join(f"{name} {mean[f'{name} low']:.3f} to {mean[f'{name} high']:.3f}" for name in measured)

    def _repr_html_(self) -> str:
        shown = self.table.copy()
        for name in [name.removesuffix(" low") for name in shown.columns if name.endswith(" low")]:
            low, high = shown.pop(f"{name} low"), shown.pop(f"{name} high")
            shown[name] = [
                f"{value:.3f} ({least:.3f} to {most:.3f})"
                for value, least, most in zip(shown[name], low, high, strict=True)
            ]
        return panel(f"Detections: 95 % intervals over {self.blocks} blocks of {self.block:.4g}", frame(shown))


def evaluate_detections(
    detections: Any,
    truth: Any,
    *,
    iou: Sequence[float] = IOU_THRESHOLDS,
    label: str | None = None,
    block: float | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> DetectionResult:
    """Compare found places with true ones, on an equal-area projection around them.

    For average precision, detections take the true place that they overlap most and that no better scored one has
    taken; precision is then made falling and integrated over recall (all points, as PASCAL VOC does since 2010). A
    detection hits as a point if its peak lies in a true place that no other hits, or, where the truth is a point, if
    that lies in its polygon. Points have no overlap, and an average precision of NaN.

    Intervals come from drawing blocks of the land with replacement: neighbours are alike, and single places would
    make them too narrow.

    Args:
        detections: What `scan` returns, or a GeoDataFrame, a GeoJSON mapping or a file with `score` and `query`.
        truth: True places: a path (GeoJSON, GeoParquet, anything that geopandas reads), a mapping, or a GeoDataFrame,
            in any CRS.
        iou: Thresholds of intersection over union.
        label: The column of the truth that holds the query's text; `None` takes `query` if there is one, else all the
            truth is of the one query of the detections.
        block: Side of a block, in metres; `None` takes a tenth of the extent.
        samples: Draws for the intervals.
        seed: Of the draws.

    Raises:
        UsageError: The two cannot be compared, or a threshold is none.
        MissingExtra: geopandas is not installed.

    Examples:
        >>> def square(x, **properties):
        ...     ring = [[x, 0], [x + 0.01, 0], [x + 0.01, 0.01], [x, 0.01], [x, 0]]
        ...     geometry = {"type": "Polygon", "coordinates": [ring]}
        ...     return {"type": "Feature", "properties": properties, "geometry": geometry}
        >>> found = [square(8.001, query="a pond", score=0.9), square(9, query="a pond", score=0.4)]
        >>> true = [square(8), square(10)]
        >>> result = evaluate_detections(
        ...     {"type": "FeatureCollection", "features": found}, {"type": "FeatureCollection", "features": true}
        ... )
        >>> result.table.loc["a pond", ["AP50", "AP50:95", "precision", "recall"]].round(3).tolist()
        [0.5, 0.35, 0.5, 0.5]
    """
    thresholds = _checked(iou)
    check_count(samples, name="samples")
    found, true = read_places(detections, what="What was found"), read_places(truth, what="The truth")
    found, true = found[~_empty(found)], true[~_empty(true)]
    found_names, true_names = _names(found, true, label)
    (found_shapes, move), (true_shapes, _) = on_one_sheet(found, true)
    points = _points(found, found_shapes, move)
    side, found_blocks, true_blocks, count = _blocks(found_shapes, true_shapes, block)
    draws = _draw(count, samples, seed)
    scores = _scores(found)
    measured = {}
    for name in dict.fromkeys([*found_names.tolist(), *true_names.tolist()]):
        mine, its = np.flatnonzero(found_names == name), np.flatnonzero(true_names == name)
        order = mine[np.argsort(-scores[mine], kind="stable")]
        pairs = near_pairs(found_shapes[order], true_shapes[its], points[order])
        measured[name] = _measure(pairs, found_blocks[order], true_blocks[its], thresholds, draws)
    return _result(measured, thresholds, side, count)


def _checked(iou: Sequence[float]) -> tuple[float, ...]:
    thresholds = tuple(float(value) for value in iou)
    if not thresholds or any(not 0 < value <= 1 for value in thresholds) or list(thresholds) != sorted(set(thresholds)):
        raise UsageError(f"iou is a rising list of thresholds above 0, up to 1, such as (0.5, 0.75), not {iou}.")
    return thresholds


def _empty(frame: Any) -> Any:
    return frame.geometry.isna() | frame.geometry.is_empty


def _names(found: Any, true: Any, label: str | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """The query of each detection and of each true place."""
    if len(found) and "query" not in found.columns:
        raise UsageError(f"The detections have no column 'query', only {', '.join(map(str, found.columns))}.")
    found_names = found["query"].astype(str).to_numpy() if len(found) else np.array([], dtype=object)
    column = label or ("query" if "query" in true.columns else None)
    if column is not None:
        if column not in true.columns and len(true):
            raise UsageError(f"The truth has no column {column!r}, only {', '.join(map(str, true.columns))}.")
        true_names = true[column].astype(str).to_numpy() if len(true) else np.array([], dtype=object)
        return found_names, true_names
    several = np.unique(found_names)
    if len(several) > 1:
        raise UsageError(
            f"The detections answer {len(several)} queries; say with label= which column of the truth names its query:"
            f" one of {', '.join(map(str, true.columns))}."
        )
    only = several[0] if len(several) else "truth"
    return found_names, np.full(len(true), only, dtype=object)


def _scores(found: Any) -> NDArray[np.float64]:
    if not len(found):
        return np.empty(0)
    if "score" not in found.columns:
        raise UsageError(f"The detections have no column 'score', only {', '.join(map(str, found.columns))}.")
    scores: NDArray[np.float64] = found["score"].to_numpy(dtype=np.float64)
    if not np.isfinite(scores).all():
        raise UsageError(
            f"{int((~np.isfinite(scores)).sum())} scores are not numbers; detections without one have no rank."
        )
    return scores


def _points(found: Any, shapes: NDArray[np.object_], move: Any) -> NDArray[np.object_]:
    """The peak of each detection, or a point in its polygon where none is told."""
    import shapely

    if not len(found):
        return np.empty(0, dtype=object)
    if {"peak_x", "peak_y"} <= set(found.columns):
        return np.asarray(shapely.points(move(found[["peak_x", "peak_y"]].to_numpy(dtype=np.float64))))
    return np.asarray(shapely.point_on_surface(shapes))


def _blocks(
    found: NDArray[np.object_], true: NDArray[np.object_], block: float | None
) -> tuple[float, NDArray[np.intp], NDArray[np.intp], int]:
    """The side, the number of each place's block, and how many blocks there are."""
    import shapely

    if block is not None and not block > 0:
        raise UsageError(f"block is a length above 0, not {block!r}.")
    bounds = shapely.bounds(np.concatenate([found, true]))
    if not len(bounds):
        return float(block or np.nan), np.empty(0, dtype=np.intp), np.empty(0, dtype=np.intp), 0
    middles = (bounds[:, :2] + bounds[:, 2:]) / 2
    extent = (bounds[:, 2:].max(axis=0) - bounds[:, :2].min(axis=0)).max()
    side = float(block or extent / BLOCKS_ACROSS or 1.0)
    cells = np.floor((middles - middles.min(axis=0)) / side)
    numbers = np.unique(cells, axis=0, return_inverse=True)[1].ravel()
    return side, numbers[: len(found)], numbers[len(found) :], int(numbers.max()) + 1


def _draw(blocks: int, samples: int, seed: int) -> NDArray[np.float64]:
    """`(1 + samples, blocks)`: how often each block counts; in the first row each once."""
    if blocks < 2:
        return np.ones((1, blocks))
    drawn = np.random.default_rng(seed).multinomial(blocks, np.full(blocks, 1 / blocks), size=samples)
    return np.concatenate([np.ones((1, blocks)), drawn])


def _measure(
    pairs: Pairs,
    found_blocks: NDArray[np.intp],
    true_blocks: NDArray[np.intp],
    thresholds: Sequence[float],
    draws: NDArray[np.float64],
) -> dict[str, NDArray[np.float64]]:
    """Every number of one query, for every draw."""
    total = draws[:, true_blocks].sum(axis=1)
    measured = {"truths": total, "detections": draws[:, found_blocks].sum(axis=1)}
    for threshold in thresholds:
        taken = match(pairs, pairs.overlap >= threshold)
        precision = average_precision(taken >= 0, draws[:, _home(taken, found_blocks, true_blocks)], total)
        measured[_column(threshold)] = np.full_like(precision, np.nan) if pairs.has_points else precision
    taken = match(pairs, pairs.hits)
    weights = draws[:, _home(taken, found_blocks, true_blocks)]
    hits = weights[:, taken >= 0].sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        measured["precision"] = hits / weights.sum(axis=1)
        measured["recall"] = hits / total
        measured["F1"] = 2 * hits / (weights.sum(axis=1) + total)
    return measured


def _home(taken: NDArray[np.intp], found_blocks: NDArray[np.intp], true_blocks: NDArray[np.intp]) -> NDArray[np.intp]:
    """The block of each detection; of a true one, that of its true place, so that both are drawn together."""
    home = found_blocks.copy()
    home[taken >= 0] = true_blocks[taken[taken >= 0]]
    return home


def _column(threshold: float) -> str:
    return f"AP{100 * threshold:g}"


def _result(
    measured: dict[str, dict[str, NDArray[np.float64]]], thresholds: Sequence[float], side: float, blocks: int
) -> DetectionResult:
    columns = [_column(threshold) for threshold in thresholds]
    several = f"{columns[0]}:{100 * thresholds[-1]:g}"
    for values in measured.values():
        values[several] = np.mean([values[name] for name in columns], axis=0)
    shown = [columns[0], *([several] if len(columns) > 1 else []), "precision", "recall", "F1"]
    true = [values for values in measured.values() if values["truths"][0] > 0]
    every = {name: _mean([values[name] for values in true]) for name in (*shown, *columns)}
    counts = {name: np.sum([values[name] for values in measured.values()], axis=0) for name in ("truths", "detections")}
    rows = {**measured, MEAN: {**every, **{name: np.atleast_1d(count) for name, count in counts.items()}}}
    table = pd.DataFrame([_row(values, shown) for values in rows.values()], index=list(rows))
    precisions = pd.DataFrame(
        [[values[name][0] for name in columns] for values in rows.values()], index=list(rows), columns=list(thresholds)
    )
    return DetectionResult(table=table, average_precision=precisions, block=side, blocks=blocks)


def _mean(several: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Over those that are numbers."""
    if not several:
        return np.array([np.nan])
    stacked = np.stack(several)
    known = ~np.isnan(stacked)
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = np.where(known, stacked, 0).sum(axis=0) / known.sum(axis=0)
    return mean


def _row(values: dict[str, NDArray[np.float64]], shown: Sequence[str]) -> dict[str, float]:
    row: dict[str, float] = {name: int(values[name][0]) for name in ("truths", "detections")}
    for name in shown:
        row[name] = float(values[name][0])
        drawn = values[name][1:][~np.isnan(values[name][1:])]
        low, high = np.percentile(drawn, PERCENTILES) if len(drawn) else (np.nan, np.nan)
        row |= {f"{name} low": float(low), f"{name} high": float(high)}
    return row
