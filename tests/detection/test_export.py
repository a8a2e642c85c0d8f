"""Files for other programs: read back by other libraries, they say the same."""

from __future__ import annotations

import json
import subprocess
import sys

import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from shapely import Polygon, box

import geovlm as gv
from geovlm.detection._lonlat import around
from geovlm.errors import StorageError, UnknownName, UsageError

UTM = "EPSG:32633"
HOLED = Polygon(
    [(500_000, 100), (500_900, 100), (500_900, 900), (500_000, 900)], [[(500_200, 300), (500_400, 300), (500_400, 600)]]
)


def _found(shapes, crs=UTM, **more):
    items = [
        gv.Detection(
            query="a pond",
            score=0.9 - 0.1 * k,
            polygon=shape,
            area_m2=7.5,
            peak=shape.representative_point().coords[0],
            raster="a.tif",
        )
        for k, shape in enumerate(shapes)
    ]
    return gv.Detections(items=items, crs=crs, raster="a.tif", **more)


def _heat(
    query="a pond", *, rows=700, columns=300, transform=(10.0, 0.0, 500_000.0, 0.0, -10.0, 9_000.0), crs=UTM, seed=0
):
    scores = np.random.default_rng(seed).random((rows, columns), dtype=np.float32)
    scores[:20, :30] = np.nan
    return gv.HeatMap(query=query, scores=scores, transform=transform, crs=crs)


# --- GeoJSON


def test_geojson_read_back_by_geopandas_is_the_same(tmp_path):
    shapes = [box(500_000, 100, 500_100, 300), HOLED]
    found = _found(shapes, settings={"encoder": "x", "threshold": 0.5})
    frame = gpd.read_file(found.to_geojson(tmp_path / "a.geojson"))
    move = Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
    assert frame.crs == "EPSG:4326"
    for shape, read in zip(shapes, frame.geometry, strict=True):
        expected = shapely.transform(shape, lambda c: np.column_stack(move.transform(*c.T)))
        assert read.equals_exact(expected.normalize(), 1e-7) or read.normalize().equals_exact(
            expected.normalize(), 1e-7
        )
    assert frame["score"].tolist() == [0.9, 0.8]
    assert frame["query"].tolist() == ["a pond"] * 2
    assert json.loads((tmp_path / "a.geojson").read_text())["settings"] == {"encoder": "x", "threshold": 0.5}


def test_rings_follow_the_right_hand_and_numbers_have_seven_decimals(tmp_path):
    clockwise = Polygon(list(HOLED.exterior.coords)[::-1], [list(HOLED.interiors[0].coords)])
    content = json.loads(_found([clockwise]).to_geojson(tmp_path / "a.geojson").read_text())
    [outer, hole] = content["features"][0]["geometry"]["coordinates"]
    assert shapely.LinearRing(outer).is_ccw
    assert not shapely.LinearRing(hole).is_ccw
    assert all(round(number, 7) == number for place in outer + hole for number in place)
    assert "crs" not in content  # RFC 7946, 4
    assert content["bbox"] == content["features"][0]["bbox"]
    west, _, _, north = content["bbox"]
    assert (west, north) == (min(x for x, _ in outer), max(y for _, y in outer))


@settings(max_examples=60)
@given(
    longitude=st.floats(-180, 180), latitude=st.floats(-60, 60), wide=st.floats(0.001, 20), tall=st.floats(0.001, 10)
)
def test_boxes_anywhere_keep_their_area_and_never_pass_the_antimeridian(longitude, latitude, wide, tall):
    # As a raster has it that passes 180 degrees: its coordinates go on.
    found = _found([box(longitude, latitude, longitude + wide, latitude + tall)], crs="EPSG:4326")
    content = found.__geo_interface__
    shape = shapely.geometry.shape(content["features"][0]["geometry"])
    assert shape.is_valid
    assert shape.area == pytest.approx(wide * tall, rel=1e-3, abs=1e-6)
    assert -180 <= shape.bounds[0] <= shape.bounds[2] <= 180
    assert all(part.exterior.is_ccw for part in shapely.get_parts(shape))
    west, _, east, _ = content["bbox"]
    assert (east - west) % 360 == pytest.approx(wide, abs=1e-6)


def test_a_place_around_the_pole_holds_the_pole():
    found = _found([box(-400_000, -300_000, 300_000, 500_000)], crs="EPSG:3031")
    shape = shapely.geometry.shape(found.__geo_interface__["features"][0]["geometry"])
    assert shape.bounds[:3] == (-180, -90, 180)
    assert shape.covers(shapely.Point(0, -89.9))
    assert shape.covers(shapely.Point(179.9, -89))
    assert not shape.covers(shapely.Point(0, -80))


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([(10, 20), (30, 40)], (10, 40)),
        ([(170, 180), (-180, -170)], (170, -170)),
        ([(-180, 180)], (-180, 180)),
        ([(-170, -160), (150, 160)], (150, -160)),
        ([(5, 5)], (5, 5)),
    ],
)
def test_the_shortest_way_around(intervals, expected):
    assert around(intervals) == expected


def test_nothing_found_is_a_file_too(tmp_path):
    found = _found([])
    assert json.loads(found.to_geojson(tmp_path / "a.geojson").read_text())["features"] == []
    assert len(gpd.read_parquet(found.to_geoparquet(tmp_path / "a.parquet"))) == 0
    assert found.to_geodataframe().crs == UTM


def test_without_a_crs_no_geojson_and_pixels_in_the_frame(tmp_path):
    found = _found([box(1, 2, 3, 4)], crs=None)
    with pytest.raises(UsageError, match=r"no coordinate reference system.*to_geodataframe\(\) .*pixel"):
        found.to_geojson(tmp_path / "a.geojson")
    assert not list(tmp_path.iterdir())
    frame = found.to_geodataframe()
    assert frame.crs is None
    assert frame.geometry[0].bounds == (1, 2, 3, 4)
    assert gpd.read_parquet(found.to_geoparquet(tmp_path / "a.parquet")).crs is None


def test_a_place_in_space_is_an_error(tmp_path):
    found = _found(
        [box(-5_500_000, 5_400_000, -5_400_000, 5_500_000)], crs="+proj=geos +h=35785831 +lon_0=-75 +ellps=GRS80"
    )
    with pytest.raises(UsageError, match="is not on the Earth"):
        found.to_geojson(tmp_path / "a.geojson")


# --- GeoParquet


def test_geoparquet_has_the_boxes_of_1_1(tmp_path):
    found = _found([HOLED, box(500_000, 100, 500_100, 300)])
    path = found.to_geoparquet(tmp_path / "deep" / "a.parquet")
    about = json.loads(pq.read_metadata(path).metadata[b"geo"])
    assert about["version"] == "1.1.0"
    column = about["columns"][about["primary_column"]]
    assert column["covering"]["bbox"] == {side: ["bbox", side] for side in ("xmin", "ymin", "xmax", "ymax")}
    assert column["crs"]["id"] == {"authority": "EPSG", "code": 32633}
    table = pq.read_table(path)
    assert table["bbox"][0].as_py() == dict(zip(("xmin", "ymin", "xmax", "ymax"), HOLED.bounds, strict=True))
    frame = gpd.read_parquet(path)
    assert frame.geometry.tolist() == [item.polygon for item in found]
    assert frame["peak_x"].tolist() == [item.peak[0] for item in found]
    near = gpd.read_parquet(path, bbox=(500_500, 700, 500_600, 800))
    assert len(near) == 1


# --- heat maps


@pytest.mark.parametrize(
    "transform",
    [
        (10.0, 0.0, 500_000.0, 0.0, -10.0, 9_000.0),
        (8.0, 3.0, 500_000.0, 3.0, -8.0, 9_000.0),  # rotated
        (10.0, 0.0, 500_000.0, 0.0, 10.0, 9_000.0),  # south-up
    ],
)
def test_a_heat_map_is_a_cog_with_the_place_of_its_cells(tmp_path, transform):
    heat = _heat(transform=transform)
    path = _found([], heat_maps={"a pond": heat}).to_heatmap(tmp_path / "heat.tif")
    with rasterio.open(path) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert tuple(file.transform)[:6] == transform
        assert (file.crs.to_string(), file.dtypes, file.descriptions) == (UTM, ("float32",), ("a pond",))
        assert np.isnan(file.nodata)
        assert file.overviews(1)
        assert np.array_equal(file.read(1), heat.scores, equal_nan=True)
        assert np.array_equal(file.dataset_mask() > 0, ~np.isnan(heat.scores))
    assert [entry.name for entry in tmp_path.iterdir()] == ["heat.tif"]


def test_several_queries_are_bands_and_one_may_be_chosen(tmp_path):
    maps = {"a pond": _heat(), "wood, ünïcode": _heat("wood, ünïcode", seed=1)}
    found = _found([], heat_maps=maps)
    with rasterio.open(found.to_heatmap(tmp_path / "both.tif")) as file:
        assert file.descriptions == tuple(maps)
        assert np.array_equal(file.read(2), maps["wood, ünïcode"].scores, equal_nan=True)
    with rasterio.open(found.to_heatmap(tmp_path / "one.tif", "wood, ünïcode")) as file:
        assert file.count == 1
    with pytest.raises(UnknownName, match="Did you mean a pond"):
        found.to_heatmap(tmp_path / "none.tif", "a pont")


def test_scores_on_disk_and_pixels_without_a_crs(tmp_path, recwarn):
    heat = _heat(crs=None, transform=(32.0, 0.0, 0.0, 0.0, 32.0, 0.0))
    np.save(tmp_path / "scores.npy", heat.scores)
    kept = gv.HeatMap(query="a", scores=np.load(tmp_path / "scores.npy", mmap_mode="r"), transform=heat.transform)
    path = _found([], crs=None, heat_maps={"a": kept}).to_heatmap(tmp_path / "heat.tif")
    assert not [w for w in recwarn if "georef" in str(w.message).lower()]
    with rasterio.open(path) as file:
        assert file.crs is None
        assert tuple(file.transform)[:6] == heat.transform
        assert np.array_equal(file.read(1), heat.scores, equal_nan=True)


def test_heat_maps_that_are_not_there_or_do_not_fit(tmp_path):
    with pytest.raises(UsageError, match="no heat map"):
        _found([]).to_heatmap(tmp_path / "heat.tif")
    maps = {"a": _heat("a"), "b": _heat("b", rows=10)}
    with pytest.raises(UsageError, match=r"2 different grids.*query="):
        _found([], heat_maps=maps).to_heatmap(tmp_path / "heat.tif")


# --- disks


FULL_DISK = """
import resource, signal, sys
import numpy as np
import geovlm as gv
from geovlm.errors import StorageError
from shapely import box

scores = np.random.default_rng(0).random((600, 600), dtype=np.float32)
heat = gv.HeatMap(query="a", scores=scores, transform=(1, 0, 0, 0, -1, 0), crs="EPSG:32633")
items = [gv.Detection(query="a", score=0.5, polygon=box(k, 0, k + 1, 1), peak=(k, 0)) for k in range(500_000, 503_000)]
found = gv.Detections(items=items, crs="EPSG:32633", heat_maps={"a": heat})
found.to_geodataframe()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for name, write in (("x.geojson", found.to_geojson), ("x.parquet", found.to_geoparquet), ("x.tif", found.to_heatmap)):
    try:
        write(sys.argv[1] + "/" + name)
    except StorageError as error:
        assert name in str(error), error
    else:
        raise SystemExit(name + " was taken for written")
"""


def test_a_disk_that_is_full_is_told_and_leaves_nothing(tmp_path):
    """The kernel refuses to let files grow, as it does on a full disk."""
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert not list(tmp_path.iterdir())


def test_what_was_there_stays_if_writing_fails(tmp_path, monkeypatch):
    found = _found([HOLED], heat_maps={"a pond": _heat()})
    paths = [found.to_geojson(tmp_path / "a.geojson"), found.to_heatmap(tmp_path / "a.tif")]
    before = [path.read_bytes() for path in paths]

    def refuse(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("geovlm._files.to_disk", refuse)
    for write, path in zip((found.to_geojson, found.to_heatmap), paths, strict=True):
        with pytest.raises(StorageError, match="No space left"):
            write(path)
    assert [path.read_bytes() for path in paths] == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.geojson", "a.tif"]
