"""Ranks against a naive loop, ties, and what is missing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geovlm import _metrics
from geovlm._metrics import NEVER, recall_at, retrieval_ranks
from geovlm.errors import UsageError


def unit(rng, rows, dim=4):
    vectors = rng.normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def naive(images, texts, owner):
    scores = images.astype(np.float64) @ texts.astype(np.float64).T
    image_ranks, text_ranks = [], []
    for row in range(len(images)):
        own = scores[row][owner == row]
        others = scores[row][owner != row]
        image_ranks.append(int((others >= own.max() - 1e-9).sum()) if len(own) else NEVER)
    for column, row in enumerate(owner):
        others = np.delete(scores[:, column], row)
        text_ranks.append(int((others >= scores[row, column] - 1e-9).sum()))
    return image_ranks, text_ranks


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(0, 20), st.sampled_from([8, 200, 1 << 20]))
def test_equal_to_a_naive_loop_at_any_block_size(seed, rows, columns, block):
    rng = np.random.default_rng(seed)
    images, texts = unit(rng, rows), unit(rng, columns)
    images[rng.integers(rows)] = images[rng.integers(rows)]  # exact ties between rows
    owner = rng.integers(rows, size=columns)
    before, _metrics.BLOCK_BYTES = _metrics.BLOCK_BYTES, block
    try:
        image_ranks, text_ranks = retrieval_ranks(images, texts, owner)
    finally:
        _metrics.BLOCK_BYTES = before
    assert (image_ranks.tolist(), text_ranks.tolist()) == naive(images, texts, owner)


def test_a_collapsed_model_finds_nothing():
    """All vectors the same: with optimistic ties such a model would be perfect."""
    same = np.tile(unit(np.random.default_rng(0), 1), (6, 1))
    image_ranks, text_ranks = retrieval_ranks(same, same, np.arange(6))
    assert image_ranks.tolist() == text_ranks.tolist() == [5] * 6


def test_not_a_number_stands_last():
    vectors = np.eye(3, dtype=np.float32)
    broken = vectors.copy()
    broken[1] = np.nan
    image_ranks, _ = retrieval_ranks(broken, vectors, np.arange(3))
    assert image_ranks.tolist() == [0, 2, 0]


def test_an_image_without_captions_is_never_found():
    image_ranks, _ = retrieval_ranks(np.eye(2), np.eye(2)[:1], np.array([0]))
    assert image_ranks.tolist() == [0, NEVER]
    assert recall_at(image_ranks, 1000) == 0.5
    assert np.isnan(recall_at(np.empty(0, dtype=np.int64), 1))


@pytest.mark.parametrize(
    ("images", "texts", "owner", "words"),
    [
        (np.eye(2), np.eye(3), np.arange(3), r"\(n, dim\)"),
        (np.eye(2), np.eye(2), np.arange(3), "one owner"),
        (np.eye(2), np.eye(2), np.array([0, 2]), "row of the 2 images"),
    ],
)
def test_wrong_shapes_are_named(images, texts, owner, words):
    with pytest.raises(UsageError, match=words):
        retrieval_ranks(images, texts, owner)
