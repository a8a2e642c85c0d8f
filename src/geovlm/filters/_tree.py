"""What a filter is made of, once it has been checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import frozen

if TYPE_CHECKING:
    from geovlm._areas import Area

Predicate: TypeAlias = Callable[[Mapping[str, Any]], bool]
"""Tells of a row's metadata whether it passes."""


@frozen
class Compare:
    """One value of a row against one of the filter.

    Args:
        name: Where the row's value is.
        op: `$eq`, `$gt`, `$gte`, `$lt`, `$lte`, `$in` or `$exists`; the negative ones are a `Not` of these.
        value: What it is compared with, JSON-like; a list for `$in`, a boolean for `$exists`.

    Examples:
        >>> from geovlm.filters import predicate
        >>> predicate(Compare("year", "$gte", 2020))({"year": 2024})
        True
    """

    name: str
    op: str
    value: Any


@frozen
class InArea:
    """The place of a row against an area.

    Args:
        name: Where the row's value is.
        op: `$within` or `$intersects`.
        area: The area, cut at the antimeridian.

    Examples:
        >>> from geovlm.filters import parse_filter
        >>> type(parse_filter({"footprint": {"$within": [5.9, 45.8, 10.5, 47.8]}})).__name__
        'InArea'
    """

    name: str
    op: str
    area: Area


@frozen
class During:
    """The time of a row against a span, in microseconds since 1970 in UTC.

    Args:
        name: Where the row's value is.
        start: The first moment of the span, `None` if it has none.
        end: The last one.

    Examples:
        >>> from geovlm.filters import predicate
        >>> predicate(During("acquired", 0, None))({"acquired": "2024-05-17"})
        True
    """

    name: str
    start: int | None
    end: int | None


@frozen
class Not:
    """True where `part` is false.

    Args:
        part: The filter that must not hold.

    Examples:
        >>> from geovlm.filters import predicate
        >>> predicate(Not(Compare("label", "$eq", "Port")))({"label": "Beach"})
        True
    """

    part: Filter


@frozen
class AllOf:
    """True where every part is; an empty one is true everywhere.

    Args:
        parts: The filters.

    Examples:
        >>> from geovlm.filters import predicate
        >>> tree = AllOf((Compare("year", "$gte", 2020), Compare("label", "$eq", "Port")))
        >>> predicate(tree)({"year": 2024, "label": "Beach"})
        False
    """

    parts: tuple[Filter, ...]


@frozen
class AnyOf:
    """True where at least one part is.

    Args:
        parts: The filters.

    Examples:
        >>> from geovlm.filters import predicate
        >>> tree = AnyOf((Compare("year", "$gte", 2020), Compare("label", "$eq", "Port")))
        >>> predicate(tree)({"year": 2024, "label": "Beach"})
        True
    """

    parts: tuple[Filter, ...]


Filter: TypeAlias = Compare | InArea | During | Not | AllOf | AnyOf
