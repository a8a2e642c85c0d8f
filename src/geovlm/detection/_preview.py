"""A small picture of a raster, and where it lies: what maps and plots are drawn on."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import field, frozen
from PIL import Image

from geovlm._optional import require
from geovlm.errors import ImageError, NotGeoreferenced, UsageError
from geovlm.sources.raster.grid import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geovlm.detection.detections import Detections

# Of the pixels that are read at once where nothing coarser can be asked for.
BLOCK = 2048


@frozen(kw_only=True, eq=False)
class Picture:
    """A raster, small.

    Args:
        rgb: `(height, width, 3)` bytes.
        valid: `(height, width)`, whether there is data.
        transform: `(a, b, c, d, e, f)` from this picture's pixels to the CRS.
        crs: As the raster's.
        mesh: `(n, 4)` columns, rows, x and y, where an affine transform is not exact; else empty.
    """

    rgb: NDArray[np.uint8] = field(repr=False)
    valid: NDArray[np.bool_] = field(repr=False)
    transform: tuple[float, ...]
    crs: str | None
    mesh: NDArray[np.float64] = field(repr=False)

    @property
    def rgba(self) -> NDArray[np.uint8]:
        """With what has no data transparent."""
        return np.dstack([self.rgb, np.where(self.valid, 255, 0).astype(np.uint8)])


def take(found: Detections, raster: Any, *, max_side: int) -> Picture | None:
    """A picture of the raster, or of the one that was scanned, which may be gone.

    Raises:
        ImageError: The raster that was asked for cannot be read.
        UsageError: It lies in another CRS than the places.
    """
    if raster is not None:
        opened = _opened(raster)
        if not _is_same(opened.crs, found.crs):
            raise UsageError(
                f"{opened.path} lies in {opened.crs or 'pixels'} and the places in {found.crs or 'pixels'}; give a"
                " raster in the CRS of the places."
            )
        return of_raster(opened, max_side=max_side)
    if not found.raster or not Path(found.raster).is_file():
        return None
    try:
        opened = _opened(found.raster, bands=found.settings.get("bands"))
        # Places that were moved to another CRS no longer lie on it.
        return of_raster(opened, max_side=max_side) if _is_same(opened.crs, found.crs) else None
    except ImageError:
        return None


def _is_same(one: str | None, other: str | None) -> bool:
    if one is None or other is None or one == other:
        return one == other
    crs = require("pyproj", extra="geo", purpose="maps and plots").CRS
    return bool(crs.from_user_input(one) == crs.from_user_input(other))


def _opened(raster: Any, *, bands: Sequence[int] | None = None) -> Any:
    from geovlm.sources.raster import Raster

    if isinstance(raster, Raster):
        return raster
    with warnings.catch_warnings():  # the scan has told already that there is no CRS
        warnings.simplefilter("ignore", NotGeoreferenced)
        return Raster(raster, bands=bands)


def of_raster(raster: Any, *, max_side: int) -> Picture:
    """A picture of at most `max_side` pixels a side.

    Raises:
        ImageError: The raster cannot be read.
    """
    factor = max(raster.width, raster.height) / max_side
    small = raster
    if factor > 1 and raster.gsd is not None:
        small = type(raster)(raster.path, gsd=raster.gsd * factor * 1.01, bands=raster.bands, stretch=raster.stretch)
    step = -(-max(small.width, small.height) // max_side)
    rgb, valid = _reduced(small, step)
    a, b, c, d, e, f = small.transform or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    transform = (a * step, b * step, c, d * step, e * step, f)
    return Picture(rgb=rgb, valid=valid, transform=transform, crs=raster.crs, mesh=_mesh(small, step, valid.shape))


def _reduced(raster: Any, step: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Means of `step` × `step` pixels, block by block, so that a large raster without overviews is never held."""
    height, width = -(-raster.height // step), -(-raster.width // step)
    rgb = np.zeros((height, width, 3), dtype=np.uint8)
    valid = np.zeros((height, width), dtype=bool)
    block = max(BLOCK // step, 1) * step
    for row in range(0, raster.height, block):
        for col in range(0, raster.width, block):
            high, wide = min(block, raster.height - row), min(block, raster.width - col)
            colours, there = raster.read(Window(col=col, row=row, width=wide, height=high))
            place = np.s_[row // step : -(-(row + high) // step), col // step : -(-(col + wide) // step)]
            rgb[place] = np.asarray(Image.fromarray(colours).reduce(step))
            valid[place] = np.asarray(Image.fromarray(there.astype(np.uint8) * 255).reduce(step)) > 127
    return rgb, valid


def _mesh(raster: Any, step: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Where control points bend the raster: the places of a grid of pixels of the picture."""
    if raster.crs is None:
        return np.empty((0, 4))
    height, width = shape
    columns, rows = (axis.ravel() for axis in np.meshgrid(np.linspace(0, width, 9), np.linspace(0, height, 9)))
    a, b, c, d, e, f = raster.transform
    x, y = columns * step, rows * step
    straight = np.column_stack([a * x + b * y + c, d * x + e * y + f])
    places = raster.to_crs(np.column_stack([x, y]))
    pixel = step * max(np.hypot(a, d), np.hypot(b, e))
    if np.abs(places - straight).max() < pixel / 4:
        return np.empty((0, 4))
    return np.column_stack([columns, rows, places])
