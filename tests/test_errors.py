"""The tree of errors is drawn as it is."""

from __future__ import annotations

import pickle
import re

import pytest

from geovlm import errors
from geovlm.errors import IncompleteUpsert, RateLimited, RateLimitedUpsert, StoreError


def test_the_drawn_tree_is_the_tree():
    drawn = re.search(r"```\n(.*?)```", errors.__doc__, re.DOTALL)[1].splitlines()
    parents, seen = {-1: "Exception"}, []
    for line in drawn:
        depth = re.match(r"[│├└─ ]*", line).end() // 4
        name = line[4 * depth :].split()[0]
        assert getattr(errors, name).__bases__[0].__name__ == parents[depth - 1]
        parents[depth] = name
        seen.append(name)
        for other in re.findall(r"also (\w+)", line):
            assert other in [base.__name__ for base in getattr(errors, name).__mro__]
    assert sorted(seen) == sorted(errors.__all__)


@pytest.mark.parametrize("kind", [IncompleteUpsert, RateLimitedUpsert])
def test_an_incomplete_upsert_says_what_became_of_each_row(kind):
    error = pickle.loads(pickle.dumps(kind(["inserted", None, None], {"b": "full.", "c": "full."})))
    assert isinstance(error, StoreError)
    assert isinstance(error, RateLimited) == (kind is RateLimitedUpsert)
    assert error.outcomes == ["inserted", None, None]
    assert list(error.reasons) == ["b", "c"]
    assert str(error).startswith("2 of 3 rows were not written, the first is 'b': full.")
    if kind is RateLimitedUpsert:
        assert (error.status, error.request_id) == (429, None)
