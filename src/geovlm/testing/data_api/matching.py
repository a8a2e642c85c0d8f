"""Whether a document matches a filter."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from geovlm.testing.data_api.errors import CommandFailure
from geovlm.testing.data_api.filters import Clause, Comparison, Group, comparisons
from geovlm.testing.data_api.paths import MISSING, escape, value_at
from geovlm.testing.data_api.values import canonical, extended_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from geovlm.testing.data_api.documents import Stored
    from geovlm.testing.data_api.indexing import Indexing


def check_indexed(clause: Clause, indexing: Indexing) -> None:
    """Refuse a filter that needs paths without an index.

    Raises:
        CommandFailure: a path is not indexed; an ``_id`` that is not can still be filtered by ``$eq`` and ``$in``.
    """
    for comparison in comparisons(clause):
        if comparison.is_id and not indexing.covers("_id"):
            if comparison.operator not in {"$eq", "$in"} or comparison.negated:
                message = "The filter needs an index on '_id' for all operators but `$eq` and `$in`. Use one of these."
                raise CommandFailure("FILTER_ID_NOT_INDEXED", message)
        elif not comparison.is_id:
            for path in _paths(comparison.path, comparison.operand):
                if not indexing.covers(path):
                    message = f"The filter path '{path}' is not indexed. Filter on indexed paths only."
                    raise CommandFailure("FILTER_PATH_UNINDEXED", message)


def matches(clause: Clause, stored: Stored) -> bool:
    """Whether a document matches; unindexed parts of it are not there for a filter."""
    if isinstance(clause, Group):
        if not clause.parts:
            return True
        results = (matches(part, stored) for part in clause.parts)
        return all(results) if clause.kind == "and" else any(results)
    document = stored.document if clause.is_id else stored.indexed
    return _holds(clause, value_at(document, clause.names)) != clause.negated


def _paths(path: str, operand: Any) -> Iterator[str]:
    yield path
    if isinstance(operand, dict) and extended_key(operand) is None:
        for name, member in operand.items():
            yield from _paths(f"{path}.{escape(name)}", member)
    elif isinstance(operand, list):
        for element in operand:
            if isinstance(element, (dict, list)):
                yield from _paths(path, element)


def _holds(comparison: Comparison, value: Any) -> bool:
    return value is not MISSING and _TESTS[comparison.operator](value, comparison.operand)


def _is_in(value: Any, wanted: list[Any]) -> bool:
    return any(_equals(value, one) for one in wanted)


def _has_size(value: Any, size: int) -> bool:
    return isinstance(value, list) and len(value) == size


def _has_all(value: Any, wanted: list[Any]) -> bool:
    elements = set(map(canonical, value)) if isinstance(value, list) else set()
    return elements.issuperset(map(canonical, wanted))


def _range(relation: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def holds(value: Any, bound: Any) -> bool:
        (kind, *left), (bound_kind, *right) = canonical(value), canonical(bound)
        return kind == bound_kind and relation(left, right)

    return holds


def _equals(value: Any, wanted: Any) -> bool:
    """Whether a value is the wanted one, or an array with a wanted single value in it."""
    form = canonical(wanted)
    if canonical(value) == form:
        return True
    return isinstance(value, list) and form[0] not in {"array", "object"} and form in map(canonical, value)


_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "$all": _has_all,
    "$eq": _equals,
    "$exists": lambda _value, _wanted: True,
    "$gt": _range(operator.gt),
    "$gte": _range(operator.ge),
    "$in": _is_in,
    "$lt": _range(operator.lt),
    "$lte": _range(operator.le),
    "$size": _has_size,
}
