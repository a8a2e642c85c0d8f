"""From pixels to places: affine transforms, ground control points, longitudes and latitudes, footprints, areas."""

from __future__ import annotations

from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from attrs import evolve, frozen

from geovlm._optional import require
from geovlm.errors import NotGeoreferenced
from geovlm.records import Footprint

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from geovlm.sources.raster.grid import Window

__all__ = ["Georeference"]

Affine = tuple[float, float, float, float, float, float]
"""`(a, b, c, d, e, f)`: x = a·col + b·row + c, y = d·col + e·row + f."""

IDENTITY: Affine = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

# The equatorial radius of Earth's ellipsoids differs by less than a tenth of this share.
EARTH_RADIUS, RADIUS_TOLERANCE = 6_378_137.0, 0.01

# A projection that stretches lengths by less is taken by its word: 10 m of UTM are 10 m, not 9.996.
SCALE_TOLERANCE = 0.01

# Edges are straight in the raster, not on the globe. Over this many pixels the bow of a parallel is below a tenth of
# a pixel for pixels of up to a kilometre.
EDGE_STEP = 64
FEWEST_STEPS, MOST_STEPS = 20, 4096

# Evaluates its polynomial through one object of GDAL.
_SOLVING = Lock()


@frozen(kw_only=True)
class ControlPoint:
    """A pixel whose place is known."""

    col: float
    row: float
    x: float
    y: float


@frozen(kw_only=True)
class Georeference:
    """Where the pixels of a raster lie.

    Args:
        crs: `"EPSG:…"`, or WKT where no code fits; `None` if nobody knows.
        affine: Pixels to the CRS; the identity without a CRS, with control points the affine transform nearest to them.
        control: Ground control points, where a raster has these in place of an affine transform.
        scale: Pixels of the file that one pixel is wide and high.

    Examples:
        >>> place = Georeference(crs="EPSG:32632", affine=(10, 0, 500000, 0, -10, 5300000))
        >>> place.to_crs([(0, 0), (1, 1)])
        array([[ 500000., 5300000.],
               [ 500010., 5299990.]])
    """

    crs: str | None
    affine: Affine = IDENTITY
    control: tuple[ControlPoint, ...] = ()
    scale: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def of(cls, dataset: Any) -> Self:
        """Read it from an open data set of rasterio."""
        points, crs_of_points = dataset.gcps
        affine = tuple(dataset.transform)[:6]
        # The identity stands for "none is known", and would put a raster beside the origin of its CRS.
        if dataset.crs is not None and affine != IDENTITY:
            return cls(crs=dataset.crs.to_string(), affine=affine)
        if not points or crs_of_points is None:
            return cls(crs=None)
        control = tuple(ControlPoint(col=p.col, row=p.row, x=p.x, y=p.y) for p in points)
        return cls(crs=crs_of_points.to_string(), affine=_nearest_affine(control), control=control)

    def scaled(self, x: float, y: float) -> Self:
        """The same place in pixels that are `x` times as wide and `y` times as high."""
        return evolve(self, scale=(self.scale[0] * x, self.scale[1] * y))

    @property
    def transform(self) -> Affine:
        """The affine transform of these pixels to the CRS."""
        (a, b, c, d, e, f), (x, y) = self.affine, self.scale
        return a * x, b * y, c, d * x, e * y, f

    @property
    def unplaced(self) -> str | None:
        """Why there is no longitude and latitude; `None` where there is."""
        return "it has no coordinate reference system" if self.crs is None else _why_not_on_earth(self.crs)

    def to_crs(self, points: ArrayLike) -> NDArray[np.float64]:
        """Pixels `(n, 2)` as (column, row) to the CRS `(n, 2)`; through the control points where there are any."""
        pixels = np.asarray(points, dtype=np.float64).reshape(-1, 2)
        if self.control:
            with _SOLVING:
                x, y = _solver(self.control).xy(*(pixels * self.scale).T[::-1].tolist(), offset="ul")
            return np.column_stack([x, y])
        a, b, c, d, e, f = self.transform
        columns, rows = pixels.T
        return np.column_stack([a * columns + b * rows + c, d * columns + e * rows + f])

    def to_lonlat(self, points: ArrayLike) -> NDArray[np.float64]:
        """Pixels `(n, 2)` to WGS 84 degrees `(n, 2)`; infinite where a pixel is not on the Earth.

        Raises:
            NotGeoreferenced: It has no CRS, or one of another planet.
        """
        if self.unplaced is not None:
            raise NotGeoreferenced(f"The raster has no longitudes and latitudes: {self.unplaced}.")
        assert self.crs is not None  # or it were unplaced
        x, y = self.to_crs(points).T
        places = np.column_stack(_to_wgs84(self.crs).transform(x, y))
        far = np.isfinite(places[:, 0]) & (np.abs(places[:, 0]) > 180)
        places[far, 0] = (places[far, 0] + 180) % 360 - 180
        return places

    def pixel_size(self, width: int, height: int) -> tuple[float, float] | None:
        """Metres on the ground that a pixel in the middle is wide and high; `None` if the CRS is unknown."""
        if self.crs is None or _crs(self.crs) is None:
            return None
        nominal, true = self._nominal_size(), self._true_size(width, height)
        if true is None or nominal is None:
            return true or nominal
        is_true = all(abs(n / t - 1) < SCALE_TOLERANCE for n, t in zip(nominal, true, strict=True))
        return nominal if is_true else true

    def _nominal_size(self) -> tuple[float, float] | None:
        assert self.crs is not None
        crs = _crs(self.crs)
        if crs.is_geographic or self.control:
            return None
        unit = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
        a, b, _, d, e, _ = self.transform
        return float(np.hypot(a, d)) * unit, float(np.hypot(b, e)) * unit

    def _true_size(self, width: int, height: int) -> tuple[float, float] | None:
        """Along the ellipsoid; another planet's where its CRS counts in degrees."""
        assert self.crs is not None
        crs = _crs(self.crs)
        if self.unplaced is not None and not crs.is_geographic:
            return None
        wide, high = min(width, 100), min(height, 100)
        x, y = width / 2, height / 2
        ends = [(x - wide / 2, y), (x + wide / 2, y), (x, y - high / 2), (x, y + high / 2)]
        places = self.to_lonlat(ends) if self.unplaced is None else self.to_crs(ends)
        if not np.isfinite(places).all():
            return None
        _, _, metres = crs.get_geod().inv(*places[::2].T, *places[1::2].T)
        return float(metres[0]) / wide, float(metres[1]) / high

    def area_m2(self, ring: ArrayLike) -> float | None:
        """Square metres on the ellipsoid inside a ring of pixels; `None` where it is not all on the Earth."""
        if self.unplaced is not None:
            return None
        places = self.to_lonlat(_densified(np.asarray(ring, dtype=np.float64)))
        if not np.isfinite(places).all():
            return None
        area, _ = _wgs84().polygon_area_perimeter(*places.T)
        return abs(float(area))

    def footprint(self, window: Window) -> Footprint | None:
        """The box of longitudes and latitudes around a window; `None` where it is not all on the Earth."""
        if self.unplaced is not None:
            return None
        places = self.to_lonlat(_densified(np.asarray(window.ring, dtype=np.float64)))
        return _box(places) if np.isfinite(places).all() else None


def _nearest_affine(control: tuple[ControlPoint, ...]) -> Affine:
    pixels = np.array([(p.col, p.row, 1.0) for p in control])
    places = np.array([(p.x, p.y) for p in control])
    (a, d), (b, e), (c, f) = np.linalg.lstsq(pixels, places, rcond=None)[0].tolist()
    return a, b, c, d, e, f


@lru_cache(maxsize=16)
def _solver(control: tuple[ControlPoint, ...]) -> Any:
    """GDAL's polynomial through the control points."""
    from rasterio.control import GroundControlPoint
    from rasterio.transform import GCPTransformer

    return GCPTransformer([GroundControlPoint(row=p.row, col=p.col, x=p.x, y=p.y) for p in control])


def _pyproj() -> Any:
    return require("pyproj", extra="geo", purpose="the places of rasters")


@lru_cache(maxsize=64)
def _crs(text: str) -> Any:
    """The CRS, or `None` for one that PROJ does not understand."""
    library = _pyproj()
    try:
        return library.CRS.from_user_input(text)
    except library.exceptions.CRSError:
        return None


@lru_cache(maxsize=64)
def _to_wgs84(text: str) -> Any:
    return _pyproj().Transformer.from_crs(_crs(text), "EPSG:4326", always_xy=True)


@lru_cache(maxsize=1)
def _wgs84() -> Any:
    return _pyproj().Geod(ellps="WGS84")


@lru_cache(maxsize=64)
def _why_not_on_earth(text: str) -> str | None:
    crs = _crs(text)
    if crs is None:
        return "PROJ does not understand its coordinate reference system"
    try:
        ellipsoid = crs.ellipsoid
        radius = EARTH_RADIUS if ellipsoid is None else ellipsoid.semi_major_metre
        if abs(radius / EARTH_RADIUS - 1) > RADIUS_TOLERANCE:
            return f"its coordinates are of a body with a radius of {radius / 1000:,.0f} km, not of the Earth"
        _to_wgs84(text)
    except _pyproj().exceptions.ProjError as error:
        return f"its coordinate reference system has no way to WGS 84 ({str(error).splitlines()[0]:.100})"
    return None


def _densified(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """A ring with points along its edges; open, whether it was closed or not."""
    if len(ring) > 1 and np.array_equal(ring[0], ring[-1]):
        ring = ring[:-1]
    ends = np.roll(ring, -1, axis=0)
    edges = []
    for start, end in zip(ring, ends, strict=True):
        length = float(np.abs(end - start).max())
        steps = int(np.clip(np.ceil(length / EDGE_STEP), FEWEST_STEPS, MOST_STEPS))
        share = np.arange(steps)[:, None] / steps
        edges.append(start + share * (end - start))
    return np.concatenate(edges)


def _box(places: NDArray[np.float64]) -> Footprint:
    """Around a ring of places, with the antimeridian or a pole inside where it runs around them."""
    longitudes, latitudes = places.T
    closed = np.unwrap(np.append(longitudes, longitudes[0]), period=360.0)
    south, north = (float(v) for v in np.clip([latitudes.min(), latitudes.max()], -90, 90))
    if abs(closed[-1] - closed[0]) > 180:  # once around the pole
        middle = latitudes.mean()
        return Footprint(west=-180, south=-90 if middle < 0 else south, east=180, north=north if middle < 0 else 90)
    west, east = float(closed.min()), float(closed.max())
    if east - west >= 360:
        return Footprint(west=-180, south=south, east=180, north=north)
    west = (west + 180) % 360 - 180
    east = (east + 180) % 360 - 180
    return Footprint(west=west, south=south, east=180.0 if east == -180 else east, north=north)
