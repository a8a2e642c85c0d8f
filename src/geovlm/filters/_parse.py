"""Reading a filter: what may stand where, and what to do about the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from geovlm._areas import area_of
from geovlm._tables import plain
from geovlm._times import span_of
from geovlm.errors import UsageError
from geovlm.filters._tree import AllOf, AnyOf, Compare, During, Filter, InArea, Not
from geovlm.records import Footprint

if TYPE_CHECKING:
    from geovlm.protocols import Where

_ORDER = ("$gt", "$gte", "$lt", "$lte")
_NEGATIVE = {"$ne": "$eq", "$nin": "$in"}
_ON_AREAS = ("$within", "$intersects")
_ON_VALUES = (
    *("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$not"),
    *(*_ON_AREAS, "$during"),
)
_OTHER_NAMES = dict.fromkeys(("$between", "$range"), "'$gte' and '$lte', or '$during' for times") | dict.fromkeys(
    ("$inside", "$bbox", "$box"), "'$within'"
)
_ON_FILTERS = ("$and", "$or", "$not")


def parse_filter(where: Where | None) -> Filter:
    """Check a filter and make a tree of it; `None` and `{}` let every row pass.

    Args:
        where: In the operators of `VectorStore`.

    Raises:
        UsageError: An operator is unknown (the nearest is named), or its value is of the wrong kind.
        MissingExtra: It asks for a polygon, and shapely is not installed.

    Examples:
        >>> parse_filter({"year": {"$gte": 2020}})
        Compare(name='year', op='$gte', value=2020)
        >>> parse_filter({"acquired": {"$during": ["1970-01-01", None]}})
        During(name='acquired', start=0, end=None)
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
    if op in _ON_AREAS:
        return InArea(name, op, area_of(_json_like(_geography(operand))))
    if op == "$during":
        return During(name, *span_of(operand))
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
    if op in _OTHER_NAMES:
        return UsageError(f"A filter has no operator {op!r} {place}. Write {_OTHER_NAMES[op]}.")
    near = get_close_matches(op[1:].lower(), [name[1:] for name in known], n=1, cutoff=0.5)
    hint = f"Did you mean '${near[0]}'?" if near else f"Known: {', '.join(known)}."
    return UsageError(f"A filter has no operator {op!r} {place}. {hint}")


def _geography(operand: Any) -> Any:
    """An area as a box or in GeoJSON."""
    return operand.bounds if isinstance(operand, Footprint) else getattr(operand, "__geo_interface__", operand)


def _json_like(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value, default=plain, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(f"A filter compares with JSON-like values, not {value!r:.80} ({error}).") from error
