"""Every way that an image can be odd ends in an upright RGB picture or in a reason."""

from __future__ import annotations

import io
import sys
import warnings
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from geovlm.errors import ImageError, UsageError
from geovlm.imaging import Stretch, as_rgb, open_image, to_data_url, to_jpeg

# What Pillow, or rasterio for TIFFs, cannot make a picture of, measured file by file; the other files decode.
UNREADABLE = {
    "bmp_b_reallybig.bmp",
    "bmp_b_shortfile.bmp",
    "broken.png",
    "broken_data_stream.png",
    "crash-338516dbd2f0e83caddb8ce256c22db3bd6dc40f.tif",
    "decompression_bomb.gif",
    "libtiff_segfault.tif",
    "negative_size.ppm",
    "not_enough_data.jp2",
    "oom-225817ca0f8c663be7ab4b9e717b02c661e66834.tif",
    "png_decompression_dos.png",
    "rasterio_corrupt_jpeg_tiles.tif",
    "riocogeo_complex_int16_slc.tif",
    "riotiler_36000x18000_uint8_cog.tif",
    "seek_too_large.tif",
    "text_renamed_made_here.png",
    "truncated_end_chunk.png",
    "truncated_image.png",
    "truncated_jpeg.jpg",
    "truncated_real_scene_made_here.jpg",
    "unknown_compression_method.png",
    "zero_byte_made_here.jpg",
    "zero_height.j2k",
    "zero_width.gif",
}
NOT_IMAGES = {"OUTCOMES.tsv", "PROVENANCE.md", "SOURCES.tsv"}


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_every_odd_file_is_a_picture_or_a_reason(shared_data):
    """84 broken or unusual files: the readable are exactly those measured, and every refusal says why."""
    folder = shared_data / "odd_images"
    for path in sorted(folder.iterdir()):
        if path.name in NOT_IMAGES:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.name in UNREADABLE:
                with pytest.raises(ImageError) as caught:
                    open_image(path)
                assert caught.value.reason
                assert caught.value.uri == str(path)
            else:
                image = open_image(path)
                assert image.mode == "RGB"
                assert min(image.size) > 0


def test_sixteen_bit_bands_are_stretched_not_cut(shared_data):
    """Taking the upper byte, as Pillow does for colour, would leave this Landsat scene nearly black."""
    image = np.asarray(open_image(shared_data / "geo_rasters" / "landsat_rgb_uint16_utm17n.tif"))
    assert image[image.any(axis=2)].mean() > 40
    assert image.max() == 255


def test_near_infrared_called_alpha_is_not_transparency(shared_data):
    scene = shared_data / "geo_rasters" / "naip_2020_rgbn_utm14n.tif"
    with Image.open(scene) as raw:
        colours = np.asarray(raw)[..., :3]
    assert np.array_equal(np.asarray(open_image(scene)), colours)


def test_true_alpha_becomes_black(shared_data):
    scene = shared_data / "geo_rasters" / "aerial_mostly_transparent_rgba_3857.tif"
    with Image.open(scene) as raw:
        transparent = np.asarray(raw)[..., 3] == 0
    assert transparent.any()
    assert not np.asarray(open_image(scene))[transparent].any()


def test_many_bands_need_a_choice(shared_data):
    scene = shared_data / "geo_rasters" / "s2_12band_256_patch_8845.tif"
    with pytest.raises(ImageError, match=r"12 bands .* bands=\(4, 3, 2\)"):
        open_image(scene)
    assert open_image(scene, bands=(4, 3, 2)).size == (256, 256)


def test_tiff_without_rasterio_names_the_extra(shared_data, monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(ImageError, match=r"pip install 'geovlm\[geo\]'"):
        open_image(shared_data / "geo_rasters" / "s2_fields_float64_4band_cog.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(orientation):
    """A red corner marked top-left stays top-left, however the camera was held."""
    upright = Image.new("RGB", (40, 24))
    upright.paste((255, 0, 0), (0, 0, 12, 12))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright if orientation == 1 else upright.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = open_image(encoded(stored, "PNG", exif=exif))
    assert image.size == (40, 24)
    assert image.getpixel((3, 3)) == (255, 0, 0)
    assert image.getpixel((36, 20)) == (0, 0, 0)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16"])
def test_every_mode_becomes_rgb(mode):
    image = as_rgb(Image.new(mode, (5, 3)))
    assert image.mode == "RGB"
    assert image.size == (5, 3)


def test_palette_with_transparency():
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 200, 0])
    image.putpixel((1, 0), 1)
    rgb = open_image(encoded(image, "PNG", transparency=0))
    assert rgb.getpixel((0, 0)) == (0, 0, 0)
    assert rgb.getpixel((1, 0)) == (0, 200, 0)


def test_truncation_at_every_length_is_an_error_or_the_picture():
    """No prefix of a file gives a picture with a grey lower half."""
    rng = np.random.default_rng(0)
    whole = encoded(Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)), "PNG")
    expected = open_image(whole).tobytes()
    for length in range(0, len(whole), 37):
        try:
            image = open_image(whole[:length])
        except ImageError:
            continue
        assert image.tobytes() == expected


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_with_a_reason(data):
    with pytest.raises(ImageError):
        open_image(data)


@given(st.binary(min_size=1, max_size=24), st.integers(0, 500))
def test_damaged_jpegs_never_raise_anything_else(noise, position):
    whole = bytearray(encoded(Image.effect_noise((32, 32), 60).convert("RGB"), "JPEG"))
    whole[position : position + len(noise)] = noise
    with suppress(ImageError):
        assert open_image(bytes(whole)).mode == "RGB"


def test_size_hint_decodes_smaller_but_never_below():
    data = encoded(Image.effect_noise((1600, 1200), 60).convert("RGB"), "JPEG")
    image = open_image(data, size_hint=224)
    assert 224 <= min(image.size) < 1200
    assert image.width / image.height == pytest.approx(4 / 3, rel=0.02)


def test_pixel_limit():
    with pytest.raises(ImageError, match="40x40 pixels are more than the limit of 100"):
        open_image(encoded(Image.new("L", (40, 40)), "PNG"), max_pixels=100)


def test_reasons_are_words(tmp_path):
    with pytest.raises(ImageError, match="the file does not exist"):
        open_image(tmp_path / "no.jpg")
    with pytest.raises(ImageError, match="a folder, not a file"):
        open_image(tmp_path)
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageError, match="the file is empty"):
        open_image(tmp_path / "empty.jpg")
    with pytest.raises(ImageError, match="cannot take an image from a int"):
        open_image(3)


def test_a_reader_function_is_called_and_its_failure_is_one_image():
    assert open_image(lambda: np.zeros((2, 3), np.uint8)).size == (3, 2)

    def broken():
        raise RuntimeError("the camera is off")

    with pytest.raises(ImageError, match="the camera is off"):
        open_image(broken)


@pytest.mark.parametrize("shape", [(0, 4, 3), (4,), (4, 4, 7), (2, 2, 2, 3)])
def test_arrays_of_odd_shape_are_refused(shape):
    with pytest.raises(ImageError):
        open_image(np.zeros(shape, np.uint8))


@given(arrays(st.sampled_from([np.uint16, np.int32, np.float32]), array_shapes(min_dims=2, max_dims=2, max_side=6)))
def test_any_numbers_become_a_picture(samples):
    image = open_image(samples)
    assert image.mode == "RGB"
    assert image.size == samples.shape[::-1]


@given(
    arrays(np.float64, 40, elements=st.floats(-1e6, 1e6)),
    st.floats(0.1, 1000),
    st.floats(-1e5, 1e5),
)
def test_stretch_is_monotone_and_ignores_units(samples, scale, offset):
    """Brighter stays at least as bright; the same scene in other units looks the same."""
    shown = Stretch.fit(samples).apply(samples).astype(int)
    order = np.argsort(samples, kind="stable")
    assert (np.diff(shown[order]) >= 0).all()
    spread = np.percentile(samples, 98) - np.percentile(samples, 2)
    if spread > 1e-3:
        other = samples * scale + offset
        assert np.abs(Stretch.fit(other).apply(other).astype(int) - shown).max() <= 1


def test_stretch_ignores_nodata_and_nan():
    samples = np.array([[0.0, 10.0], [20.0, np.nan]])
    valid = np.array([[False, True], [True, True]])
    assert Stretch.fit(samples, valid=valid, percentiles=(0, 100)) == Stretch(low=10, high=20)
    assert Stretch.fit(np.full(4, np.nan)) == Stretch(low=0, high=1)
    with pytest.raises(UsageError):
        Stretch(low=3, high=3)


def test_jpeg_and_data_url_keep_the_side_limit():
    image = Image.new("RGB", (300, 100))
    assert Image.open(io.BytesIO(to_jpeg(image, max_side=90))).size == (90, 30)
    assert image.size == (300, 100)
    assert to_data_url(image).startswith("data:image/jpeg;base64,/9j/")
