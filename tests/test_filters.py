from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geovlm._tables import to_metadata
from geovlm._times import texts_around
from geovlm.errors import MissingExtra, UsageError
from geovlm.filters import AllOf, AnyOf, Compare, During, InArea, Not, compile_filter, parse_filter, predicate
from geovlm.records import Footprint, Record
from geovlm.testing._places import AREAS, ENDS, PLACES, TIMES, begins_in_time, is_during, is_in_place
from geovlm.testing.filters import filters, passes, sample_rows

ROWS = sample_rows(80)


@settings(max_examples=400, deadline=None)
@given(filters())
def test_the_predicate_agrees_with_a_second_reading_of_the_grammar(where: dict[str, Any]) -> None:
    predicate = compile_filter(where)
    assert [predicate(row) for row in ROWS] == [passes(where, row) for row in ROWS]


@given(filters())
def test_not_is_the_complement(where: dict[str, Any]) -> None:
    predicate, negated = compile_filter(where), compile_filter({"$not": where})
    assert all(predicate(row) is not negated(row) for row in ROWS)


@pytest.mark.parametrize(
    ("where", "row", "expected"),
    [
        # missing names
        ({"year": 1}, {}, False),
        ({"year": None}, {}, False),
        ({"year": {"$ne": 1}}, {}, True),
        ({"year": {"$nin": [1]}}, {}, True),
        ({"year": {"$gt": 1}}, {}, False),
        ({"year": {"$not": {"$gt": 1}}}, {}, True),
        ({"year": {"$exists": False}}, {}, True),
        ({"year": {"$exists": True}}, {"year": None}, True),
        # types
        ({"year": 1}, {"year": 1.0}, True),
        ({"year": 1}, {"year": True}, False),
        ({"year": 1}, {"year": "1"}, False),
        ({"year": {"$gt": 1}}, {"year": "2"}, False),
        ({"year": {"$lte": 1}}, {"year": False}, False),
        ({"year": {"$lt": "b"}}, {"year": "a"}, True),
        ({"ok": {"$gt": False}}, {"ok": True}, True),
        ({"year": {"$gte": None}}, None, UsageError),
        ({"year": {"$gte": [1]}}, None, UsageError),
        # lists and mappings
        ({"tags": "a"}, {"tags": ["b", "a"]}, True),
        ({"tags": {"$ne": "a"}}, {"tags": ["b", "a"]}, False),
        ({"tags": {"$in": ["c", "a"]}}, {"tags": ["b", "a"]}, True),
        ({"tags": ["a"]}, {"tags": ["a"]}, True),
        ({"tags": ["a"]}, {"tags": ["a", "b"]}, False),
        ({"tags": {"$gt": 1}}, {"tags": [2]}, False),
        ({"tags": {"$in": []}}, {"tags": []}, False),
        ({"tags": {"$nin": []}}, {}, True),
        ({"camera": {"name": "x", "gsd": 1}}, {"camera": {"gsd": 1, "name": "x"}}, True),
        ({"camera": {"gsd": 1}}, {"camera": {"gsd": 1, "name": "x"}}, False),
        ({"camera": {"gsd": 1}}, {"camera": {"gsd": True}}, False),
        # names
        ({"camera.gsd": {"$lt": 1}}, {"camera": {"gsd": 0.5}}, True),
        ({"camera.gsd": 1}, {"camera.gsd": 1, "camera": {"gsd": 2}}, True),
        ({"captions.1": "b"}, {"captions": ["a", "b"]}, True),
        ({"captions.2": {"$exists": False}}, {"captions": ["a", "b"]}, True),
        # together
        ({}, {"year": 1}, True),
        (None, {"year": 1}, True),
        ({"year": {"$gte": 1, "$lt": 3}}, {"year": 3}, False),
        ({"$or": [{"a": 1}, {"b": 1}], "c": 1}, {"b": 1, "c": 1}, True),
        ({"$and": [{"a": 1}, {"$not": {"b": 1}}]}, {"a": 1}, True),
        # values of Python that have a JSON form
        ({"day": {"$gte": dt.date(2024, 1, 1)}}, {"day": "2024-05-17"}, True),
        ({"n": {"$in": np.array([1, 2])}}, {"n": 2}, True),
        ({"n": np.float32(0.5)}, {"n": 0.5}, True),
        ({"uri": Path("a/b.jpg")}, {"uri": "a/b.jpg"}, True),
    ],
    ids=str,
)
def test_the_meaning_of_each_operator(where: Any, row: Any, expected: Any) -> None:
    if expected is UsageError:
        with pytest.raises(UsageError):
            compile_filter(where)
    else:
        assert compile_filter(where)(row) is expected


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ({"year": {"$gr": 1}}, r"Did you mean '\$gt'"),
        ({"year": {"$GTE": 1}}, r"Did you mean '\$gte'"),
        ({"$nor": [{}]}, r"Did you mean '\$or'"),
        ({"year": {"gte": 1}}, r"did you mean '\$gte'"),
        ({"$gte": 1}, "below a name"),
        ({"year": {"$or": [{"$gt": 1}]}}, "beside names"),
        ({"year": {"$zzz": "x"}}, "Known:"),
        ({"footprint": {"$geoWithin": [1, 2, 3, 4]}}, r"Did you mean '\$within'"),
        ({"footprint": {"$geoIntersects": [1, 2, 3, 4]}}, r"Did you mean '\$intersects'"),
        ({"footprint": {"$bbox": [1, 2, 3, 4]}}, r"Write '\$within'"),
        ({"footprint": {"within": [1, 2, 3, 4]}}, r"did you mean '\$within'"),
        ({"$within": [1, 2, 3, 4]}, "below a name"),
        ({"acquired": {"$between": ["2024", "2025"]}}, r"'\$during' for times"),
        ({"year": {"$gte": 1, "name": 2}}, "mixes"),
        ({"year": {"$in": 3}}, "list of values"),
        ({"year": {"$in": "abc"}}, "list of values"),
        ({"year": {"$exists": 1}}, "True or False"),
        ({"year": {"$not": 3}}, "takes operators"),
        ({"year": {"$not": {}}}, "takes operators"),
        ({"year": {"$not": {"name": 3}}}, "takes operators"),
        ({"$and": []}, "at least one filter"),
        ({"$or": {"a": 1}}, "list of at least one"),
        ({"$not": [{"a": 1}]}, "takes filters"),
        ({"year": float("nan")}, "JSON-like"),
        ({"year": {1, 2}}, "JSON-like"),
        ({3: 1}, "by text"),
        ({"": 1}, "by text"),
        ([("a", 1)], "is a mapping"),
        ("a", "is a mapping"),
    ],
    ids=str,
)
def test_a_wrong_filter_says_what_to_do(where: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_filter(where)


# --- places


def polygon(*rings: Any, **more: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings), **more}


def square(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


@pytest.mark.parametrize("op", ["$within", "$intersects"])
def test_every_place_in_every_area_agrees_with_a_second_reading(op: str) -> None:
    for area in AREAS:
        found = [compile_filter({"x": {op: area}})({"x": place}) for place in [*PLACES, [10**400, 0]]]
        assert found == [is_in_place(op, area, place) for place in [*PLACES, [10**400, 0]]], area


halves = st.integers(-360, 360).map(lambda number: number / 2)
boxes = st.tuples(halves, halves.map(lambda x: x / 2), halves, halves.map(lambda x: x / 2)).map(
    lambda box: [box[0], min(box[1::2]), box[2], max(box[1::2])]
)


@settings(max_examples=500, deadline=None)
@given(boxes, boxes | boxes.map(lambda box: box[:2]), st.sampled_from(["$within", "$intersects"]))
def test_boxes_agree_with_a_second_reading(area: list[float], place: list[float], op: str) -> None:
    assert compile_filter({"x": {op: area}})({"x": place}) is is_in_place(op, area, place)


@settings(max_examples=200, deadline=None)
@given(boxes, boxes)
def test_a_polygon_round_a_box_is_that_box(area: list[float], place: list[float]) -> None:
    west, south, east, north = area
    if west < east and south < north:
        for op in ("$within", "$intersects"):
            drawn = compile_filter({"x": {op: polygon(square(*area))}})
            assert drawn({"x": place}) is compile_filter({"x": {op: area}})({"x": place})


HOLE = polygon(square(7, 46, 10, 49), square(8, 47, 9, 48))


@pytest.mark.parametrize(
    ("op", "area", "value", "expected"),
    [
        # edges count
        ("$within", [8, 47, 9, 48], [8, 47, 9, 48], True),
        ("$within", [8, 47, 9, 48], [8, 47, 9, 48.000001], False),
        ("$intersects", [8, 47, 9, 48], [9, 48, 10, 49], True),
        ("$intersects", [8, 47, 9, 48], [9.000001, 48, 10, 49], False),
        # points
        ("$within", [8, 47, 9, 48], [9, 48], True),
        ("$within", [8.5, 47.5, 8.5, 47.5], [8.5, 47.5], True),
        ("$intersects", polygon([[8, 47], [9, 47], [8, 48]]), [8.5, 47.5], True),
        ("$intersects", polygon([[8, 47], [9, 47], [8, 48]]), [8.6, 47.5], False),
        # holes
        ("$within", HOLE, [8, 47, 9, 48], False),
        ("$within", HOLE, [8, 47], True),
        ("$within", HOLE, [7.5, 47, 8, 48], True),
        ("$intersects", HOLE, [8, 47, 9, 48], True),
        ("$intersects", HOLE, [8.25, 47.25, 8.75, 47.75], False),
        # the antimeridian
        ("$within", [170, -20, -170, -10], [179, -18, -179, -17], True),
        ("$within", [170, -20, -179.5, -10], [179, -18, -179, -17], False),
        ("$within", [170, -20, -170, -10], [-170, -18, 170, -17], False),
        ("$intersects", [170, -20, 179, -10], [179, -18, -179, -17], True),
        ("$intersects", [170, -20, 178, -10], [179, -18, -179, -17], False),
        ("$intersects", [-180, -20, -170, -10], [180, -18], True),
        ("$within", [170, -20, 180, -10], [171, -18, -180, -17], True),
        ("$within", [-180, -90, 180, 90], [179, -18, -179, -17], True),
        # neither box nor point
        ("$within", [-180, -90, 180, 90], [47, 95], False),
        ("$within", [-180, -90, 180, 90], [8, 48, 9, 47], False),
        ("$within", [-180, -90, 180, 90], [False, False], False),
        ("$within", [-180, -90, 180, 90], {"0": 8, "1": 47}, False),
        ("$intersects", [-180, -90, 180, 90], "8,47,9,48", False),
    ],
    ids=str,
)
def test_what_lies_in_an_area(op: str, area: Any, value: Any, expected: bool) -> None:
    assert compile_filter({"x": {op: area}})({"x": value}) is expected
    assert compile_filter({"x": {"$not": {op: area}}})({"x": value}) is not expected


def test_what_has_no_place_is_nowhere() -> None:
    world = [-180, -90, 180, 90]
    assert not compile_filter({"x": {"$intersects": world}})({})
    assert compile_filter({"x": {"$not": {"$intersects": world}}})({})


def test_footprints_are_boxes_on_both_sides() -> None:
    box = Footprint(west=179, south=-18, east=-179, north=-17)
    row = to_metadata(Record(id="a", footprint=box))
    assert compile_filter({"footprint": {"$within": box}})(row)
    assert parse_filter({"footprint": {"$within": box}}) == parse_filter({"footprint": {"$within": list(box.bounds)}})


def test_an_area_is_given_by_shapely_numpy_or_tuples() -> None:
    shapely = pytest.importorskip("shapely")
    ring = [(8, 47), (9, 47), (8, 48)]
    same = [polygon(ring), polygon([*ring, ring[0]]), polygon([[*place, 300] for place in ring]), shapely.Polygon(ring)]
    assert len({str(parse_filter({"x": {"$within": area}})) for area in same}) == 1
    trees = [parse_filter({"x": {"$within": area}}) for area in ((1, 2, 3, 4), np.array([1, 2, 3, 4]))]
    assert trees[0] == trees[1]


def test_polygons_need_shapely_and_boxes_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "shapely", None)
    assert compile_filter({"x": {"$within": [8, 47, 9, 48]}})({"x": [8, 47]})
    with pytest.raises(MissingExtra, match=r"geovlm\[geo\]"):
        parse_filter({"x": {"$within": HOLE}})


def test_an_area_knows_few_boxes_around_it() -> None:
    """Stores ask for these, each with several comparisons."""
    islands = [[square(west, 0, west + 1, 1)] for west in (-180, -100, 0, 50, 52, 179)]
    tree = parse_filter({"x": {"$within": {"type": "MultiPolygon", "coordinates": islands}}})
    assert isinstance(tree, InArea)
    assert tree.area.boxes == ((-180, 0, 53, 1), (179, 0, 180, 1))


@pytest.mark.parametrize(
    ("area", "says"),
    [
        ([1, 2, 3], "is a box"),
        ([True, 2, 3, 4], "is a box"),
        ("1,2,3,4", "is a box"),
        (None, "is a box"),
        ({}, "is a box"),
        ([1, 2, 3, float("nan")], "JSON-like"),
        ([8, 48, 9, 47], "south above its north"),
        ([-33, 151, -32, 152], "swapped"),
        ([8, 195, 9, 196], "between -90 and 90"),
        ([170, 0, 190, 1], "190 is written -170"),
        ([500000, 0, 600000, 1], "WGS 84"),
        ({"type": "Point", "coordinates": [1, 2]}, "not 'Point'"),
        ({"type": "Feature", "geometry": HOLE}, "Take its geometry"),
        (polygon(), "list of rings"),
        ({"type": "Polygon", "coordinates": 3}, "list of rings"),
        ({"type": "Polygon"}, "list of rings"),
        ({"type": "MultiPolygon", "coordinates": []}, "list of coordinates"),
        ({"type": "MultiPolygon", "coordinates": [[1, 2]]}, "A ring of a polygon is a list"),
        (polygon([[1, 1], [2, "2"], [3, 1]]), "A ring of a polygon is a list"),
        (polygon([[1, 1], [2, 2], [1, 1], [2, 2]]), "three different places"),
        (polygon([[-33, 151], [-33, 152], [-32, 151]]), "swapped"),
        (polygon([[0, 0], [1, 1], [1, 0], [0, 1]]), "no clear area"),
        (polygon([[0, 0], [1, 1], [2, 2]]), "no clear area"),
        (polygon(square(0, 0, 1, 1), square(2, 2, 3, 3)), "no clear area"),
    ],
    ids=str,
)
def test_a_wrong_area_says_what_to_do(area: Any, says: str) -> None:
    for op in ("$within", "$intersects"):
        with pytest.raises(UsageError, match=says):
            parse_filter({"x": {op: area}})


# --- times


def test_every_time_in_every_span_agrees_with_a_second_reading() -> None:
    spans = [[start, end] for start in (None, *ENDS) for end in (None, *ENDS)]
    for span in filter(begins_in_time, spans):
        passes_span = compile_filter({"x": {"$during": span}})
        assert [passes_span({"x": time}) for time in TIMES] == [is_during(span, time) for time in TIMES], span
    for span in spans:
        if not begins_in_time(span):
            with pytest.raises(UsageError, match="ends before it begins"):
                parse_filter({"x": {"$during": span}})


@pytest.mark.parametrize(
    ("span", "value", "expected"),
    [
        (["2024-01-01", "2024-12-31"], "2024-12-31T23:59:59.999999Z", True),
        (["2024-01-01", "2024-12-31"], "2025-01-01T00:00:00Z", False),
        (["2024-01-01", "2024-12-31"], "2025-01-01T00:30:00+01:00", True),
        (["2024-01-01", "2024-12-31"], "2023-12-31T23:30:00-01:00", True),
        (["2024-01-01", "2024-12-31"], "2024-12-31", True),
        (["2024-01-01T00:00:01", "2024-12-31"], "2024-01-01", False),
        (["2024-05-17T10:30", "2024-05-17T10:30"], "2024-05-17T12:30:00+0200", True),
        (["2024-05-17T10:30", "2024-05-17T10:30"], "2024-05-17T10:30:00.000001", False),
        (["2024-02", "2024-02"], "2024-02-29T23:00", True),
        (["2023", "2023"], "2023-07-01 08", True),
        ([None, None], "2024-05-17", True),
        ([None, None], "2024-05-17T24:00", False),
        ([None, None], "17.05.2024", False),
        ([None, None], 1715900000, False),
        ([np.datetime64("2024-05-17T10:30:00"), np.datetime64("2024-05-17")], "2024-05-17T11:00Z", True),
        (np.array(["2024-01", "2024-02"], dtype="M8[M]"), "2024-02-29", True),
        ((dt.datetime(2024, 5, 17, 12, tzinfo=dt.timezone(dt.timedelta(hours=2))), None), "2024-05-17T10:00Z", True),
    ],
    ids=str,
)
def test_what_is_during_a_span(span: Any, value: Any, expected: bool) -> None:
    assert compile_filter({"x": {"$during": span}})({"x": value}) is expected
    assert compile_filter({"x": {"$not": {"$during": span}}})({"x": value}) is not expected


@given(st.datetimes(), st.integers(-24 * 60 + 1, 24 * 60 - 1), st.sampled_from("T t"))
def test_the_text_of_a_moment_sorts_between_its_bounds(moment: dt.datetime, minutes: int, mark: str) -> None:
    """Whatever its offset, so that stores may ask for the texts in between first."""
    east, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    text = f"{moment.isoformat(sep=mark)}{east}{hours:02d}:{rest:02d}"
    first = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    micros = (moment.replace(tzinfo=dt.UTC) - first) // dt.timedelta.resolution - minutes * 60_000_000
    assert predicate(During("x", micros, micros))({"x": text})
    low, high = texts_around(micros, micros)
    assert (low or "") <= text < (high or "~")


@pytest.mark.parametrize(
    ("span", "says"),
    [
        ("2024", "takes \\[start, end\\]"),
        (["2024"], "takes"),
        (None, "takes"),
        ({"start": "2024", "end": "2025"}, "takes"),
        ({"2024", "2025"}, "takes"),
        ([2024, 2025], "2024 is no time"),
        (["2024-13", None], "is no time"),
        (["0000", None], "is no time"),
        ([None, "2023-02-29"], "is no time"),
        ([None, "20240517"], "is no time"),
        ([np.datetime64("NaT"), None], "is no time"),
        ([dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=14))), None], "is no time"),
        (["2024-05-17", "2024-05-16"], "ends before it begins"),
    ],
    ids=str,
)
def test_a_wrong_span_says_what_to_do(span: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_filter({"x": {"$during": span}})


def test_the_tree_has_few_kinds_of_nodes() -> None:
    where = {"$or": [{"a": {"$ne": 1}}, {"b": {"$gt": 1, "$lt": 3}}]}
    both = AllOf((Compare("b", "$gt", 1), Compare("b", "$lt", 3)))
    assert parse_filter(where) == AnyOf((Not(Compare("a", "$eq", 1)), both))
