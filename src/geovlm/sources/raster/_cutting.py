"""How rasters are cut into records."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from attrs import field, frozen

from geovlm.errors import ImageError, UsageError
from geovlm.records import Record
from geovlm.sources.raster.grid import Grid, Window, cover
from geovlm.sources.raster.raster import Raster

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from geovlm.imaging import Stretch
    from geovlm.sources.raster._gdal import Place

__all__ = ["Cutting", "failed"]

WINDOW = 224


def _bands(value: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if value is None else tuple(value)


@frozen(kw_only=True)
class Cutting:
    """The settings of sources of rasters; what each means is told at `RasterSource`."""

    window: int | None = None
    size_m: float | None = None
    overlap: float = 0
    gsd: float | None = None
    bands: tuple[int, ...] | None = field(default=None, converter=_bands)
    stretch: Stretch | None = None
    min_valid: float = 0.1

    def __attrs_post_init__(self) -> None:
        if self.window is not None and (not _is_whole(self.window) or self.window < 1):
            raise UsageError(f"window is a whole number of pixels, at least 1, not {self.window!r}; metres are size_m.")
        for name, value in (("size_m", self.size_m), ("gsd", self.gsd)):
            if value is not None and not value > 0:
                raise UsageError(f"{name} is a number of metres above 0, not {value!r}.")
        if None not in (self.window, self.size_m, self.gsd):
            raise UsageError("Two of window, size_m and gsd say all; leave one of them out.")
        if not 0 <= self.min_valid <= 1:
            raise UsageError(f"min_valid is a share from 0 to 1, not {self.min_valid!r}.")
        if self.overlap < 0 or (not _is_whole(self.overlap) and self.overlap >= 1):
            raise UsageError(f"overlap is a whole number of pixels or a share below 1, not {self.overlap!r}.")

    @property
    def shows_otherwise(self) -> bool:
        """Whether a raster that is open already cannot follow the settings."""
        asked = (self.gsd, self.bands, self.stretch)
        return any(value is not None for value in asked) or None not in (self.window, self.size_m)

    def open(self, path: str | Place) -> Raster:
        """A raster at the resolution that the settings ask for."""
        gsd = self.gsd
        if self.size_m is not None and self.window is not None:
            gsd = self.size_m / self.window
        return Raster(path, gsd=gsd, bands=self.bands, stretch=self.stretch)

    def grid(self, raster: Raster) -> Grid:
        """Its windows.

        Raises:
            UsageError: They are in metres, and the raster has no CRS; or the overlap leaves no step.
        """
        side = self.window or WINDOW
        if self.window is None and self.size_m is not None:
            if raster.gsd is None:
                raise UsageError(f"{raster.path} has no coordinate reference system; give its windows in pixels.")
            side = max(1, round(self.size_m / raster.gsd))
        overlap = int(self.overlap) if _is_whole(self.overlap) else int(side * self.overlap)
        return cover(raster.width, raster.height, window=side, overlap=overlap)

    def shares(self, raster: Raster) -> NDArray[np.float32]:
        """The share of each window that is valid; NaN where that could not be read."""
        return np.array([_share(raster, window) for window in self.grid(raster)], dtype=np.float32)

    def is_kept(self, shares: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which windows become records; those that could not be read do, and fail where they are used."""
        return np.isnan(shares) | ((shares >= self.min_valid) & (shares > 0))

    def records(
        self, raster: Raster, name: str, shares: NDArray[np.float32], meta: Mapping[str, Any]
    ) -> Iterator[Record]:
        """The windows that are kept, row by row."""
        at = "" if self.gsd is None and (self.size_m is None or self.window is None) else f"@{raster.gsd:.6g}m"
        shown = {"raster": raster.path, "crs": _code(raster.crs), "gsd": raster.gsd, "bands": list(raster.bands)}
        grid = self.grid(raster)
        for place in np.flatnonzero(self.is_kept(shares)).tolist():
            window, share = grid[place], shares[place]
            yield Record(
                id=f"{name}{at}/{window.row}_{window.col}_{window.width}x{window.height}",
                image=partial(_pixels, raster, window),
                footprint=raster.footprint(window),
                meta={
                    **meta,
                    **shown,
                    "window": [window.col, window.row, window.width, window.height],
                    "valid": None if np.isnan(share) else round(float(share), 4),
                },
            )


def _is_whole(value: float) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _share(raster: Raster, window: Window) -> float:
    try:
        return raster.valid_share(window)
    except ImageError:
        return float("nan")


def _code(crs: str | None) -> str | None:
    """A CRS in so few letters that it can be filtered by; those without a code are in the raster."""
    return crs if crs is not None and len(crs) < 32 else None


def _pixels(raster: Raster, window: Window) -> NDArray[np.uint8]:
    return raster.read(window)[0]


def failed(name: str, error: ImageError | UsageError, meta: Mapping[str, Any]) -> Record:
    """A raster that cannot be opened, as one record that fails with the reason."""
    reason, uri = (error.reason, error.uri) if isinstance(error, ImageError) else (str(error), None)
    return Record(id=name, image=partial(_fail, reason, uri or name), meta=meta)


def _fail(reason: str, uri: str) -> NoReturn:
    raise ImageError(reason, uri=uri)
