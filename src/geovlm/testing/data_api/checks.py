"""Checks of the fields of commands, and the errors they raise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geovlm.testing.data_api.errors import CommandFailure, json_type
from geovlm.testing.data_api.values import is_integer

if TYPE_CHECKING:
    from collections.abc import Iterable


def invalid(field: str, value: Any, problem: str) -> CommandFailure:
    """The error for a field of the right type with a value that is out of range or missing."""
    shown = "null" if value is None else str(value)
    message = f"field '{field}' value \"{shown}\" not valid. Problem: {problem}."
    return CommandFailure("COMMAND_FIELD_VALUE_INVALID", f"Request invalid: {message}")


def mismatch(field: str, expected: str, value: Any) -> CommandFailure:
    """The error for a field of another JSON type."""
    message = f"'{field}' must be {expected}, not {json_type(value)}"
    return CommandFailure("REQUEST_STRUCTURE_MISMATCH", f"Request invalid, mismatching structure: {message}.")


def known_fields(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse fields that a command or its options do not have.

    Raises:
        CommandFailure: as it says.
    """
    names = sorted(known)
    for name in given:
        if name not in names:
            listed = ", ".join(f"'{known}'" for known in names)
            message = f"Command field '{name}' is not one of known fields ({listed}) of {where}."
            raise CommandFailure("COMMAND_FIELD_UNKNOWN", message)


def object_or_none(value: Any, field: str) -> dict[str, Any] | None:
    """An object, or None for null and for what is left out."""
    if value is not None and not isinstance(value, dict):
        raise mismatch(field, "an Object", value)
    return value


def integer(value: Any, field: str) -> int:
    """A whole number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not is_integer(value):
        raise mismatch(field, "an Integer", value)
    return int(value)


def boolean(value: Any, field: str) -> bool:
    """True or false; null is false."""
    if value is None:
        return False
    if not isinstance(value, bool):
        raise mismatch(field, "a Boolean", value)
    return value


def text_or_none(value: Any, field: str) -> str | None:
    """Text, or None for null and for what is left out."""
    if value is not None and not isinstance(value, str):
        raise mismatch(field, "a String", value)
    return value
