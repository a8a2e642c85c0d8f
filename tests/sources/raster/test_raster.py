"""What windows show: samples, masks, palettes, stretches, resolutions."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp, Resampling

from geovlm import Stretch
from geovlm.errors import UsageError
from geovlm.sources.raster import Raster, Window, cover
from tests.sources.raster.rasters import CORNER, noise, write

pytestmark = pytest.mark.filterwarnings("ignore:.*matmul")


def whole(raster):
    return raster.read(raster.window)


def test_windows_are_the_samples_of_the_file(tmp_path):
    samples = noise(3, 300, 400)
    raster = Raster(write(tmp_path / "a.tif", samples, tiled=True, blockxsize=128, blockysize=128))
    for window in cover(400, 300, window=90, overlap=13):
        rgb, valid = raster.read(window)
        rows, cols = slice(window.row, window.row + 90), slice(window.col, window.col + 90)
        assert (rgb == np.moveaxis(samples[:, rows, cols], 0, -1)).all()
        assert valid.all()
        assert rgb.flags.c_contiguous


def test_beyond_the_raster_nothing_is_valid(tmp_path):
    samples = noise(3, 30, 40)
    raster = Raster(write(tmp_path / "a.tif", samples))
    rgb, valid = raster.read(Window(col=-5, row=20, width=60, height=20))
    assert (rgb[:10, 5:45] == np.moveaxis(samples[:, 20:], 0, -1)).all()
    assert valid.sum() == 400
    assert not rgb[~valid].any()
    assert not raster.read(Window(col=100, row=0, width=5, height=5))[1].any()


def test_naip_keeps_its_near_infrared_out(shared_data, tmp_path):
    path = shared_data / "geo_rasters" / "naip_2020_rgbn_utm14n.tif"
    rgb, valid = whole(Raster(path))
    with rasterio.open(path) as dataset:
        samples = dataset.read()
    assert (rgb == np.moveaxis(samples[:3], 0, -1)).all()
    assert valid.all()
    # The same with the mark that some of them have.
    marked = write(tmp_path / "marked.tif", samples, alpha="yes", photometric="rgb")
    with rasterio.open(marked) as dataset:
        assert dataset.colorinterp[3] == ColorInterp.alpha
    rgb_of_marked, valid = whole(Raster(marked))
    assert (rgb_of_marked == rgb).all()
    assert valid.all()


def test_a_true_alpha_hides(tmp_path):
    samples = noise(4, 60, 60)
    samples[3] = 255
    samples[3, :, :20] = 0
    raster = Raster(write(tmp_path / "a.tif", samples, alpha="yes", photometric="rgb"))
    rgb, valid = whole(raster)
    assert not valid[:, :20].any()
    assert valid[:, 20:].all()
    assert not rgb[:, :20].any()


def test_nodata_an_internal_mask_and_nan(tmp_path):
    samples = noise(3, 60, 60)
    samples[:, :30] = 0
    samples[0, 0, 0] = 9  # one band has a value
    _, valid = whole(Raster(write(tmp_path / "nodata.tif", samples, nodata=0)))
    assert valid[30:].all()
    assert valid[:30].sum() == 1

    path = write(tmp_path / "mask.tif", noise(3, 60, 60))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.pad(np.full((60, 40), 255, dtype=np.uint8), ((0, 0), (20, 0))))
    rgb, valid = whole(Raster(path))
    assert (valid == (np.arange(60) >= 20)).all()
    assert not rgb[~valid].any()

    floats = np.random.default_rng(0).normal(50, 10, (3, 60, 60)).astype(np.float32)
    floats[1, 5] = np.nan
    floats[2, 6] = np.inf
    raster = Raster(write(tmp_path / "nan.tif", floats))
    _, valid = whole(raster)
    assert not valid[5:7].any()
    assert valid.sum() == 58 * 60
    assert 20 < raster.stretch.low < raster.stretch.high < 80


def test_palettes_are_colours(tmp_path):
    path = tmp_path / "p.tif"
    samples = noise(1, 40, 40, low=0, high=4)
    with rasterio.open(path, "w", driver="GTiff", width=40, height=40, count=1, dtype="uint8", crs="EPSG:32614",
                       nodata=0, transform=rasterio.transform.from_origin(9, 9, 1, 1)) as file:  # fmt: skip
        file.write(samples)
        file.write_colormap(1, {0: (0, 0, 0, 0), 1: (255, 0, 0, 255), 2: (0, 9, 0, 255), 3: (1, 2, 3, 255)})
    rgb, valid = whole(Raster(path))
    assert (valid == (samples[0] > 0)).all()
    assert (rgb[samples[0] == 1] == (255, 0, 0)).all()
    assert (rgb[samples[0] == 3] == (1, 2, 3)).all()
    coarse, mask = whole(Raster(path, gsd=4))
    assert {tuple(colour) for colour in coarse[mask].tolist()} <= {(255, 0, 0), (0, 9, 0), (1, 2, 3)}


def test_complex_samples_show_their_magnitude(tmp_path):
    samples = np.array([[[3 + 4j, 0], [0, 6 + 8j]]], dtype=np.complex64)
    raster = Raster(write(tmp_path / "c.tif", samples), stretch=Stretch(low=0, high=10))
    rgb, _ = whole(raster)
    assert rgb[0, 0].tolist() == [128] * 3
    assert rgb[1, 1].tolist() == [255] * 3


def test_few_bits_use_the_whole_range(tmp_path):
    samples = np.array([[[0, 1], [1, 0]]], dtype=np.uint8)
    rgb, _ = whole(Raster(write(tmp_path / "b.tif", samples, nbits=1)))
    assert rgb[..., 0].tolist() == [[0, 255], [255, 0]]


def test_one_stretch_for_all_windows_without_nodata(tmp_path):
    samples = noise(3, 400, 400, dtype="uint16", low=1000, high=3000)
    samples[:, :, 200:] += 4000
    samples[:, :50] = 0
    path = write(tmp_path / "a.tif", samples, nodata=0)
    raster = Raster(path)
    assert raster.stretch.low > 900
    assert 6500 < raster.stretch.high < 7000
    dark, _ = raster.read(Window(col=0, row=200, width=100, height=100))
    bright, _ = raster.read(Window(col=300, row=200, width=100, height=100))
    assert dark.max() < 100 < bright.min()
    expected = raster.stretch.apply(np.moveaxis(samples[:, 200:300, :100], 0, -1))
    assert (dark == expected).all()
    assert whole(Raster(path, stretch=Stretch(low=0, high=65535)))[0].max() == round(6999 / 65535 * 255)


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_every_type_of_sample_is_stretched_as_told(tmp_path, dtype):
    limits = (-100, 100) if dtype.startswith(("int", "float")) else (0, 200)
    samples = noise(3, 50, 50, dtype=dtype, low=limits[0], high=limits[1])
    raster = Raster(write(tmp_path / "a.tif", samples))
    rgb, valid = whole(raster)
    assert valid.all()
    assert (rgb == raster.stretch.apply(np.moveaxis(samples, 0, -1))).all()


def test_the_stretch_of_a_large_raster_comes_from_places_all_over(tmp_path):
    samples = np.zeros((1, 2304, 2304), dtype=np.uint16)
    samples[:] = np.arange(2304)[:, None] + 100
    raster = Raster(write(tmp_path / "a.tif", samples, tiled=True, compress="deflate"))
    assert raster.stretch.low == pytest.approx(146, abs=80)
    assert raster.stretch.high == pytest.approx(2357, abs=80)


@pytest.mark.parametrize(
    ("count", "dtype", "names", "expected"),
    [
        (1, "uint8", None, (1,)),
        (2, "uint16", None, (1,)),
        (5, "uint16", None, (1, 2, 3)),
        (12, "uint16", None, (4, 3, 2)),
        (13, "uint16", None, (4, 3, 2)),
        (12, "float32", None, (1, 2, 3)),
        (4, "uint16", ("B02", "B03", "B04", "B08"), (3, 2, 1)),
        (4, "uint16", ("Blue", "Green", "Red", "NIR"), (3, 2, 1)),
    ],
)
def test_which_bands_are_shown(tmp_path, count, dtype, names, expected):
    path = write(tmp_path / "a.tif", noise(count, 8, 8, dtype=dtype), photometric="minisblack")
    if names:
        with rasterio.open(path, "r+") as dataset:
            dataset.descriptions = names
    raster = Raster(path)
    assert raster.bands == expected
    assert raster.bands_reason


def test_bands_that_are_asked_for(tmp_path):
    samples = noise(4, 20, 20)
    path = write(tmp_path / "a.tif", samples)
    assert (whole(Raster(path, bands=(4, 1, 1)))[0] == np.moveaxis(samples[[3, 0, 0]], 0, -1)).all()
    assert (whole(Raster(path, bands=[2]))[0] == samples[1][..., None]).all()
    for wrong in ((0, 1, 2), (1, 2, 5), (1, 2), ()):
        with pytest.raises(UsageError, match="from 1 to 4"):
            Raster(path, bands=wrong)


def test_a_coarser_resolution_averages_and_has_no_seams(tmp_path):
    samples = noise(3, 300, 400, low=0, high=256)
    path = write(tmp_path / "a.tif", samples)
    raster = Raster(path, gsd=8)
    assert (raster.width, raster.height, raster.gsd) == (100, 75, 8)
    means = samples.reshape(3, 75, 4, 100, 4).mean(axis=(2, 4))
    rgb, _ = whole(raster)
    assert np.abs(np.moveaxis(rgb, -1, 0).astype(float) - means).max() <= 1
    for window in cover(100, 75, window=32, overlap=5):
        part, _ = raster.read(window)
        rows, cols = slice(window.row, window.row + 32), slice(window.col, window.col + 32)
        assert (part == rgb[rows, cols]).all()


def test_uneven_resolutions_have_no_seams_either(tmp_path):
    ramp = np.add.outer(np.arange(300) * 0.3, np.arange(400) * 0.3).astype(np.uint8)
    raster = Raster(write(tmp_path / "a.tif", ramp[None]), gsd=5.3)
    rgb, _ = whole(raster)
    for window in cover(raster.width, raster.height, window=40, overlap=7):
        part, _ = raster.read(window)
        rows, cols = slice(window.row, window.row + 40), slice(window.col, window.col + 40)
        assert np.abs(part.astype(int) - rgb[rows, cols]).max() <= 1


def test_places_do_not_move_with_the_resolution(tmp_path):
    samples = np.zeros((1, 400, 400), dtype=np.uint8)
    samples[0, 100:200, 240:300] = 200
    path = write(tmp_path / "a.tif", samples)
    for gsd in (1, 2, 3, 8):
        raster = Raster(path, gsd=gsd)
        rows, cols = np.nonzero(whole(raster)[0][..., 0] > 100)
        upper = raster.to_crs([(cols.min(), rows.min())])[0]
        lower = raster.to_crs([(cols.max() + 1, rows.max() + 1)])[0]
        assert upper == pytest.approx((CORNER[0] + 480, CORNER[1] - 200), abs=gsd)
        assert lower == pytest.approx((CORNER[0] + 600, CORNER[1] - 400), abs=gsd)
        assert raster.to_crs([(raster.width, raster.height)])[0] == pytest.approx((CORNER[0] + 800, CORNER[1] - 800))


def test_nodata_does_not_bleed_into_averages(tmp_path):
    samples = np.full((3, 64, 64), 200, dtype=np.uint8)
    samples[:, :, :31] = 0
    rgb, valid = whole(Raster(write(tmp_path / "a.tif", samples, nodata=0), gsd=8))
    assert set(np.unique(rgb[valid])) == {200}
    alpha = np.concatenate([samples, (samples[:1] > 0) * np.uint8(255)])
    rgb, valid = whole(Raster(write(tmp_path / "b.tif", alpha, alpha="yes", photometric="rgb"), gsd=8))
    assert rgb[valid].min() >= 190


def test_overviews_are_used(tmp_path):
    path = write(tmp_path / "a.tif", noise(1, 512, 512), tiled=True, blockxsize=128, blockysize=128)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.average)
    with rasterio.open(path, OVERVIEW_LEVEL=1) as small:
        expected = small.read(1)
    assert np.abs(whole(Raster(path, gsd=8))[0][..., 0].astype(int) - expected).max() <= 1


def test_several_files_are_one(tmp_path):
    samples = noise(3, 100, 200)
    left = write(tmp_path / "l.tif", samples[..., :120], transform=rasterio.transform.from_origin(9, 9, 1, 1))
    right = write(tmp_path / "r.tif", samples[..., 120:], transform=rasterio.transform.from_origin(129, 9, 1, 1))
    raster = Raster([left, right])
    assert (raster.width, raster.height) == (200, 100)
    rgb, valid = whole(raster)
    assert (rgb == np.moveaxis(samples, 0, -1)).all()
    assert valid.all()
    far = write(tmp_path / "f.tif", samples[..., :50], transform=rasterio.transform.from_origin(159, -41, 1, 1))
    rgb, valid = whole(Raster([left, far]))
    assert rgb.shape == (150, 200, 3)
    assert valid.sum() == 120 * 100 + 50 * 100
    assert not rgb[~valid].any()


def test_what_an_upper_file_does_not_know_a_lower_one_does(tmp_path):
    samples = noise(3, 50, 50)
    holes = samples.copy()
    holes[:, 10:20] = 0
    below = write(tmp_path / "b.tif", samples, nodata=0)
    above = write(tmp_path / "a.tif", holes, nodata=0)
    rgb, valid = whole(Raster([below, above]))
    assert valid.all()
    assert (rgb == np.moveaxis(samples, 0, -1)).all()


def test_files_that_do_not_go_together(tmp_path):
    one = write(tmp_path / "1.tif", noise(3, 10, 10))
    for other in (
        write(tmp_path / "2.tif", noise(3, 10, 10), crs="EPSG:32615"),
        write(tmp_path / "3.tif", noise(1, 10, 10)),
        write(tmp_path / "4.tif", noise(3, 10, 10, dtype="uint16")),
    ):
        with pytest.raises(UsageError, match="make one raster"):
            Raster([one, other])
    with pytest.raises(UsageError, match="at least one"):
        Raster([])


def test_threads_read_the_same(tmp_path):
    samples = noise(3, 500, 500)
    for name, options in (("tiles", {"tiled": True, "blockxsize": 64, "blockysize": 64}), ("strips", {})):
        raster = Raster(write(tmp_path / f"{name}.tif", samples, compress="deflate", **options))
        windows = list(cover(500, 500, window=70)) * 3
        with ThreadPoolExecutor(8) as pool:
            for window, (rgb, _) in zip(windows, pool.map(raster.read, windows), strict=True):
                rows, cols = slice(window.row, window.row + 70), slice(window.col, window.col + 70)
                assert (rgb == np.moveaxis(samples[:, rows, cols], 0, -1)).all()


def test_large_strips_share_a_handle(tmp_path, monkeypatch):
    monkeypatch.setattr("geovlm.sources.raster.raster.LARGE_PIXELS", 10_000)
    samples = noise(1, 200, 300)
    raster = Raster(write(tmp_path / "a.tif", samples, compress="deflate"))
    windows = list(cover(300, 200, window=50))
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(raster.read, windows))
    assert all(
        (p[0][..., 0] == samples[0, w.row : w.row + 50, w.col : w.col + 50]).all()
        for w, p in zip(windows, parts, strict=True)
    )


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_many_rasters_do_not_stay_open(tmp_path):
    from pathlib import Path

    rasters = [Raster(write(tmp_path / f"{i}.tif", noise(1, 8, 8))) for i in range(40)]
    for raster in rasters:
        whole(raster)
    opened = [link.resolve() for link in Path("/proc/self/fd").iterdir()]
    assert sum(tmp_path in path.parents for path in opened) <= 8


def test_the_fingerprint_changes_with_what_is_read(tmp_path):
    path = write(tmp_path / "a.tif", noise(3, 40, 40))
    first = Raster(path).fingerprint
    assert Raster(path).fingerprint == first
    others = [Raster(path, gsd=4), Raster(path, bands=(3, 2, 1)), Raster(path, stretch=Stretch(low=0, high=9))]
    whole(Raster(path))
    anew = noise(3, 40, 40, seed=1)
    write(path, anew, compress="deflate")
    assert (whole(Raster(path))[0] == np.moveaxis(anew, 0, -1)).all()
    assert len({first, Raster(path).fingerprint, *(other.fingerprint for other in others)}) == 5


@pytest.mark.parametrize("wrong", [0, -1, float("nan")])
def test_a_wrong_gsd(tmp_path, wrong):
    with pytest.raises(UsageError, match="gsd"):
        Raster(write(tmp_path / "a.tif", noise(1, 5, 5)), gsd=wrong)


def test_a_path_with_a_typing_error(tmp_path):
    write(tmp_path / "scene.tif", noise(1, 5, 5))
    with pytest.raises(UsageError, match=r"Did you mean .*scene\.tif"):
        Raster(tmp_path / "scnee.tif")
    with pytest.raises(UsageError, match="RasterSource"):
        Raster(tmp_path)
