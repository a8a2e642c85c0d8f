"""A filter narrowed to an area on the map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geovlm.filters import parse_filter

if TYPE_CHECKING:
    from geovlm.protocols import Where


def narrowed(where: Where | None, area: Any) -> Where | None:
    """The rows that pass a filter and lie wholly in an area; both are checked.

    Raises:
        UsageError: The filter or the area cannot be right.

    Examples:
        >>> narrowed({"year": 2024}, (5.9, 45.8, 10.5, 47.8))
        {'$and': [{'year': 2024}, {'footprint': {'$within': (5.9, 45.8, 10.5, 47.8)}}]}
    """
    parse_filter(where)
    if area is None:
        return where
    inside = {"footprint": {"$within": area}}
    parse_filter(inside)
    return {"$and": [where, inside]} if where else inside
