"""Big synthetic rasters with planted objects whose outlines are known; for trying out and measuring detection."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen
from PIL import Image, ImageDraw

from geovlm._files import write_atomically
from geovlm._optional import require
from geovlm.errors import UsageError
from geovlm.testing.scenes import GROUNDS, Draw, Rng, draw_ground

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["PLANTED", "planted_raster"]

# Pixels a side of what is drawn at once: one field of land, with at most one object on it.
TILE = 256
CRS, CORNER = "EPSG:32632", (500_000.0, 5_400_000.0)


def planted_raster(
    path: str | os.PathLike[str], *, size: int = 2000, seed: int = 0, scale: int = 72, gsd: float = 0.5
) -> dict[str, Any]:
    """Write a GeoTIFF with objects on changing ground, and tell where they are.

    The land is a patchwork of fields 256 px wide with bushes and tracks on them, and on half of them one object of one
    piece, at a random place and angle. All is drawn, and says as little of the real Earth as
    `geovlm.testing.scenes`. Memory does not grow with the size.

    Args:
        path: Of the GeoTIFF (UTM zone 32 north, tiled, deflated).
        size: Width and height in pixels.
        seed: Equal seeds write equal rasters.
        scale: Objects are from half to the whole of so many pixels long.
        gsd: Metres a pixel.

    Returns:
        A GeoJSON `FeatureCollection` in WGS 84: the outline of each object, with its `query` (one of `PLANTED`) and
        the pixel coordinates of its box (`left`, `top`, `right`, `bottom`).

    Raises:
        UsageError: The size leaves no room for a field, or the scale none for an object on it.
        MissingExtra: rasterio is not installed.

    Examples:
        >>> import tempfile
        >>> truth = planted_raster(tempfile.mkdtemp() + "/land.tif", size=600)
        >>> {feature["properties"]["query"] for feature in truth["features"]} <= set(PLANTED)
        True
    """
    if size < TILE or not 16 <= scale <= 0.7 * TILE:
        raise UsageError(f"size is at least {TILE}, and scale from 16 to {0.7 * TILE:.0f}; not {size} and {scale}.")
    found: list[dict[str, Any]] = []
    write_atomically(Path(path), partial(_write, found=found, size=size, seed=seed, scale=scale, gsd=gsd))
    return {"type": "FeatureCollection", "features": found}


# --- objects ----------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class _Frame:
    """Where an object lies on the canvas; in its own coordinates it reaches from -1 to 1 both ways."""

    middle: tuple[float, float]
    length: float
    width: float
    angle: float

    def place(self, points: Any) -> list[tuple[float, float]]:
        """Own coordinates to those of the canvas."""
        x, y = (np.asarray(points, dtype=float) * (self.length / 2, self.width / 2)).T
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        across, down = self.middle[0] + cos * x - sin * y, self.middle[1] + sin * x + cos * y
        return list(zip(across.tolist(), down.tolist(), strict=True))

    def box(self, left: float = -1, top: float = -1, right: float = 1, bottom: float = 1) -> list[tuple[float, float]]:
        return self.place([(left, top), (right, top), (right, bottom), (left, bottom)])


Outline = list[tuple[float, float]]


def _circle(radii: Any = 1.0) -> NDArray[np.float64]:
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    points: NDArray[np.float64] = np.stack([np.cos(angles), np.sin(angles)]) * radii
    return points.T


def _pond(rng: Rng, draw: Draw, frame: _Frame) -> Outline:
    waves = np.sin(3 * np.linspace(0, 2 * np.pi, 48, endpoint=False) + rng.uniform(0, 6))
    outline = frame.place(_circle(0.88 + 0.12 * waves))
    draw.polygon(outline, fill=(44, 84, 118), outline=(30, 60, 90), width=6)
    return outline


def _roof(rng: Rng, draw: Draw, frame: _Frame) -> Outline:
    red = int(rng.integers(150, 190))
    draw.polygon(frame.box(), fill=(red, 76, 58))
    draw.polygon(frame.box(top=0), fill=(red - 36, 58, 46))
    draw.line(frame.place([(-1, 0), (1, 0)]), fill=(90, 44, 36), width=5)
    return frame.box()


def _tank(_: Rng, draw: Draw, frame: _Frame) -> Outline:
    outline = frame.place(_circle())
    draw.polygon([(x + 10, y + 10) for x, y in outline], fill=(52, 52, 50))
    draw.polygon(outline, fill=(232, 232, 226), outline=(168, 168, 164), width=6)
    draw.line(frame.place([(0, 0), (0.9, 0)]), fill=(150, 150, 148), width=5)
    return outline


def _football(_: Rng, draw: Draw, frame: _Frame) -> Outline:
    for stripe in range(8):
        shade = (44, 122, 52) if stripe % 2 else (62, 146, 66)
        draw.polygon(frame.box(left=stripe / 4 - 1, right=stripe / 4 - 0.75), fill=shade)
    for line in (
        frame.box(-0.92, -0.9, 0.92, 0.9),
        frame.box(-0.92, -0.4, -0.66, 0.4),
        frame.box(0.66, -0.4, 0.92, 0.4),
    ):
        draw.polygon(line, outline=(236, 236, 236), width=4)
    draw.line(frame.place([(0, -0.9), (0, 0.9)]), fill=(236, 236, 236), width=4)
    return frame.box()


def _panels(_: Rng, draw: Draw, frame: _Frame) -> Outline:
    draw.polygon(frame.box(), fill=(150, 156, 160))
    for row in np.arange(-1, 1, 0.25).tolist():
        draw.polygon(frame.box(top=row, bottom=row + 0.19), fill=(26, 36, 84))
    return frame.box()


def _parking(rng: Rng, draw: Draw, frame: _Frame) -> Outline:
    colours = ((226, 226, 230), (160, 30, 34), (32, 48, 120), (24, 24, 26))
    draw.polygon(frame.box(), fill=(88, 88, 92))
    for top in (-0.9, -0.15, 0.5):
        for left in np.arange(-0.94, 0.85, 0.16).tolist():
            if rng.random() < 0.75:
                draw.polygon(frame.box(left, top, left + 0.09, top + 0.36), fill=colours[int(rng.integers(4))])
    return frame.box()


# What draws it, and its width as a share of its length.
OBJECTS: dict[str, tuple[Callable[[Rng, Draw, _Frame], Outline], float]] = {
    "pond": (_pond, 0.8),
    "red roof": (_roof, 0.6),
    "storage tank": (_tank, 1.0),
    "football field": (_football, 0.65),
    "solar panels": (_panels, 0.7),
    "parking lot": (_parking, 0.6),
}

PLANTED = tuple(OBJECTS)
"""The kinds of objects in `planted_raster`."""


# --- land -------------------------------------------------------------------------------------------------------------


def _write(path: Path, *, found: list[dict[str, Any]], size: int, seed: int, scale: int, gsd: float) -> None:
    rasterio = require("rasterio", extra="geo", purpose="rasters")
    transform = rasterio.Affine(gsd, 0, CORNER[0], 0, -gsd, CORNER[1])
    profile = {"driver": "GTiff", "width": size, "height": size, "count": 3, "dtype": "uint8", "crs": CRS}
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "photometric": "rgb"}
    with rasterio.open(path, "w", **profile, **layout, transform=transform) as file:
        for top in range(0, size, TILE):
            strip, features = _draw_strip(top, size=size, seed=seed, scale=scale, gsd=gsd)
            file.write(strip.transpose(2, 0, 1), window=rasterio.windows.Window(0, top, size, len(strip)))
            found += features


def _draw_strip(
    top: int, *, size: int, seed: int, scale: int, gsd: float
) -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
    """A row of fields, and what lies in it."""
    tiles, features = [], []
    for left in range(0, size, TILE):
        rng = np.random.default_rng([seed, top, left])
        is_whole = max(top, left) + TILE <= size
        name = str(rng.choice(PLANTED)) if rng.random() < 0.5 and is_whole else None
        pixels, outline = _draw_tile(rng, name, scale)
        tiles.append(pixels)
        if name is not None:
            features.append(_feature(name, np.add(outline, (left, top)), gsd))
    return np.concatenate(tiles, axis=1)[: size - top, :size], features


def _draw_tile(rng: Rng, name: str | None, scale: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Pixels, and the outline `(corners, 2)` of the object in them; drawn at twice the size."""
    canvas = draw_ground(rng, 2 * TILE, GROUNDS[str(rng.choice(list(GROUNDS)))])
    draw = ImageDraw.Draw(canvas)
    _draw_clutter(rng, draw)
    outline: Outline = []
    if name is not None:
        paint, aspect = OBJECTS[name]
        length = 2 * scale * rng.uniform(0.5, 1)
        reach = length / 2 * np.hypot(1, aspect)
        x, y = rng.uniform(reach, 2 * TILE - reach, size=2).tolist()
        angle = float(rng.uniform(0, np.pi))
        outline = paint(rng, draw, _Frame(middle=(x, y), length=length, width=aspect * length, angle=angle))
    small = canvas.resize((TILE, TILE), Image.Resampling.LANCZOS)
    return np.asarray(small), np.asarray(outline).reshape(-1, 2) / 2


def _draw_clutter(rng: Rng, draw: Draw) -> None:
    """What nobody looks for: a track, bushes."""
    if rng.random() < 0.5:
        ends = rng.uniform(0, 2 * TILE, size=2).tolist()
        draw.line([(0.0, ends[0]), (2.0 * TILE, ends[1])], fill=(176, 160, 130), width=12)
    for x, y in rng.uniform(0, 2 * TILE, size=(int(rng.integers(0, 24)), 2)).tolist():
        radius, shade = rng.uniform(5, 14), int(rng.integers(44, 84))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(shade - 22, shade, shade - 20))


def _feature(name: str, outline: NDArray[np.float64], gsd: float) -> dict[str, Any]:
    warp = require("rasterio.warp", extra="geo", purpose="places on the Earth")
    closed = np.concatenate([outline, outline[:1]])
    eastings, northings = CORNER[0] + gsd * closed[:, 0], CORNER[1] - gsd * closed[:, 1]
    ring = [list(point) for point in zip(*warp.transform(CRS, "EPSG:4326", eastings, northings), strict=True)]
    (left, top), (right, bottom) = outline.min(axis=0).tolist(), outline.max(axis=0).tolist()
    return {
        "type": "Feature",
        "properties": {"query": name, "left": left, "top": top, "right": right, "bottom": bottom},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
