"""Areas on the map that filters ask for: boxes, and polygons in GeoJSON.

The map is flat, in degrees of WGS 84, and ends at the antimeridian: a box that crosses it is cut in two. What lies on
the cut is on both sides of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import frozen

from geovlm._optional import require
from geovlm.errors import UsageError

if TYPE_CHECKING:
    from types import ModuleType

Box: TypeAlias = tuple[float, float, float, float]
"""`(west, south, east, north)` in degrees."""

# A store asks for each of them.
MOST_BOXES = 2

# A prepared geometry makes its index when it is asked, which two threads must not do at once.
_ASKING = Lock()

_BOX_HINT = "a box [west, south, east, north] in degrees, or a GeoJSON Polygon or MultiPolygon"


@frozen
class Area:
    """A part of the map.

    Args:
        boxes: None of them crosses the antimeridian. What lies in the area lies, each connected piece of it, in one of
            them; without `shapes` they are the area.
        shapes: Geometries of shapely that together are the area.

    Examples:
        >>> Area(((5.9, 45.8, 10.5, 47.8),)).meets((10.0, 47.0, 11.0, 48.0))
        True
    """

    boxes: tuple[Box, ...]
    shapes: tuple[Any, ...] = ()

    def holds(self, box: Box) -> bool:
        """Whether a box lies in the area; it may share the area's edge."""
        pieces = cut(box)
        inside = all(any(_is_inside(piece, whole) for whole in self.boxes) for piece in pieces)
        if not inside or not self.shapes:
            return inside
        with _ASKING:
            return all(any(shape.covers(drawn) for shape in self.shapes) for drawn in map(_draw, pieces))

    def meets(self, box: Box) -> bool:
        """Whether a box and the area have a point in common, if only on their edges."""
        pieces = [piece for piece in cut(box) if any(_do_meet(piece, whole) for whole in self.boxes)]
        if not pieces or not self.shapes:
            return bool(pieces)
        with _ASKING:
            return any(shape.intersects(drawn) for drawn in map(_draw, pieces) for shape in self.shapes)


def box_of(value: Any) -> Box | None:
    """What a row's value says of its place: `[west, south, east, north]` or `[longitude, latitude]`, else `None`.

    Examples:
        >>> box_of([8.5, 47]), box_of([179, -18, -179, -17]), box_of([47, 200]), box_of("8.5")
        ((8.5, 47.0, 8.5, 47.0), (179.0, -18.0, -179.0, -17.0), None, None)
    """
    if not isinstance(value, list) or len(value) not in (2, 4) or not all(map(_is_number, value)):
        return None
    west, south, east, north = value if len(value) == 4 else (*value, *value)
    if -180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90:
        return float(west), float(south), float(east), float(north)
    return None


def cut(box: Box) -> tuple[Box, ...]:
    """A box, or its two pieces if it crosses the antimeridian."""
    west, south, east, north = box
    return (box,) if west <= east else ((west, south, 180.0, north), (-180.0, south, east, north))


def area_of(value: Any) -> Area:
    """The area that a filter asks for.

    Args:
        value: A JSON value.

    Raises:
        UsageError: It is no area; says what is wrong with it.
        MissingExtra: It is a polygon, and shapely is not installed.
    """
    if isinstance(value, Mapping):
        return _polygonal(value)
    if not isinstance(value, list) or len(value) != 4 or not all(map(_is_number, value)):
        raise UsageError(f"An area is {_BOX_HINT}, not {value!r:.80}.")
    west, south, east, north = value
    _check_places([(west, south), (east, north)])
    if south > north:
        raise UsageError(f"The box {value} has its south above its north; its order is [west, south, east, north].")
    return Area(_with_far_side(cut((float(west), float(south), float(east), float(north)))))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_inside(inner: Box, outer: Box) -> bool:
    return outer[0] <= inner[0] and inner[2] <= outer[2] and outer[1] <= inner[1] and inner[3] <= outer[3]


def _do_meet(one: Box, other: Box) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def _with_far_side(boxes: Sequence[Box]) -> tuple[Box, ...]:
    """Boxes, and what of their edges lies on the other side of the cut at the antimeridian."""
    found = list(boxes)
    for west, south, east, north in boxes:
        for edge, longitude in ((west, -180.0), (east, 180.0)):
            far = (-longitude, south, -longitude, north)
            if edge == longitude and not any(_is_inside(far, box) for box in found):
                found.append(far)
    return tuple(found)


def _check_places(places: Sequence[tuple[float, float]]) -> None:
    """Raise if a `(longitude, latitude)` is not on the Earth."""
    for longitude, latitude in places:
        if not -90 <= latitude <= 90:
            swapped = -90 <= longitude <= 90 and -180 <= latitude <= 180
            hint = "are the two swapped? Longitude comes first." if swapped else "latitudes lie between -90 and 90."
            raise UsageError(f"The place [{longitude}, {latitude}] has the latitude {latitude}: {hint}")
        if not -180 <= longitude <= 180:
            hint = f"{longitude} is written {(longitude + 180) % 360 - 180:g}" if abs(longitude) <= 360 else "in WGS 84"
            raise UsageError(f"Longitudes lie between -180 and 180 degrees, not {longitude}: {hint}.")


# --- polygons


def _shapely() -> ModuleType:
    return require("shapely", extra="geo", purpose="filters by polygon")


def _polygonal(value: Mapping[str, Any]) -> Area:
    shapely = _shapely()
    kind, coordinates = value.get("type"), value.get("coordinates")
    if kind not in ("Polygon", "MultiPolygon"):
        hint = " Take its geometry." if kind in ("Feature", "FeatureCollection") else ""
        raise UsageError(f"An area is {_BOX_HINT}, not {kind or value!r:.80}.{hint}")
    several = [coordinates] if kind == "Polygon" else coordinates
    if not isinstance(several, list) or not several:
        raise UsageError(f"A {kind} has a list of coordinates, not {coordinates!r:.80}.")
    polygons = [_polygon(shapely, rings) for rings in several]
    whole = polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)
    # Polygons that share a border are one area, which GeoJSON's geometry forbids to write as two.
    whole = whole if whole.is_valid else shapely.union_all(polygons)
    shapes = (whole, *_far_edges(shapely, whole))
    for shape in shapes:
        shapely.prepare(shape)
    bounds = [part.bounds for part in shapely.get_parts(whole)]
    return Area(_with_far_side(_joined(bounds)), shapes)


def _polygon(shapely: ModuleType, rings: Any) -> Any:
    if not isinstance(rings, list) or not rings:
        raise UsageError(f"A polygon has a list of rings, the outer one first, not {rings!r:.80}.")
    outer, *holes = map(_ring, rings)
    polygon = shapely.Polygon(outer, holes)
    if not polygon.is_valid:
        reason = shapely.is_valid_reason(polygon)
        raise UsageError(f"The polygon encloses no clear area ({reason}); shapely.make_valid can mend one.")
    return polygon


def _ring(places: Any) -> list[tuple[float, float]]:
    if not isinstance(places, list) or not all(map(_is_place, places)):
        raise UsageError(f"A ring of a polygon is a list of [longitude, latitude], not {places!r:.80}.")
    ring = [(float(place[0]), float(place[1])) for place in places]
    _check_places(ring)
    if len(set(ring)) < 3:
        raise UsageError(f"A ring of a polygon has at least three different places, not {len(set(ring))}.")
    return ring


def _is_place(value: Any) -> bool:
    return isinstance(value, list) and len(value) >= 2 and all(map(_is_number, value))


def _joined(bounds: Sequence[Box]) -> list[Box]:
    """At most `MOST_BOXES` boxes around boxes; those whose longitudes overlap or touch come into one."""
    found = list[Box]()
    for box in sorted(bounds):
        if found and box[0] <= found[-1][2]:
            found[-1] = _around(found[-1], box)
        else:
            found.append(box)
    while len(found) > MOST_BOXES:
        first = min(range(len(found) - 1), key=lambda place: found[place + 1][0] - found[place][2])
        found[first : first + 2] = [_around(found[first], found[first + 1])]
    return found


def _around(one: Box, other: Box) -> Box:
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


def _far_edges(shapely: ModuleType, whole: Any) -> Iterator[Any]:
    """What of a geometry lies on the antimeridian, as seen from the other side of the cut."""
    for longitude in (-180.0, 180.0):
        edge = whole.intersection(shapely.LineString([(longitude, -90), (longitude, 90)]))
        parts = shapely.get_parts(shapely.transform(edge, lambda places: places * [-1, 1]))
        for kind, together in (("LineString", shapely.MultiLineString), ("Point", shapely.MultiPoint)):
            some = [part for part in parts if part.geom_type == kind and not part.is_empty]
            if some:
                yield together(some)


def _draw(box: Box) -> Any:
    """A box as a geometry; shapely has its own for those without a width or a height."""
    shapely = _shapely()
    west, south, east, north = box
    if west < east and south < north:
        return shapely.box(*box)
    return shapely.Point(west, south) if box[:2] == box[2:] else shapely.LineString([(west, south), (east, north)])
