"""What every store asks of its arguments."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geovlm.errors import UsageError
from geovlm.stores._checks import check_metadata, json_rows

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=4)


def has_operator(value):
    if isinstance(value, dict):
        return any(name.startswith("$") or has_operator(inner) for name, inner in value.items())
    return isinstance(value, list) and any(map(has_operator, value))


@given(ROWS)
def test_rows_come_back_as_they_are_each_with_its_text(rows):
    if any(map(has_operator, rows)):
        with pytest.raises(UsageError, match="starts with"):
            check_metadata(rows, len(rows))
        return
    assert check_metadata(rows, len(rows)) == rows
    for given_row, (row, text) in zip(rows, json_rows(rows, len(rows)), strict=True):
        assert row == json.loads(text) == given_row
        assert text.isascii()


def test_a_dollar_in_a_value_is_only_a_value():
    rows = [{"price": "$5"}, {"a": 1}]
    assert check_metadata(rows, 2) == [row for row, _ in json_rows(rows, 2)] == rows


def test_rows_share_their_names():
    one, other = check_metadata([{"a long name": 1}, {"a long name": 2}], 2)
    assert next(iter(one)) is next(iter(other))


def test_what_is_not_json_takes_its_json_form():
    row = {"n": np.int64(3), "xs": np.arange(2), "day": dt.date(2024, 5, 17), 5: "five"}
    assert check_metadata([row], 1) == [{"n": 3, "xs": [0, 1], "day": "2024-05-17", "5": "five"}]


def test_the_row_that_is_wrong_is_named():
    for bad in ({"x": {1}}, {"x": float("nan")}, "x"):
        with pytest.raises(UsageError, match="row 1 "):
            check_metadata([{}, bad], 2)
    with pytest.raises(UsageError, match="pairs"):
        json_rows([{}], 2)
