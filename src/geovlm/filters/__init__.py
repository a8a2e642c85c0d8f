"""The one filter grammar: what `where=` means, for every store.

A filter is a mapping in the operators that Astra DB speaks:

```python
{"label": "Beach"}                                     # equal; the same as {"label": {"$eq": "Beach"}}
{"year": {"$gte": 2020, "$lt": 2024}}                  # all conditions of one mapping must hold
{"$or": [{"label": {"$in": ["Port", "Beach"]}}, {"camera.gsd": {"$lt": 0.5}}]}
{"footprint": {"$within": [5.9, 45.8, 10.5, 47.8]}}    # [west, south, east, north], or a polygon in GeoJSON
{"acquired": {"$during": ["2024-05-01", "2024-08-31"]}}
```

What the operators mean, for the value that a row has under a name:

- **Names.** A name is looked up as it is written, and if the row has no such name, dots lead into nested mappings and,
  by number, into lists: `camera.gsd`, `captions.0`.
- **`$eq`, `$ne`, `$in`, `$nin`** compare by value *and* type: numbers with numbers (`1` equals `1.0`), text with text,
  booleans with booleans (`true` is not `1`), `null` with `null`, whole lists and mappings with the same. A list also
  equals each single value that it contains, so `{"tags": "roof"}` finds `["roof", "court"]`. `$ne` and `$nin` are true
  exactly where `$eq` and `$in` are false, so also for rows that lack the name.
- **`$gt`, `$gte`, `$lt`, `$lte`** compare numbers with numbers, text with text (by code point, so ISO dates compare as
  dates) and booleans with booleans (`false` comes first). Values of other types, `null`, lists and missing names are
  false.
- **`$exists`** asks whether the row has the name; `null` is a value.
- **`$within`, `$intersects`** ask where a row lies. Its value is a box `[west, south, east, north]` (a record's
  `footprint` is kept as one) or a point `[longitude, latitude]`, in degrees of WGS 84. They take a box of that form, a
  `Footprint`, a GeoJSON Polygon or MultiPolygon, or anything that gives one as `__geo_interface__`, such as a geometry
  of shapely. `$within` is true if the row's box lies wholly in the area, `$intersects` if they have a point in common;
  edges count. The map is flat: sides of polygons are straight lines in degrees, as GeoJSON has them. A box with
  `west > east` crosses the antimeridian, and a polygon that does is cut there into a MultiPolygon. Values that are
  neither box nor point are false.
- **`$during`** takes `[start, end]`, both ends included: dates, datetimes, or ISO 8601 text, and `None` for no limit.
  A date, a month (`"2024-05"`) or a year (`"2024"`) stands for all of it, so `["2024", "2024-06-30"]` is half a year.
  The row's value is ISO 8601 text: a date (which is during the span if its day begins in it), or a date and a time.
  Times without an offset are in UTC. Values that are no such text are false.
- **`$and`, `$or`** take a list of filters, **`$not`** takes one filter and is true for exactly the rows that it leaves
  out, rows that lack the name among them. `$not` may also stand below a name: `{"year": {"$not": {"$gt": 2020}}}`.

Dates, NumPy scalars and paths in a filter count as their JSON forms, as they do in metadata. `parse_filter` checks all
this once and gives a small tree, from which a store makes its own query language; `compile_filter` makes a function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from geovlm._areas import Area
from geovlm.filters._parse import parse_filter
from geovlm.filters._predicate import MISSING, look_up, predicate
from geovlm.filters._tree import AllOf, AnyOf, Compare, During, Filter, InArea, Not, Predicate

if TYPE_CHECKING:
    from geovlm.protocols import Where

__all__ = [
    "MISSING",
    "AllOf",
    "AnyOf",
    "Area",
    "Compare",
    "During",
    "Filter",
    "InArea",
    "Not",
    "Predicate",
    "compile_filter",
    "look_up",
    "parse_filter",
    "predicate",
]


def compile_filter(where: Where | None) -> Predicate:
    """A function that tells of a row's metadata whether it passes.

    Args:
        where: In the operators of `VectorStore`; `None` and `{}` let every row pass.

    Raises:
        UsageError: As `parse_filter`.

    Examples:
        >>> recent_ports = compile_filter({"label": "Port", "year": {"$gte": 2020}})
        >>> recent_ports({"label": "Port", "year": 2024}), recent_ports({"label": "Port"})
        (True, False)
        >>> in_fiji = compile_filter({"footprint": {"$within": [176.0, -21.0, -178.0, -12.0]}})
        >>> in_fiji({"footprint": [179.0, -18.0, -179.0, -17.0]}), in_fiji({"footprint": [175.0, -18.0, 179.0, -17.0]})
        (True, False)
        >>> at_the_edge = compile_filter({"footprint": {"$intersects": [176.0, -21.0, 177.0, -12.0]}})
        >>> at_the_edge({"footprint": [175.0, -18.0, 176.0, -17.0]}), at_the_edge({"footprint": [178.0, -18.0]})
        (True, False)
        >>> in_2024 = compile_filter({"acquired": {"$during": ["2024", "2024"]}})
        >>> in_2024({"acquired": "2024-12-31T23:59:59Z"}), in_2024({"acquired": "2024-12-31T23:59:59-01:00"})
        (True, False)
    """
    return predicate(parse_filter(where))
