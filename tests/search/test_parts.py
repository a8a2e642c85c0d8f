"""Feedback, diversity, contrast and templates on arrays."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geovlm import prompts
from geovlm._search.contrast import contrast_texts, probabilities
from geovlm._search.diversity import candidates, check_diversity, spread
from geovlm._search.feedback import away, rocchio
from geovlm._search.texts import MOST_KEPT, TextVectors, chosen_templates, expanded
from geovlm.errors import UnknownName, UsageError
from geovlm.testing import HashEncoder

DIM = 8


def unit(vectors: Any) -> Any:
    rows = np.asarray(vectors, dtype=np.float64)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def drawn(seed: int, count: int) -> Any:
    return unit(np.random.default_rng(seed).normal(size=(count, DIM)))


NONE = np.empty((0, DIM), dtype=np.float32)
seeds = st.integers(0, 10_000)

# --- feedback


@given(seeds)
def test_one_right_example_comes_nearer_and_one_wrong_one_goes_away(seed):
    query, example = drawn(seed, 2)
    before = query @ example
    assert rocchio(query, example[None], NONE) @ example >= before - 1e-6
    assert rocchio(query, NONE, example[None]) @ example <= before + 1e-6


def test_feedback_is_rocchios_formula():
    query, *rest = drawn(3, 6)
    more, less = np.array(rest[:3]), np.array(rest[3:])
    expected = unit(query + 0.75 * more.mean(axis=0) - 0.15 * less.mean(axis=0))
    np.testing.assert_allclose(rocchio(query, more, less), expected, atol=1e-6)
    np.testing.assert_allclose(rocchio(None, more, NONE), unit(more.mean(axis=0)), atol=1e-6)


def test_wrong_examples_alone_are_weighed_against_their_peers():
    query, *rest = drawn(5, 6)
    less, near = np.array(rest[:2]), np.array(rest[2:])
    expected = unit(query + 0.15 * near.mean(axis=0) - 0.15 * less.mean(axis=0))
    np.testing.assert_allclose(away(query, less, near), expected, atol=1e-6)
    np.testing.assert_allclose(away(query, less, NONE), rocchio(query, NONE, less), atol=1e-6)


def test_what_all_images_share_is_not_pushed_away():
    """Two images that differ little from each other, and much from every text."""
    shared, query, own = drawn(6, 3)
    wrong, right = unit(shared + 0.2 * own), unit(shared - 0.2 * own)
    moved = away(query, wrong[None], right[None])
    assert moved @ right - moved @ wrong > query @ right - query @ wrong
    assert abs(moved @ shared - query @ shared) < abs(rocchio(query, NONE, wrong[None]) @ shared - query @ shared)


def test_examples_that_cancel_are_an_error():
    (example,) = drawn(1, 1)
    with pytest.raises(UsageError, match="is zero"):
        rocchio(None, np.array([example, -example]), NONE)


# --- diversity


def ranked(seed: int, count: int) -> tuple[list[float], Any]:
    query, *rows = drawn(seed, count + 1)
    vectors = np.array(rows)
    order = np.argsort(-(vectors @ query))
    return (vectors @ query)[order].tolist(), vectors[order]


@given(seeds, st.integers(1, 12), st.integers(1, 15), st.floats(0, 1))
def test_the_first_stays_first_and_nothing_comes_twice(seed, count, limit, diversity):
    chosen = spread(*ranked(seed, count), limit, diversity)
    assert chosen[0] == 0
    assert len(chosen) == len(set(chosen)) == min(limit, count)


@given(seeds, st.integers(1, 12))
def test_without_diversity_the_order_is_that_of_the_scores(seed, count):
    assert spread(*ranked(seed, count), count, 0.0) == list(range(count))


@given(seeds)
def test_more_diversity_never_brings_a_nearer_second(seed):
    scores, vectors = ranked(seed, 10)
    seconds = [spread(scores, vectors, 2, share)[1] for share in (0.0, 0.3, 0.6, 1.0)]
    likeness = [float(vectors[0] @ vectors[second]) for second in seconds]
    assert likeness == sorted(likeness, reverse=True)
    assert likeness[-1] == pytest.approx(float((vectors[1:] @ vectors[0]).min()), abs=1e-6)


def test_the_choice_does_not_depend_on_how_narrow_the_scores_are():
    """Cosines of a text with images lie in a narrow band; the same shares must mean the same there."""
    scores, vectors = ranked(4, 12)
    narrow = (0.25 + 0.01 * np.array(scores)).tolist()
    assert spread(scores, vectors, 6, 0.5) == spread(narrow, vectors, 6, 0.5)


def test_equal_candidates_come_in_their_order():
    assert spread([0.5] * 4, np.repeat(drawn(0, 1), 4, axis=0), 3, 0.7) == [0, 1, 2]
    assert spread([], np.empty((0, DIM), dtype=np.float32), 3, 0.7) == []


@pytest.mark.parametrize("value", [-0.1, 1.01, float("nan"), "0.5", None, True, [0.5]])
def test_a_diversity_out_of_range_is_refused(value):
    with pytest.raises(UsageError, match="diversity is a number from 0"):
        check_diversity(value)


def test_how_many_candidates():
    assert [candidates(limit, 0.5) for limit in (1, 10, 300, 5000)] == [5, 50, 1000, 5000]
    assert candidates(10, 0.0) == 10


# --- contrast


@given(seeds, st.integers(1, 5), st.floats(1, 120))
def test_probabilities_are_a_softmax(seed, texts, scale):
    images, words = drawn(seed, 4), drawn(seed + 1, texts + 1)
    logits = scale * images.astype(np.float64) @ words.T
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(images, words, scale), expected[:, 0], atol=1e-9)


def test_a_logit_bias_would_change_nothing():
    images, words = drawn(0, 3), drawn(1, 4)
    logits = 110 * images.astype(np.float64) @ words.T - 16.5
    odds = np.exp(logits)  # of each text being true, to a model trained with a sigmoid
    np.testing.assert_allclose(probabilities(images, words, 110), odds[:, 0] / odds.sum(axis=1), atol=1e-9)


def test_contrast_texts_are_those_of_the_vocabulary_or_your_own():
    assert contrast_texts(True, "a vineyard") == prompts.contrast("a vineyard")
    assert contrast_texts(False, "a vineyard") == ()
    assert contrast_texts("a forest", "a vineyard") == ("a forest",)
    assert contrast_texts(["a town", "a forest", "a town"], "a vineyard") == ("a town", "a forest")


@pytest.mark.parametrize(
    ("against", "said"),
    [([], "at least one"), (["a", " "], "at least one word"), ([3], "texts"), (["A  Vineyard "], "the query itself")],
)
def test_contrast_that_cannot_be_right(against, said):
    with pytest.raises(UsageError, match=said):
        contrast_texts(against, "a vineyard")


# --- templates


def test_sets_and_templates_are_joined_each_once():
    found = chosen_templates(["skyscript", "overhead", "a drone photo of {}."])
    assert found == tuple(dict.fromkeys([*prompts.TEMPLATES["skyscript"], *prompts.TEMPLATES["overhead"]]))
    assert chosen_templates("skyscript") == prompts.TEMPLATES["skyscript"]
    assert chosen_templates(None) is None


@pytest.mark.parametrize(
    ("templates", "error"),
    [
        ("skyscrip", UnknownName),
        (["skyscript", "a photo"], UsageError),
        ("{a}", UsageError),
        ("{} and {}", UsageError),
        ([], UsageError),
        ([3], UsageError),
    ],
    ids=repr,
)
def test_templates_that_cannot_be_right(templates, error):
    with pytest.raises(error):
        chosen_templates(templates)


def test_a_phrase_is_the_mean_of_its_prompts():
    encoder, templates = HashEncoder(), ("a photo of {}.", "{} from above")
    expected = unit(encoder.encode_texts(["a photo of red sand.", "red sand from above"]).mean(axis=0))
    found = expanded(encoder, TextVectors(), ["red sand."], templates)[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    plain = expanded(encoder, TextVectors(), ["red sand."], None)[0]
    np.testing.assert_array_equal(plain, encoder.encode_texts(["red sand."])[0])


class Counting(HashEncoder):
    """Counts the texts that it encodes."""

    seen: list[str]

    def encode_texts(self, texts):
        Counting.seen += texts
        return super().encode_texts(texts)


def test_no_text_is_encoded_twice_and_not_all_are_kept():
    kept, encoder, Counting.seen = TextVectors(), Counting(), []
    kept.of(encoder, ["a", "b", "a"])
    np.testing.assert_array_equal(kept.of(encoder, ["b", "c", "b"]), HashEncoder().encode_texts(["b", "c", "b"]))
    assert Counting.seen == ["a", "b", "c"]
    kept.of(encoder, [f"text {number}" for number in range(MOST_KEPT)])
    assert np.array_equal(kept.of(encoder, ["a"]), HashEncoder().encode_texts(["a"]))
    assert len(re.findall("a", "".join(text for text in Counting.seen if len(text) == 1))) == 2


def test_another_encoder_has_its_own_vectors():
    kept = TextVectors()
    assert not np.array_equal(kept.of(HashEncoder(), ["a"]), kept.of(HashEncoder(seed=1), ["a"]))
