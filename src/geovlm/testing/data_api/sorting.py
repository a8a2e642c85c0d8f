"""Sort clauses, and documents in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geovlm.testing.data_api.documents import SPECIAL, Stored, no_vectors, vectorize_unavailable
from geovlm.testing.data_api.errors import CommandFailure, json_type
from geovlm.testing.data_api.paths import PathProblem, split, value_at
from geovlm.testing.data_api.values import is_number, order_key
from geovlm.testing.data_api.vectors import check_vector, short_float, similarities, sort_vector

if TYPE_CHECKING:
    from collections.abc import Iterable

    from geovlm.testing.data_api.indexing import Indexing
    from geovlm.testing.data_api.limits import Limits
    from geovlm.testing.data_api.schema import CollectionOptions
    from geovlm.testing.data_api.vectors import Vector


@dataclass(frozen=True)
class FieldSort:
    """Order by the values at paths, ascending or descending each."""

    fields: tuple[tuple[tuple[str, ...], bool], ...]

    def order(self, documents: Iterable[Stored], limits: Limits) -> list[Stored]:
        """Documents in order; equal ones by their ``_id``.

        Raises:
            CommandFailure: they are more than can be sorted.
        """
        found = list(documents)
        if len(found) > limits.sorted_documents:
            message = f"More than {limits.sorted_documents} documents match, too many to sort. Narrow the filter."
            raise CommandFailure("OVERLOADED_SORT_ROW_LIMIT", message)
        found.sort(key=lambda stored: order_key(stored.document["_id"]))
        for names, ascending in reversed(self.fields):
            keys = [order_key(value_at(stored.document, names)) for stored in found]
            places = sorted(range(len(found)), key=keys.__getitem__, reverse=not ascending)
            found = [found[place] for place in places]
        return found


@dataclass(frozen=True)
class VectorSort:
    """Order by similarity to a vector, the most similar first."""

    vector: Vector
    metric: str

    def order(self, documents: Iterable[Stored], most: int) -> list[tuple[Stored, float]]:
        """The most similar documents that have a vector, each with its similarity; equal ones by age."""
        found = [(stored, stored.vector) for stored in documents if stored.vector is not None]
        scores = similarities([vector for _, vector in found], self.vector, self.metric)
        best = np.argsort(-scores, kind="stable")[:most]
        return [(found[place][0], short_float(scores[place])) for place in best]


Sort = FieldSort | VectorSort


def parse_sort(value: Any, options: CollectionOptions, indexing: Indexing) -> Sort | None:
    """A command's ``sort``, or None if it is empty.

    Raises:
        CommandFailure: it is not a sort clause, or it needs what the collection does not have.
    """
    if value is None or value == {}:
        return None
    if not isinstance(value, dict):
        raise _invalid(f"sort clause must be an Object, not {json_type(value)}")
    special = [name for name in SPECIAL if name in value]
    if special and len(value) > 1:
        raise _invalid(f"'{special[0]}' cannot be combined with other fields")
    if special:
        return _special(special[0], value[special[0]], options)
    fields = tuple((_path(path, indexing), _ascending(path, direction)) for path, direction in value.items())
    return FieldSort(fields)


def _special(name: str, value: Any, options: CollectionOptions) -> VectorSort:
    if name == "$lexical":
        if not options.has_lexical:
            message = "Lexical search is not enabled for the collection. Sort by other fields."
            raise CommandFailure("LEXICAL_NOT_ENABLED_FOR_COLLECTION", message)
        message = "The emulator has no lexical search. Sort by other fields."
        raise CommandFailure("LEXICAL_NOT_AVAILABLE_FOR_DATABASE", message)
    if name == "$vectorize":
        if not isinstance(value, str):
            raise CommandFailure("SORT_CLAUSE_VALUE_INVALID", f"$vectorize must be a String, not {json_type(value)}.")
        if options.vector is None or options.vector.service is None:
            message = "The collection has no embedding service to sort by text. Sort by `$vector`."
            raise CommandFailure("UNSUPPORTED_VECTORIZE_SORT_FOR_COLLECTION", message)
        raise vectorize_unavailable(options)
    vector = sort_vector(value)
    if options.vector is None:
        raise no_vectors()
    check_vector(vector, options.vector.dimension, options.vector.metric)
    return VectorSort(vector, options.vector.metric)


def _path(path: str, indexing: Indexing) -> tuple[str, ...]:
    if not path:
        raise _bad_path("path in a sort clause cannot be empty")
    if path.startswith("$"):
        raise _bad_path(f"path '{path}' in a sort clause cannot start with '$'")
    try:
        names = split(path)
    except PathProblem as problem:
        raise _bad_path(str(problem)) from problem
    if not indexing.covers(path):
        message = f"The sort path '{path}' is not indexed. Sort by indexed paths only."
        raise CommandFailure("SORT_CLAUSE_PATH_UNINDEXED", message)
    return names


def _ascending(path: str, direction: Any) -> bool:
    if not is_number(direction) or direction not in {1, -1}:
        message = f"The value of '{path}' in a sort clause must be 1 (ascending) or -1 (descending), not {direction!r}."
        raise CommandFailure("SORT_CLAUSE_VALUE_INVALID", message)
    return bool(direction == 1)


def _invalid(problem: str) -> CommandFailure:
    return CommandFailure("SORT_CLAUSE_INVALID", f"Sort clause not valid: {problem}.")


def _bad_path(problem: str) -> CommandFailure:
    return CommandFailure("SORT_CLAUSE_PATH_INVALID", f"Sort clause path not valid: {problem}.")
