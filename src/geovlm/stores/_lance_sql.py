"""Filters as the SQL of Lance.

SQL has three truth values and the grammar of filters two. A condition is therefore written in one of two forms: one
that is true exactly where the filter is (elsewhere false or null), or one that is true exactly where it is not.
Negations are carried down to the single comparisons, so that `AND` and `OR` only ever join conditions whose nulls count
as false.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geovlm.filters import AllOf, AnyOf, Compare, Filter, Not
from geovlm.stores._lance_columns import KINDS, Layout, as_float, canonical, is_utf8

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Lance's parser gives up at about fifty nested parentheses.
MAX_DEPTH = 20

_ORDER = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


class _Inexpressible(Exception):
    """The columns cannot tell."""


def to_sql(tree: Filter, layout: Layout) -> tuple[str | None, bool]:
    """What of a filter Lance can answer.

    Returns:
        A condition that no row fails which passes the filter, `None` if that lets all pass; and whether it is the whole
        filter, so that no row passes it which fails the filter.
    """
    held, whole = list[str](), True
    for part in _conjuncts(tree):
        try:
            held.append(_condition(part, layout, negated=False, depth=0))
        except _Inexpressible:
            whole = False
    return " AND ".join(held) or None, whole


def quoted(text: str) -> str:
    """Text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def in_list(column: str, texts: Sequence[str]) -> str:
    """The condition that a column is one of some texts."""
    return f"{column} IN ({', '.join(map(quoted, texts))})"


def _conjuncts(tree: Filter) -> Iterator[Filter]:
    if isinstance(tree, AllOf):
        for part in tree.parts:
            yield from _conjuncts(part)
    else:
        yield tree


def _condition(node: Filter, layout: Layout, *, negated: bool, depth: int) -> str:
    if depth > MAX_DEPTH:
        raise _Inexpressible
    match node:
        case Compare():
            return _comparison(node, layout, negated=negated)
        case Not(part):
            return _condition(part, layout, negated=not negated, depth=depth + 1)
        case AllOf(parts) | AnyOf(parts):
            conditions = [_condition(part, layout, negated=negated, depth=depth + 1) for part in parts]
            return _joined(conditions, every=isinstance(node, AllOf) is not negated)
        case _:
            raise _Inexpressible


def _joined(conditions: Sequence[str], *, every: bool) -> str:
    if not conditions:
        return "true" if every else "false"
    return f"({(' AND ' if every else ' OR ').join(conditions)})"


def _comparison(node: Compare, layout: Layout, *, negated: bool) -> str:
    if not layout.covers(node.name):
        raise _Inexpressible
    columns = layout.columns_of(node.name)
    if node.op == "$exists":
        if node.value is negated:
            return _joined([f"{column} IS NULL" for column in columns.values()], every=True)
        return _joined([f"{column} IS NOT NULL" for column in columns.values()], every=False)
    if "x" in columns:
        raise _Inexpressible
    tests = list(_order_tests(node, columns) if node.op in _ORDER else _equality_tests(node, columns))
    if not negated:
        return _joined([test for _, test in tests], every=False)
    return _joined([f"({column} IS NULL OR NOT ({test}))" for column, test in tests], every=True)


Test = tuple[str, str]


def _order_tests(node: Compare, columns: dict[str, str]) -> Iterator[Test]:
    kind = _kind(node.value)
    if kind == "x":
        raise _Inexpressible
    if kind in columns:
        yield columns[kind], f"{columns[kind]} {_ORDER[node.op]} {_literal(node.value)}"


def _equality_tests(node: Compare, columns: dict[str, str]) -> Iterator[Test]:
    """A test for each column that may hold a value equal to one of those asked for."""
    wanted = node.value if node.op == "$in" else [node.value]
    by_kind: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for value in wanted:
        by_kind[_kind(value)].append(value)
    for kind in "ntb":
        if by_kind[kind] and kind in columns:
            yield columns[kind], f"{columns[kind]} IN ({', '.join(map(_literal, by_kind[kind]))})"
    if by_kind["z"] and "z" in columns:
        yield columns["z"], columns["z"]
    if by_kind["m"] and "m" in columns:
        raise _Inexpressible
    if wanted and "i" in columns:
        column = columns["i"]
        yield column, f"array_has_any({column}, {_array([canonical(value) for value in wanted])})"
        for value in by_kind["i"]:
            yield column, _same_items(column, [canonical(item) for item in value])


def _same_items(column: str, items: Sequence[str]) -> str:
    return f"{column} = {_array(items)}" if items else f"cardinality({column}) = 0"


def _array(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(quoted, texts))}]"


def _kind(value: Any) -> str:
    """The kind of column that holds a filter's value; `"x"` if none does."""
    if isinstance(value, bool):
        return "b"
    if isinstance(value, int | float):
        return "x" if as_float(value) is None else "n"
    if isinstance(value, str):
        return "t" if is_utf8(value) else "x"
    if value is None:
        return "z"
    return "i" if isinstance(value, list) else "m"


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    return repr(as_float(value))
