"""Metadata as columns, so that a filter on a million rows is a few passes over arrays.

A column holds, for each row, a number or the code of another value: text, `true`, a list, a missing name. Each distinct
value is kept once, so that whatever a filter asks is asked once a value and not once a row. Columns are made when a
filter first asks for their name, and follow the rows from then on.
"""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from geovlm.filters import AllOf, AnyOf, Compare, During, Filter, InArea, Not, look_up
from geovlm.stores._changes import Changes, grown
from geovlm.stores._vocabulary import MISSING_CODE, Vocabulary, is_plain_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

ROWS_A_CHUNK = 8192


class Columns:
    """The columns of rows that are kept as JSON texts.

    Args:
        texts: The rows; the list is the store's own, which tells of its changes through `changes`.
    """

    def __init__(self, texts: list[str]) -> None:
        self.changes = Changes()
        self._texts = texts
        self._columns: dict[str, _Column] = {}

    def mask(self, tree: Filter) -> Mask:
        """Which rows pass a filter."""
        self._refresh(set(_names(tree)))
        return self._evaluate(tree)

    def _evaluate(self, tree: Filter) -> Mask:
        match tree:
            case Not(part):
                return ~self._evaluate(part)
            case AllOf(parts):
                return self._all([self._evaluate(part) for part in parts], np.logical_and, empty=True)
            case AnyOf(parts):
                return self._all([self._evaluate(part) for part in parts], np.logical_or, empty=False)
            case Compare() | InArea() | During():
                return self._columns[tree.name].mask(tree, len(self._texts))

    def _all(self, masks: list[Mask], combine: np.ufunc, *, empty: bool) -> Mask:
        whole = np.full(len(self._texts), empty) if not masks else masks[0]
        for mask in masks[1:]:
            combine(whole, mask, out=whole)
        return whole

    def _refresh(self, names: set[str]) -> None:
        """Bring the columns up to date, and make those that are missing."""
        stale, first = self.changes.take(len(self._texts))
        if self._columns and len(stale):
            self._read(self._columns, stale)
        if self._columns and first < len(self._texts):
            self._read(self._columns, range(first, len(self._texts)))
        fresh = {name: _Column() for name in names - self._columns.keys()}
        if fresh:
            self._read(fresh, range(len(self._texts)))
            self._columns.update(fresh)

    def _read(self, columns: dict[str, _Column], rows: Sequence[int] | NDArray[np.int64]) -> None:
        for column in columns.values():
            column.reserve(len(self._texts))
        places = iter(rows)
        while chunk := list(islice(places, ROWS_A_CHUNK)):
            decoded = json.loads(f"[{','.join([self._texts[row] for row in chunk])}]")
            for name, column in columns.items():
                column.put(chunk, [look_up(row, name) for row in decoded])


def _names(tree: Filter) -> Iterator[str]:
    match tree:
        case Not(part):
            yield from _names(part)
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from _names(part)
        case Compare() | InArea() | During():
            yield tree.name


class _Column:
    """What every row has under one name."""

    def __init__(self) -> None:
        self._numbers: NDArray[Any] = np.empty(0, dtype=np.float64)  # NaN where the row has another value
        self._codes: NDArray[Any] = np.empty(0, dtype=np.int32)
        self._vocabulary = Vocabulary()
        self._has_numbers = False

    def reserve(self, rows: int) -> None:
        self._numbers, self._codes = grown(self._numbers, rows), grown(self._codes, rows)

    def put(self, rows: list[int], values: list[Any]) -> None:
        numeric = [is_plain_number(value) for value in values]
        code_of = self._vocabulary.code_of
        self._codes[rows] = [0 if number else code_of(value) for number, value in zip(numeric, values, strict=True)]
        self._numbers[rows] = [value if number else np.nan for number, value in zip(numeric, values, strict=True)]
        self._has_numbers = self._has_numbers or any(numeric)

    def mask(self, leaf: Compare | InArea | During, count: int) -> Mask:
        """Which of the first rows pass one condition."""
        codes = self._codes[:count]
        if isinstance(leaf, Compare) and leaf.op == "$exists":
            has: Mask = codes != MISSING_CODE
            return has if leaf.value else ~has
        passing: Mask = self._vocabulary.passing(leaf)[codes]
        if self._has_numbers and isinstance(leaf, Compare):
            passing |= _numbers_passing(self._numbers[:count], leaf)
        return passing


_ORDER = {"$gt": np.greater, "$gte": np.greater_equal, "$lt": np.less, "$lte": np.less_equal}
FEW = 8


def _numbers_passing(numbers: NDArray[np.float64], leaf: Compare) -> Mask:
    """Which numbers pass; NaN passes nothing."""
    if leaf.op in _ORDER:
        if isinstance(leaf.value, bool | str):
            return np.zeros(len(numbers), dtype=np.bool_)
        return np.asarray(_in_order(numbers, leaf.op, leaf.value))
    wanted = [_exact(value) for value in (leaf.value if leaf.op == "$in" else [leaf.value])]
    floats = {value for value in wanted if value is not None}
    if len(floats) > FEW:
        return np.isin(numbers, np.array(sorted(floats)))
    found = np.zeros(len(numbers), dtype=np.bool_)
    for value in floats:
        found |= numbers == value
    return found


def _exact(value: Any) -> float | None:
    """A number as the float that equals it, if there is one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        as_float = float(value)
    except OverflowError:
        return None
    return as_float if as_float == value else None


def _in_order(numbers: NDArray[np.float64], op: str, wanted: float) -> Any:
    exact = _exact(wanted)
    if exact is not None:
        return _ORDER[op](numbers, exact)
    # No float equals this whole number: the next one below it is the largest that is smaller, whichever was asked.
    try:
        near = float(wanted)
    except OverflowError:
        near = np.inf if wanted > 0 else -np.inf
    below = near if near < wanted else np.nextafter(near, -np.inf)
    return numbers > below if op in ("$gt", "$gte") else numbers <= below
