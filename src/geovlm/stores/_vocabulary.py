"""The distinct values of a column that are not numbers, and which of them pass a condition."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from geovlm._areas import box_of
from geovlm._times import moment_of
from geovlm.filters import MISSING, Compare, During, InArea, predicate

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from numpy.typing import NDArray

    from geovlm._areas import Area

    Table: TypeAlias = NDArray[np.bool_]

NUMBER_CODE, MISSING_CODE = 0, 1
NEVER = np.iinfo(np.int64).min
# Whole numbers beyond this have neighbours that are the same float.
LARGEST_EXACT = 2**53


def is_plain_number(value: Any) -> bool:
    """A number that a float tells apart from every other."""
    kind = type(value)
    return kind is float or (kind is int and -LARGEST_EXACT <= value <= LARGEST_EXACT)


def key_of(value: Any) -> Hashable:
    """Equal for values that are equal in a filter: `1` and `1.0` are, `1` and `true` are not."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        return ("", value)
    if isinstance(value, list):
        return ("list", tuple(map(key_of, value)))
    if isinstance(value, dict):
        return ("mapping", frozenset((name, key_of(item)) for name, item in value.items()))
    return ("number", value)


class Vocabulary:
    """Distinct values, each with a code that a row can hold in its place.

    What is asked of text, times and places is prepared once a value: sorted, read as moments, read as boxes.
    """

    def __init__(self) -> None:
        self._values: list[Any] = [None, MISSING]  # a number of the rows has code 0 and is not here
        self._code_of: dict[Hashable, int] = {}
        self._others: list[int] = []  # codes of what is not text
        self._sorted: tuple[list[str], NDArray[np.int64]] = [], np.empty(0, dtype=np.int64)
        self._moments = np.empty(0, dtype=np.int64)
        self._boxes = np.empty((0, 4))

    def code_of(self, value: Any) -> int:
        """The code of a value, which is a new one for a new value."""
        if value is MISSING:
            return MISSING_CODE
        key = value if type(value) is str else key_of(value)
        code = self._code_of.get(key)
        if code is None:
            code = self._code_of[key] = len(self._values)
            self._values.append(value)
            if not isinstance(value, str):
                self._others.append(code)
        return code

    def passing(self, leaf: Compare | InArea | During) -> Table:
        """For each code whether its value passes."""
        match leaf:
            case InArea():
                return self._in_area(leaf)
            case During():
                return self._during(leaf)
            case Compare(_, "$eq", value):
                return self._among([value])
            case Compare(_, "$in", values):
                return self._among(values)
            case _:
                return self._in_order(leaf)

    def _among(self, wanted: list[Any]) -> Table:
        keys = {key_of(value) for value in wanted}
        table = self._none()
        table[[self._code_of[key] for key in keys if key in self._code_of]] = True
        for code in self._others:
            value = self._values[code]
            if isinstance(value, list) and any(key_of(item) in keys for item in value):
                table[code] = True
        return table

    def _in_order(self, leaf: Compare) -> Table:
        table = self._none()
        if isinstance(leaf.value, str):
            texts, codes = self._in_alphabet()
            cut = (bisect_left if leaf.op in ("$lt", "$gte") else bisect_right)(texts, leaf.value)
            table[codes[:cut] if leaf.op in ("$lt", "$lte") else codes[cut:]] = True
            return table
        passes = predicate(leaf)
        for code in self._others:
            table[code] = passes({leaf.name: self._values[code]})
        return table

    def _in_alphabet(self) -> tuple[list[str], NDArray[np.int64]]:
        """All texts in their order, and the code of each."""
        if len(self._sorted[0]) < len(self._code_of) - len(self._others):
            pairs = sorted((value, code) for code, value in enumerate(self._values) if isinstance(value, str))
            codes = np.array([code for _, code in pairs], dtype=np.int64)
            self._sorted = [text for text, _ in pairs], codes
        return self._sorted

    def _during(self, leaf: During) -> Table:
        self._moments = self._prepared(self._moments, lambda value: NEVER if (at := moment_of(value)) is None else at)
        table: Table = self._moments != NEVER
        if leaf.start is not None:
            table &= self._moments >= leaf.start
        if leaf.end is not None:
            table &= self._moments <= leaf.end
        return table

    def _in_area(self, leaf: InArea) -> Table:
        self._boxes = self._prepared(self._boxes, lambda value: box_of(value) or (np.nan,) * 4)
        table, open_codes = _settled(self._boxes, leaf)
        holds = leaf.area.holds if leaf.op == "$within" else leaf.area.meets
        for code in np.flatnonzero(open_codes).tolist():
            west, south, east, north = self._boxes[code].tolist()
            table[code] = holds((west, south, east, north))
        return table

    def _prepared(self, known: NDArray[Any], read: Callable[[Any], Any]) -> NDArray[Any]:
        """What was read of each value, with that of the values that came since."""
        if len(known) == len(self._values):
            return known
        fresh = np.array([read(value) for value in self._values[len(known) :]], dtype=known.dtype)
        return np.concatenate([known, fresh])

    def _none(self) -> Table:
        return np.zeros(len(self._values), dtype=np.bool_)


def _settled(boxes: NDArray[np.float64], leaf: InArea) -> tuple[Table, Table]:
    """Which boxes pass for certain by the bounds of an area alone, and which need a closer look."""
    west, south, east, north = boxes.T
    crossing = west > east
    meets = _meets_any(boxes, leaf.area)
    if leaf.area.shapes:
        return np.zeros(len(boxes), dtype=np.bool_), crossing | meets
    if leaf.op == "$intersects":
        return meets & ~crossing, crossing
    inside = np.zeros(len(boxes), dtype=np.bool_)
    for left, bottom, right, top in leaf.area.boxes:
        inside |= (left <= west) & (east <= right) & (bottom <= south) & (north <= top)
    return inside & ~crossing, crossing


def _meets_any(boxes: NDArray[np.float64], area: Area) -> Table:
    west, south, east, north = boxes.T
    meets = np.zeros(len(boxes), dtype=np.bool_)
    for left, bottom, right, top in area.boxes:
        meets |= (west <= right) & (left <= east) & (south <= top) & (bottom <= north)
    return meets
