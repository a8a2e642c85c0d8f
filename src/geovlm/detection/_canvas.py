"""Where things are drawn on a map page: the Earth in web mercator, or a flat sheet for what is not of the Earth.

Both give Leaflet's coordinates, `(latitude, longitude)`; on a sheet these are minus a picture's row and its column.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from attrs import frozen

from geovlm._optional import require
from geovlm.detection._lonlat import Placer
from geovlm.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Of Leaflet's sphere.
RADIUS = 6_378_137.0
# Web mercator ends here; what reaches farther is drawn on a sheet.
LAST_LATITUDE = 85.0

Bounds = tuple[tuple[float, float], tuple[float, float]]
"""`((south, west), (north, east))`, as Leaflet takes it."""


@frozen
class Earth:
    """Web mercator around one meridian, so that a raster across the antimeridian stays in one piece.

    Args:
        placer: From the raster's CRS to WGS 84.
        crs: Of the raster.
        middle: The longitude in the middle; others are at most 180 degrees from it, if that passes ±180.
    """

    placer: Placer
    crs: str
    middle: float

    leaflet_crs = "EPSG3857"

    @classmethod
    def around(cls, crs: str | None, points: NDArray[np.float64]) -> Self | None:
        """The one for places of a CRS; `None` if these are not on web mercator."""
        try:
            placer = Placer.of(crs, "Maps")
            places = placer.places(points)
        except UsageError:
            return None
        if np.abs(places[:, 1]).max() > LAST_LATITUDE:
            return None
        turned = np.exp(1j * np.radians(places[:, 0])).mean()
        assert crs is not None
        return cls(placer, crs, round(float(np.degrees(np.angle(turned)))))

    def places(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """`(n, 2)` latitudes and longitudes of places of the CRS."""
        longitudes, latitudes = self.placer.places(points).T
        return np.column_stack([latitudes, longitudes - 360 * np.round((longitudes - self.middle) / 360)])

    def image(
        self,
        bands: NDArray[Any],
        transform: tuple[float, ...],
        *,
        mesh: NDArray[np.float64],
        max_side: int,
        smooth: bool,
    ) -> tuple[NDArray[Any], Bounds]:
        """Warp `(bands, height, width)` to web mercator; floats are NaN where there is nothing, bytes are 0."""
        require("rasterio", extra="geo", purpose="maps")
        from rasterio import Affine, warp
        from rasterio.control import GroundControlPoint
        from rasterio.enums import Resampling

        count, height, width = bands.shape
        outline = mesh[:, 2:] if len(mesh) else edge(transform, height, width)
        south_west, north_east = self._bounds(outline)
        left, bottom = self._mercator(*south_west)
        right, top = self._mercator(*north_east)
        longest = max(right - left, top - bottom)
        side = min(max_side, round((1.5 if smooth else 12) * max(height, width)))
        columns, rows = (max(1, round(length / longest * side)) for length in (right - left, top - bottom))
        filler = np.nan if bands.dtype.kind == "f" else 0
        warped = np.full((count, rows, columns), filler, dtype=bands.dtype)
        source = (
            {"src_transform": Affine(*transform)}
            if not len(mesh)
            else {
                "gcps": [GroundControlPoint(col=c, row=r, x=x, y=y) for c, r, x, y in mesh.tolist()],
                "SRC_METHOD": "GCP_TPS",
            }
        )
        warp.reproject(
            bands,
            warped,
            src_crs=self.crs,
            src_nodata=filler if bands.dtype.kind == "f" else None,
            dst_nodata=filler if bands.dtype.kind == "f" else None,
            dst_transform=Affine((right - left) / columns, 0, left, 0, (bottom - top) / rows, top),
            dst_crs=f"+proj=merc +lon_0={self.middle} +a={RADIUS} +b={RADIUS} +nadgrids=@null +units=m +no_defs",
            resampling=Resampling.bilinear if smooth else Resampling.nearest,
            **source,
        )
        return warped, (south_west, north_east)

    def _bounds(self, points: NDArray[np.float64]) -> Bounds:
        latitudes, longitudes = np.clip(self.places(points), [-LAST_LATITUDE, -np.inf], [LAST_LATITUDE, np.inf]).T
        return (
            (float(latitudes.min()), float(longitudes.min())),
            (float(latitudes.max()), float(longitudes.max())),
        )

    def _mercator(self, latitude: float, longitude: float) -> tuple[float, float]:
        tall = np.log(np.tan(np.pi / 4 + np.radians(latitude) / 2))
        return float(RADIUS * np.radians(longitude - self.middle)), float(RADIUS * tall)


@frozen
class Sheet:
    """The raster as it lies in the file, on no map: for pixels, other planets and the poles.

    Args:
        transform: From the picture's pixels to the raster's coordinates.
    """

    transform: tuple[float, ...]

    leaflet_crs = "Simple"

    def places(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """`(n, 2)` minus rows and columns of places of the CRS."""
        a, b, c, d, e, f = self.transform
        columns, rows = np.linalg.solve(np.array([[a, b], [d, e]]), (points - [c, f]).T)
        return np.column_stack([-rows, columns])

    def image(
        self,
        bands: NDArray[Any],
        transform: tuple[float, ...],
        *,
        mesh: NDArray[np.float64],
        max_side: int,
        smooth: bool,
    ) -> tuple[NDArray[Any], Bounds]:
        """Leave `(bands, height, width)` as they are: all lie along the same rows."""
        del mesh, smooth
        _, height, width = bands.shape
        places = self.places(edge(transform, height, width))
        step = -(-max(height, width) // max_side)
        low, high = places.min(axis=0).tolist(), places.max(axis=0).tolist()
        return bands[:, ::step, ::step], ((low[0], low[1]), (high[0], high[1]))


def edge(transform: tuple[float, ...], height: int, width: int) -> NDArray[np.float64]:
    """`(n, 2)` places around a grid of cells."""
    a, b, c, d, e, f = transform
    share = np.linspace(0, 1, 21)
    zero, one = np.zeros(21), np.ones(21)
    x = np.concatenate([share, one, share, zero]) * width
    y = np.concatenate([zero, share, one, share]) * height
    return np.column_stack([a * x + b * y + c, d * x + e * y + f])
