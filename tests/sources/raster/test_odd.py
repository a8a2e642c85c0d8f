"""Real rasters, broken ones too: read, or refused with the reason, and never for long."""

from __future__ import annotations

import time

import numpy as np
import pytest

from geovlm.errors import ImageError
from geovlm.sources.raster import Raster, Window
from geovlm.sources.raster._guard import probe
from tests.sources.raster.rasters import noise, write

pytestmark = pytest.mark.filterwarnings("ignore:.*places are pixels")

# What cannot be opened, and a part of the reason.
REFUSED = {
    "libtiff_segfault.tif": "65,535 bands",
    "oom-225817ca0f8c663be7ab4b9e717b02c661e66834.tif": "Failed to read directory",
    "seek_too_large.tif": "Failed to read directory",
}
# What opens, but has blocks that cannot be read.
BROKEN = {
    "crash-338516dbd2f0e83caddb8ce256c22db3bd6dc40f.tif": "IReadBlock failed",
    "rasterio_corrupt_jpeg_tiles.tif": "IReadBlock failed",
}


def corners(raster):
    side = 300
    last = raster.width - side, raster.height - side
    places = {(0, 0), (max(0, last[0]), max(0, last[1])), (max(0, last[0]) // 2, max(0, last[1]) // 2)}
    return [Window(col=x, row=y, width=min(side, raster.width), height=min(side, raster.height)) for x, y in places]


def test_all_real_rasters_are_read(shared_data):
    for path in sorted((shared_data / "geo_rasters").glob("*.tif*")):
        raster = Raster(path)
        for window in corners(raster):
            rgb, valid = raster.read(window)
            assert rgb.shape == (window.height, window.width, 3)
            assert rgb.dtype == np.uint8
            assert not rgb[~valid].any()
            assert raster.valid_share(window) == pytest.approx(valid.mean(), abs=0.06)
        assert (raster.valid_share(raster.window) == 0) == (path.name == "all_nodata_uint16_4band.tif")


def test_all_odd_tiffs_are_read_or_refused(shared_data):
    paths = sorted((shared_data / "odd_images").glob("*.tif*"))
    assert len(paths) > 25
    for path in paths:
        if path.name in REFUSED:
            with pytest.raises(ImageError, match=REFUSED[path.name]) as caught:
                Raster(path)
            assert caught.value.uri == str(path)
            continue
        raster = Raster(path)
        if path.name in BROKEN:
            with pytest.raises(ImageError, match=BROKEN[path.name]):
                raster.read(raster.window)
            continue
        for window in corners(raster):
            rgb, _ = raster.read(window)
            assert rgb.shape == (window.height, window.width, 3)


def test_not_a_raster(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"no raster")
    with pytest.raises(ImageError, match="not recognized"):
        Raster(path)
    path.write_bytes(b"")
    with pytest.raises(ImageError, match="cannot read"):
        Raster(path)


def test_a_truncated_file_fails_where_it_ends(tmp_path):
    path = tmp_path / "a.tif"
    write(path, noise(3, 512, 512), tiled=True, blockxsize=128, blockysize=128)
    path.write_bytes(path.read_bytes()[:400_000])
    raster = Raster(path)
    raster.read(Window(col=0, row=0, width=100, height=100))
    with pytest.raises(ImageError, match="cannot read"):
        raster.read(Window(col=400, row=400, width=100, height=100))


def test_what_claims_too_much_is_tried_elsewhere(tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr("geovlm.sources.raster._guard.probe", lambda path, size: tried.append(path) or "broken")
    small = write(tmp_path / "small.tif", noise(3, 64, 64))
    Raster(small)
    assert tried == []
    sparse = write(tmp_path / "sparse.tif", np.zeros((1, 8000, 8000), np.uint8), tiled=True, sparse_ok=True)
    with pytest.raises(ImageError, match="broken"):
        Raster(sparse)
    assert tried == [sparse]


def test_a_sparse_file_passes(tmp_path):
    path = write(tmp_path / "sparse.tif", np.zeros((1, 8000, 8000), np.uint8), tiled=True, sparse_ok=True)
    assert Raster(path).read(Window(col=0, row=0, width=9, height=9))[1].all()


def test_the_child_is_stopped_and_tells(shared_data, tmp_path):
    started = time.monotonic()
    hanging = str(shared_data / "odd_images" / "libtiff_segfault.tif")
    reason = probe(hanging, 262, seconds=5)
    assert time.monotonic() - started < 30
    assert reason.startswith("reading its first block")
    (tmp_path / "x.tif").write_bytes(b"?")
    assert "not recognized" in probe(str(tmp_path / "x.tif"), 1)


def test_a_child_that_does_not_end_is_ended(tmp_path):
    path = write(tmp_path / "a.tif", noise(1, 8, 8))
    assert probe(path, 1) is None
    assert "did not end" in probe(path, 2, seconds=0.001)
