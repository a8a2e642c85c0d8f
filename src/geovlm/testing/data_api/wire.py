"""Requests and responses as bytes: JSON with the Data API's own strictness."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from geovlm.testing.data_api.errors import CommandFailure

if TYPE_CHECKING:
    from collections.abc import Callable

# A float of so few digits comes back from its repr as the same number; longer ones are compared.
_SAFE_FLOAT_CHARS = 16
_DECIMAL = re.compile(r'"\\u0000decimal:([^"\\]+)\\u0000"')


def decode(body: bytes, number_chars: int) -> Any:
    """A request's body as Python values; numbers that a float would change stay Decimals.

    Args:
        body: UTF-8 JSON.
        number_chars: how long a number may be written.

    Raises:
        CommandFailure: the body is not JSON, repeats a key, or holds a number that is too long.
    """
    try:
        return json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_int=_number(int, number_chars),
            parse_float=_number(_float_or_decimal, number_chars),
        )
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CommandFailure("REQUEST_NOT_JSON", f"The request is not valid JSON: {error}. Send valid JSON.") from error
    except RecursionError as error:
        message = "Document size limitation violated: the JSON is nested too deeply. Send a flatter document."
        raise CommandFailure("SHRED_DOC_LIMIT_VIOLATION", message) from error


def encode(value: Any) -> bytes:
    """A response's body; Decimals are written with all their digits.

    Examples:
        >>> encode({"a": Decimal("0.10000000000000000001")})
        b'{"a":0.10000000000000000001}'
    """
    text = json.dumps(value, separators=(",", ":"), default=_mark_decimal)
    if "\\u0000decimal:" in text:
        text = _DECIMAL.sub(r"\1", text)
    return text.encode("ascii")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise CommandFailure("REQUEST_NOT_JSON", f"Duplicate field '{twice}' in an object. Send each field once.")
    return values


def _number(convert: Callable[[str], Any], limit: int) -> Callable[[str], Any]:
    def checked(text: str) -> Any:
        if len(text) > limit:
            message = f"Number value length ({len(text)}) exceeds the maximum allowed ({limit}). Send a shorter number."
            raise CommandFailure("SHRED_DOC_LIMIT_VIOLATION", f"Document size limitation violated: {message}")
        return convert(text)

    return checked


def _float_or_decimal(text: str) -> float | Decimal:
    value = float(text)
    if (len(text) <= _SAFE_FLOAT_CHARS or repr(value) == text) and abs(value) != float("inf"):
        return value
    exact = Decimal(text)
    return value if exact == Decimal(repr(value)) else exact


def _refuse_constant(name: str) -> Any:
    raise CommandFailure("REQUEST_NOT_JSON", f"'{name}' is not JSON. Send finite numbers only.")


def _mark_decimal(value: object) -> str:
    if isinstance(value, Decimal):
        return f"\0decimal:{value}\0"
    raise TypeError(f"{type(value).__name__} has no JSON form")
