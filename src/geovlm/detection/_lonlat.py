"""From a raster's coordinates to longitudes and latitudes that no reader can take for the other side of the Earth."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from attrs import frozen

from geovlm._optional import require
from geovlm.errors import UsageError
from geovlm.sources.raster.georeference import Georeference

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

DECIMALS = 7


@frozen
class Placer:
    """Takes places of one CRS to WGS 84.

    Args:
        reference: The CRS, without a raster on it.
    """

    reference: Georeference

    @classmethod
    def of(cls, crs: str | None, purpose: str) -> Self:
        """The one for a CRS.

        Raises:
            UsageError: There is no CRS, or it is not of the Earth.
        """
        reference = Georeference(crs=crs)
        if reference.unplaced is not None:
            own = "pixel coordinates" if crs is None else "the raster's own coordinates"
            raise UsageError(
                f"{purpose} need longitudes and latitudes, and the raster has none: {reference.unplaced}."
                f" to_geodataframe() gives the places in {own}."
            )
        return cls(reference)

    def places(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """`(n, 2)` longitudes, −180 to 180, and latitudes of `(n, 2)` places in the CRS.

        Raises:
            UsageError: Some lie where the CRS shows no place on the Earth.
        """
        found = self.reference.to_lonlat(points)
        lost = ~np.isfinite(found).all(axis=1)
        if lost.any():
            raise UsageError(f"The place {tuple(points[lost][0].tolist())} of the raster's CRS is not on the Earth.")
        return found

    def point(self, place: tuple[float, float]) -> tuple[float, float]:
        """Longitude and latitude of one place."""
        [[longitude, latitude]] = self.places(np.array([place], dtype=np.float64)).tolist()
        return longitude, latitude

    def unbroken(self, geometry: Any) -> Any:
        """A polygon in degrees that may reach beyond ±180, so that its parts lie side by side."""
        shapely = require("shapely", extra="geo", purpose="polygons")
        parts = [
            shapely.Polygon(
                self._ring(part.exterior), [self._ring(hole, near=part.exterior) for hole in part.interiors]
            )
            for part in shapely.get_parts(geometry)
        ]
        return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)

    def geometry(self, geometry: Any) -> Any:
        """A polygon in degrees, cut where it crosses the antimeridian, outer rings counterclockwise (RFC 7946)."""
        return oriented(cut(self.unbroken(geometry)))

    def _ring(self, ring: Any, *, near: Any = None) -> NDArray[np.float64]:
        places = self.places(np.asarray(ring.coords)[:, :2])
        jumps = np.diff(places[:, 0], prepend=places[0, 0])
        places[:, 0] -= 360 * np.cumsum(np.round(jumps / 360))
        if near is not None:
            start = self.places(np.asarray(near.coords)[:1, :2])[0, 0]
            places[:, 0] -= 360 * np.round((places[0, 0] - start) / 360)
        if abs(places[-1, 0] - places[0, 0]) > 180:
            pole = np.copysign(90.0, places[:, 1].mean())
            places = np.vstack([places, [places[-1, 0], pole], [places[0, 0], pole], places[:1]])
        return places


def cut(polygon: Any) -> Any:
    """A polygon whose longitudes may pass ±180, as one or several that do not."""
    import shapely
    from shapely.affinity import translate

    west, _, east, _ = polygon.bounds
    if west >= -180 and east <= 180:
        return polygon
    whole = polygon if polygon.is_valid else shapely.make_valid(polygon)
    turns = range(int(np.floor((west + 180) / 360)), int(np.ceil((east - 180) / 360)) + 1)
    pieces = [
        translate(whole.intersection(shapely.box(360 * turn - 180, -90, 360 * turn + 180, 90)), xoff=-360 * turn)
        for turn in turns
    ]
    areas = [part for piece in pieces for part in shapely.get_parts(piece) if part.geom_type == "Polygon"]
    areas = [part for part in areas if part.area > 0]
    return areas[0] if len(areas) == 1 else shapely.MultiPolygon(areas)


def oriented(geometry: Any) -> Any:
    """Outer rings counterclockwise and holes clockwise, each number rounded to about a centimetre."""
    import shapely
    from shapely.geometry.polygon import orient

    parts = [orient(part) for part in shapely.get_parts(shapely.transform(geometry, lambda c: c.round(DECIMALS)))]
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def around(intervals: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """The shortest stretch of longitudes that holds all of some; `west > east` where it crosses the antimeridian.

    Examples:
        >>> around([(10, 20), (15, 30)]), around([(170, 180), (-180, -175)])
        ((10, 30), (170, -175))
    """
    ordered = sorted(intervals)
    joined: list[tuple[float, float]] = []
    for west, east in ordered:
        if joined and west <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(east, joined[-1][1]))
        else:
            joined.append((west, east))
    gaps = [(after[0] - before[1], place) for place, (before, after) in enumerate(pairwise(joined))]
    across = joined[0][0] + 360 - joined[-1][1]
    widest, place = max(gaps, default=(0.0, 0))
    return (joined[0][0], joined[-1][1]) if across >= widest else (joined[place + 1][0], joined[place][1])


def bounds_of(geometries: Sequence[Any]) -> list[float]:
    """`[west, south, east, north]` of polygons that were cut at the antimeridian, as RFC 7946, 5.2 has it."""
    import shapely

    boxes = [part.bounds for geometry in geometries for part in shapely.get_parts(geometry)]
    west, east = around([(box[0], box[2]) for box in boxes])
    return [west, min(box[1] for box in boxes), east, max(box[3] for box in boxes)]
