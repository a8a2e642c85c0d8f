"""Four rotations averaged: orientation does not matter, and all else is the encoder's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import geovlm as gv
from geovlm.testing import HashEncoder
from tests.models import openclip_config


@pytest.fixture(scope="module")
def plain():
    return gv.new_encoder(openclip_config(), dtype="float32")


def scene(seed):
    """Bright to one side, so that it looks unlike itself when it is turned."""
    colour = np.random.default_rng(seed).integers(100, 256, 3)
    return Image.fromarray((np.linspace(0, 1, 40)[None, :, None] ** np.ones((40, 1, 1)) * colour).astype(np.uint8))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), turns=st.sampled_from(list(Image.Transpose)[2:5]))
def test_a_turned_scene_has_the_same_vector(plain, seed, turns):
    one = scene(seed)
    turned = one.transpose(turns)
    first, second = gv.RotationEncoder(plain).encode_images([one, turned])
    assert np.allclose(first, second, atol=1e-5)
    assert not np.allclose(*plain.encode_images([one, turned]), atol=1e-3)


def test_it_is_the_mean_over_rotations(plain):
    pixels = np.stack([plain.preprocess(scene(seed)) for seed in range(3)])
    mean = sum(plain.encode_pixels(np.rot90(pixels, k, (1, 2)).copy()) for k in range(4)) / 4
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    assert np.allclose(gv.RotationEncoder(plain).encode_pixels(pixels), expected, atol=1e-6)


def test_it_is_another_encoder_for_stores_and_the_same_for_texts(plain):
    turned = gv.RotationEncoder(plain)
    assert turned.fingerprint != plain.fingerprint
    assert np.array_equal(turned.encode_texts(["a river"]), plain.encode_texts(["a river"]))
    assert turned.logit_scale == plain.logit_scale
    assert len(turned.encode_images([])) == 0


def test_an_encoder_without_pixels_is_refused():
    with pytest.raises(gv.GeovlmError, match="encode_pixels"):
        gv.RotationEncoder(HashEncoder())
