"""Checks of single settings, made when a configuration is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from geovlm.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from attrs import Attribute


def number(low: float, high: float = math.inf, *, above: bool = False, hint: str = "") -> Any:
    """A finite number from `low` (or above it) to `high`; the hint says which value is usual."""

    def check(_: Any, attribute: Attribute[Any], value: Any) -> None:
        real = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not real or value < low or value > high or (above and value == low):
            span = f"above {low:g}" if above else f"of at least {low:g}"
            span += "" if high == math.inf else f" and at most {high:g}"
            raise UsageError(f"{attribute.name} is a number {span}, not {value!r}. {hint}".rstrip())

    return check


def whole(low: int, *, hint: str = "") -> Any:
    """A whole number of at least `low`."""

    def check(_: Any, attribute: Attribute[Any], value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise UsageError(f"{attribute.name} is a whole number of at least {low}, not {value!r}. {hint}".rstrip())

    return check


def one_of(kind: str, names: tuple[str, ...]) -> Any:
    """One of some names."""

    def check(_: Any, __: Attribute[Any], value: Any) -> None:
        if value not in names:
            raise UnknownName(kind, str(value), names)

    return check


def optional(check: Any) -> Any:
    """`None`, or what passes another check."""

    def check_if_given(instance: Any, attribute: Attribute[Any], value: Any) -> None:
        if value is not None:
            check(instance, attribute, value)

    return check_if_given


def boolean(_: Any, attribute: Attribute[Any], value: Any) -> None:
    """True or False."""
    if not isinstance(value, bool):
        raise UsageError(f"{attribute.name} is True or False, not {value!r}.")


def text(_: Any, attribute: Attribute[Any], value: Any) -> None:
    """Some text."""
    if not isinstance(value, str) or not value:
        raise UsageError(f"{attribute.name} is text of at least one character, not {value!r}.")


def span(_: Any, attribute: Attribute[Any], value: Any) -> None:
    """A smallest and a largest share."""
    try:
        low, high = value
        fits = 0 < low <= high <= 1
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise UsageError(
            f"{attribute.name} is the smallest and the largest share of the area, such as (0.5, 1.0), not {value!r}."
        )


def two_betas(_: Any, attribute: Attribute[Any], value: Any) -> None:
    """AdamW's averaging factors."""
    if len(value) != 2 or not all(isinstance(beta, int | float) and 0 <= beta < 1 for beta in value):
        raise UsageError(f"{attribute.name} are two numbers from 0 to below 1, such as (0.9, 0.98), not {value!r}.")
