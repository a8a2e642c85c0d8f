"""Update clauses: reading them and applying them to documents."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geovlm.testing.data_api import checks
from geovlm.testing.data_api.errors import CommandFailure, json_type
from geovlm.testing.data_api.update_operators import OPERATORS
from geovlm.testing.data_api.update_paths import bad_path, update_path
from geovlm.testing.data_api.values import extended_key, is_integer, is_number

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class _Action:
    """One operator on one path."""

    operator: str
    names: tuple[str, ...]
    argument: Any

    def paths(self) -> Iterable[tuple[str, ...]]:
        """The paths that the action changes."""
        return (self.names, self.argument) if self.operator == "$rename" else (self.names,)


class Update:
    """An update clause.

    Args:
        clause: as it was sent.

    Raises:
        CommandFailure: it is not one of the Data API.

    Examples:
        >>> Update({"$inc": {"n": 0.2}, "$push": {"tags": "b"}}).applied({"_id": 1, "n": 0.1, "tags": ["a"]})
        ({'_id': 1, 'n': 0.3, 'tags': ['a', 'b']}, True)
    """

    def __init__(self, clause: Any) -> None:
        if clause is None:
            raise checks.invalid("command.updateClause", None, "must not be null")
        if not isinstance(clause, dict):
            raise _bad_type(f"update must be an Object, not {json_type(clause)}")
        self._actions = [action for name, arguments in clause.items() for action in _actions(name, arguments)]
        _check_overlap(self._actions)

    def applied(self, document: dict[str, Any], *, is_new: bool = False) -> tuple[dict[str, Any], bool]:
        """An updated copy of a document, and whether it is different.

        Args:
            document: stays as it is.
            is_new: whether it is being inserted by this update.

        Raises:
            CommandFailure: an operator does not fit what is in the document.
        """
        updated = {name: member if name == "$vector" else _copy(member) for name, member in document.items()}
        changed = False
        for action in self._actions:
            if action.operator != "$setOnInsert" or is_new:
                changed |= OPERATORS[action.operator](updated, action.names, action.argument)
        return updated, changed


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copy(member) for name, member in value.items()}
    return [_copy(element) for element in value] if isinstance(value, list) else value


def _actions(name: str, arguments: Any) -> list[_Action]:
    if name not in OPERATORS:
        message = f"Unsupported update operation '{name}'. Use one of: {', '.join(OPERATORS)}."
        raise CommandFailure("UNSUPPORTED_UPDATE_OPERATION", message)
    if not isinstance(arguments, dict):
        raise _bad_type(f"update operator '{name}' needs an Object of paths, not {json_type(arguments)}")
    return [_Action(name, update_path(name, path), _argument(name, path, value)) for path, value in arguments.items()]


def _argument(name: str, path: str, value: Any) -> Any:
    """The value of one path as the operator takes it."""
    if name in {"$inc", "$mul"} and not is_number(value):
        raise _bad_parameter(f"{name} requires a Number for '{path}', not {json_type(value)}")
    if name == "$pop" and (not is_number(value) or value not in {1, -1}):
        raise _bad_parameter(f"$pop requires 1 or -1 for '{path}', not {value!r}")
    if name == "$currentDate" and value is not True and value != {"$type": "date"}:
        raise _bad_parameter(f"$currentDate requires true or {{'$type': 'date'}} for '{path}'")
    if name == "$rename":
        return _new_name(path, value)
    if name == "$push":
        return _pushed(path, value)
    if name == "$addToSet":
        return _each(name, path, value, ())[0]
    return value


def _new_name(path: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, str):
        raise _bad_parameter(f"$rename requires a String for '{path}', not {json_type(value)}")
    if value == path:
        raise bad_path(f"$rename requires that 'source' and 'destination' differ ('{path}')")
    return update_path("$rename", value)


def _pushed(path: str, value: Any) -> tuple[list[Any], int | None]:
    values, modifiers = _each("$push", path, value, ("$position",))
    position = modifiers.get("$position")
    if "$position" in modifiers and not is_integer(position):
        raise _bad_parameter(f"$push requires an Integer for '$position', not {json_type(position)}")
    return values, position


def _each(name: str, path: str, value: Any, others: tuple[str, ...]) -> tuple[list[Any], dict[str, Any]]:
    """The values to add and the other modifiers; without modifiers the value itself."""
    if not isinstance(value, dict) or extended_key(value) or not any(key.startswith("$") for key in value):
        return [value], {}
    for key in value:
        if key not in {"$each", *others}:
            message = f"Unsupported update modifier '{key}' of {name}. Use one of: {', '.join(('$each', *others))}."
            raise CommandFailure("UNSUPPORTED_UPDATE_OPERATION_MODIFIER", message)
    if "$each" not in value:
        message = f"{name} modifiers need '$each' for '{path}'. Add it."
        raise CommandFailure("UNSUPPORTED_UPDATE_OPERATION_MODIFIER", message)
    if not isinstance(value["$each"], list):
        raise _bad_parameter(f"{name} requires an Array for '$each', not {json_type(value['$each'])}")
    return value["$each"], value


def _check_overlap(actions: list[_Action]) -> None:
    changed = sorted((path, action.operator) for action in actions for path in action.paths())
    for (path, name), (other, other_name) in itertools.pairwise(changed):
        if other[: len(path)] == path:
            one, two = f"'{'.'.join(path)}' ({name})", f"'{'.'.join(other)}' ({other_name})"
            raise _bad_parameter(f"update operator path conflict due to overlap: {one} vs {two}")


def _bad_type(problem: str) -> CommandFailure:
    return CommandFailure("UNSUPPORTED_UPDATE_DATA_TYPE", f"Unsupported update data type: {problem}.")


def _bad_parameter(problem: str) -> CommandFailure:
    return CommandFailure("UNSUPPORTED_UPDATE_OPERATION_PARAM", f"Unsupported update operation parameter: {problem}.")
