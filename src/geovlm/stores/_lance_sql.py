"""Filters as the SQL of Lance.

SQL has three truth values and the grammar of filters two. A condition is therefore written in one of two forms: one
that is true exactly where the filter is (elsewhere false or null), or one that is true exactly where it is not.
Negations are carried down to the single comparisons, so that `AND` and `OR` only ever join conditions whose nulls count
as false.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geovlm._times import texts_around
from geovlm.filters import AllOf, Compare, During, Filter, InArea, Not
from geovlm.stores._lance_columns import KINDS, SOURCE_OF, Layout, as_float, canonical, is_utf8

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from geovlm._areas import Box

# Lance's parser gives up at about fifty nested parentheses.
MAX_DEPTH = 20

_ORDER = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}


class _Inexpressible(Exception):
    """The columns cannot tell."""


Test = tuple[str, str]
"""A column, and a test that is neither true nor false where it is null."""

Condition = tuple[str, bool]
"""A condition that no row fails which it should pass, and whether no others pass."""

EVERY_ROW: Condition = ("true", False)


def to_sql(tree: Filter, layout: Layout) -> tuple[str | None, bool]:
    """What of a filter Lance can answer.

    Returns:
        A condition that no row fails which passes the filter, `None` if that is so of any columns; and whether it is
        the whole filter, so that no row passes it which fails the filter.
    """
    found = [_condition(part, layout, negated=False, depth=0) for part in _conjuncts(tree)]
    held = [sql for sql, whole in found if (sql, whole) != EVERY_ROW]
    return " AND ".join(held) or None, all(whole for _, whole in found)


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


def _condition(node: Filter, layout: Layout, *, negated: bool, depth: int) -> Condition:
    match node:
        case _ if depth > MAX_DEPTH:
            return EVERY_ROW
        case Compare():
            return _comparison(node, layout, negated=negated)
        case InArea():
            return _in_area(node, layout, negated=negated)
        case During():
            return _during(node, layout, negated=negated)
        case Not(part):
            return _condition(part, layout, negated=not negated, depth=depth + 1)
    found = [_condition(part, layout, negated=negated, depth=depth + 1) for part in node.parts]
    every = isinstance(node, AllOf) is not negated
    return _joined([sql for sql, _ in found], every=every), all(whole for _, whole in found)


def _joined(conditions: Sequence[str], *, every: bool) -> str:
    neutral, decisive = ("true", "false") if every else ("false", "true")
    kept = [condition for condition in conditions if condition != neutral]
    if decisive in kept:
        return decisive
    if len(kept) < 2:
        return kept[0] if kept else neutral
    return f"({(' AND ' if every else ' OR ').join(kept)})"


def _comparison(node: Compare, layout: Layout, *, negated: bool) -> Condition:
    if not layout.covers(node.name):
        return EVERY_ROW
    columns = layout.columns_of(node.name)
    if node.op == "$exists":
        missing = node.value is negated
        tests = [f"{columns[kind]} IS {'NULL' if missing else 'NOT NULL'}" for kind in columns if kind not in SOURCE_OF]
        return _joined(tests, every=missing), True
    try:
        found = list(_order_tests(node, columns) if node.op in _ORDER else _equality_tests(node, columns))
    except _Inexpressible:
        return EVERY_ROW
    return _any_of(found, negated=negated), True


def _any_of(tests: Sequence[Test], *, negated: bool) -> str:
    """The condition that one of the tests is true, or the opposite."""
    if not negated:
        return _joined([test for _, test in tests], every=False)
    return _joined([f"({column} IS NULL OR NOT ({test}))" for column, test in tests], every=True)


def _order_tests(node: Compare, columns: dict[str, str]) -> Iterator[Test]:
    kind = _kind(node.value)
    if "x" in (kind, *columns):
        raise _Inexpressible
    if kind in columns:
        yield columns[kind], f"{columns[kind]} {_ORDER[node.op]} {_literal(node.value)}"


def _equality_tests(node: Compare, columns: dict[str, str]) -> Iterator[Test]:
    """A test for each column that may hold a value equal to one of those asked for."""
    if "x" in columns:
        raise _Inexpressible
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


def _in_area(node: InArea, layout: Layout, *, negated: bool) -> Condition:
    columns, exact = layout.columns_of(node.name), not node.area.shapes
    if not layout.covers(node.name) or (negated and not exact):
        return EVERY_ROW
    if "w" in columns:
        place = tuple(columns[kind] for kind in "wseh")
        test = _held_by(place, node.area.boxes) if node.op == "$within" else _met_by(place, node.area.boxes)
        return _any_of([(columns["w"], test)], negated=negated), exact
    return _by_source(columns.get("i"), [], negated=negated)


def _held_by(place: Sequence[str], boxes: Sequence[Box]) -> str:
    """The test that a row's box, or each of its two pieces, lies in one of the boxes."""
    west, south, east, north = place
    whole, first, second = list[str](), list[str](), list[str]()
    for left, bottom, right, top in boxes:
        height = f"{south} >= {bottom!r} AND {north} <= {top!r}"
        whole.append(f"({west} >= {left!r} AND {east} <= {right!r} AND {height})")
        if right == 180:
            first.append(f"({west} >= {left!r} AND {height})")
        if left == -180:
            second.append(f"({east} <= {right!r} AND {height})")
    one = _joined([f"{west} <= {east}", _joined(whole, every=False)], every=True)
    two = _joined([f"{west} > {east}", _joined(first, every=False), _joined(second, every=False)], every=True)
    return _joined([one, two], every=False)


def _met_by(place: Sequence[str], boxes: Sequence[Box]) -> str:
    """The test that a row's box, or one of its two pieces, has a point in common with one of the boxes."""
    west, south, east, north = place
    tests = list[str]()
    for left, bottom, right, top in boxes:
        starts, ends = f"{west} <= {right!r}", f"{east} >= {left!r}"
        width = f"(({starts} AND {ends}) OR ({west} > {east} AND ({starts} OR {ends})))"
        tests.append(f"({south} <= {top!r} AND {north} >= {bottom!r} AND {width})")
    return _joined(tests, every=False)


def _during(node: During, layout: Layout, *, negated: bool) -> Condition:
    if not layout.covers(node.name):
        return EVERY_ROW
    columns = layout.columns_of(node.name)
    if "d" in columns:
        moment = columns["d"]
        bounds = [f"{moment} {sign} {end}" for sign, end in ((">=", node.start), ("<=", node.end)) if end is not None]
        return _any_of([(moment, _joined(bounds or [f"{moment} IS NOT NULL"], every=True))], negated=negated), True
    text = columns.get("t")
    ends = zip((">=", "<"), texts_around(node.start, node.end), strict=True)
    return _by_source(text, [f"{text} {sign} {quoted(end)}" for sign, end in ends if end is not None], negated=negated)


def _by_source(column: str | None, tests: Sequence[str], *, negated: bool) -> Condition:
    """What can be said by the column that values were taken from, where they have no columns of their own."""
    if column is None:  # no row has such a value
        return ("true" if negated else "false"), True
    if negated:
        return EVERY_ROW
    return _joined(tests or [f"{column} IS NOT NULL"], every=True), False


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
