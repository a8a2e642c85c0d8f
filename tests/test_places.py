"""Footprints joined into regions, and hits into places."""

from __future__ import annotations

import json
import re
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from geovlm._regions import geometry_of, regions
from geovlm.errors import StorageError
from geovlm.index import Hit, Hits, Places
from geovlm.records import Footprint

GEOD = Geod(ellps="WGS84")


def box(west: float, south: float, east: float, north: float) -> Footprint:
    return Footprint(west=west, south=south, east=east, north=north)


def hits_at(*boxes: Footprint | None, **same: Any) -> Hits:
    items = [Hit(id=f"h{n}", score=0.9 - 0.1 * n, footprint=place, **same) for n, place in enumerate(boxes)]
    return Hits(tuple(items), query="“sand”")


def geodesic_area(geometry: Any) -> float:
    """By pyproj, with edges that follow the parallels as those of the boxes do."""
    shape = shapely.segmentize(shapely.from_geojson(json.dumps(geometry)), 0.01)
    return sum(abs(GEOD.geometry_area_perimeter(part)[0]) for part in shapely.get_parts(shape))


# --- regions

small = st.builds(
    lambda west, south, width, height: box(
        west, south, west + width if west + width <= 180 else west + width - 360, min(90, south + height)
    ),
    st.integers(-180, 180),
    st.integers(-4, 4),
    st.integers(0, 3),
    st.integers(0, 3),
)


def touch(one: Footprint, other: Footprint) -> bool:
    """By longitudes counted round the Earth, on the whole degrees that these boxes have."""

    def columns(place: Footprint) -> set[int]:
        width = int(place.east - place.west) % 360
        return {(2 * int(place.west) + step) % 720 for step in range(2 * width + 1)}

    return bool(columns(one) & columns(other)) and one.south <= other.north and other.south <= one.north


@settings(deadline=None, max_examples=60)
@given(st.lists(small | small.map(lambda b: box(178, b.south, -179, b.north)), max_size=9))
def test_regions_are_the_connected_groups(footprints):
    groups = [{place} for place in range(len(footprints))]
    for left in range(len(footprints)):
        for right in range(left):
            if touch(footprints[left], footprints[right]):
                both = next(g for g in groups if left in g) | next(g for g in groups if right in g)
                groups = [g for g in groups if not g & both] + [both]
    found = regions(footprints)
    assert sorted(sorted(region.members) for region in found) == sorted(sorted(group) for group in groups)
    assert [region.members[0] for region in found] == sorted(region.members[0] for region in found)
    for region in found:
        shape = shapely.from_geojson(json.dumps(region.geometry))
        assert shape.is_valid
        _check_cover(shape, [footprints[member] for member in region.members])


def _check_cover(shape: Any, footprints: list[Footprint]) -> None:
    """Every whole and half degree that lies inside a box lies in the shape, and no other."""
    for longitude in {place.center[0] for place in footprints} | {-179.75, 179.75, 0.25}:
        for latitude in {place.center[1] for place in footprints} | {0.25}:
            inside = any(
                place.south < latitude < place.north
                and (
                    place.west < longitude < place.east
                    or (place.west > place.east and (longitude > place.west or longitude < place.east))
                )
                for place in footprints
            )
            if inside:
                assert shape.covers(shapely.Point(longitude, latitude))


@pytest.mark.parametrize(
    "bounds",
    [(0, 0, 1, 1), (8.5, 47, 8.51, 47.01), (-10, 60, 30, 85), (170, -80, -160, -10), (-180, -90, 180, 90)],
    ids=str,
)
def test_areas_are_those_of_pyproj(bounds):
    (region,) = regions([box(*bounds)])
    whole_earth = 5.10065621724e14
    expected = whole_earth if bounds == (-180, -90, 180, 90) else geodesic_area(region.geometry)
    assert region.area == pytest.approx(expected, rel=2e-7)


def test_what_lies_in_two_counts_once():
    (region,) = regions([box(0, 0, 2, 1), box(1, 0, 3, 1)])
    assert region.area == pytest.approx(geodesic_area(geometry_of(box(0, 0, 3, 1))), rel=2e-7)


def test_neighbours_in_a_grid_that_differ_by_rounding_are_one():
    edges = [0.1 * step for step in range(11)]
    tiles = [box(west, 0, west + 0.1, 0.1) for west in edges]
    assert any(tiles[n].east != tiles[n + 1].west for n in range(10))
    (region,) = regions(tiles)
    assert region.geometry["type"] == "Polygon"


def test_across_the_antimeridian_the_geometry_is_cut_and_the_box_is_not():
    (region,) = regions([box(178, -18, 180, -17), box(-180, -18, -179, -16.5), box(179, -17, -179.5, -16)])
    assert region.footprint.bounds == (178, -18, -179, -16)
    assert region.geometry["type"] == "MultiPolygon"
    for ring in (polygon[0] for polygon in region.geometry["coordinates"]):
        longitudes = [place[0] for place in ring]
        assert max(longitudes) - min(longitudes) < 3
        assert shapely.LinearRing(ring).is_ccw


def test_round_the_whole_earth():
    (region,) = regions([box(west, 0, west + 60, 1) for west in range(-180, 180, 60)])
    assert region.footprint.bounds == (-180, 0, 180, 1)


def test_points_and_lines():
    point, line, polygon = (regions([place])[0] for place in (box(8, 47, 8, 47), box(8, 47, 9, 47), box(8, 47, 9, 48)))
    assert [one.geometry["type"] for one in (point, line, polygon)] == ["Point", "LineString", "Polygon"]
    assert (point.area, line.area) == (0, 0)
    (both,) = regions([box(8, 47, 9, 48), box(9, 48, 9, 48), box(9, 47.5, 10, 47.5)])
    shapes = [shapely.from_geojson(json.dumps(one.geometry)) for one in (both, polygon)]
    assert shapes[0].equals(shapes[1])
    assert both.footprint.bounds == (8, 47, 10, 48)


def test_many_footprints_take_a_moment():
    generator = np.random.default_rng(0)
    west, south = generator.uniform(-180, 179, 5000), generator.uniform(-60, 60, 5000)
    found = regions([box(w, s, w + 0.5, s + 0.5) for w, s in zip(west, south, strict=True)])
    assert sum(len(region.members) for region in found) == 5000


# --- places


def test_places_of_hits():
    hits = hits_at(box(5, 0, 6, 1), box(0, 0, 1, 1), None, box(5.5, 0.5, 7, 2))
    places = hits.places()
    assert [[hit.id for hit in place.hits] for place in places] == [["h0", "h3"], ["h1"]]
    assert (places.unplaced, len(places), places.query) == (1, 2, "“sand”")
    assert places[0].score == 0.9
    assert places[0].probability is None
    assert isinstance(places[:1], Places)
    assert "2 places of 3 hits for “sand”, 1 more without a footprint" in repr(places)
    assert hits_at(box(0, 0, 1, 1), probability=0.75).places()[0].probability == 0.75
    assert len(Hits(()).places()) == len(hits_at(None).places()) == 0


def test_places_as_geojson_and_as_a_table(tmp_path):
    places = hits_at(box(179, -18, -179, -17), box(-179.5, -18, -178, -17), box(5, 0, 6, 1)).places()
    path = places.to_geojson(tmp_path / "deep" / "places.geojson")
    collection = json.loads(path.read_text(encoding="utf-8"))
    first = collection["features"][0]
    assert first["bbox"] == [179, -18, -178, -17]
    assert first["properties"] == {
        "score": 0.9,
        "probability": None,
        "area_m2": places[0].area,
        "hits": 2,
        "ids": ["h0", "h1"],
        "query": "“sand”",
    }
    read, made = geopandas.read_file(path), places.to_geodataframe()
    assert list(made["ids"]) == [["h0", "h1"], ["h2"]]
    assert read.crs == made.crs == "EPSG:4326"
    assert all(read.geometry.geom_equals(made.geometry))
    empty = Hits(()).places().to_geodataframe()
    assert (len(empty), list(empty.columns)) == (
        0,
        ["score", "probability", "area_m2", "hits", "ids", "query", "geometry"],
    )


def test_hits_as_geojson_and_as_a_table(tmp_path):
    hits = hits_at(box(5, 0, 6, 1), None, box(179, 0, -179, 1), metadata={"year": 2024, "score": "own", "tags": ["a"]})
    path = hits.to_geojson(tmp_path / "hits.geojson")
    features = json.loads(path.read_text(encoding="utf-8"))["features"]
    assert [one["geometry"] and one["geometry"]["type"] for one in features] == ["Polygon", None, "MultiPolygon"]
    assert features[0]["properties"]["metadata_score"] == "own"
    table = hits.to_geodataframe()
    assert list(table["id"]) == ["h0", "h1", "h2"]
    assert list(table["year"]) == [2024] * 3
    assert "footprint" not in table
    assert table.geometry.isna().tolist() == [False, True, False]
    assert len(geopandas.read_file(path)) == 3
    assert len(Hits(()).to_geodataframe()) == 0
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        hits.to_geojson(tmp_path / "file" / "hits.geojson")


# --- probabilities are shown


def test_a_probability_is_shown_beside_the_score():
    hits = hits_at(None, probability=0.8312)
    assert "0.9000   83.1%  h0" in repr(hits)
    assert "0.900 · 83%" in hits._repr_html_()
    assert hits.to_pandas().columns[:3].tolist() == ["id", "score", "probability"]
    assert "probability" not in hits_at(None).to_pandas()
    assert not re.search("None|%", repr(hits_at(None)))
