"""Testing a row's metadata."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from geovlm._areas import box_of
from geovlm._times import moment_of
from geovlm.filters._tree import AllOf, AnyOf, Compare, During, Filter, InArea, Not, Predicate

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
MISSING = object()


def predicate(tree: Filter) -> Predicate:
    """A function that tells of a row's metadata whether it passes a tree, or a part of one.

    Args:
        tree: What `parse_filter` made, or a part of it.

    Examples:
        >>> predicate(Not(Compare("year", "$lt", 2020)))({"year": 2024})
        True
    """
    match tree:
        case Compare():
            return _compare(tree)
        case InArea():
            return _in_area(tree)
        case During():
            return _during(tree)
        case Not(part):
            inner = predicate(part)
            return lambda row: not inner(row)
        case AllOf(parts):
            tests = [predicate(part) for part in parts]
            return lambda row: all(test(row) for test in tests)
        case AnyOf(parts):
            tests = [predicate(part) for part in parts]
            return lambda row: any(test(row) for test in tests)


def _compare(node: Compare) -> Predicate:
    name, op, wanted = node.name, node.op, node.value
    if op == "$exists":
        return lambda row: (look_up(row, name) is not MISSING) is wanted
    if op == "$eq":
        return lambda row: _equals(look_up(row, name), wanted)
    if op == "$in":
        return lambda row: any(_equals(look_up(row, name), value) for value in wanted)
    holds, kind = _ORDER[op], _kind(wanted)

    def in_order(row: Mapping[str, Any]) -> bool:
        value = look_up(row, name)
        return _kind(value) == kind and holds(value, wanted)

    return in_order


def _in_area(node: InArea) -> Predicate:
    name, holds = node.name, node.area.holds if node.op == "$within" else node.area.meets

    def in_place(row: Mapping[str, Any]) -> bool:
        box = box_of(look_up(row, name))
        return box is not None and holds(box)

    return in_place


def _during(node: During) -> Predicate:
    name, start, end = node.name, node.start, node.end

    def in_time(row: Mapping[str, Any]) -> bool:
        moment = moment_of(look_up(row, name))
        return moment is not None and (start is None or start <= moment) and (end is None or moment <= end)

    return in_time


def look_up(row: Mapping[str, Any], name: str) -> Any:
    """The value that a filter finds under a name, or `MISSING`; first as it is written, then along its dots.

    Args:
        row: The metadata of a row.
        name: As it is written, or with dots for mappings in mappings.

    Examples:
        >>> look_up({"camera": {"gsd": 0.5}}, "camera.gsd"), look_up({}, "year") is MISSING
        (0.5, True)
    """
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return MISSING
    return value


def _equals(value: Any, wanted: Any) -> bool:
    return _same(value, wanted) or (isinstance(value, list) and any(_same(item, wanted) for item in value))


def _same(left: Any, right: Any) -> bool:
    """Equal in JSON: `==`, but `True` is not `1`, also deep inside."""
    if _kind(left) != _kind(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, Mapping):
        return left.keys() == right.keys() and all(_same(value, right[key]) for key, value in left.items())
    return bool(left == right)


def _kind(value: Any) -> str:
    """The JSON type of a value; `""` for a missing one."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    if value is None:
        return "null"
    return "list" if isinstance(value, list) else "mapping" if isinstance(value, Mapping) else ""
