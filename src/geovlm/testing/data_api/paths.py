"""Paths to fields: dots between names, ``&.`` and ``&&`` for a dot and an ampersand in a name."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_INDEX = re.compile(r"0|[1-9][0-9]*")


class PathProblem(ValueError):
    """A path that cannot be read."""


class _Missing:
    """Stands where a document has no value; distinct from null."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()


@lru_cache(maxsize=4096)
def split(path: str) -> tuple[str, ...]:
    """The names along a path, with escapes undone.

    Raises:
        PathProblem: an ampersand escapes nothing, or a name is empty.

    Examples:
        >>> split("price&.usd.0")
        ('price.usd', '0')
    """
    names = list(_names(path))
    if "" in names:
        raise PathProblem(f"path '{path}' has an empty segment")
    return tuple(names)


def check_escapes(path: str) -> None:
    """Refuse an ampersand that escapes nothing; an empty name is let pass, it matches no field.

    Raises:
        PathProblem: as it says.
    """
    for _ in _names(path):
        pass


def _names(path: str) -> Iterator[str]:
    name, at = "", 0
    while at < len(path):
        char = path[at]
        if char == ".":
            yield name
            name = ""
        elif char == "&":
            at += 1
            if path[at : at + 1] not in {"&", "."} or at >= len(path):
                raise PathProblem(f"the ampersand at position {at - 1} must be followed by '&' or '.'")
            name += path[at]
        else:
            name += char
        at += 1
    yield name


def escape(name: str) -> str:
    """One field's name as a segment of a path.

    Examples:
        >>> escape("price.usd")
        'price&.usd'
    """
    return name.replace("&", "&&").replace(".", "&.")


def index_of(name: str) -> int | None:
    """The place in an array that a segment means, or None."""
    return int(name) if _INDEX.fullmatch(name) else None


def value_at(document: Any, names: tuple[str, ...]) -> Any:
    """The value that names lead to, through objects by name and arrays by place, or MISSING."""
    value = document
    for name in names:
        if isinstance(value, dict):
            value = value.get(name, MISSING)
        elif isinstance(value, list):
            place = index_of(name)
            value = value[place] if place is not None and place < len(value) else MISSING
        else:
            return MISSING
        if value is MISSING:
            return MISSING
    return value
