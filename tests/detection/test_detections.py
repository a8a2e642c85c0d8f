"""What a scan found: order, choice, merging, places in degrees."""

from __future__ import annotations

import numpy as np
import pytest
from shapely import MultiPolygon, Point, Polygon, box

import geovlm as gv
from geovlm.errors import UnknownName, UsageError

UTM = "EPSG:32633"


def _one(score=0.5, query="a pond", shape=None, **more):
    return gv.Detection(
        query=query, score=score, polygon=shape or box(500_000, 0, 500_100, 50), peak=(500_050, 25), **more
    )


def _heat(query="a pond", rows=3, columns=4, **more):
    scores = np.linspace(0, 1, rows * columns, dtype=np.float32).reshape(rows, columns)
    return gv.HeatMap(query=query, scores=scores, transform=(10, 0, 500_000, 0, -10, 100), **{"crs": UTM, **more})


def test_best_first_and_a_sequence():
    found = gv.Detections(items=[_one(0.2, raster="x"), _one(0.9), _one(0.2, raster="y")], crs=UTM)
    assert [item.score for item in found] == [0.9, 0.2, 0.2]
    assert [item.raster for item in found[1:]] == ["x", "y"]
    assert isinstance(found[1:], gv.Detections)
    assert found[-1].raster == "y"
    assert (len(found), found.index(found[1]), bool(gv.Detections())) == (3, 1, False)


def test_box_and_point_lie_where_the_polygon_does():
    bent = Polygon([(0, 0), (10, 0), (10, 1), (1, 1), (1, 10), (0, 10)])
    item = _one(shape=bent)
    assert item.box == (0, 0, 10, 10)
    assert bent.covers(Point(item.point))
    assert not bent.covers(bent.centroid)


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_a_score_is_a_probability(score):
    with pytest.raises(UsageError, match="probability between 0 and 1"):
        _one(score)


@pytest.mark.parametrize("shape", [Point(1, 2), Polygon(), "POLYGON EMPTY", MultiPolygon()])
def test_a_detection_has_an_area(shape):
    with pytest.raises(UsageError, match="polygon of shapely"):
        gv.Detection(query="a", score=0.5, polygon=shape, peak=(0, 0))


def test_a_heat_map_has_cells():
    with pytest.raises(UsageError, match="rows and columns"):
        gv.HeatMap(query="a", scores=np.zeros((0, 4), dtype=np.float32), transform=(1, 0, 0, 0, 1, 0))
    with pytest.raises(UsageError, match="six numbers"):
        gv.HeatMap(query="a", scores=np.zeros((2, 4), dtype=np.float32), transform=(1, 0, 0))


def test_filter_by_score_and_query():
    found = gv.Detections(
        items=[_one(0.9), _one(0.3), _one(0.6, "a wood")],
        crs=UTM,
        heat_maps={"a pond": _heat(), "a wood": _heat("a wood")},
        settings={"queries": ["a pond", "a wood", "a road"], "encoder": "x"},
    )
    ponds = found.filter(query="a pond", min_score=0.5)
    assert [item.score for item in ponds] == [0.9]
    assert list(ponds.heat_maps) == ["a pond"]
    assert ponds.settings == {"queries": ["a pond"], "encoder": "x"}
    assert len(found.filter(query=["a road"])) == 0
    assert len(found.filter()) == 3
    with pytest.raises(UnknownName, match="Did you mean a pond"):
        found.filter(query="a pon")


def test_merge_keeps_one_crs_and_counts_add_up():
    failure = gv.Failure(id="w3", stage="read", reason="broken")
    one = gv.Detections(
        items=[_one(0.4)],
        crs=UTM,
        raster="a.tif",
        report=gv.Report(stage="scan", done=3),
        heat_maps={"a pond": _heat()},
    )
    other = gv.Detections(
        items=[_one(0.8)],
        crs=UTM,
        raster="b.tif",
        report=gv.Report(stage="scan", done=1, skipped=2, failures=[failure]),
        heat_maps={"a pond": _heat(), "a wood": _heat("a wood")},
    )
    both = gv.Detections.merge([one, other])
    assert [item.score for item in both] == [0.8, 0.4]
    assert (both.crs, both.raster, both.report.total, both.report.failures) == (UTM, "", 7, (failure,))
    assert list(both.heat_maps) == ["a pond (a.tif)", "a pond (b.tif)", "a wood"]
    assert both.queries == ("a pond", "a wood")
    assert gv.Detections.merge([one]).raster == "a.tif"


def test_merge_of_several_crs_is_in_degrees():
    here = gv.Detections(items=[_one(0.4)], crs=UTM)
    there = gv.Detections(items=[_one(0.8, shape=box(15, 0, 15.1, 0.1))], crs="EPSG:4326")
    both = gv.Detections.merge([here, there])
    assert both.crs == "EPSG:4326"
    assert both[1].polygon.bounds == pytest.approx((15, 0, 15.0009, 0.00045), abs=1e-4)
    with pytest.raises(UsageError, match=r"flat\.tif has no CRS"):
        gv.Detections.merge([here, gv.Detections(items=[_one()], raster="flat.tif")])
    with pytest.raises(UsageError, match="at least one"):
        gv.Detections.merge([])


def test_lonlat_is_cut_at_the_antimeridian():
    found = gv.Detections(items=[_one(shape=box(166_000, 100_000, 168_000, 101_000))], crs="EPSG:32601")
    parts = sorted(part.bounds for part in found.lonlat(found[0]).geoms)
    assert [parts[0][0], parts[1][2]] == [-180, 180]
    assert parts[0][2] < -179.9
    assert parts[1][0] > 179.9


@pytest.mark.parametrize(
    ("crs", "reason"), [(None, "no coordinate reference system"), ("IAU_2015:49900", "not of the Earth")]
)
def test_no_degrees_without_a_crs_of_the_earth(crs, reason):
    found = gv.Detections(items=[_one(shape=box(0, 0, 1, 1))], crs=crs)
    with pytest.raises(UsageError, match=rf"{reason}.*to_geodataframe"):
        found.lonlat(found[0])


def test_what_people_see():
    found = gv.Detections(items=[_one(0.9, area_m2=5000.0), _one(0.3, "<b>wood</b>")], crs=UTM)
    assert repr(found) == (
        "Detections(2 places in EPSG:32633)\n  a pond: 1, scores 0.90 to 0.90\n  <b>wood</b>: 1, scores 0.30 to 0.30"
    )
    page = found._repr_html_()
    assert '<td class="gv-words">5,000</td>' in page
    assert "&lt;b&gt;wood" in page
    assert "<b>wood" not in page
    assert "data:image/png;base64," in page
    assert repr(gv.Detections()) == "Detections(0 places in pixels)"
    assert '<p class="gv-title">Detections(0 places in pixels)</p>' in gv.Detections()._repr_html_()
