"""A set of paths as a tree, to keep or to drop those parts of a document."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from geovlm.testing.data_api.values import extended_key


@dataclass
class Layer:
    """One name of the paths; a leaf stands for everything under it.

    Arrays are passed through: a path goes on in each object of an array.

    Examples:
        >>> tree = Layer()
        >>> tree.add(("a", "b"))
        >>> tree.keep({"a": [{"b": 1, "c": 2}, 3], "d": 4})
        {'a': [{'b': 1}]}
        >>> tree.drop({"a": [{"b": 1, "c": 2}, 3], "d": 4})
        {'a': [{'c': 2}, 3], 'd': 4}
    """

    is_leaf: bool = False
    children: dict[str, Layer] = field(default_factory=dict)

    def add(self, names: tuple[str, ...]) -> None:
        """Add the path that the names make."""
        if not names:
            self.is_leaf = True
            return
        self.children.setdefault(names[0], Layer()).add(names[1:])

    def covers(self, names: tuple[str, ...]) -> bool:
        """Whether a path is one of the set or under one."""
        layer = self
        for name in names:
            if name not in layer.children:
                return False
            layer = layer.children[name]
            if layer.is_leaf:
                return True
        return layer.is_leaf

    def keep(self, value: dict[str, Any]) -> dict[str, Any]:
        """A copy with nothing but what the paths name."""
        kept = {}
        for name, member in value.items():
            child = self.children.get(name)
            if child is None:
                continue
            if child.is_leaf:
                kept[name] = member
            elif _is_container(member):
                kept[name] = _kept(child, member)
        return kept

    def drop(self, value: dict[str, Any]) -> dict[str, Any]:
        """A copy without what the paths name."""
        kept = {}
        for name, member in value.items():
            child = self.children.get(name)
            if child is None:
                kept[name] = member
            elif not child.is_leaf:
                kept[name] = _dropped(child, member)
        return kept


def _kept(layer: Layer, value: Any) -> Any:
    if isinstance(value, list):
        return [_kept(layer, element) for element in value if _is_container(element)]
    return layer.keep(value)


def _dropped(layer: Layer, value: Any) -> Any:
    if isinstance(value, list):
        return [_dropped(layer, element) for element in value]
    return layer.drop(value) if _is_container(value) else value


def _is_container(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, dict) and extended_key(value) is None)
