from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from geovlm.errors import UsageError
from geovlm.filters import AllOf, AnyOf, Compare, Not, compile_filter, parse_filter
from geovlm.testing.filters import filters, passes, sample_rows

ROWS = sample_rows(80)


@settings(max_examples=400, deadline=None)
@given(filters())
def test_the_predicate_agrees_with_a_second_reading_of_the_grammar(where: dict[str, Any]) -> None:
    predicate = compile_filter(where)
    assert [predicate(row) for row in ROWS] == [passes(where, row) for row in ROWS]


@given(filters())
def test_not_is_the_complement(where: dict[str, Any]) -> None:
    predicate, negated = compile_filter(where), compile_filter({"$not": where})
    assert all(predicate(row) is not negated(row) for row in ROWS)


@pytest.mark.parametrize(
    ("where", "row", "expected"),
    [
        # missing names
        ({"year": 1}, {}, False),
        ({"year": None}, {}, False),
        ({"year": {"$ne": 1}}, {}, True),
        ({"year": {"$nin": [1]}}, {}, True),
        ({"year": {"$gt": 1}}, {}, False),
        ({"year": {"$not": {"$gt": 1}}}, {}, True),
        ({"year": {"$exists": False}}, {}, True),
        ({"year": {"$exists": True}}, {"year": None}, True),
        # types
        ({"year": 1}, {"year": 1.0}, True),
        ({"year": 1}, {"year": True}, False),
        ({"year": 1}, {"year": "1"}, False),
        ({"year": {"$gt": 1}}, {"year": "2"}, False),
        ({"year": {"$lte": 1}}, {"year": False}, False),
        ({"year": {"$lt": "b"}}, {"year": "a"}, True),
        ({"ok": {"$gt": False}}, {"ok": True}, True),
        ({"year": {"$gte": None}}, None, UsageError),
        ({"year": {"$gte": [1]}}, None, UsageError),
        # lists and mappings
        ({"tags": "a"}, {"tags": ["b", "a"]}, True),
        ({"tags": {"$ne": "a"}}, {"tags": ["b", "a"]}, False),
        ({"tags": {"$in": ["c", "a"]}}, {"tags": ["b", "a"]}, True),
        ({"tags": ["a"]}, {"tags": ["a"]}, True),
        ({"tags": ["a"]}, {"tags": ["a", "b"]}, False),
        ({"tags": {"$gt": 1}}, {"tags": [2]}, False),
        ({"tags": {"$in": []}}, {"tags": []}, False),
        ({"tags": {"$nin": []}}, {}, True),
        ({"camera": {"name": "x", "gsd": 1}}, {"camera": {"gsd": 1, "name": "x"}}, True),
        ({"camera": {"gsd": 1}}, {"camera": {"gsd": 1, "name": "x"}}, False),
        ({"camera": {"gsd": 1}}, {"camera": {"gsd": True}}, False),
        # names
        ({"camera.gsd": {"$lt": 1}}, {"camera": {"gsd": 0.5}}, True),
        ({"camera.gsd": 1}, {"camera.gsd": 1, "camera": {"gsd": 2}}, True),
        ({"captions.1": "b"}, {"captions": ["a", "b"]}, True),
        ({"captions.2": {"$exists": False}}, {"captions": ["a", "b"]}, True),
        # together
        ({}, {"year": 1}, True),
        (None, {"year": 1}, True),
        ({"year": {"$gte": 1, "$lt": 3}}, {"year": 3}, False),
        ({"$or": [{"a": 1}, {"b": 1}], "c": 1}, {"b": 1, "c": 1}, True),
        ({"$and": [{"a": 1}, {"$not": {"b": 1}}]}, {"a": 1}, True),
        # values of Python that have a JSON form
        ({"day": {"$gte": dt.date(2024, 1, 1)}}, {"day": "2024-05-17"}, True),
        ({"n": {"$in": np.array([1, 2])}}, {"n": 2}, True),
        ({"n": np.float32(0.5)}, {"n": 0.5}, True),
        ({"uri": Path("a/b.jpg")}, {"uri": "a/b.jpg"}, True),
    ],
    ids=str,
)
def test_the_meaning_of_each_operator(where: Any, row: Any, expected: Any) -> None:
    if expected is UsageError:
        with pytest.raises(UsageError):
            compile_filter(where)
    else:
        assert compile_filter(where)(row) is expected


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ({"year": {"$gr": 1}}, r"Did you mean '\$gt'"),
        ({"year": {"$GTE": 1}}, r"Did you mean '\$gte'"),
        ({"$nor": [{}]}, r"Did you mean '\$or'"),
        ({"year": {"gte": 1}}, r"did you mean '\$gte'"),
        ({"$gte": 1}, "below a name"),
        ({"year": {"$or": [{"$gt": 1}]}}, "beside names"),
        ({"year": {"$zzz": "x"}}, "Known:"),
        ({"year": {"$gte": 1, "name": 2}}, "mixes"),
        ({"year": {"$in": 3}}, "list of values"),
        ({"year": {"$in": "abc"}}, "list of values"),
        ({"year": {"$exists": 1}}, "True or False"),
        ({"year": {"$not": 3}}, "takes operators"),
        ({"year": {"$not": {}}}, "takes operators"),
        ({"year": {"$not": {"name": 3}}}, "takes operators"),
        ({"$and": []}, "at least one filter"),
        ({"$or": {"a": 1}}, "list of at least one"),
        ({"$not": [{"a": 1}]}, "takes filters"),
        ({"year": float("nan")}, "JSON-like"),
        ({"year": {1, 2}}, "JSON-like"),
        ({3: 1}, "by text"),
        ({"": 1}, "by text"),
        ([("a", 1)], "is a mapping"),
        ("a", "is a mapping"),
    ],
    ids=str,
)
def test_a_wrong_filter_says_what_to_do(where: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_filter(where)


def test_the_tree_has_few_kinds_of_nodes() -> None:
    where = {"$or": [{"a": {"$ne": 1}}, {"b": {"$gt": 1, "$lt": 3}}]}
    both = AllOf((Compare("b", "$gt", 1), Compare("b", "$lt", 3)))
    assert parse_filter(where) == AnyOf((Not(Compare("a", "$eq", 1)), both))
