"""Cutting rows: sizes, classes and seeds, for any classes there may be."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from geovlm._split import apportion, split_rows
from geovlm.errors import UsageError

classes = st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=3, max_size=60)
shares = st.lists(st.floats(0.01, 0.49), min_size=1, max_size=2)


def _split(strata, sizes, seed=0, keys=None):
    return split_rows(keys or [str(i) for i in range(len(strata))], strata, shares=sizes, seed=seed)


@given(strata=classes, sizes=shares, seed=st.integers(0, 5))
def test_every_row_is_in_one_part_and_sizes_are_exact(strata, sizes, seed):
    wanted = [max(1, round(share * len(strata))) for share in sizes]
    assume(sum(wanted) < len(strata))
    parts = _split(strata, sizes, seed)
    assert sorted(row for part in parts for row in part) == list(range(len(strata)))
    assert [len(part) for part in parts[:-1]] == wanted
    assert all(list(part) == sorted(part) for part in parts)
    assert [part.tolist() for part in _split(strata, sizes, seed)] == [part.tolist() for part in parts]


@given(strata=classes, share=st.floats(0.01, 0.99))
def test_classes_of_two_or_more_are_in_both_parts(strata, share):
    counts = Counter(strata)
    plural = {name for name, count in counts.items() if count > 1}
    size = max(1, round(share * len(strata)))
    assume(size < len(strata))
    drawn, rest = (Counter(strata[row] for row in part) for part in _split(strata, [share]))
    if size >= len(plural) and size <= sum(counts[name] - 1 for name in plural):
        assert plural <= drawn.keys()
        assert plural <= rest.keys()
        assert not (counts.keys() - plural) & drawn.keys()  # a class of one is for training


@given(counts=st.lists(st.integers(2, 40), min_size=1, max_size=8), share=st.floats(0.05, 0.95))
def test_shares_of_classes_are_within_one_where_nothing_forces_otherwise(counts, share):
    total = round(share * sum(counts))
    taken = apportion(counts, total)
    assert sum(taken) == total
    for count, got in zip(counts, taken, strict=True):
        exact = total * count / sum(counts)
        forced = any(total * other / sum(counts) < 1 or other - total * other / sum(counts) < 1 for other in counts)
        assert 0 <= got <= count
        assert forced or abs(got - exact) < 1


@pytest.mark.parametrize(
    ("counts", "total", "taken"),
    [
        ([80, 80, 3, 1], 16, [8, 7, 1, 0]),  # one of a small class, none of a class of one
        ([40, 2], 2, [1, 1]),
        ([9, 9, 2], 2, [1, 1, 0]),  # not enough for all: the largest first
        ([3, 1], 3, [2, 1]),  # more than can be taken while each class keeps one
        ([1, 1, 1], 1, [1, 0, 0]),
        ([5], 0, [0]),
    ],
)
def test_small_classes(counts, total, taken):
    assert apportion(counts, total) == taken


def test_seeds_differ():
    strata = ["a"] * 50
    assert _split(strata, [0.2], 0)[0].tolist() != _split(strata, [0.2], 1)[0].tolist()


@given(keys=st.lists(st.sampled_from("uvwxyz"), min_size=6, max_size=30), seed=st.integers(0, 3))
def test_rows_of_one_key_stay_together(keys, seed):
    assume(len(set(keys)) >= 3)
    parts = [{keys[row] for row in part} for part in _split(["a"] * len(keys), [0.3], seed, keys)]
    assert not parts[0] & parts[1]
    assert len(parts[0]) == max(1, round(0.3 * len(set(keys))))


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_too_few(rows):
    with pytest.raises(UsageError, match="too few"):
        _split(["a"] * rows, [0.5, 0.4])
