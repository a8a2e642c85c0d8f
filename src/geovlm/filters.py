"""The one filter grammar: what `where=` means, for every store.

A filter is a mapping in the operators that Astra DB speaks:

```python
{"label": "Beach"}                                     # equal; the same as {"label": {"$eq": "Beach"}}
{"year": {"$gte": 2020, "$lt": 2024}}                  # all conditions of one mapping must hold
{"$or": [{"label": {"$in": ["Port", "Beach"]}}, {"camera.gsd": {"$lt": 0.5}}]}
```

What the operators mean, for the value that a row has under a name:

- **Names.** A name is looked up as it is written, and if the row has no such name, dots lead into nested mappings and,
  by number, into lists: `camera.gsd`, `captions.0`.
- **`$eq`, `$ne`, `$in`, `$nin`** compare by value *and* type: numbers with numbers (`1` equals `1.0`), text with text,
  booleans with booleans (`true` is not `1`), `null` with `null`, whole lists and mappings with the same. A list also
  equals each single value that it contains, so `{"tags": "roof"}` finds `["roof", "court"]`. `$ne` and `$nin` are true
  exactly where `$eq` and `$in` are false, so also for rows that lack the name.
- **`$gt`, `$gte`, `$lt`, `$lte`** compare numbers with numbers, text with text (by code point, so ISO dates compare as
  dates) and booleans with booleans (`false` comes first). Values of other types, `null`, lists and missing names are
  false.
- **`$exists`** asks whether the row has the name; `null` is a value.
- **`$and`, `$or`** take a list of filters, **`$not`** takes one filter and is true for exactly the rows that it leaves
  out, rows that lack the name among them. `$not` may also stand below a name: `{"year": {"$not": {"$gt": 2020}}}`.

Dates, NumPy scalars and paths in a filter count as their JSON forms, as they do in metadata. `parse_filter` checks all
this once and gives a small tree, from which a store makes its own query language; `compile_filter` makes a function.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import frozen

from geovlm._tables import plain
from geovlm.errors import UsageError

if TYPE_CHECKING:
    from geovlm.protocols import Where

__all__ = ["AllOf", "AnyOf", "Compare", "Filter", "Not", "Predicate", "compile_filter", "parse_filter"]

Predicate: TypeAlias = Callable[[Mapping[str, Any]], bool]
"""Tells of a row's metadata whether it passes."""


@frozen
class Compare:
    """One value of a row against one of the filter.

    Args:
        name: Where the row's value is.
        op: `$eq`, `$gt`, `$gte`, `$lt`, `$lte`, `$in` or `$exists`; the negative ones are a `Not` of these.
        value: What it is compared with, JSON-like; a list for `$in`, a boolean for `$exists`.
    """

    name: str
    op: str
    value: Any


@frozen
class Not:
    """True where `part` is false."""

    part: Filter


@frozen
class AllOf:
    """True where every part is; an empty one is true everywhere."""

    parts: tuple[Filter, ...]


@frozen
class AnyOf:
    """True where at least one part is."""

    parts: tuple[Filter, ...]


Filter: TypeAlias = Compare | Not | AllOf | AnyOf

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_NEGATIVE = {"$ne": "$eq", "$nin": "$in"}
_ON_VALUES = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$not")
_ON_FILTERS = ("$and", "$or", "$not")
_MISSING = object()


def parse_filter(where: Where | None) -> Filter:
    """Check a filter and make a tree of it; `None` and `{}` let every row pass.

    Raises:
        UsageError: An operator is unknown (the nearest is named), or its value is of the wrong kind.

    Examples:
        >>> parse_filter({"year": {"$gte": 2020}})
        Compare(name='year', op='$gte', value=2020)
        >>> parse_filter({"year": {"$gr": 2020}})
        Traceback (most recent call last):
        ...
        geovlm.errors.UsageError: A filter has no operator '$gr' on a value. Did you mean '$gt'?
    """
    if where is None:
        return AllOf(())
    if not isinstance(where, Mapping):
        raise UsageError(f'A filter is a mapping such as {{"year": {{"$gte": 2020}}}}, not {where!r:.80}.')
    return _all([_parse_entry(name, value) for name, value in where.items()])


def compile_filter(where: Where | None) -> Predicate:
    """A function that tells of a row's metadata whether it passes.

    Raises:
        UsageError: As `parse_filter`.

    Examples:
        >>> recent_ports = compile_filter({"label": "Port", "year": {"$gte": 2020}})
        >>> recent_ports({"label": "Port", "year": 2024}), recent_ports({"label": "Port"})
        (True, False)
    """
    return _predicate(parse_filter(where))


def _all(parts: list[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


def _parse_entry(name: object, value: Any) -> Filter:
    if not isinstance(name, str) or not name:
        raise UsageError(f"A filter names a value by text of at least one character, not {name!r}.")
    if not name.startswith("$"):
        return _parse_conditions(name, value)
    if name not in _ON_FILTERS:
        raise _unknown(name, _ON_FILTERS, "on filters")
    if name == "$not":
        return Not(parse_filter(_filter_in(name, value)))
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise UsageError(f"{name} takes a list of at least one filter, not {value!r:.80}.")
    parts = tuple(parse_filter(_filter_in(name, part)) for part in value)
    return AllOf(parts) if name == "$and" else AnyOf(parts)


def _filter_in(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{name} takes filters, which are mappings, not {value!r:.80}.")
    return value


def _parse_conditions(name: str, value: Any) -> Filter:
    """What is asked of one name: a mapping of operators, or a value to be equal to."""
    if not isinstance(value, Mapping):
        return Compare(name, "$eq", _json_like(value))
    operators = [key for key in value if isinstance(key, str) and key.startswith("$")]
    if not operators:
        _refuse_lost_dollar(name, value)
        return Compare(name, "$eq", _json_like(value))
    if len(operators) < len(value):
        raise UsageError(f"The condition on {name!r} mixes operators and other names: {value!r:.120}.")
    return _all([_parse_condition(name, op, operand) for op, operand in value.items()])


def _parse_condition(name: str, op: str, operand: Any) -> Filter:
    if op not in _ON_VALUES:
        raise _unknown(op, _ON_VALUES, "on a value")
    if op == "$not":
        if not isinstance(operand, Mapping) or not operand or not all(str(key).startswith("$") for key in operand):
            raise UsageError(f'$not below {name!r} takes operators, such as {{"$gt": 3}}, not {operand!r:.80}.')
        return Not(_all([_parse_condition(name, key, value) for key, value in operand.items()]))
    if op in _NEGATIVE:
        return Not(_parse_condition(name, _NEGATIVE[op], operand))
    value = _json_like(operand)
    if op == "$in" and not isinstance(value, list):
        raise UsageError(f"$in and $nin take a list of values; {name!r} is asked for {operand!r:.80}.")
    if op == "$exists" and not isinstance(value, bool):
        raise UsageError(f"$exists takes True or False; {name!r} is asked for {operand!r:.80}.")
    if op in _ORDER and not isinstance(value, str | int | float):
        raise UsageError(f"{op} takes a number, text or a date; {name!r} is asked for {operand!r:.80}.")
    return Compare(name, op, value)


def _refuse_lost_dollar(name: str, value: Mapping[str, Any]) -> None:
    """`{"year": {"gte": 2020}}` would compare with a mapping, and quietly find nothing."""
    lost = [key for key in value if f"${key}" in _ON_VALUES]
    if lost and len(lost) == len(value):
        raise UsageError(
            f"The condition on {name!r} has {lost[0]!r}: did you mean '${lost[0]}'? To compare with a mapping, write"
            f' {{"$eq": {dict(value)!r:.60}}}.'
        )


def _unknown(op: str, known: Sequence[str], place: str) -> UsageError:
    from difflib import get_close_matches

    elsewhere = {*_ON_VALUES, *_ON_FILTERS} - set(known)
    if op in elsewhere:
        belongs = "below a name" if op in _ON_VALUES else "beside names, not below one"
        return UsageError(f"The operator {op!r} stands {belongs}; a filter has none of that name {place}.")
    near = get_close_matches(op[1:].lower(), [name[1:] for name in known], n=1, cutoff=0.5)
    hint = f"Did you mean '${near[0]}'?" if near else f"Known: {', '.join(known)}."
    return UsageError(f"A filter has no operator {op!r} {place}. {hint}")


def _json_like(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value, default=plain, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(f"A filter compares with JSON-like values, not {value!r:.80} ({error}).") from error


def _predicate(tree: Filter) -> Predicate:
    match tree:
        case Compare():
            return _compare(tree)
        case Not(part):
            inner = _predicate(part)
            return lambda row: not inner(row)
        case AllOf(parts):
            tests = [_predicate(part) for part in parts]
            return lambda row: all(test(row) for test in tests)
        case AnyOf(parts):
            tests = [_predicate(part) for part in parts]
            return lambda row: any(test(row) for test in tests)


def _compare(node: Compare) -> Predicate:
    name, op, wanted = node.name, node.op, node.value
    if op == "$exists":
        return lambda row: (_look_up(row, name) is not _MISSING) is wanted
    if op == "$eq":
        return lambda row: _equals(_look_up(row, name), wanted)
    if op == "$in":
        return lambda row: any(_equals(_look_up(row, name), value) for value in wanted)
    holds, kind = _ORDER[op], _kind(wanted)

    def in_order(row: Mapping[str, Any]) -> bool:
        value = _look_up(row, name)
        return _kind(value) == kind and holds(value, wanted)

    return in_order


def _look_up(row: Mapping[str, Any], name: str) -> Any:
    """The value under a name, or `_MISSING`; first as it is written, then along its dots."""
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return _MISSING
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
