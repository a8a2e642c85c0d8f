"""One raster at one working resolution: windows as RGB with a mask, and places on the map."""

from __future__ import annotations

import math
import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import evolve

from geovlm._files import digest
from geovlm.errors import NotGeoreferenced, UsageError
from geovlm.sources.raster._gdal import Place, reading
from geovlm.sources.raster._guard import check
from geovlm.sources.raster._look import look_at
from geovlm.sources.raster._paths import locate
from geovlm.sources.raster.georeference import Georeference
from geovlm.sources.raster.grid import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from geovlm.imaging import Stretch
    from geovlm.records import Footprint

__all__ = ["Raster"]

# Strips as wide as a large raster are decoded once for all threads, not once for each.
LARGE_PIXELS = 1 << 24


class Raster:
    """One raster, shown at one resolution as 8-bit RGB with a mask of what is valid.

    Opened once to learn what it is; reading opens it again, once for each thread that reads.

    Args:
        path: A GeoTIFF, COG, VRT or anything else that GDAL reads; a URL (`https://`, `s3://`, `gs://`, `az://`) or a
            `/vsi…` path; or several files, which are laid side by side on the map as one.
        gsd: Metres on the ground that a pixel is to be wide and high; overviews are used where there are any. `None`
            leaves the pixels of the file.
        bands: Those shown as red, green and blue, or one shown as grey; from 1. `None` takes what is marked or named
            so, for 12 or 13 bands of 16 bits those of Sentinel-2, else the first three.
        stretch: From samples to 8 bits. `None` leaves 8 bits as they are and fits one range to others, 2 to 98 % of
            the valid samples of an overview or of windows all over the raster: the same for every window.

    Attributes:
        path: As it was given.
        width: Columns at the working resolution.
        height: Rows at the working resolution.
        crs: `"EPSG:…"` or WKT; `None` without one: then coordinates are pixels, and a warning says so.
        transform: Affine `(a, b, c, d, e, f)` of working pixels to the CRS: `x = a·col + b·row + c`,
            `y = d·col + e·row + f`. The identity without a CRS; with ground control points the nearest affine
            transform, while `to_crs` and all that is built on it go through the points.
        pixel_size: Metres that a working pixel is wide and high; `None` without a CRS.
        gsd: Their (geometric) mean.
        bands: Those that are shown.
        bands_reason: Why these.
        stretch: From samples to 8 bits.
        unplaced: Why there are no longitudes and latitudes; `None` if there are.
        has_control_points: Whether places come from ground control points, by GDAL's polynomial.
        fingerprint: Changes with the files and with every setting that changes what is read.

    Raises:
        ImageError: It cannot be read; says why.
        MissingExtra: rasterio or pyproj is not installed.
        UsageError: A file does not exist, or an argument cannot be right.

    Examples:
        >>> import tempfile, rasterio
        >>> from rasterio.transform import from_origin
        >>> profile = dict(driver="GTiff", width=100, height=80, count=3, dtype="uint8", crs="EPSG:32614")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = f"{folder}/a.tif"
        ...     with rasterio.open(path, "w", transform=from_origin(486000, 5209000, 2, 2), **profile) as file:
        ...         file.write(np.full((3, 80, 100), 7, dtype=np.uint8))
        ...     raster = Raster(path, gsd=4)
        ...     pixels, valid = raster.read(Window(col=40, row=0, width=20, height=20))
        >>> raster
        Raster('.../a.tif', 50 x 40 px of 4 m, EPSG:32614)
        >>> pixels.shape, int(pixels.max()), int(valid.sum(axis=1)[0])
        ((20, 20, 3), 7, 10)
        >>> raster.to_crs([(0, 0), (50, 40)]).tolist()
        [[486000.0, 5209000.0], [486200.0, 5208840.0]]
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Place | Sequence[str | os.PathLike[str]],
        *,
        gsd: float | None = None,
        bands: Sequence[int] | None = None,
        stretch: Stretch | None = None,
    ) -> None:
        if gsd is not None and not gsd > 0:
            raise UsageError(f"gsd is a number of metres above 0, not {gsd!r}.")
        place = _place_of(path)
        with reading(place) as dataset:
            check(dataset, place)
            self._look = look_at(dataset, bands, stretch)
            size = (dataset.width, dataset.height)
            native = Georeference.of(dataset)
            is_striped = dataset.block_shapes[0][1] >= dataset.width
        self._place = evolve(place, is_shared=is_striped and size[0] * size[1] > LARGE_PIXELS)
        self.path: str = place.name
        self.width: int
        self.height: int
        self.width, self.height = _working_size(native, size, gsd, place.name)
        self._scale = (size[0] / self.width, size[1] / self.height)
        self.bands: tuple[int, ...] = self._look.bands
        self.bands_reason: str = self._look.reason
        self.stretch: Stretch = self._look.stretch
        self._set_reference(native.scaled(*self._scale))
        shown = [self.width, self.height, self.bands, self.stretch.low, self.stretch.high]
        self.fingerprint: str = digest([place.files, place.state, shown])

    def _set_reference(self, reference: Georeference) -> None:
        self._reference = reference
        self.crs: str | None = reference.crs
        self.transform: tuple[float, ...] = reference.transform
        self.unplaced: str | None = reference.unplaced
        self.has_control_points: bool = bool(reference.control)
        self.pixel_size: tuple[float, float] | None = reference.pixel_size(self.width, self.height)
        self.gsd: float | None = None if self.pixel_size is None else math.sqrt(self.pixel_size[0] * self.pixel_size[1])
        if reference.crs is None:
            warnings.warn(
                NotGeoreferenced(f"{self.path} has no coordinate reference system; its places are pixels."),
                stacklevel=3,
            )

    def __repr__(self) -> str:
        size = f"{self.width} x {self.height} px" + (f" of {self.gsd:.4g} m" if self.gsd else "")
        crs = "no CRS" if self.crs is None else self.crs if len(self.crs) < 20 else "its own CRS"
        return f"Raster({self.path!r}, {size}, {crs})"

    def read(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Read a window at the working resolution; any number of threads may.

        Args:
            window: In working pixels; where it reaches beyond the raster there is nothing valid.

        Returns:
            RGB `(height, width, 3)`, black where nothing is valid, and the mask of what is, `(height, width)`.

        Raises:
            ImageError: It cannot be read; says why.
        """
        left, top = max(0, window.col), max(0, window.row)
        right = min(self.width, window.col + window.width)
        bottom = min(self.height, window.row + window.height)
        if left >= right or top >= bottom:
            return _nothing(window)
        inside = Window(col=left, row=top, width=right - left, height=bottom - top)
        rgb, valid = self._read(inside, (inside.height, inside.width))
        if valid.shape == (window.height, window.width):
            return rgb, valid
        padded, mask = _nothing(window)
        place = np.s_[top - window.row : bottom - window.row, left - window.col : right - window.col]
        padded[place], mask[place] = rgb, valid
        return padded, mask

    def _read(self, window: Window, shape: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """A window inside the raster, in so many rows and columns."""
        options = self._options(window, shape)
        with reading(self._place) as dataset:
            indexes = self._look.indexes
            samples = dataset.read(indexes, out_shape=(len(indexes), *shape), **options)
            mask = dataset.read_masks(indexes[0], out_shape=shape, **options) if self._look.has_mask else None
        return self._look.to_rgb(samples, mask)

    def _options(self, window: Window, shape: tuple[int, int]) -> dict[str, Any]:
        """The window in the file's pixels, and how several samples become one."""
        from rasterio.enums import Resampling
        from rasterio.windows import Window as Region

        x, y = self._scale
        region = Region(window.col * x, window.row * y, window.width * x, window.height * y)
        is_sampling = shape != (window.height, window.width)
        if self._look.is_exact or is_sampling or (x, y) == (1, 1):
            method = Resampling.nearest
        else:
            method = Resampling.average if max(x, y) >= 1 else Resampling.bilinear
        return {"window": region, "resampling": method}

    def valid_share(self, window: Window) -> float:
        """Which share of a window is valid, from 32 x 32 samples of it; 1 without reading where nothing can be missing.

        Raises:
            ImageError: It cannot be read.
        """
        if self._look.is_all_valid:
            return 1.0
        left, top = window.col, window.row
        width, height = min(window.width, self.width - left), min(window.height, self.height - top)
        valid = self._read(Window(col=left, row=top, width=width, height=height), (min(height, 32), min(width, 32)))[1]
        return float(valid.mean()) * width * height / (window.width * window.height)

    def to_crs(self, points: ArrayLike) -> NDArray[np.float64]:
        """Working pixels `(n, 2)`, as (column, row) from the upper left corner, to coordinates `(n, 2)` of the CRS."""
        return self._reference.to_crs(points)

    def to_lonlat(self, points: ArrayLike) -> NDArray[np.float64]:
        """Working pixels `(n, 2)` to WGS 84 degrees `(n, 2)`; infinite where a pixel is not on the Earth.

        Raises:
            NotGeoreferenced: There is no CRS, or it is another planet's.
        """
        return self._reference.to_lonlat(points)

    def area_m2(self, ring: ArrayLike) -> float | None:
        """Square metres inside a ring `(n, 2)` of working pixels, along the ellipsoid; `None` without places."""
        return self._reference.area_m2(ring)

    def footprint(self, window: Window | None = None) -> Footprint | None:
        """The box in WGS 84 around a window, or around all; `None` where it is not all on the Earth."""
        return self._reference.footprint(window or self.window)

    @property
    def window(self) -> Window:
        """All of it."""
        return Window(col=0, row=0, width=self.width, height=self.height)


def _place_of(path: str | os.PathLike[str] | Place | Sequence[str | os.PathLike[str]]) -> Place:
    if isinstance(path, Place):
        return path
    if isinstance(path, str | os.PathLike):
        return locate(path)
    from geovlm.sources.raster._vrt import mosaic

    if not path:
        raise UsageError("A raster needs at least one file.")
    places = [locate(one) for one in path]
    return mosaic(places) if len(places) > 1 else places[0]


def _working_size(native: Georeference, size: tuple[int, int], gsd: float | None, name: str) -> tuple[int, int]:
    if gsd is None:
        return size
    measured = native.pixel_size(*size)
    if measured is None:
        raise UsageError(f"{name} has no coordinate reference system, so nobody knows its gsd; leave gsd out.")
    width, height = (max(1, round(pixels * metres / gsd)) for pixels, metres in zip(size, measured, strict=True))
    return width, height


def _nothing(window: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    shape = (window.height, window.width)
    return np.zeros((*shape, 3), dtype=np.uint8), np.zeros(shape, dtype=bool)
