"""Which paths of a collection's documents are indexed: the allow and deny lists."""

from __future__ import annotations

from typing import Any

from geovlm.testing.data_api.errors import CommandFailure
from geovlm.testing.data_api.layers import Layer
from geovlm.testing.data_api.paths import PathProblem, split

_SPECIAL = ("$vector", "$vectorize", "$lexical")


def parse_indexing(given: dict[str, Any]) -> dict[str, list[str]]:
    """The indexing option: paths under exactly one of ``allow`` and ``deny``.

    Raises:
        CommandFailure: both or neither, or a path that cannot be indexed.
    """
    lists = {kind: paths for kind, paths in given.items() if paths is not None}
    if len(lists) != 1:
        raise _refused("`allow` and `deny` cannot be used together, and one of them is needed")
    kind, paths = next(iter(lists.items()))
    if not isinstance(paths, list) or not paths:
        raise _refused(f"`{kind}` must be an Array of paths that is not empty")
    if not all(isinstance(path, str) for path in paths):
        raise _refused(f"`{kind}` must be an Array of Strings")
    if len(set(paths)) != len(paths):
        raise _refused(f"`{kind}` cannot contain duplicates")
    if paths != ["*"]:
        for path in paths:
            _check_path(path)
    return {kind: list(paths)}


def _check_path(path: str) -> None:
    if not path:
        raise _refused("path must be represented as a non-empty string")
    if path.startswith("$") and path not in _SPECIAL:
        raise _refused(f"path must not start with '$' ('{path}')")
    try:
        split(path)
    except PathProblem as problem:
        raise _refused(str(problem)) from problem


def _refused(problem: str) -> CommandFailure:
    return CommandFailure("INVALID_INDEXING_DEFINITION", f"Invalid indexing definition: {problem}.")


class Indexing:
    """Says which paths are indexed, and what an indexed document looks like.

    Args:
        option: the collection's ``indexing`` option, or None.

    Examples:
        >>> indexing = Indexing({"allow": ["metadata"]})
        >>> indexing.covers("metadata.city"), indexing.covers("payload")
        (True, False)
        >>> indexing.project({"_id": 1, "metadata": {"city": "Bern"}, "payload": "long"})
        {'metadata': {'city': 'Bern'}}
    """

    def __init__(self, option: dict[str, list[str]] | None) -> None:
        kind, paths = next(iter(option.items())) if option else ("deny", [])
        self._allows = kind == "allow"
        if paths == ["*"]:
            # Everything allowed is nothing denied, and the other way about.
            self._allows, paths = not self._allows, []
        elif self._allows:
            paths = [*paths, "$vector", "$vectorize"]
        self._tree = Layer()
        for path in paths:
            self._tree.add(split(path))

    def covers(self, path: str) -> bool:
        """Whether a path, ``_id`` included, is indexed."""
        try:
            names = split(path)
        except PathProblem:
            names = tuple(path.split("."))
        return self._tree.covers(names) == self._allows

    def project(self, document: dict[str, Any]) -> dict[str, Any]:
        """The part of a document that is indexed."""
        if self._allows:
            return self._tree.keep(document)
        return self._tree.drop(document) if self._tree.children else document
