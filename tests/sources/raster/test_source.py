"""Windows as records: ids, places, empty ones, broken rasters, and the calls that take a source."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

import geovlm as gv
from geovlm.errors import ImageError, UsageError
from geovlm.sources.raster import Raster
from geovlm.testing import HashEncoder
from tests.sources.raster.rasters import noise, write

pytestmark = pytest.mark.filterwarnings("ignore:.*matmul")


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "scene.tif", noise(3, 300, 500))


def test_records_are_windows_with_places(path):
    source = gv.RasterSource(path, window=200, overlap=50)
    assert isinstance(source, gv.ImageSource)
    records = list(source)
    assert [r.id for r in records[:3]] == [
        "scene.tif/0_0_200x200",
        "scene.tif/0_150_200x200",
        "scene.tif/0_300_200x200",
    ]
    assert len(source) == len(records) == len({r.id for r in records}) == 6
    assert source.skipped == 0
    raster = Raster(path)
    for record in records:
        col, row, width, height = record.meta["window"]
        assert (width, height) == (200, 200)
        assert (np.asarray(record.open()) == raster.read(raster_window(record))[0]).all()
        west, north = raster.to_lonlat([(col, row)])[0]
        assert record.footprint.west == pytest.approx(west, abs=1e-4)
        assert record.footprint.north == pytest.approx(north, abs=1e-4)
    meta = records[0].meta
    assert meta == json.loads(json.dumps(meta))
    assert (meta["crs"], meta["gsd"], meta["bands"], meta["valid"]) == ("EPSG:32614", 2, [1, 2, 3], 1)
    assert [r.id for r in source] == [r.id for r in records]


def raster_window(record):
    from geovlm.sources.raster import Window

    return Window(**dict(zip(("col", "row", "width", "height"), record.meta["window"], strict=True)))


def test_sizes_in_metres_and_resolutions(path):
    def sizes(**options):
        first = next(iter(gv.RasterSource(path, **options)))
        return first.id, first.meta["gsd"], first.open().size

    assert sizes() == ("scene.tif/0_0_224x224", 2, (224, 224))
    assert sizes(size_m=100) == ("scene.tif/0_0_50x50", 2, (50, 50))
    assert sizes(size_m=100, gsd=4) == ("scene.tif@4m/0_0_25x25", 4, (25, 25))
    assert sizes(size_m=400, window=100) == ("scene.tif@4m/0_0_100x100", 4, (100, 100))
    assert sizes(gsd=4, window=64) == ("scene.tif@4m/0_0_64x64", 4, (64, 64))
    assert sizes(window=1000) == ("scene.tif/0_0_500x300", 2, (500, 300))


def test_overlap_as_a_share(path):
    columns = [r.meta["window"][0] for r in gv.RasterSource(path, window=100, overlap=0.25) if r.meta["window"][1] == 0]
    assert columns == [0, 75, 150, 225, 300, 375, 400]


def test_empty_windows_are_left_out_and_counted(tmp_path):
    samples = noise(3, 400, 400)
    samples[:, :, 120:] = 0
    path = write(tmp_path / "a.tif", samples, nodata=0)
    source = gv.RasterSource(path, window=100)
    assert source.skipped == 0
    assert {r.meta["window"][0] for r in source} == {0, 100}
    assert (source.skipped, len(source)) == (8, 8)
    assert len(gv.RasterSource(path, window=100, min_valid=0.5)) == 4
    everything = gv.RasterSource(path, window=100, min_valid=0)
    assert (len(everything), everything.skipped) == (8, 8)  # nothing can be said of a window without a pixel
    assert [r.meta["valid"] for r in everything][1] == pytest.approx(0.2, abs=0.04)


def test_a_folder_of_rasters_with_a_broken_one(tmp_path):
    for name in ("b/x.tif", "a/x.tif"):
        (tmp_path / name).parent.mkdir()
        write(tmp_path / name, noise(3, 100, 100))
    (tmp_path / "a" / "bad.tif").write_bytes(b"II*\0 broken")
    (tmp_path / "notes.txt").write_text("no raster")
    (tmp_path / ".hidden.tif").write_bytes(b"")
    source = gv.RasterSource(tmp_path, window=100)
    records = list(source)
    assert [r.id for r in records] == ["a/bad.tif", "a/x.tif/0_0_100x100", "b/x.tif/0_0_100x100"]
    assert len(source) == 3
    with pytest.raises(ImageError, match="cannot read") as caught:
        records[0].open()
    assert str(caught.value).count("bad.tif:") <= 2
    vectors = gv.embed(source, HashEncoder(dim=8))
    assert (vectors.report.done, vectors.report.failed) == (2, 1)


def test_several_places(tmp_path, path):
    (tmp_path / "other").mkdir()
    twin = write(tmp_path / "other" / "scene.tif", noise(3, 50, 50))
    ids = [r.id for r in gv.RasterSource([path, twin], window=500)]
    assert ids == [f"{path}/0_0_500x300", f"{twin}/0_0_50x50"]
    with pytest.raises(UsageError, match="twice"):
        gv.RasterSource([path, path])
    raster = Raster(path, gsd=10)
    assert next(r.id for r in gv.RasterSource(raster, window=60)) == "scene.tif/0_0_60x60"
    with pytest.raises(UsageError, match="already"):
        gv.RasterSource(raster, gsd=2)


@pytest.mark.filterwarnings("ignore:.*places are pixels")
def test_without_a_crs_windows_in_metres_fail_and_others_have_no_footprint(tmp_path):
    path = write(tmp_path / "a.tif", noise(3, 100, 100), crs=None)
    [record] = gv.RasterSource(path)
    assert (record.footprint, record.meta["crs"], record.meta["gsd"]) == (None, None, None)
    [record] = gv.RasterSource(path, size_m=50)
    with pytest.raises(ImageError, match="pixels"):
        record.open()


def test_a_window_that_cannot_be_read_fails_alone(tmp_path):
    path = tmp_path / "a.tif"
    write(path, noise(3, 512, 512), tiled=True, blockxsize=128, blockysize=128, nodata=0)
    path.write_bytes(path.read_bytes()[:-100])
    vectors = gv.embed(gv.RasterSource(path, window=128), HashEncoder(dim=8))
    assert (vectors.report.done, vectors.report.failed) == (15, 1)
    assert vectors.report.failures[0].id == "a.tif/384_384_128x128"


def test_embedding_stops_and_goes_on(path, tmp_path):
    source = gv.RasterSource(path, window=100)
    first = gv.embed(list(source)[:7], HashEncoder(dim=8), out=tmp_path / "out", batch_size=4)
    again = gv.embed(source, HashEncoder(dim=8), out=tmp_path / "out", batch_size=4)
    assert (first.report.done, again.report.done, again.report.skipped) == (7, 8, 7)


def test_an_index_finds_windows_by_place(path):
    index = gv.Index(HashEncoder(dim=8), gv.NumpyStore())
    source = gv.RasterSource(path, window=100)
    report = index.add(source)
    assert report.done == 15
    hits = index.search("anything", limit=20, where={"gsd": {"$eq": 2}})
    assert len(hits) == 15
    assert hits[0].footprint is not None


def test_records_travel_to_other_processes(path):
    records = list(gv.RasterSource(path))
    other = pickle.loads(pickle.dumps(records[0]))
    assert (np.asarray(other.open()) == np.asarray(records[0].open())).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": 0},
        {"window": 1.5},
        {"size_m": -1},
        {"gsd": 0},
        {"window": 10, "size_m": 10, "gsd": 1},
        {"min_valid": 2},
        {"overlap": 1.5},
        {"overlap": -1},
    ],
)
def test_wrong_settings(path, wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        gv.RasterSource(path, **wrong)


def test_nothing_there(tmp_path):
    for nothing in ([], tmp_path, tmp_path / "missing.tif"):
        with pytest.raises(UsageError):
            gv.RasterSource(nothing)
