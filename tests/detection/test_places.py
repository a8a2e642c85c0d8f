"""Places: outlines at a fraction of a cell, one for each thing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import Point, box, union_all

from geovlm.detection import _places
from geovlm.detection._places import find_places


def coverage(shape, left, top, right, bottom, *, low=-4.0, high=4.0):
    """Logits of cells that go from low to high with the share of a cell that a box covers."""
    rows, columns = shape
    across = np.clip(np.minimum(right, np.arange(columns) + 1) - np.maximum(left, np.arange(columns)), 0, 1)
    down = np.clip(np.minimum(bottom, np.arange(rows) + 1) - np.maximum(top, np.arange(rows)), 0, 1)
    return (low + (high - low) * np.outer(down, across)).astype(np.float32)


@settings(max_examples=30)
@given(st.floats(2, 6), st.floats(2, 6), st.floats(3, 7), st.floats(3, 7))
def test_a_box_between_cells_is_outlined_at_a_fraction_of_a_cell(left, top, width, height):
    truth = box(left, top, left + width, top + height)
    (place,) = find_places(coverage((16, 16), *truth.bounds), 0.0)
    for found, true in zip(place.polygon.bounds, truth.bounds, strict=True):
        assert abs(found - true) < 0.3
    assert place.polygon.centroid.distance(truth.centroid) < 0.15
    assert place.polygon.contains(Point(place.peak))
    assert Point(place.peak).distance(truth.centroid) < 0.75


def test_places_apart_are_places_apart_and_holes_are_holes():
    logits = np.full((12, 20), -5, dtype=np.float32)
    logits[2:9, 2:9] = 5
    logits[5, 5] = -5
    logits[3, 14] = 2
    first, second = sorted(find_places(logits, 0.0), key=lambda place: -place.logit)
    assert (first.logit, second.logit) == (5, 2)
    assert len(first.polygon.interiors) == 1
    assert second.peak == (14.5, 3.5)
    assert second.polygon.area < 1


@settings(max_examples=60)
@given(st.integers(0, 2**31), st.floats(-1, 2))
def test_any_map_gives_valid_places_that_do_not_overlap_and_miss_no_cell(seed, threshold):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(9, 11)).astype(np.float32)
    logits[rng.random(logits.shape) < 0.1] = np.nan
    places = list(find_places(logits, threshold))
    polygons = [place.polygon for place in places]
    assert all(polygon.is_valid and polygon.area > 0 for polygon in polygons)
    everything = union_all(polygons)
    assert sum(polygon.area for polygon in polygons) == pytest.approx(everything.area, abs=0.05 * len(polygons))
    for row, column in np.argwhere(logits > threshold):
        assert everything.distance(Point(column + 0.5, row + 0.5)) < 0.12
    for place in places:
        column, row = (int(value) for value in place.peak)
        assert logits[row, column] > threshold
        assert place.logit >= logits[row, column]
    if places:
        assert box(0, 0, 11, 9).buffer(1e-6).contains(everything)
        assert max(place.logit for place in places) == np.nanmax(logits)


def test_cells_without_data_end_a_place():
    logits = np.full((6, 6), 5, dtype=np.float32)
    logits[:, 3:] = np.nan
    (place,) = find_places(logits, 0.0)
    assert place.polygon.equals(box(0, 0, 3, 6))


def test_all_nothing_and_one_cell():
    (place,) = find_places(np.full((1, 1), 3, dtype=np.float32), 0.0)
    assert place.polygon.equals(box(0, 0, 1, 1))
    assert list(find_places(np.full((4, 4), np.nan, dtype=np.float32), 0.0)) == []
    assert list(find_places(np.full((4, 4), -3, dtype=np.float32), 0.0)) == []


def test_very_large_places_are_drawn_less_finely(monkeypatch):
    truth = box(3.5, 3.5, 26.5, 26.5)
    logits = coverage((30, 30), *truth.bounds)
    (fine,) = find_places(logits, 0.0)
    monkeypatch.setattr(_places, "FINE_CELLS", 1000)
    (coarse,) = find_places(logits, 0.0)
    assert coarse.polygon.symmetric_difference(truth).area < 60
    assert fine.polygon.symmetric_difference(truth).area < 12


def test_the_peak_of_an_even_place_is_in_its_middle():
    logits = np.full((9, 30), -5, dtype=np.float32)
    logits[2:5, 4:25] = 6 + np.random.default_rng(0).normal(scale=1e-3, size=(3, 21))
    (place,) = find_places(logits, 0.0)
    assert place.peak == (14.5, 3.5)
