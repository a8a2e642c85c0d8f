"""The update operators: what each does with the value at a path."""

from __future__ import annotations

import operator
import time
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any

from geovlm.testing.data_api.errors import CommandFailure, json_type
from geovlm.testing.data_api.paths import MISSING
from geovlm.testing.data_api.update_paths import bad_path, existing, reached
from geovlm.testing.data_api.values import identical, is_integer, is_number, order_key

if TYPE_CHECKING:
    from collections.abc import Callable

    Names = tuple[str, ...]
    # Changes the document in place and says whether anything is different.
    Operator = Callable[[dict[str, Any], Names, Any], bool]

# Enough digits for the sum and the product of any two numbers that can be sent.
_EXACT = Context(prec=500)


def set_value(document: dict[str, Any], names: Names, value: Any) -> bool:
    """``$set``: write a value."""
    place = reached(document, names)
    changed = not identical(place.value, value)
    if changed:
        place.put(value)
    return changed


def unset(document: dict[str, Any], names: Names, _: Any) -> bool:
    """``$unset``: take a field away; an element of an array becomes null."""
    place = existing(document, names)
    if place is None or place.value is MISSING:
        return False
    place.remove()
    return True


def increase(document: dict[str, Any], names: Names, amount: Any) -> bool:
    """``$inc``: add to a number, or to nothing."""
    return _calculate("$inc", document, names, amount, start=amount)


def multiply(document: dict[str, Any], names: Names, factor: Any) -> bool:
    """``$mul``: multiply a number; a missing one becomes 0."""
    return _calculate("$mul", document, names, factor, start=0)


def lower(document: dict[str, Any], names: Names, value: Any) -> bool:
    """``$min``: write a value that is less than what is there."""
    return _replace_if(operator.lt, document, names, value)


def raise_(document: dict[str, Any], names: Names, value: Any) -> bool:
    """``$max``: write a value that is more than what is there."""
    return _replace_if(operator.gt, document, names, value)


def push(document: dict[str, Any], names: Names, values: tuple[list[Any], int | None]) -> bool:
    """``$push``: put values into an array, at its end or at a position."""
    added, position = values
    array, is_new = _array("$push", document, names)
    at = len(array) if position is None else position
    array[at:at] = added
    return is_new or bool(added)


def add_to_set(document: dict[str, Any], names: Names, values: list[Any]) -> bool:
    """``$addToSet``: append the values that an array does not have."""
    array, changed = _array("$addToSet", document, names)
    for value in values:
        if not any(identical(value, element) for element in array):
            array.append(value)
            changed = True
    return changed


def pop(document: dict[str, Any], names: Names, end: int) -> bool:
    """``$pop``: take the last element of an array (1) or the first (-1)."""
    place = existing(document, names)
    if place is None or place.value is MISSING:
        return False
    array = place.value
    if not isinstance(array, list):
        raise _bad_target("$pop", names, "an Array", array)
    if array:
        array.pop(-1 if end == 1 else 0)
        return True
    return False


def rename(document: dict[str, Any], names: Names, target: Names) -> bool:
    """``$rename``: move a field to another path."""
    source = existing(document, names)
    if source is None or source.value is MISSING:
        return False
    value = source.value
    if isinstance(source.holder, list):
        raise bad_path(f"$rename does not allow ARRAY field in its path ('{'.'.join(names)}')")
    place = reached(document, target)
    if isinstance(place.holder, list):
        raise bad_path(f"$rename does not allow ARRAY field in its path ('{'.'.join(target)}')")
    source.remove()
    place.put(value)
    return True


def stamp(document: dict[str, Any], names: Names, _: Any) -> bool:
    """``$currentDate``: write the time of now."""
    return set_value(document, names, {"$date": time.time_ns() // 1_000_000})


OPERATORS: dict[str, Operator] = {
    "$set": set_value,
    "$setOnInsert": set_value,
    "$unset": unset,
    "$inc": increase,
    "$mul": multiply,
    "$min": lower,
    "$max": raise_,
    "$push": push,
    "$addToSet": add_to_set,
    "$pop": pop,
    "$rename": rename,
    "$currentDate": stamp,
}


def _replace_if(better: Callable[[Any, Any], bool], document: dict[str, Any], names: Names, value: Any) -> bool:
    place = reached(document, names)
    if place.value is not MISSING and not better(order_key(value), order_key(place.value)):
        return False
    place.put(value)
    return True


def _calculate(name: str, document: dict[str, Any], names: Names, by: Any, *, start: Any) -> bool:
    place = reached(document, names)
    before = place.value
    if before is MISSING:
        place.put(start)
        return True
    if not is_number(before):
        raise _bad_target(name, names, "a Number", before)
    after = _exactly(before, by, product=name == "$mul")
    place.put(after)
    return bool(after != before)


def _exactly(one: Any, other: Any, *, product: bool) -> Any:
    """A sum or product without the rounding of floats: 0.1 + 0.2 is 0.3."""
    if is_integer(one) and is_integer(other):
        return one * other if product else one + other
    left, right = Decimal(str(one)), Decimal(str(other))
    exact = _EXACT.multiply(left, right) if product else _EXACT.add(left, right)
    return float(exact) if Decimal(repr(float(exact))) == exact else exact


def _array(name: str, document: dict[str, Any], names: Names) -> tuple[list[Any], bool]:
    place = reached(document, names)
    if place.value is MISSING:
        place.put([])
        return place.value, True
    if not isinstance(place.value, list):
        raise _bad_target(name, names, "an Array", place.value)
    return place.value, False


def _bad_target(name: str, names: Names, needed: str, found: Any) -> CommandFailure:
    path = ".".join(names)
    message = f"Unsupported target for update operation: {name} requires {needed}, value at '{path}' is "
    return CommandFailure("UNSUPPORTED_UPDATE_OPERATION_TARGET", f"{message}{json_type(found)}.")
