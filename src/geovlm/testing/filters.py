"""Filters to test with: rows of every JSON type, a strategy that writes filters, and a second reading of the grammar.

Needs hypothesis.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st

from geovlm.testing._places import AREAS, ENDS, PLACES, TIMES, begins_in_time, is_during, is_in_place

__all__ = ["filters", "passes", "sample_rows"]

ORDER = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}
OPERATORS = ["$eq", "$ne", "$in", "$nin", "$exists", *ORDER]

NUMBERS: list[Any] = [0, 1, -1, 2.5, 2020, 2020.0, 2024]
TEXTS: list[Any] = ["", "a", "b", "Beach", "2020-01-01", "2024-05-17"]
ORDERED: list[Any] = [*NUMBERS, *TEXTS, True, False]
LISTS: list[Any] = [[], ["a"], ["a", "b"], [1, True], [None], [["a"]]]
MAPPINGS: list[Any] = [{}, {"gsd": 1}, {"gsd": 2.5, "name": "b"}, {"gsd": True}]
ANYTHING: list[Any] = [*ORDERED, None, *LISTS, *MAPPINGS]

COLUMNS: dict[str, list[Any]] = {
    "year": [*NUMBERS, "2020", None],
    "label": TEXTS,
    "tags": [*LISTS, "a"],
    "flag": [True, False, 1],
    "camera": [*MAPPINGS, None],
    "dotted.name": [1, "a"],
    "footprint": PLACES,
    "acquired": TIMES,
    "scan": [{"place": place, "time": time} for place, time in zip(PLACES, TIMES, strict=False)],
    "corners": [[PLACES[0]], [[9, 48], [8.5, 47.5]], [[179, -18, -179, -17], "2024-05-17"], [8, 47, 9, 48]],
}
INSIDE: dict[str, list[Any]] = {"camera.gsd": [1, 2.5], "camera.name": ["b"], "tags.0": ["a", 1], "nowhere": [1]}
POOLS = COLUMNS | INSIDE
WITH_PLACES = ["footprint", "footprint", "scan.place", "corners.0", "corners.1", "corners", "tags", "label", "nowhere"]
WITH_TIMES = ["acquired", "acquired", "scan.time", "corners.1", "label", "year", "nowhere"]


# Made once, as hypothesis looks at each new strategy for longer than it draws from it.
_NAMES, _KINDS = st.sampled_from([*POOLS]), st.sampled_from(["value", "operators", "operators", "not"])
_OPERATORS = st.lists(st.sampled_from(OPERATORS), min_size=1, max_size=2)
_ON_PLACES = st.lists(st.sampled_from(["$within", "$intersects", "$exists"]), min_size=1, max_size=2, unique=True)
_PLACE_NAMES, _TIME_NAMES = st.sampled_from(WITH_PLACES), st.sampled_from(WITH_TIMES)
_AREAS, _TIMES, _ENDS = st.sampled_from(AREAS), st.sampled_from(TIMES), st.sampled_from([None, *ENDS])
_SPANS, _BOOLEANS = st.tuples(_ENDS, _ENDS).filter(begins_in_time), st.booleans()


def sample_rows(count: int) -> list[dict[str, Any]]:
    """Seeded metadata with every JSON type, and with names that are missing."""
    rng = np.random.default_rng(count)

    def pick(values: list[Any]) -> Any:
        return values[int(rng.integers(len(values)))]

    return [{name: pick(pool) for name, pool in COLUMNS.items() if rng.random() < 0.7} for _ in range(count)]


@cache
def filters() -> st.SearchStrategy[dict[str, Any]]:
    """Valid filters on `sample_rows`, nested some levels deep."""
    leaf = _entry() | st.builds(operator.or_, _entry(), _entry()) | _place_entry() | _time_entry()
    return st.recursive(leaf, _combined, max_leaves=4)


@st.composite
def _entry(draw: st.DrawFn) -> dict[str, Any]:
    """A filter on one name, mostly with values that it has."""
    name, kind = draw(_NAMES), draw(_KINDS)
    if kind == "value":
        return {name: draw(_operand("$eq", name))}
    condition = {op: draw(_operand(op, name)) for op in draw(_OPERATORS)}
    return {name: condition if kind == "operators" else {"$not": condition}}


@st.composite
def _place_entry(draw: st.DrawFn) -> dict[str, Any]:
    """A filter on where something is."""
    condition = {op: draw(_BOOLEANS if op == "$exists" else _AREAS) for op in draw(_ON_PLACES)}
    return {draw(_PLACE_NAMES): {"$not": condition} if draw(_BOOLEANS) else condition}


@st.composite
def _time_entry(draw: st.DrawFn) -> dict[str, Any]:
    """A filter on when something was."""
    condition: dict[str, Any] = {"$during": list(draw(_SPANS))}
    if draw(_BOOLEANS):
        condition["$ne"] = draw(_TIMES)
    return {draw(_TIME_NAMES): {"$not": condition} if draw(_BOOLEANS) else condition}


@cache
def _operand(op: str, name: str) -> st.SearchStrategy[Any]:
    pool = POOLS[name]
    if op == "$exists":
        return st.booleans()
    if op in ORDER:
        own = [item for item in pool if isinstance(item, int | float | str)]
        return st.sampled_from(own or ORDERED) | st.sampled_from(ORDERED)
    value = st.sampled_from(pool) | st.sampled_from(ANYTHING)
    return st.lists(value, max_size=3) if op in ("$in", "$nin") else value


def _combined(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.builds(lambda parts: {"$and": parts}, several),
        st.builds(lambda parts: {"$or": parts}, several),
        st.builds(lambda part: {"$not": part}, inner),
    )


def passes(where: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """A second, plain reading of `geovlm.filters`, to compare stores with."""
    return all(_entry_passes(name, condition, row) for name, condition in where.items())


def _entry_passes(name: str, condition: Any, row: Mapping[str, Any]) -> bool:
    if name == "$and":
        return all(passes(part, row) for part in condition)
    if name == "$or":
        return any(passes(part, row) for part in condition)
    if name == "$not":
        return not passes(condition, row)
    values = _values(row, name)
    if isinstance(condition, Mapping) and any(key.startswith("$") for key in condition):
        return all(_condition_passes(op, operand, values) for op, operand in condition.items())
    return _condition_passes("$eq", condition, values)


def _values(row: Any, name: str) -> list[Any]:
    """The value under a name as a list of one, or of none."""
    if isinstance(row, Mapping) and name in row:
        return [row[name]]
    first, dot, rest = name.partition(".")
    if isinstance(row, list) and first.isdigit() and int(first) < len(row):
        inner = [row[int(first)]]
    elif isinstance(row, Mapping) and first in row:
        inner = [row[first]]
    else:
        return []
    return _values(inner[0], rest) if dot else inner


def _condition_passes(op: str, operand: Any, values: list[Any]) -> bool:
    if op in ("$ne", "$nin", "$not"):
        positive = {"$eq": operand} if op == "$ne" else {"$in": operand} if op == "$nin" else operand
        return not all(_condition_passes(key, value, values) for key, value in positive.items())
    if op == "$exists":
        return bool(values) is operand
    if op == "$during":
        return any(is_during(operand, value) for value in values)
    if op in ("$within", "$intersects"):
        return any(is_in_place(op, operand, value) for value in values)
    if op == "$in":
        return any(_condition_passes("$eq", value, values) for value in operand)
    return any(_scalar_passes(op, _typed(value), _typed(operand)) for value in values)


def _scalar_passes(op: str, value: tuple[str, Any], operand: tuple[str, Any]) -> bool:
    if op == "$eq":
        return value == operand or (value[0] == "list" and operand in value[1])
    comparable = value[0] == operand[0] and value[0] in ("bool", "number", "str")
    return comparable and bool(ORDER[op](value[1], operand[1]))


def _typed(value: Any) -> tuple[str, Any]:
    """A value with its JSON type, so that `==` on the pair is equality in JSON."""
    if isinstance(value, bool):
        return "bool", value
    if isinstance(value, int | float):
        return "number", value
    if isinstance(value, list):
        return "list", [_typed(item) for item in value]
    if isinstance(value, dict):
        return "dict", {key: _typed(item) for key, item in value.items()}
    return type(value).__name__, value
