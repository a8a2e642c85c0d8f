"""JSON values as the Data API compares them: by type, with dates, UUIDs and object ids."""

from __future__ import annotations

import re
import uuid
from decimal import Decimal
from typing import Any

from geovlm.testing.data_api.errors import CommandFailure, json_type
from geovlm.testing.data_api.paths import MISSING

# An object with one of these as its only key stands for a value of another type.
EXTENDED = frozenset({"$date", "$uuid", "$objectId", "$binary"})

# A comparable, hashable form of a value; equal forms are equal values.
Canonical = tuple[Any, ...]

_OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_RANKS = {"null": 1, "number": 2, "string": 3, "object": 4, "array": 5, "boolean": 6, "date": 7}


def is_number(value: Any) -> bool:
    """Whether a value is a JSON number (a boolean is not)."""
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def is_integer(value: Any) -> bool:
    """Whether a value is a JSON number without a fraction."""
    return isinstance(value, int) and not isinstance(value, bool)


def extended_key(value: Any) -> str | None:
    """The key that makes an object a value of another type, or None."""
    if isinstance(value, dict) and len(value) == 1:
        key = str(next(iter(value)))
        return key if key in EXTENDED else None
    return None


def extended_form(key: str, value: Any) -> Canonical | None:
    """The canonical form of an extended value, or None if it is malformed.

    UUIDs and object ids compare as their text, as the service keeps them.

    Examples:
        >>> extended_form("$date", 0), extended_form("$uuid", "no")
        (('date', 0), None)
    """
    if key == "$date":
        return ("date", value) if is_integer(value) and -(2**63) <= value < 2**63 else None
    if key == "$uuid" and isinstance(value, str) and _UUID.fullmatch(value):
        return ("string", str(uuid.UUID(value)))
    if key == "$objectId" and isinstance(value, str) and _OBJECT_ID.fullmatch(value):
        return ("string", value.lower())
    return None


def canonical(value: Any) -> Canonical:
    """A form that is equal and hashes equal for values that a filter takes as equal.

    Numbers compare by value, objects with the order of their keys.

    Examples:
        >>> canonical(1) == canonical(1.0), canonical(1) == canonical(True), canonical(1) == canonical("1")
        (True, False, False)
    """
    if isinstance(value, str):
        return ("string", value)
    if value is None:
        return ("null",)
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, list):
        return ("array", tuple(canonical(element) for element in value))
    if isinstance(value, dict):
        key = extended_key(value)
        form = extended_form(key, value[key]) if key else None
        return form or ("object", tuple((name, canonical(member)) for name, member in value.items()))
    return ("number", value)


def order_key(value: Any) -> tuple[Any, ...]:
    """Sorts values of any types: missing, null, numbers, text, objects, arrays, booleans, dates.

    Examples:
        >>> sorted([True, "a", 2, None, {"$date": 0}], key=order_key)
        [None, 2, 'a', True, {'$date': 0}]
    """
    return (0,) if value is MISSING else _ranked(canonical(value))


def _ranked(form: Canonical) -> tuple[Any, ...]:
    kind, *rest = form
    if kind == "array":
        return (_RANKS[kind], tuple(_ranked(element) for element in rest[0]))
    if kind == "object":
        return (_RANKS[kind], tuple((name, _ranked(member)) for name, member in rest[0]))
    return (_RANKS[kind], *rest)


def identical(one: Any, other: Any) -> bool:
    """Whether writing one over the other changes nothing: same types, same order of keys."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(identical(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(identical, one, other))
    if is_number(one) and is_number(other):
        return bool(one == other)
    return type(one) is type(other) and bool(one == other)


def document_key(value: Any) -> Canonical:
    """What identifies a document: its ``_id``, by type and value (5 and "5" are two documents).

    Raises:
        CommandFailure: an ``_id`` may be text, a number, a boolean, null, or an extended date, UUID or object id.
    """
    if isinstance(value, str) and not value:
        raise CommandFailure("SHRED_BAD_DOCID_VALUE", "Bad value for '_id' field: empty String not allowed. Name it.")
    form = canonical(value)
    if form[0] in {"array", "object"}:
        needed = "a String, Number, Boolean, null, $date, $uuid or $objectId"
        message = f"Bad type for '_id' field: it must be {needed}, not {json_type(value)} {value!r}."
        raise CommandFailure("SHRED_BAD_DOCID_TYPE", message)
    return form
