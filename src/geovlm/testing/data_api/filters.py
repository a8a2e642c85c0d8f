"""Filter clauses: reading them, with the Data API's rules on what may stand where."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from geovlm.testing.data_api.errors import CommandFailure, json_type
from geovlm.testing.data_api.operands import check_operand
from geovlm.testing.data_api.paths import PathProblem, check_escapes, split
from geovlm.testing.data_api.values import EXTENDED, document_key, extended_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geovlm.testing.data_api.limits import Limits
    from geovlm.testing.data_api.schema import CollectionOptions

OPERATORS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$all", "$size")
_SPECIAL = ("$vector", "$vectorize")

# What $not makes of an operator. The others are negated as they stand: missing fields match them then.
_OPPOSITES = {"$gt": "$lte", "$gte": "$lt", "$lt": "$gte", "$lte": "$gt"}
_NEGATIVE = {"$ne": "$eq", "$nin": "$in"}


@dataclass(frozen=True)
class Comparison:
    """One operator on one path; ``negated`` ones match what the operator does not."""

    path: str
    names: tuple[str, ...]
    operator: str
    operand: Any
    negated: bool = False

    @property
    def is_id(self) -> bool:
        """Whether it compares the ``_id``."""
        return self.path == "_id"


@dataclass(frozen=True)
class Group:
    """Parts of which all, or any, must match; an empty group matches everything."""

    kind: Literal["and", "or"]
    parts: tuple[Clause, ...]


Clause = Comparison | Group

EVERYTHING = Group("and", ())


def parse_filter(value: Any, options: CollectionOptions, limits: Limits) -> Clause:
    """A command's ``filter``.

    Args:
        value: as it was sent; None matches everything.
        options: of the collection.
        limits: how many comparisons and values a filter may have.

    Raises:
        CommandFailure: it is not a filter of the Data API.
    """
    if value is None:
        return EVERYTHING
    clause = _Parser(options, limits).object(value)
    count = sum(1 for _ in comparisons(clause))
    if count > limits.filter_fields:
        message = f"The filter has {count} fields, the most is {limits.filter_fields}. Use fewer."
        raise CommandFailure("FILTER_FIELDS_LIMIT_VIOLATION", message)
    _check_ids(clause)
    return clause


def comparisons(clause: Clause) -> Iterator[Comparison]:
    """All comparisons in a clause."""
    if isinstance(clause, Comparison):
        yield clause
    else:
        for part in clause.parts:
            yield from comparisons(part)


def negation(clause: Clause) -> Clause:
    """What ``$not`` makes of a clause."""
    if isinstance(clause, Group):
        return Group("or" if clause.kind == "and" else "and", tuple(negation(part) for part in clause.parts))
    opposite = _OPPOSITES.get(clause.operator)
    return replace(clause, operator=opposite) if opposite else replace(clause, negated=not clause.negated)


def refused(problem: str) -> CommandFailure:
    """The error for a filter that cannot be read."""
    return CommandFailure("FILTER_INVALID_EXPRESSION", f"Unsupported filter clause: {problem}.")


class _Parser:
    def __init__(self, options: CollectionOptions, limits: Limits) -> None:
        self._options = options
        self._limits = limits

    def object(self, value: Any) -> Clause:
        """An object of conditions, all of which must hold."""
        if not isinstance(value, dict):
            message = f"Filter clause must be an Object, not {json_type(value)}. Send an Object."
            raise CommandFailure("FILTER_UNSUPPORTED_DATA_TYPE", message)
        parts = [part for key, member in value.items() for part in self._entry(key, member)]
        return parts[0] if len(parts) == 1 else Group("and", tuple(parts))

    def _entry(self, key: str, value: Any) -> list[Clause]:
        if key in {"$and", "$or"}:
            return [self._group("and" if key == "$and" else "or", key, value)]
        if key == "$not":
            if not isinstance(value, dict):
                raise refused(f"$not operator must be followed by an Object, not {json_type(value)}")
            return [negation(self.object(value))]
        if key == "$lexical" or (isinstance(value, dict) and "$match" in value):
            raise self._no_lexical(key)
        return list(self._conditions(key, value))

    def _group(self, kind: Literal["and", "or"], key: str, value: Any) -> Group:
        if not isinstance(value, list):
            raise refused(f"{key} operator must be followed by an Array, not {json_type(value)}")
        return Group(kind, tuple(self.object(element) for element in value))

    def _conditions(self, path: str, value: Any) -> Iterator[Comparison]:
        names = _names(path, value)
        if not _has_operators(value):
            yield self._comparison(path, names, "$eq", value)
            return
        for operator, operand in value.items():
            yield self._comparison(path, names, operator, operand)

    def _comparison(self, path: str, names: tuple[str, ...], operator: str, operand: Any) -> Comparison:
        if operator not in OPERATORS:
            message = f"Unsupported filter operator '{operator}'. Use one of: {', '.join(OPERATORS)}."
            raise CommandFailure("FILTER_UNSUPPORTED_OPERATOR", message)
        if path in _SPECIAL and operator != "$exists":
            raise refused(f"cannot filter on '{path}' by '{operator}', only by $exists")
        problem = check_operand(operator, operand, self._limits.in_values)
        if problem:
            raise refused(problem)
        if path == "_id" and operator in {"$eq", "$ne"}:
            document_key(operand)
        plain = _NEGATIVE.get(operator, operator)
        negated = plain != operator
        if operator == "$exists":
            negated, operand = not operand, True
        return Comparison(path, names, plain, operand, negated)

    def _no_lexical(self, key: str) -> CommandFailure:
        if key != "$lexical":
            return refused(f"$match operator can only be used with the '$lexical' field, not '{key}'")
        if not self._options.has_lexical:
            message = "Lexical search is not enabled for the collection. Filter on other fields."
            return CommandFailure("LEXICAL_NOT_ENABLED_FOR_COLLECTION", message)
        message = "The emulator has no lexical search. Filter on other fields."
        return CommandFailure("LEXICAL_NOT_AVAILABLE_FOR_DATABASE", message)


def _has_operators(value: Any) -> bool:
    if not isinstance(value, dict) or not value:
        return False
    if extended_key(value) in EXTENDED - {"$binary"}:
        return False
    return any(key.startswith("$") for key in value)


def _names(path: str, value: Any) -> tuple[str, ...]:
    if path.startswith("$") and path not in _SPECIAL:
        if isinstance(value, list):
            raise refused(f"logical operator '{path}' is not one of $and, $or, $not")
        raise refused(f"path ('{path}') cannot start with '$'")
    if not path:
        raise refused("path cannot be empty")
    try:
        check_escapes(path)
        return split(path)
    except PathProblem as problem:
        if "empty segment" in str(problem):
            return tuple(path.split("."))
        raise refused(str(problem)) from problem


def _check_ids(clause: Clause) -> None:
    if isinstance(clause, Comparison):
        return
    equal = [part for part in clause.parts if isinstance(part, Comparison) and part.is_id]
    if clause.kind == "or" and equal:
        raise refused("cannot filter on '_id' within $or")
    if sum(part.operator == "$eq" and not part.negated for part in equal) > 1:
        message = "The filter names more than one '_id'. Use `$in` for several documents."
        raise CommandFailure("FILTER_MULTIPLE_ID_FILTER", message)
    for part in clause.parts:
        _check_ids(part)
