"""Logits of queries against contrast phrases: by definition, and by what a softmax says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geovlm.detection._phrases import read_phrases
from geovlm.detection._scorer import Scorer, make_scoring
from geovlm.detection._scoring import logit_of, logits, probability
from geovlm.errors import UsageError
from tests.detection.oracle import Oracle, paint


@given(st.integers(0, 2**31), st.floats(1, 100))
def test_the_sigmoid_of_a_logit_is_the_softmax_among_the_contrast_phrases(seed, scale):
    phrases = read_phrases(["a, b", "c"], ["x", "y", "z"], absolute=False)
    cosines = np.random.default_rng(seed).uniform(-0.3, 0.3, (6, 4, 5)).astype(np.float32)
    found = probability(logits(cosines, phrases, scale=scale))
    for place, own in enumerate(([0, 1], [2])):
        logit = scale * np.concatenate([cosines[own].max(axis=0)[None], cosines[3:6]]).astype(np.float64)
        weights = np.exp(logit - logit.max(axis=0))
        np.testing.assert_allclose(found[place], weights[0] / weights.sum(axis=0), atol=2e-5)


def test_extreme_logits_and_missing_values():
    phrases = read_phrases("a", ["x"], absolute=False)
    cosines = np.array([[1, -1, np.nan], [-1, 1, 0]], dtype=np.float32)
    with np.errstate(all="raise"):
        found = probability(logits(cosines, phrases, scale=1e4))
    np.testing.assert_array_equal(found, [[1, 0, np.nan]])


def test_an_absolute_score_is_the_sigmoid_of_the_model():
    phrases = read_phrases("a", None, absolute=True)
    found = logits(np.array([[0.1, 0.2]], dtype=np.float32), phrases, scale=100, bias=-15)
    np.testing.assert_allclose(found, [[-5, 5]], atol=1e-5)


@given(st.floats(1e-6, 1 - 1e-6))
def test_logit_of_is_the_inverse_of_probability(value):
    assert probability(np.float32(logit_of(value))) == pytest.approx(value, abs=1e-6)


def test_a_phrase_is_embedded_once_for_all_queries():
    phrases = read_phrases(["red", "blue", "red, blue"], ["green", "blue"], absolute=False)
    assert phrases.texts == ("red", "blue", "green")
    assert [own.tolist() for own in phrases.own] == [[0], [1], [0, 1]]
    assert [others.tolist() for others in phrases.others] == [[2, 1], [2], [2]]


def test_queries_do_not_compete_with_each_other():
    pixels = paint(64, 64, [(0, 0, 32, 32, "blue")])[None]
    encoder = Oracle()
    scoring = make_scoring(encoder, dense=True, templates="clip", temperature=None, debias=0.3, gate=None)
    both = Scorer(encoder, ["blue", "blue yellow"], ["green"], scoring)
    alone = Scorer(encoder, "blue", ["green"], scoring)
    np.testing.assert_array_equal(both.logits(both.score(pixels, 4)[0])[0], alone.logits(alone.score(pixels, 4)[0])[0])


def test_the_gate_lowers_what_no_window_shows_and_never_by_more():
    """A softmax of the window multiplied in would be a ceiling; this is a shift with a bound."""
    pixels = paint(64, 64, [(0, 0, 16, 16, "blue")])[None]  # a window of green with a little blue
    encoder = Oracle()

    def score(gate):
        scoring = make_scoring(encoder, dense=True, templates="clip", temperature=None, debias=0.0, gate=gate)
        scorer = Scorer(encoder, ["blue", "green"], ["red", "yellow", "green"], scoring)
        return scorer.logits(scorer.score(pixels, 4)[0])

    without, with_gate = score(0.0), score(2.0)
    np.testing.assert_allclose(without[0] - with_gate[0], 2, atol=1e-4)
    np.testing.assert_allclose(without[1], with_gate[1], atol=1e-4)
    assert with_gate[0, 0, 0] > 0


def test_debias_takes_off_what_the_whole_window_is():
    pixels = paint(64, 64, [(0, 0, 16, 16, "blue")])[None]
    encoder = Oracle()
    vectors, cells = encoder.encode_dense(pixels)
    texts = encoder.encode_texts(["blue", "green"])
    scoring = make_scoring(encoder, dense=True, templates=["{}"], temperature=20.0, debias=0.3, gate=0.0)
    scorer = Scorer(encoder, "blue", ["green"], scoring)
    expected = 20 * ((cells - 0.3 * vectors[:, None, None]) @ (texts[0] - texts[1]))
    np.testing.assert_allclose(scorer.logits(scorer.score(pixels, 4)[0])[0], expected[0], atol=1e-4)


def test_templates_are_averaged():
    phrases = read_phrases("red", ["green"], absolute=False)
    encoder = Oracle()
    red, blue_and_red = encoder.encode_texts(["red", "blue red"])
    mean = red + blue_and_red
    found = phrases.embed(encoder, ["{}", "blue {}"])[0]
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-6)


def test_thresholds_are_probabilities():
    for wrong in (0, 1, -1, "much", None):
        with pytest.raises(UsageError, match="between 0 and 1"):
            logit_of(wrong)
