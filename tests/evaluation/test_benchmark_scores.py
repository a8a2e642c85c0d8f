"""Figures and intervals against other people's code: torchmetrics, scikit-learn, SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from torchmetrics.functional.retrieval import retrieval_hit_rate

from geovlm._metrics import NEVER, retrieval_ranks
from geovlm.evaluation import _bench_scores
from geovlm.evaluation._bench_scores import CUTS, Recalls, mean_interval, recalls, wilson


@given(st.integers(1, 3000), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_scipys(count, share, level):
    right = round(share * count)
    theirs = binomtest(right, count).proportion_ci(level, method="wilson")
    assert np.allclose(wilson(right, count, level=level), theirs, rtol=0, atol=1e-9)


def unit(rng, rows, dim=6):
    vectors = rng.normal(size=(rows, dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def shared_captions(seed, *, ties=False):
    """Images and captions, some captions of several images, some images of no caption, some images unreadable."""
    rng = np.random.default_rng(seed)
    images, texts = rng.integers(2, 14), rng.integers(1, 20)
    pairs = {(int(rng.integers(images)), text) for text in range(texts)}
    pairs |= {(int(rng.integers(images)), int(rng.integers(texts))) for _ in range(6)}
    image, text = np.array(sorted(pairs)).T
    read = rng.random(images) > 0.15
    read[0] = True
    place = np.where(read, np.cumsum(read) - 1, -1)
    left, right = unit(rng, int(read.sum())), unit(rng, texts)
    if ties:
        left, right = np.sign(left) / np.sqrt(6), np.sign(right) / np.sqrt(6)
    return left, right, image, text, place


def hit(scores, right, k):
    """torchmetrics on one query; a query without any right candidate is missed."""
    target = torch.as_tensor(right)
    return float(retrieval_hit_rate(torch.as_tensor(scores), target, top_k=min(k, len(scores))))


@settings(max_examples=40)
@given(st.integers(0, 10**6))
def test_recalls_are_torchmetrics(seed):
    left, right, image, text, place = shared_captions(seed)
    found = recalls(left, right, image=image, text=text, place=place)
    cosines = np.full((len(place), len(right)), -2.0)
    cosines[place >= 0] = left[place[place >= 0]] @ right.T
    own = np.zeros(cosines.shape, dtype=bool)
    own[image, text] = True
    read, asked = place >= 0, own.any(axis=1)
    for k in CUTS:
        forth = [hit(cosines[row], own[row], k) if read[row] else 0.0 for row in np.flatnonzero(asked)]
        back = [
            hit(cosines[read, column], own[read, column], k) if own[read, column].any() else 0.0
            for column in range(len(right))
        ]
        assert abs(found.image_to_text(k) - sum(forth) / len(forth)) < 1e-9
        assert abs(found.text_to_image(k) - sum(back) / len(back)) < 1e-9


@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([8, 1 << 20]))
def test_ties_count_against_the_model(seed, ties, block):
    left, right, image, text, place = shared_captions(seed, ties=ties)
    before, _bench_scores.BLOCK_BYTES = _bench_scores.BLOCK_BYTES, block
    try:
        found = recalls(left, right, image=image, text=text, place=place)
    finally:
        _bench_scores.BLOCK_BYTES = before
    cosines = left @ right.T
    for row in range(len(place)):
        own = text[image == row]
        if place[row] < 0 or not len(own):
            assert found.image_ranks[row] == NEVER
            continue
        scores = cosines[place[row]]
        others = np.delete(scores, own)
        assert found.image_ranks[row] == np.sum(others >= scores[own].max() - 1e-9)
    for column in range(len(right)):
        own = place[image[text == column]]
        own = own[own >= 0]
        expected = NEVER
        if len(own):
            expected = np.sum(np.delete(cosines[:, column], own) >= cosines[own, column].max() - 1e-9)
        assert found.text_ranks[column] == expected


@given(st.integers(0, 10**6))
def test_without_shared_captions_it_is_retrieval(seed):
    """Where no caption belongs to two images and all can be read, ranks are those of `geovlm.retrieval`."""
    rng = np.random.default_rng(seed)
    images, texts = unit(rng, int(rng.integers(1, 10))), unit(rng, int(rng.integers(1, 20)))
    owner = rng.integers(len(images), size=len(texts))
    place = np.arange(len(images))
    found = recalls(images, texts, image=owner, text=np.arange(len(texts)), place=place)
    theirs = retrieval_ranks(images, texts, owner)
    assert (found.image_ranks.tolist(), found.text_ranks.tolist()) == tuple(ranks.tolist() for ranks in theirs)


def test_a_collapsed_model_finds_nothing():
    same = np.tile(unit(np.random.default_rng(0), 1), (12, 1))
    every = np.arange(12)
    assert recalls(same, same, image=every, text=every, place=every).directions() == (0.0, 0.0)


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_the_bootstrap_is_repeatable_and_holds_the_figure(seed):
    left, right, image, text, place = shared_captions(seed)
    found = recalls(left, right, image=image, text=text, place=place)
    low, high = found.interval()
    assert (low, high) == found.interval()
    assert low - 1e-9 <= sum(found.directions()) / 2 <= high + 1e-9
    parts = found._per_image().sum(axis=0)
    assert np.allclose((parts[0] / parts[1], parts[2] / parts[3]), found.directions(), atol=1e-9)


def test_the_bootstrap_covers():
    """Queries of which a known share is answered: about 95 of 100 intervals hold it."""
    rng = np.random.default_rng(5)
    inside = 0
    for _ in range(100):
        count = 150
        ranks = np.where(rng.random(count) < 0.6, 0, 10**6)
        every = np.arange(count)
        low, high = Recalls(image_ranks=ranks, text_ranks=ranks, image=every, text=every).interval()
        inside += low <= 0.6 <= high
    assert 88 <= inside <= 100


@pytest.mark.parametrize("rank", [0, NEVER])
def test_equal_answers_are_no_certainty(rank):
    """Eight of eight, or none of eight: a bootstrap would have no width."""
    every = np.arange(8)
    ranks = np.full(8, rank)
    low, high = Recalls(image_ranks=ranks, text_ranks=ranks, image=every, text=every).interval()
    assert (low, high) == wilson(8 if rank == 0 else 0, 8)


def test_the_interval_of_a_mean_covers():
    rng = np.random.default_rng(1)
    shares, counts = np.array([0.97, 0.6, 0.2]), np.array([60, 200, 40])
    inside = 0
    for _ in range(1000):
        right = rng.binomial(counts, shares)
        pairs = [wilson(int(a), int(b)) for a, b in zip(right, counts, strict=True)]
        low, high = mean_interval((right / counts).tolist(), pairs)
        assert 0 <= low <= high <= 1
        inside += low <= shares.mean() <= high
    assert 930 <= inside <= 975


@pytest.mark.parametrize(("right", "count"), [(0, 5), (5, 5)])
def test_at_the_ends_the_interval_stops_at_the_ends(right, count):
    low, high = wilson(right, count)
    assert (low == 0) == (right == 0)
    assert (high == 1) == (right == count)
    assert high - low > 0.3
