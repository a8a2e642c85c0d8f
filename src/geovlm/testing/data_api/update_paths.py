"""The places in a document that update operators work on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from geovlm.testing.data_api.errors import CommandFailure, json_type
from geovlm.testing.data_api.paths import MISSING, PathProblem, index_of, split

_ON_DEMAND = {
    "$vector": "UNSUPPORTED_UPDATE_OPERATOR_FOR_VECTOR",
    "$vectorize": "UNSUPPORTED_UPDATE_OPERATOR_FOR_VECTORIZE",
    "$lexical": "UNSUPPORTED_UPDATE_OPERATOR_FOR_LEXICAL",
}
# Far above what an array may have, far below what would fill the memory.
_LARGEST_INDEX = 1_000_000
_WHOLE_VALUE = frozenset({"$set", "$setOnInsert", "$unset"})


def update_path(operator: str, path: str) -> tuple[str, ...]:
    """The names along a path that an operator may change.

    Raises:
        CommandFailure: the path is malformed, or not for this operator.
    """
    if path == "_id" and operator != "$setOnInsert":
        message = f"The update operator '{operator}' cannot be used on the '_id'. Leave it out."
        raise CommandFailure("UNSUPPORTED_UPDATE_OPERATOR_FOR_DOC_ID", message)
    if path in _ON_DEMAND:
        if operator not in _WHOLE_VALUE:
            message = f"The update operator '{operator}' cannot be used on '{path}'. Use $set or $unset."
            raise CommandFailure(_ON_DEMAND[path], message)
        return (path,)
    if path.startswith("$"):
        raise bad_path(f"update path '{path}' cannot start with '$'")
    try:
        return split(path)
    except PathProblem as problem:
        raise bad_path(f"'{path}' is not an update path: {problem}") from problem


def bad_path(problem: str) -> CommandFailure:
    """The error for a path that an update cannot follow."""
    return CommandFailure("UNSUPPORTED_UPDATE_OPERATION_PATH", f"Unsupported update operation path: {problem}.")


@dataclass(frozen=True)
class Place:
    """A field of an object or an element of an array; there may be nothing there yet."""

    holder: Any
    key: Any

    @property
    def value(self) -> Any:
        """What is there, or MISSING."""
        if isinstance(self.holder, list):
            return self.holder[self.key] if self.key < len(self.holder) else MISSING
        return self.holder.get(self.key, MISSING)

    def put(self, value: Any) -> None:
        """Write a value there, with nulls in an array before it."""
        if isinstance(self.holder, list):
            if self.key > _LARGEST_INDEX:
                raise bad_path(f"index {self.key} is too large for an Array")
            self.holder.extend([None] * (self.key + 1 - len(self.holder)))
        self.holder[self.key] = value

    def remove(self) -> None:
        """Take the value away; an array keeps its length."""
        if isinstance(self.holder, list):
            self.holder[self.key] = None
        else:
            del self.holder[self.key]


def existing(document: Any, names: tuple[str, ...]) -> Place | None:
    """The place that names lead to, or None if there is nothing to hold it."""
    value = document
    for name in names[:-1]:
        value = _child(value, name)
    return _place(value, names[-1])


def reached(document: Any, names: tuple[str, ...]) -> Place:
    """The place that names lead to; objects that are missing on the way are made.

    Raises:
        CommandFailure: something else is in the way.
    """
    value = document
    for depth in range(len(names) - 1):
        place = _writable(value, names, depth)
        if place.value is MISSING:
            place.put({})
        value = place.value
    return _writable(value, names, len(names) - 1)


def _writable(holder: Any, names: tuple[str, ...], depth: int) -> Place:
    place = _place(holder, names[depth])
    if place is None:
        problem = f"cannot create field ('{names[depth]}') in path '{'.'.join(names[:depth])}'"
        raise bad_path(f"{problem}; only Objects have fields, not {json_type(holder)}")
    return place


def _child(value: Any, name: str) -> Any:
    place = _place(value, name)
    return MISSING if place is None else place.value


def _place(holder: Any, name: str) -> Place | None:
    if isinstance(holder, dict):
        return Place(holder, name)
    index = index_of(name) if isinstance(holder, list) else None
    return None if index is None else Place(holder, index)
