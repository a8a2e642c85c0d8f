"""Augmented images are what a turned, mirrored, cropped camera would see, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geovlm.training import Augmentation
from geovlm.training.augment import DRAWS, augment, decoded_side, drop_words


def scene(side=24, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def draws(seed):
    return np.random.default_rng(seed).random(DRAWS).tolist()


def test_off_changes_nothing():
    pixels = scene()
    result = augment(pixels, draws(0), Augmentation.off(), size=24)
    np.testing.assert_array_equal(result, pixels)


def test_turns_and_flips_give_all_eight_ways_and_no_other():
    pixels = scene()
    ways = {np.rot90(side, turns).tobytes() for side in (pixels, pixels[:, ::-1]) for turns in range(4)}
    plain = Augmentation(crop=(1.0, 1.0))
    seen = {augment(pixels, draws(seed), plain, size=24).tobytes() for seed in range(200)}
    assert seen == ways


@given(st.integers(0, 9999), st.floats(0.05, 1.0), st.integers(8, 40))
def test_crops_have_the_asked_size_and_stay_inside(seed, smallest, size):
    """A picture of one colour stays that colour: nothing from outside the picture comes in."""
    pixels = np.full((24, 24, 3), (10, 200, 90), dtype=np.uint8)
    result = augment(pixels, draws(seed), Augmentation(crop=(smallest, 1.0)), size=size)
    assert result.shape == (size, size, 3)
    assert (result == (10, 200, 90)).all()


def test_the_same_seed_is_the_same_image():
    every = Augmentation(color=0.4)
    one, again, other = (augment(scene(), draws(seed), every, size=16) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_colours_change_around_their_mean_and_grey_stays_grey():
    grey = np.full((8, 8, 3), 120, dtype=np.uint8)
    only = Augmentation(rotate=False, flip=False, crop=(1.0, 1.0), color=0.3)
    results = [augment(grey, draws(seed), only, size=8) for seed in range(50)]
    for result in results:
        assert np.ptp(result) <= 1  # no hue appears
    levels = [result.mean() for result in results]
    assert 120 * 0.69 < min(levels) < 110
    assert 130 < max(levels) < 120 * 1.31
    assert np.mean(levels) == pytest.approx(120, abs=10)


def test_images_are_kept_large_enough_for_the_smallest_crop():
    assert decoded_side(100, Augmentation(crop=(0.25, 1.0))) == 150  # bounded, for memory
    assert decoded_side(100, Augmentation(crop=(1.0, 1.0))) == 100


@given(st.text("ab ", min_size=1).filter(str.strip), st.floats(0, 0.9), st.integers(0, 2**53))
def test_words_that_stay_keep_their_order(caption, share, seed):
    """What is left is a subsequence of the words, never empty, and the same for the same seed."""
    text = drop_words(caption, share, seed)
    words = iter(caption.split())
    assert text
    assert all(word in words for word in text.split())
    assert text == drop_words(caption, share, seed)


def test_the_share_of_dropped_words():
    text = drop_words(" ".join(["word"] * 4000), 0.2, seed=3)
    assert 3100 < len(text.split()) < 3300
