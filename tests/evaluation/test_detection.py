"""Scores of detections: equal to a slow count, the same in every CRS, honest at the edges."""

from __future__ import annotations

import json
from itertools import pairwise

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geovlm.errors import UsageError
from geovlm.evaluation import evaluate_detections
from geovlm.evaluation._matching import average_precision
from geovlm.evaluation.detection import IOU_THRESHOLDS, MEAN


def _frame(boxes, *, crs=None, **columns):
    frame = gpd.GeoDataFrame(geometry=[shapely.box(*box) for box in boxes], crs=crs)
    return frame.assign(**columns)


def _slow_precision(scores, found, true, threshold):
    """VOC's average precision, with nothing but loops."""
    free, outcome = set(range(len(true))), []
    for place in sorted(range(len(found)), key=lambda k: (-scores[k], k)):
        best, chosen = threshold, None
        for other in sorted(free):
            shared = found[place].intersection(true[other]).area
            overlap = shared / (found[place].area + true[other].area - shared)
            if overlap > best or (overlap == best and chosen is None):
                best, chosen = overlap, other
        if chosen is not None:
            free.remove(chosen)
        outcome.append(chosen is not None)
    total, area = len(true), 0.0
    curve = [(sum(outcome[: k + 1]) / total, sum(outcome[: k + 1]) / (k + 1)) for k in range(len(outcome))]
    levels = sorted({0.0, *(recall for recall, _ in curve)})
    for low, high in pairwise(levels):
        area += (high - low) * max(precision for recall, precision in curve if recall >= high)
    return area


squares = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12
)


@settings(max_examples=60)
@given(found=squares, true=squares, seed=st.integers(0, 99))
def test_average_precision_is_that_of_a_slow_count(found, true, seed):
    boxes = [[(x, y, x + w, y + h) for x, y, w, h in some] for some in (found, true)]
    scores = np.random.default_rng(seed).permutation(len(found)) / 100
    detections, truth = _frame(boxes[0], score=scores, query=["a"] * len(found)), _frame(boxes[1])
    result = evaluate_detections(detections, truth, iou=(0.3, 0.5), samples=2)
    for threshold in (0.3, 0.5):
        expected = _slow_precision(scores, list(detections.geometry), list(truth.geometry), threshold)
        assert result.average_precision.loc["a", threshold] == pytest.approx(expected, abs=1e-9)


@given(
    outcome=st.lists(st.booleans(), max_size=20),
    counts=st.lists(st.integers(0, 3), min_size=20, max_size=20),
    missed=st.integers(1, 5),
)
def test_weights_are_repetitions(outcome, counts, missed):
    """To draw a place three times is to have it three times, at one rank."""
    is_true, weights = np.array(outcome, dtype=bool), np.array([counts[: len(outcome)]], dtype=float)
    total = np.array([float((weights[0] * is_true).sum() + missed)])
    [got] = average_precision(is_true, weights, total)
    gained, seen = np.cumsum(weights[0] * is_true), np.cumsum(weights[0])
    precision = np.divide(gained, seen, out=np.zeros_like(seen), where=seen > 0)
    slow = sum(w * t * precision[k:].max() for k, (w, t) in enumerate(zip(weights[0], is_true, strict=True)))
    assert got == pytest.approx(slow / total[0])


def _world(crs="EPSG:32633"):
    true = _frame(
        [(500_000 + 300 * k, 5_000_000, 500_100 + 300 * k, 5_000_100) for k in range(8)],
        crs="EPSG:32633",
        query="a pond",
    )
    moved = [(500_000 + 300 * k + 10 * k, 5_000_000, 500_100 + 300 * k + 10 * k, 5_000_100) for k in range(6)]
    found = _frame(
        [*moved, (400_000, 5_000_000, 400_100, 5_000_100)],
        crs="EPSG:32633",
        query="a pond",
        score=[0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6],
    )
    return found.to_crs(crs), true


def test_a_case_counted_by_hand():
    found, true = _world()
    result = evaluate_detections(found, true)
    # Shifted by 10 k of 100 m: IoU (100 − 10k) / (100 + 10k) is at least 0.5 for k up to 3.
    row = result.table.loc["a pond"]
    assert row["AP50"] == pytest.approx(4 / 8)
    assert result.average_precision.loc["a pond"].tolist() == pytest.approx(
        [{0.5: 4, 0.55: 3, 0.6: 3, 0.65: 3}.get(t, 2 if t <= 0.8 else 1) / 8 for t in IOU_THRESHOLDS]
    )
    assert row["AP50:95"] == pytest.approx(result.average_precision.loc["a pond"].mean())
    # The middle of each lies in its true place up to k = 5, whose shift is half: on the edge.
    assert row["precision"] == pytest.approx(6 / 7)
    assert row["recall"] == pytest.approx(6 / 8)
    assert row["F1"] == pytest.approx(2 * 6 / 15)
    assert result.table.loc[MEAN, "AP50"] == row["AP50"]


def test_other_crs_files_and_mappings_are_the_same(tmp_path):
    found, true = _world()
    expected = evaluate_detections(found, true, samples=20).average_precision.loc["a pond"].tolist()
    true.to_crs("EPSG:4326").to_file(tmp_path / "true.geojson")
    true.to_crs("EPSG:3857").to_parquet(tmp_path / "true.parquet")
    mapping = json.loads((tmp_path / "true.geojson").read_text())
    for other in (tmp_path / "true.geojson", str(tmp_path / "true.parquet"), mapping):
        for crs in ("EPSG:32633", "EPSG:4326", "EPSG:3857"):
            result = evaluate_detections(found.to_crs(crs), other, samples=20)
            assert result.average_precision.loc["a pond"].tolist() == pytest.approx(expected), (crs, other)


def test_overlap_is_of_square_metres_far_from_the_equator():
    """In degrees, or in web mercator, the ring around a pole-near place would have another share."""
    true = _frame([(20, 70, 24, 78)], crs="EPSG:4326")
    found = _frame([(20, 70, 24, 74.5)], crs="EPSG:4326", query=["a"], score=[0.5])
    share = (np.sin(np.radians(74.5)) - np.sin(np.radians(70))) / (np.sin(np.radians(78)) - np.sin(np.radians(70)))
    result = evaluate_detections(found, true, iou=(share - 0.02, share + 0.02), samples=2)
    assert result.average_precision.loc["a"].tolist() == [1, 0]
    assert abs(share - 4.5 / 8) > 0.05


def test_places_across_the_antimeridian_overlap():
    halves = shapely.MultiPolygon([shapely.box(179.99, 0, 180, 0.01), shapely.box(-180, 0, -179.99, 0.01)])
    found = gpd.GeoDataFrame({"query": ["a"], "score": [0.5]}, geometry=[halves], crs="EPSG:4326")
    true = found[["geometry"]].to_crs("EPSG:32601")
    assert evaluate_detections(found, true, samples=2).table.loc["a", "AP50:95"] == 1


def test_points_are_hit_once_and_have_no_average_precision():
    true = gpd.GeoDataFrame(geometry=[shapely.Point(5, 5), shapely.Point(50, 50)])
    found = _frame([(0, 0, 10, 10), (1, 1, 9, 9), (80, 80, 90, 90)], query=["a"] * 3, score=[0.9, 0.8, 0.7])
    row = evaluate_detections(found, true, samples=5).table.loc["a"]
    assert np.isnan(row["AP50"])
    assert (row["precision"], row["recall"]) == (pytest.approx(1 / 3), 0.5)


def test_peaks_count_where_they_are_told():
    true = _frame([(0, 0, 10, 10)])
    found = _frame([(0, 0, 30, 10)], query=["a"], score=[0.9], peak_x=[5.0], peak_y=[5.0])
    assert evaluate_detections(found, true, samples=2).table.loc["a", "recall"] == 1
    assert evaluate_detections(found.assign(peak_x=25.0), true, samples=2).table.loc["a", "recall"] == 0


def test_places_are_their_own_truth_through_a_file_that_rounds(tmp_path):
    """Peaks on outlines, as of a place that is one cell."""
    shapes = [shapely.Polygon([(500_000 + 50 * k, 7), (500_018 + 50 * k, 7), (500_018 + 50 * k, 25)]) for k in range(9)]
    found = gpd.GeoDataFrame({"query": ["a"] * 9, "score": 0.5}, geometry=shapes, crs="EPSG:32633")
    found = found.assign(peak_x=[500_009.0 + 50 * k for k in range(9)], peak_y=16.0)
    found.to_crs("EPSG:4326").to_file(tmp_path / "a.geojson", COORDINATE_PRECISION=7)
    row = evaluate_detections(found, tmp_path / "a.geojson", samples=2).table.loc["a"]
    assert row[["AP50:95", "precision", "recall"]].tolist() == [1, 1, 1]


def test_several_queries_with_and_without_truth():
    true = _frame([(0, 0, 10, 10), (20, 0, 30, 10)], kind=["a", "c"])
    found = _frame([(0, 0, 10, 10), (20, 0, 30, 10)], query=["a", "b"], score=[0.9, 0.8])
    result = evaluate_detections(found, true, label="kind", samples=5)
    assert result.table["AP50"].fillna(-1).to_dict() == {"a": 1, "b": -1, "c": 0, MEAN: 0.5}
    assert result.table.loc["b", "precision"] == 0
    assert result.table.loc[MEAN, ["truths", "detections"]].tolist() == [2, 2]
    with pytest.raises(UsageError, match="label= which column"):
        evaluate_detections(found, true[["geometry"]])


@pytest.mark.parametrize("empty", ["found", "true", "both"])
def test_nothing_found_and_nothing_there(empty):
    found, true = _world()
    found, true = (found.iloc[:0] if empty != "true" else found), (true.iloc[:0] if empty != "found" else true)
    table = evaluate_detections(found, true, samples=5).table
    if empty == "found":
        assert table.loc["a pond", ["AP50", "recall"]].tolist() == [0, 0]
    elif empty == "true":
        assert table.loc["a pond", "precision"] == 0
        assert np.isnan(table.loc["a pond", "AP50"])
    else:
        assert list(table.index) == [MEAN]


def test_intervals_hold_the_value_are_seeded_and_wider_over_larger_blocks():
    draw = np.random.default_rng(0)
    cells = [(x, y) for x in range(20) for y in range(20)]
    true = _frame([(10 * x, 10 * y, 10 * x + 8, 10 * y + 8) for x, y in cells])
    # In the west all are found, in the east none: neighbours are alike.
    chosen = [(x, y) for x, y in cells if x < 10]
    found = _frame(
        [(10 * x, 10 * y, 10 * x + 8, 10 * y + 8) for x, y in chosen], query="a", score=draw.random(len(chosen))
    )
    results = [
        evaluate_detections(found, true, block=block, seed=seed, samples=200)
        for block, seed in ((10, 0), (10, 0), (50, 0))
    ]
    rows = [result.table.loc["a"] for result in results]
    assert rows[0].equals(rows[1])
    for row in rows:
        assert row["recall low"] < row["recall"] < row["recall high"]
    assert rows[2]["recall high"] - rows[2]["recall low"] > 2 * (rows[0]["recall high"] - rows[0]["recall low"])
    assert (results[0].blocks, results[2].blocks) == (400, 16)
    assert "400 blocks of 10" in str(results[0])
    assert "<table" in results[0]._repr_html_()


@pytest.mark.parametrize(
    ("settings_", "reason"),
    [
        ({"iou": ()}, "rising list of thresholds"),
        ({"iou": (0.7, 0.5)}, "rising list"),
        ({"iou": (0.0,)}, "rising list"),
        ({"samples": 0}, "samples is a whole number"),
        ({"block": -1}, "block is a length"),
        ({"label": "kind"}, "no column 'kind', only"),
    ],
)
def test_arguments_that_cannot_be_right(settings_, reason):
    with pytest.raises(UsageError, match=reason):
        evaluate_detections(*_world(), **settings_)


def test_inputs_that_cannot_be_compared(tmp_path):
    found, true = _world()
    with pytest.raises(UsageError, match="one of them has a CRS"):
        evaluate_detections(found, true.set_crs(None, allow_override=True))
    with pytest.raises(UsageError, match="no column 'score'"):
        evaluate_detections(found.drop(columns="score"), true)
    with pytest.raises(UsageError, match="1 scores are not numbers"):
        evaluate_detections(found.assign(score=[np.nan, *found["score"][1:]]), true)
    with pytest.raises(UsageError, match="does not exist"):
        evaluate_detections(found, tmp_path / "gone.geojson")
    (tmp_path / "odd.geojson").write_text("{")
    with pytest.raises(UsageError, match="The truth cannot be read"):
        evaluate_detections(found, tmp_path / "odd.geojson")
    with pytest.raises(UsageError, match="not int"):
        evaluate_detections(3, true)
