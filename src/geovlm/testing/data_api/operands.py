"""What may stand behind each filter operator."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from geovlm.testing.data_api.errors import json_type
from geovlm.testing.data_api.values import extended_form, extended_key, is_integer

_RANGES = ("$gt", "$gte", "$lt", "$lte")


def check_operand(operator: str, operand: Any, most_values: int) -> str | None:
    """What is wrong with an operand, or None.

    Examples:
        >>> check_operand("$size", -1, 100)
        '$size operator must have an integer of 0 or more'
    """
    if operator in {"$in", "$nin"}:
        return _list_problem(operator, operand, most_values)
    if operator == "$all":
        return _all_problem(operand)
    if operator == "$exists":
        return None if isinstance(operand, bool) else "$exists operator must have a Boolean"
    if operator == "$size":
        fits = is_integer(operand) and operand >= 0
        return None if fits else "$size operator must have an integer of 0 or more"
    if operator in _RANGES and not _is_ordered(operand):
        return f"{operator} operator must have a date, Number, String or Boolean, not {json_type(operand)}"
    return _extended_problem(operand)


def _list_problem(operator: str, operand: Any, most_values: int) -> str | None:
    if not isinstance(operand, list):
        return f"{operator} operator must have an Array"
    if len(operand) > most_values:
        return f"{operator} operator must have at most {most_values} values, not {len(operand)}"
    return next((problem for value in operand if (problem := _extended_problem(value))), None)


def _all_problem(operand: Any) -> str | None:
    if not isinstance(operand, list):
        return "$all operator must have an Array"
    if not operand:
        return "$all operator must have at least one value"
    return next((problem for value in operand if (problem := _extended_problem(value))), None)


def _is_ordered(operand: Any) -> bool:
    return isinstance(operand, (str, bool, int, float, Decimal)) or extended_key(operand) is not None


def _extended_problem(operand: Any) -> str | None:
    key = extended_key(operand)
    if key is None or key == "$binary" or extended_form(key, operand[key]):
        return None
    return f"'{key}' with {json_type(operand[key])} value {operand[key]!r} is not valid"
