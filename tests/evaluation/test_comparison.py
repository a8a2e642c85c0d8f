"""Before and after: only on the same inputs, and with the statistics of the books."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from geovlm import Record, compare, score_labels
from geovlm.errors import UsageError
from tests.evaluation.test_labels import LABELS, batch

TRUTH = {str(i): LABELS[i % 4] for i in range(40)}


def scored(right, truth=TRUTH, *, lost=()):
    """A result in which the inputs of `right` are classified rightly, and those of `lost` not at all."""
    answers = {key: label if key in right else LABELS[LABELS.index(label) - 1] for key, label in truth.items()}
    return score_labels(truth, {key: label for key, label in answers.items() if key not in lost}, labels=LABELS)


def keys(numbers):
    return {str(number) for number in numbers}


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 39)), st.sets(st.integers(0, 39)))
def test_it_counts_pairs(before, after):
    comparison = compare(scored(keys(before)), scored(keys(after)))
    gained, lost = len(after - before), len(before - after)
    assert (comparison.gained, comparison.lost) == (gained, lost)
    assert comparison.change == pytest.approx((gained - lost) / 40)
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert comparison.p_value == pytest.approx(expected)
    low, high = comparison.interval()
    assert -1 <= low < high <= 1
    back = compare(scored(keys(after)), scored(keys(before))).interval()
    assert back == pytest.approx((-high, -low))
    outcomes = comparison.to_pandas()["outcome"].value_counts()
    assert outcomes.get("gained", 0) == gained
    assert outcomes.get("lost", 0) == lost
    table = comparison.per_class()
    assert table["recall change"].mean() == pytest.approx(comparison.change)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        outcome = rng.choice(3, size=40, p=[0.25, 0.05, 0.7])  # gained, lost, neither: a change of 0.2
        right = keys(np.flatnonzero(outcome == 1)), keys(np.flatnonzero(outcome == 0))
        low, high = compare(scored(right[0]), scored(right[1])).interval()
        inside += low <= 0.2 <= high
    assert 0.92 <= inside / 400 <= 0.99


def test_many_changes_stay_numbers():
    truth = dict.fromkeys(map(str, range(6000)), "Port")
    before, after = keys(range(2900)), keys(range(2900, 6000))
    comparison = compare(scored(before, truth), scored(after, truth))
    assert comparison.p_value == pytest.approx(binomtest(2900, 6000).pvalue)


class TestOtherInputs:
    def test_rows_that_got_lost_stay(self):
        """A model that answers fewer inputs is not compared over those alone."""
        comparison = compare(scored(keys(range(20))), scored(keys(range(30)), lost=keys(range(30, 40))))
        assert (comparison.before.top1, comparison.after.top1) == (0.5, 0.75)
        assert comparison.after.coverage == 0.75
        assert "50.00% → 75.00% over all 40 inputs: +25.00 points" in str(comparison)

    def test_fewer_inputs(self):
        fewer = {key: TRUTH[key] for key in list(TRUTH)[:30]}
        with pytest.raises(UsageError, match="10 of the baseline are not in the other, and 0 of the other"):
            compare(scored(keys(range(20))), scored(keys(range(30)), fewer))
        with pytest.raises(UsageError, match="0 of the baseline are not in the other, and 10"):
            compare(scored(keys(range(20)), fewer), scored(keys(range(30))))

    def test_other_labels(self):
        other = {**TRUTH, "7": "Beach"}
        with pytest.raises(UsageError, match=r"1 inputs have another label .* '7': River and Beach"):
            compare(scored(set()), scored(set(), other))

    def test_other_classes(self):
        with pytest.raises(UsageError, match="only one of them has Vineyard"):
            compare(scored(set()), score_labels(TRUTH, {}, labels=[*LABELS, "Vineyard"]))

    def test_ids_that_come_twice(self):
        one = score_labels([Record(id=key, label="Port") for key in "aab"], ["Port", None, None])
        assert compare(one, one).change == 0
        with pytest.raises(UsageError, match="come twice"):
            compare(one, score_labels([Record(id=key, label="Port") for key in "aba"], ["Port", None, None]))


def test_order_does_not_matter():
    before = scored(keys(range(20)))
    turned = dict(reversed(TRUTH.items()))
    right = keys(range(10, 40))
    after = score_labels(turned, {key: label for key, label in turned.items() if key in right}, labels=LABELS[::-1])
    comparison = compare(before, after)
    assert comparison.after.classes == LABELS
    assert comparison.after.ids == tuple(TRUTH)
    assert comparison.after.coverage == 0.75
    assert (comparison.gained, comparison.lost) == (20, 10)
    assert comparison.to_pandas()["after"].dropna().tolist() == [TRUTH[str(i)] for i in range(10, 40)]


def test_batches():
    before = batch([("a", "ok", "Port", None, "Quay"), ("b", "missing", "Beach", None, None)])
    after = batch([("a", "ok", "Port", "Port", None), ("b", "ok", "Beach", "Beach", None)])
    comparison = compare(before, after)
    assert (comparison.before.hallucination_rate, comparison.change, comparison.p_value) == (0.5, 1.0, 0.5)


def test_inputs_without_labels_are_not_counted():
    truth = {"a": "Port", "b": None}
    comparison = compare(score_labels(truth, {"b": "Port"}), score_labels(truth, {"a": "Port"}))
    assert comparison.change == 1
    assert comparison.to_pandas()["outcome"].isna().tolist() == [False, True]
    nothing = score_labels({"a": None}, {"a": "Port"}, labels=["Port"])
    assert np.isnan(compare(nothing, nothing).interval()).all()
    assert "nan" in str(compare(nothing, nothing))


@pytest.mark.parametrize("level", [0, 1, 95])
def test_levels(level):
    with pytest.raises(UsageError, match=r"such as 0\.95"):
        compare(scored(set()), scored(set())).interval(level)


def test_it_reads_well():
    comparison = compare(scored(keys(range(0, 40, 4))), scored(keys(range(1, 40, 2))))
    first, *rest = str(comparison).splitlines()
    assert first.startswith("accuracy 25.00% → 50.00% over all 40 inputs: +25.00 points (95% interval ")
    assert first.endswith("; 20 gained, 10 lost, exact McNemar p = 0.099")
    assert [row.split()[0] for row in rest] == [
        "accuracy",
        "before",
        "after",
        "images",
        "label",
        *LABELS[::2],
        *LABELS[1::2],
    ]
    assert first in comparison._repr_html_()
    named = score_labels(["<script>"], ["<script>"])
    assert "<script" not in compare(named, named)._repr_html_()
