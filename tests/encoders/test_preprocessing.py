"""The same bytes as the libraries' own transforms, on pictures of any size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geovlm.encoders._preprocessing import Preprocessing
from geovlm.errors import UsageError
from tests.models import picture

SIDE = 24
sizes = st.tuples(st.integers(1, 160), st.integers(1, 160)).filter(lambda size: max(size) < 30 * min(size))


def noise(size, seed=0):
    width, height = size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def levels(tensor):
    """Pixels of a library, on the scale 0 to 1, as bytes in our order of axes."""
    return np.rint(np.asarray(tensor, dtype=np.float64).transpose(1, 2, 0) * 255).astype(np.uint8)


def ours(image, **settings):
    return Preprocessing(size=SIDE, mean=0.5, std=0.5, **settings)(image)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@settings(max_examples=40, deadline=None)
@given(size=sizes)
def test_equals_open_clip(mode, interpolation, size):
    from open_clip.transform import image_transform

    theirs = image_transform(
        SIDE, is_train=False, mean=(0, 0, 0), std=(1, 1, 1), resize_mode=mode, interpolation=interpolation, fill_color=7
    )
    image = noise(size)
    try:
        expected = levels(theirs(image))
    except ValueError:  # open_clip rounds the shorter side of a strip to no pixel at all
        assert mode == "longest"
        return
    np.testing.assert_array_equal(ours(image, resize_mode=mode, interpolation=interpolation, fill=7), expected)


@settings(max_examples=40, deadline=None)
@given(size=sizes)
def test_equals_transformers(size):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    square = {"height": SIDE, "width": SIDE}
    clip = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=square, do_normalize=False)
    siglip = SiglipImageProcessorPil(size=square, do_normalize=False)
    image = noise(size)
    np.testing.assert_array_equal(ours(image, crop="floor"), levels(clip(image)["pixel_values"][0]))
    np.testing.assert_array_equal(ours(image, resize_mode="squash"), levels(siglip(image)["pixel_values"][0]))


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (3, 2000)])
def test_a_strip_is_cut_before_it_is_scaled(size):
    image = picture(3, size)
    whole = image.resize((SIDE, SIDE * size[1] // size[0]) if size[0] < size[1] else (SIDE * size[0] // size[1], SIDE))
    start = (max(whole.size) - SIDE) // 2
    box = (0, start, SIDE, start + SIDE) if size[0] < size[1] else (start, 0, start + SIDE, SIDE)
    difference = ours(image).astype(int) - np.asarray(whole.crop(box), dtype=int)
    assert np.abs(difference).max() <= 2


def test_any_mode_comes_out_as_rgb():
    for image in (Image.new("L", (30, 40), 9), Image.new("RGBA", (30, 40), (1, 2, 3, 0)), Image.new("P", (30, 40))):
        assert ours(image).shape == (SIDE, SIDE, 3)


def test_another_side_can_be_asked_for():
    assert Preprocessing(size=SIDE, mean=0.5, std=0.5)(noise((50, 60)), size=31).shape == (31, 31, 3)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"size": 0}, "at least 1"),
        ({"std": 0}, "positive"),
        ({"interpolation": "cubic"}, "bicubic"),
        ({"resize_mode": "short"}, "shortest"),
    ],
)
def test_what_cannot_be_right_is_refused(wrong, word):
    with pytest.raises(UsageError, match=word):
        Preprocessing(**{"size": SIDE, "mean": 0.5, "std": 0.5, **wrong})
