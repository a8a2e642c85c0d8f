"""Filters in the language of the Data API.

What the Data API answers exactly as `geovlm.filters` means it is sent to it. For the rest a wider filter is sent, one
that lets more rows pass, and `exact` says that the metadata of what comes back has to be tested too.

It differs in these: `$not` of `$gt` is `$lte`, which leaves out rows without the name; `null`, lists and mappings are
not looked for inside of lists; the order of names in a mapping counts; numbers are compared by their decimal digits;
a name with a dot is always a path.

It knows no places and no times. Of an area are sent bounds for the numbers of a row's box, and of a span of time bounds
for text. Two numbers of one row cannot be compared with each other, so that a box that crosses the antimeridian cannot
be told from one that does not; `$intersects` therefore sends no longitudes, but for points.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import frozen

from geovlm._times import texts_around
from geovlm.filters import AllOf, Compare, During, InArea, Not
from geovlm.stores._astra_documents import PATH_CHARS, TEXT_BYTES, is_unicode, search_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geovlm._areas import Box
    from geovlm.filters import Filter

# The Data API takes 64; the caller adds one.
MOST_COMPARISONS = 60
MOST_VALUES = 100

# From here on different numbers can have the same digits: 1e23 is not 10 ** 23.
EXACT_NUMBERS = 2**53
# A text of 8,000 bytes may have been cut inside a character.
EXACT_BYTES = TEXT_BYTES - 3

_PLACE = re.compile(r"0|[1-9][0-9]*")

Clause: TypeAlias = "dict[str, Any] | bool"
"""A filter of the Data API; `True` lets all rows pass, `False` none."""

Test: TypeAlias = Callable[[str, bool], Clause]
"""Writes a comparison, or its opposite, with the value at a path. It is false where there is no value."""


@frozen
class Pushed:
    """What is sent for a filter.

    Args:
        clause: It lets at least the right rows pass.
        exact: And no others.
    """

    clause: Clause
    exact: bool

    def among_documents(self) -> dict[str, Any]:
        """The filter for commands that would also find the store's own document."""
        clause = _all([{"metadata": {"$exists": True}}, self.clause])
        return clause if isinstance(clause, dict) else {"metadata": {"$exists": False}}

    def among_vectors(self) -> dict[str, Any]:
        """The filter for searches; only rows have vectors."""
        return {} if self.clause is True else self.clause or self.among_documents()


def push_down(tree: Filter) -> Pushed:
    """A filter for the Data API.

    Examples:
        >>> from geovlm.filters import parse_filter
        >>> push_down(parse_filter({"year": {"$ne": 2020}}))
        Pushed(clause={'metadata.year': {'$ne': 2020}}, exact=True)
    """
    clause, exact = _widened(tree, positive=True)
    kept = _within(clause, MOST_COMPARISONS)
    return Pushed(kept, exact and kept == clause)


def _widened(tree: Filter, *, positive: bool) -> tuple[Clause, bool]:
    """A clause for the tree or its opposite, that may let more rows pass, and whether it does not."""
    match tree:
        case Not(part):
            return _widened(part, positive=not positive)
        case Compare(name, "$exists", False):
            return _comparison(Compare(name, "$exists", True), positive=not positive)
        case Compare():
            return _comparison(tree, positive=positive)
        case InArea() | During():
            return (_bounds(tree) if positive else True), False
    found = [_widened(part, positive=positive) for part in tree.parts]
    join = _all if isinstance(tree, AllOf) == positive else _any
    return join([clause for clause, _ in found]), all(exact for _, exact in found)


def _comparison(node: Compare, *, positive: bool) -> tuple[Clause, bool]:
    paths, test = _paths(node.name), _test(node.op, node.value)
    if paths is None:
        return True, False
    if test is not None and (positive or node.op in ("$eq", "$in", "$exists")):
        return _resolved(paths, test, positive=positive), True
    return (_resolved(paths, _exists, positive=True), False) if positive else (True, False)


def _paths(name: str) -> list[str] | None:
    """Where a value can be: under the name as it is written, else along its dots; `None` if that cannot be said."""
    parts = name.split(".")
    if not is_unicode(name) or any(part.isdecimal() and not _PLACE.fullmatch(part) for part in parts[1:]):
        return None
    paths = ["metadata." + search_name(name)]
    if len(parts) > 1:
        paths.append("metadata." + ".".join(map(search_name, parts)))
    return paths if all(len(path) <= PATH_CHARS for path in paths) else None


def _resolved(paths: list[str], test: Test, *, positive: bool) -> Clause:
    """A test of the value at the first of the paths that there is."""
    here = test(paths[0], positive)
    if len(paths) == 1:
        return here
    there, is_here = test(paths[1], positive), _exists(paths[0], positive=not positive)
    return _any([here, _all([is_here, there])]) if positive else _all([here, _any([is_here, there])])


def _test(op: str, value: Any) -> Test | None:
    """How to write an operator; `None` if the Data API may answer otherwise than it should."""
    if op == "$exists":
        return _exists
    if not _is_exact(value):
        return None
    if op == "$eq":
        return _equals(value)
    if op == "$in":
        return _is_in(value)
    return lambda path, _: {path: {op: value}}


def _bounds(node: InArea | During) -> Clause:
    """What can be said of the numbers of a box or point, or of text."""
    paths = _paths(node.name)
    if paths is None:
        return True
    if isinstance(node, During):
        low, high = texts_around(node.start, node.end)
        return _resolved(paths, lambda path, _: _bounded(path, {"$gte": low, "$lt": high}), positive=True)
    boxes, bounds = node.area.boxes, _bounds_within if node.op == "$within" else _bounds_across
    return _resolved(paths, lambda path, _: _any([bounds(path, box, boxes) for box in boxes]), positive=True)


def _bounds_within(path: str, box: Box, boxes: Sequence[Box]) -> Clause:
    west, south, east, north = box
    # A row's box that crosses the antimeridian ends in another one.
    furthest = max([east, *(other[2] for other in boxes if other[0] == -180)])
    corner = [
        _bounded(f"{path}.0", {"$gte": west, "$lte": east}),
        _bounded(f"{path}.1", {"$gte": south, "$lte": north}),
    ]
    other = [_bounded(f"{path}.2", {"$lte": furthest}), _bounded(f"{path}.3", {"$lte": north})]
    return _all([*corner, _any([_exists(f"{path}.2", positive=False), _all(other)])])


def _bounds_across(path: str, box: Box, _: Sequence[Box]) -> Clause:
    west, south, east, north = box
    point = [_bounded(f"{path}.0", {"$gte": west, "$lte": east}), _exists(f"{path}.2", positive=False)]
    either = [_all([_bounded(f"{path}.1", {"$gte": south}), *point]), _bounded(f"{path}.3", {"$gte": south})]
    return _all([_bounded(f"{path}.1", {"$lte": north}), _any(either)])


def _bounded(path: str, ends: dict[str, str | float | None]) -> Clause:
    """The value at a path is on the right side of each end."""
    found: list[Clause] = [{path: {op: end}} for op, end in ends.items() if end is not None]
    return _all(found or [_exists(path, positive=True)])


def _is_exact(value: Any) -> bool:
    """Whether comparing with a value is the same for both."""
    if isinstance(value, str):
        return is_unicode(value) and len(value.encode()) < EXACT_BYTES
    if isinstance(value, dict):
        return len(value) <= 1 and all(map(_is_exact, [*value, *value.values()]))
    if isinstance(value, list):
        return all(map(_is_exact, value))
    return value is None or -EXACT_NUMBERS < value < EXACT_NUMBERS


def _exists(path: str, positive: bool) -> Clause:
    return {path: {"$exists": positive}}


def _equals(value: Any) -> Test:
    wanted = _searchable(value)
    if isinstance(value, str | int | float):
        return lambda path, positive: {path: {"$eq" if positive else "$ne": wanted}}

    def also_inside(path: str, positive: bool) -> Clause:
        inside = {path: {"$all": [wanted]}}
        if positive:
            return _any([{path: {"$eq": wanted}}, inside])
        return _all([{path: {"$ne": wanted}}, {"$not": inside}])

    return also_inside


def _is_in(values: list[Any]) -> Test:
    single = [value for value in values if isinstance(value, str | int | float)]
    others = [_equals(value) for value in values if not isinstance(value, str | int | float)]

    def among(path: str, positive: bool) -> Clause:
        operator, join = ("$in", _any) if positive else ("$nin", _all)
        lists = [single[start : start + MOST_VALUES] for start in range(0, len(single), MOST_VALUES)]
        return join([*({path: {operator: some}} for some in lists), *(test(path, positive) for test in others)])

    return among


def _searchable(value: Any) -> Any:
    if isinstance(value, dict):
        return {search_name(name): _searchable(item) for name, item in value.items()}
    return [_searchable(item) for item in value] if isinstance(value, list) else value


def _all(parts: list[Clause]) -> Clause:
    kept = [part for part in parts if part is not True]
    if False in kept:
        return False
    return kept[0] if len(kept) == 1 else {"$and": kept} if kept else True


def _any(parts: list[Clause]) -> Clause:
    kept = [part for part in parts if part is not False]
    if True in kept:
        return True
    return kept[0] if len(kept) == 1 else {"$or": kept} if kept else False


def _within(clause: Clause, most: int) -> Clause:
    """The same clause, or a wider one with fewer comparisons."""
    if isinstance(clause, bool) or _comparisons(clause) <= most:
        return clause
    kept: list[Clause] = []
    for part in clause.get("$and", ()):
        if _comparisons(part) <= most:
            kept.append(part)
            most -= _comparisons(part)
    return _all(kept)


def _comparisons(clause: Clause) -> int:
    if isinstance(clause, bool):
        return 0
    return sum(
        sum(map(_comparisons, value)) if name in ("$and", "$or") else _comparisons(value) if name == "$not" else 1
        for name, value in clause.items()
    )
