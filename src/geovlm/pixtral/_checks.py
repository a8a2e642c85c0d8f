"""Checks of single settings, as validators for attrs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from geovlm.errors import UsageError

if TYPE_CHECKING:
    from attrs import Attribute


def whole(low: int, high: float = math.inf, *, optional: bool = False) -> Any:
    """A whole number from `low` to `high`, or `None` if that is allowed."""

    def check(_: Any, attribute: Attribute[Any], value: Any) -> None:
        if optional and value is None:
            return
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise UsageError(f"{attribute.name} is a whole number {_span(low, high)}, not {value!r}.")

    return check


def number(low: float, high: float = math.inf, *, above: bool = False) -> Any:
    """A finite number from `low`, or above it, to `high`."""

    def check(_: Any, attribute: Attribute[Any], value: Any) -> None:
        real = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not real or not low <= value <= high or (above and value == low):
            span = f"above {low:g}" if above else _span(low, high)
            raise UsageError(f"{attribute.name} is a number {span}, not {value!r}.")

    return check


def _span(low: float, high: float) -> str:
    return f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"


def text(_: Any, attribute: Attribute[Any], value: Any) -> None:
    """Text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{attribute.name} is text that is not empty, not {value!r}.")
