"""Planted rasters: what is told to lie there lies there, and nothing else does."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from geovlm.errors import UsageError
from geovlm.testing.rasters import PLANTED, planted_raster

rasterio = pytest.importorskip("rasterio")
warp = pytest.importorskip("rasterio.warp")
features = pytest.importorskip("rasterio.features")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    path = tmp_path_factory.mktemp("planted") / "land.tif"
    return path, planted_raster(path, size=1100, seed=3)


def outline_in_pixels(feature, file):
    longitudes, latitudes = np.transpose(feature["geometry"]["coordinates"][0])
    x, y = warp.transform("EPSG:4326", file.crs, longitudes, latitudes)
    return shapely.Polygon(np.transpose(~file.transform * (np.array(x), np.array(y))))


def test_outlines_on_the_earth_and_in_pixels_are_the_same(planted):
    path, truth = planted
    with rasterio.open(path) as file:
        assert (file.width, file.height, file.count, file.crs.to_epsg()) == (1100, 1100, 3, 32632)
        for feature in truth["features"]:
            box = [feature["properties"][side] for side in ("left", "top", "right", "bottom")]
            np.testing.assert_allclose(outline_in_pixels(feature, file).bounds, box, atol=1e-3)


def test_objects_are_drawn_inside_their_outlines(planted):
    """The land around an outline has another colour than what lies inside."""
    path, truth = planted
    assert len(truth["features"]) >= 5
    with rasterio.open(path) as file:
        pixels = file.read().transpose(1, 2, 0)
        for feature in truth["features"]:
            assert feature["properties"]["query"] in PLANTED
            outline = outline_in_pixels(feature, file)
            rings = outline.buffer(-4), outline.buffer(24).difference(outline.buffer(8))
            masks = [features.rasterize([ring], out_shape=file.shape).astype(bool) for ring in rings]
            inside, around = (np.median(pixels[mask], axis=0) for mask in masks)
            assert np.abs(inside - around).max() > 25, feature["properties"]


def test_objects_are_of_the_promised_length(planted):
    for feature in planted[1]["features"]:
        properties = feature["properties"]
        longest = max(properties["right"] - properties["left"], properties["bottom"] - properties["top"])
        assert 0.5 * 72 * 0.7 < longest <= 72 * np.hypot(1, 0.7)


def test_outlines_do_not_overlap(planted):
    shapes = [shapely.geometry.shape(feature["geometry"]) for feature in planted[1]["features"]]
    assert shapely.union_all(shapes).area == pytest.approx(sum(shape.area for shape in shapes))


def test_equal_seeds_write_equal_rasters(planted, tmp_path):
    path, truth = planted
    assert planted_raster(tmp_path / "again.tif", size=1100, seed=3) == truth
    assert (tmp_path / "again.tif").read_bytes() == path.read_bytes()
    assert planted_raster(tmp_path / "other.tif", size=1100, seed=4) != truth


@pytest.mark.parametrize("wrong", [{"size": 100}, {"scale": 10}, {"scale": 200}])
def test_sizes_without_room_are_refused(tmp_path, wrong):
    with pytest.raises(UsageError, match="at least 256"):
        planted_raster(tmp_path / "land.tif", **wrong)
    assert not list(tmp_path.iterdir())
