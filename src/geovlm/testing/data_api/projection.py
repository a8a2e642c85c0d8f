"""Projections: which parts of its documents a command returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from geovlm.testing.data_api.errors import CommandFailure, json_type
from geovlm.testing.data_api.layers import Layer
from geovlm.testing.data_api.paths import PathProblem, split
from geovlm.testing.data_api.values import is_integer, is_number

# Returned only on demand; asking for them says nothing on the other fields. The same is true of `_id`: as on the
# service, `{"_id": 1}` alone returns whole documents.
_ON_DEMAND = ("$vector", "$vectorize", "$lexical")

_Path = tuple[str, ...]


@dataclass(frozen=True)
class _Slice:
    """Part of an array: the first or the last ``count`` elements, or ``count`` from a place on."""

    count: int
    skip: int | None = None

    def of(self, array: list[Any]) -> list[Any]:
        if self.skip is None:
            return array[: self.count] if self.count >= 0 else array[self.count :]
        start = self.skip if self.skip >= 0 else max(0, len(array) + self.skip)
        return array[start : start + self.count]


@dataclass
class _Wishes:
    """A projection as it is read: wanted and unwanted paths, slices, and what it says on special fields."""

    included: list[_Path] = field(default_factory=list)
    excluded: list[_Path] = field(default_factory=list)
    slices: list[tuple[_Path, _Slice]] = field(default_factory=list)
    special: dict[str, bool] = field(default_factory=dict)


class Projection:
    """What to return of a document.

    Args:
        definition: the command's ``projection``; an empty one returns all but ``$vector`` and its like.

    Raises:
        CommandFailure: the definition is not one.

    Examples:
        >>> Projection({"name": 1, "tags": {"$slice": 1}}).apply({"_id": 1, "name": "a", "tags": [1, 2], "b": 3})
        {'_id': 1, 'name': 'a', 'tags': [1]}
        >>> Projection({}).apply({"_id": 1, "$vector": [1.0]})
        {'_id': 1}
        >>> Projection({"*": 0}).apply({"_id": 1})
        {}
    """

    def __init__(self, definition: Any) -> None:
        if not isinstance(definition, dict):
            message = f"Unsupported projection definition: an Object is needed, not {json_type(definition)}."
            raise CommandFailure("UNSUPPORTED_PROJECTION_DEFINITION", message)
        self._whole = _star(definition)
        wishes = _Wishes()
        if self._whole is None:
            _read(definition, (), wishes)
        _check_conflicts([*wishes.included, *wishes.excluded, *(path for path, _ in wishes.slices)])
        self._slices = wishes.slices
        self._includes = bool(wishes.included)
        self._tree = _tree(wishes)

    def apply(self, document: dict[str, Any]) -> dict[str, Any]:
        """A document with what the projection keeps of it."""
        if self._whole is not None:
            return document if self._whole else {}
        kept = self._tree.keep(document) if self._includes else self._tree.drop(document)
        for path, part in self._slices:
            kept = _sliced(kept, path, part)
        return kept


def _tree(wishes: _Wishes) -> Layer:
    """The paths to keep if any are included, the paths to drop otherwise."""
    tree = Layer()
    if not wishes.included:
        dropped = [name for name in _ON_DEMAND if not wishes.special.get(name)]
        dropped += ["_id"] if wishes.special.get("_id") is False else []
        for path in [*wishes.excluded, *((name,) for name in dropped)]:
            tree.add(path)
        return tree
    kept = [name for name in _ON_DEMAND if wishes.special.get(name)]
    kept += ["_id"] if wishes.special.get("_id", True) else []
    sliced = [path for path, _ in wishes.slices]
    for path in [*wishes.included, *sliced, *((name,) for name in kept)]:
        tree.add(path)
    return tree


def _star(definition: dict[str, Any]) -> bool | None:
    if "*" not in definition:
        return None
    if len(definition) > 1:
        raise _refused("wildcard ('*') only allowed as the only root-level path")
    value = definition["*"]
    if not isinstance(value, bool) and not is_number(value):
        raise _refused("wildcard ('*') needs true, false, 1 or 0")
    return bool(value)


def _read(definition: dict[str, Any], parents: _Path, wishes: _Wishes) -> None:
    for key, value in definition.items():
        if not parents and key in {"_id", *_ON_DEMAND}:
            wishes.special[key] = _flag(key, value)
            continue
        path = (*parents, *_names(key))
        if isinstance(value, dict):
            _read_nested(value, path, wishes)
        elif _flag(key, value):
            wishes.included.append(path)
        else:
            wishes.excluded.append(path)
    if wishes.included and wishes.excluded:
        one, other = ".".join(wishes.included[0]), ".".join(wishes.excluded[0])
        raise _refused(f"cannot include '{one}' and exclude '{other}' in one projection")


def _read_nested(value: dict[str, Any], path: _Path, wishes: _Wishes) -> None:
    shown = ".".join(path)
    if not value:
        raise _refused(f"empty definition (Object) for '{shown}'")
    operators = [name for name in value if name.startswith("$")]
    if not operators:
        _read(value, path, wishes)
        return
    if operators != list(value) or operators != ["$slice"]:
        raise _refused(f"unrecognized or unsupported projection operator '{operators[0]}' for '{shown}'")
    wishes.slices.append((path, _slice(value["$slice"], shown)))


def _slice(value: Any, shown: str) -> _Slice:
    if is_integer(value):
        return _Slice(value)
    if isinstance(value, list) and len(value) == 2 and all(map(is_integer, value)) and value[1] >= 0:
        return _Slice(value[1], skip=value[0])
    raise _refused(f"path ('{shown}') has unsupported parameter for '$slice': an Integer or [skip, count] is needed")


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool) and not is_number(value):
        raise _refused(f"path ('{key}') value must be a Number, a Boolean or an Object, not {json_type(value)}")
    return bool(value)


def _names(key: str) -> _Path:
    if not key:
        raise _refused("empty paths (and path segments) not allowed")
    if key == "*":
        raise _refused("wildcard ('*') only allowed as the only root-level path")
    if key.startswith("$"):
        raise _refused(f"path cannot start with '$' ('{key}')")
    try:
        return split(key)
    except PathProblem as problem:
        raise _refused(str(problem)) from problem


def _check_conflicts(paths: list[_Path]) -> None:
    listed = set(paths)
    for path in paths:
        if any(path[:end] in listed for end in range(1, len(path))):
            raise _refused(f"projection path conflict at '{'.'.join(path)}'")
    if len(listed) < len(paths):
        raise _refused("projection path conflict: a path is given twice")


def _sliced(value: Any, path: _Path, part: _Slice) -> Any:
    """A copy in which the array at a path is cut, in each object of arrays on the way."""
    if isinstance(value, list):
        return part.of(value) if not path else [_sliced(element, path, part) for element in value]
    if not path or not isinstance(value, dict) or path[0] not in value:
        return value
    return {**value, path[0]: _sliced(value[path[0]], path[1:], part)}


def _refused(problem: str) -> CommandFailure:
    return CommandFailure("UNSUPPORTED_PROJECTION_PARAM", f"Unsupported projection parameter: {problem}.")
