"""Footprints that overlap or touch, joined into regions: polygons on the Earth with their areas.

Geometries are GeoJSON as RFC 7946 has it: WGS 84, outer rings anticlockwise, cut in two at the antimeridian.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen

from geovlm._areas import cut
from geovlm._optional import require
from geovlm.records import Footprint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType

    from numpy.typing import NDArray

    from geovlm._areas import Box

# WGS 84: the equatorial radius in metres and the square of the eccentricity.
RADIUS = 6_378_137.0
ECCENTRICITY_2 = 0.00669437999014

# Edges closer than this, a tenth of a millimetre, are one: neighbours in a grid of tiles differ by rounding.
SNAP = 1e-9


@frozen(kw_only=True)
class Region:
    """Footprints that hang together.

    Args:
        members: Which of the footprints, in order.
        geometry: What they cover together, a GeoJSON geometry.
        footprint: The smallest box around them.
        area: What they cover in m², on the ellipsoid.
    """

    members: tuple[int, ...]
    geometry: Mapping[str, Any]
    footprint: Footprint
    area: float


def regions(footprints: Sequence[Footprint]) -> list[Region]:
    """Footprints joined where they overlap or touch, also across the antimeridian; in the order of their first ones.

    Raises:
        MissingExtra: shapely is not installed.

    Examples:
        >>> boxes = [(0, 0, 1, 1), (5, 0, 6, 1), (1, 0, 2, 1)]
        >>> found = regions([Footprint(west=w, south=s, east=e, north=n) for w, s, e, n in boxes])
        >>> [(region.members, region.footprint.bounds, round(region.area / 1e9)) for region in found]
        [((0, 2), (0.0, 0.0, 2.0, 1.0), 25), ((1,), (5.0, 0.0, 6.0, 1.0), 12)]
    """
    if not footprints:
        return []
    shapely = _shapely()
    pieces = [(owner, piece) for owner, box in enumerate(footprints) for piece in pieces_of(box)]
    owners = np.array([owner for owner, _ in pieces])
    labels = _joined(shapely, owners, [piece for _, piece in pieces], len(footprints))
    found = dict[int, list[int]]()
    for owner, label in enumerate(labels.tolist()):
        found.setdefault(label, []).append(owner)
    return [_region(shapely, members, footprints) for members in found.values()]


def geometry_of(footprint: Footprint) -> dict[str, Any]:
    """A footprint as a GeoJSON geometry: a polygon, two of them if it crosses the antimeridian, or a line or a point.

    Examples:
        >>> geometry_of(Footprint(west=8.5, south=47.0, east=8.5, north=47.0))
        {'type': 'Point', 'coordinates': [8.5, 47.0]}
        >>> geometry_of(Footprint(west=179, south=-18, east=-179, north=-17))["type"]
        'MultiPolygon'
    """
    pieces = pieces_of(footprint)
    drawn = [_box_geometry(piece) for piece in pieces]
    if len(drawn) == 1:
        return drawn[0]
    return {"type": f"Multi{drawn[0]['type']}", "coordinates": [one["coordinates"] for one in drawn]}


def pieces_of(footprint: Footprint) -> list[Box]:
    """A footprint's box, or its two pieces if it crosses the antimeridian; none of the two is without a width."""
    pieces = cut(footprint.bounds)
    wide = [piece for piece in pieces if piece[0] < piece[2]]
    return wide or [pieces[0]]


def _box_geometry(box: Box) -> dict[str, Any]:
    west, south, east, north = box
    if west < east and south < north:
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        return {"type": "Polygon", "coordinates": [ring]}
    if (west, south) == (east, north):
        return {"type": "Point", "coordinates": [west, south]}
    return {"type": "LineString", "coordinates": [[west, south], [east, north]]}


def _shapely() -> ModuleType:
    return require("shapely", extra="geo", purpose="joining footprints into places")


# --- which footprints hang together


def _joined(shapely: ModuleType, owners: NDArray[np.int64], boxes: list[Box], count: int) -> NDArray[np.int64]:
    """A label for each of `count` owners; the same for those whose boxes touch."""
    own = np.arange(len(boxes))
    bounds = np.array(boxes)
    # What ends at the antimeridian is looked at from its other side as well.
    at_east, at_west = own[bounds[:, 2] == 180], own[bounds[:, 0] == -180]
    places = np.concatenate([own, at_east, at_west])
    drawn = np.concatenate([bounds, bounds[at_east] - [360, 0, 360, 0], bounds[at_west] + [360, 0, 360, 0]])
    tree = shapely.STRtree(shapely.box(*(drawn + np.array([-SNAP, -SNAP, SNAP, SNAP])).T))
    left, right = tree.query(tree.geometries, predicate="intersects")
    return _components(owners[places[left]], owners[places[right]], count)


def _components(left: NDArray[np.int64], right: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The smallest member of each one's group, where each pair is in one group."""
    label = np.arange(count)
    while True:
        lower = label.copy()
        np.minimum.at(lower, left, label[right])
        lower = lower[lower]
        if np.array_equal(lower, label):
            return label
        label = lower


# --- what they cover


def _region(shapely: ModuleType, members: list[int], footprints: Sequence[Footprint]) -> Region:
    boxes = [piece for member in members for piece in pieces_of(footprints[member])]
    drawn = [shapely.from_geojson(json.dumps(_box_geometry(box))) for box in boxes]
    shape = _solid(shapely, shapely.union_all(drawn, grid_size=SNAP))
    return Region(
        members=tuple(members),
        geometry=json.loads(shapely.to_geojson(shape)),
        footprint=_around(boxes),
        area=_area(shapely, shape),
    )


def _solid(shapely: ModuleType, shape: Any) -> Any:
    """The parts of the highest dimension, polygons anticlockwise: a point on a polygon's edge adds nothing to it."""
    parts = shapely.get_parts(shape)
    dimensions = shapely.get_dimensions(parts)
    solid = parts[dimensions == dimensions.max()]
    if dimensions.max() == 2:
        solid = [shapely.geometry.polygon.orient(part) for part in solid]
    together = (shapely.multipoints, shapely.multilinestrings, shapely.multipolygons)[dimensions.max()]
    return solid[0] if len(solid) == 1 else together(solid)


def _area(shapely: ModuleType, shape: Any) -> float:
    """The area in m² of a shape whose edges follow meridians and parallels, exact on the ellipsoid.

    It is taken on Lambert's cylindrical equal-area projection (Snyder, Map Projections, 1987, equation 3-12), where
    such edges are straight.
    """

    def projected(places: NDArray[np.float64]) -> NDArray[np.float64]:
        longitude, latitude = np.radians(places).T
        e, sine = np.sqrt(ECCENTRICITY_2), np.sin(latitude)
        q = (1 - ECCENTRICITY_2) * (sine / (1 - ECCENTRICITY_2 * sine**2) + np.arctanh(e * sine) / e)
        return RADIUS * np.column_stack([longitude, q / 2])

    return float(shapely.area(shapely.transform(shape, projected)))


def _around(boxes: Sequence[Box]) -> Footprint:
    """The smallest box around boxes that do not cross the antimeridian; it may cross it itself."""
    south, north = min(box[1] for box in boxes), max(box[3] for box in boxes)
    spans = list[list[float]]()
    for west, _, east, _ in sorted(boxes):
        if spans and west <= spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], east)
        else:
            spans.append([west, east])
    # The widest stretch of longitude that nothing lies in, which may be the one across the antimeridian.
    ends = [spans[-1][1] - 360, *(east for _, east in spans)]
    widest = max(range(len(spans)), key=lambda place: spans[place][0] - ends[place])
    return Footprint(west=spans[widest][0], south=south, east=spans[widest - 1][1], north=north)
