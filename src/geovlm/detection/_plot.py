"""Detections as a figure: the imagery, the heat map, the places and a scale bar; without matplotlib's global state."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geovlm._markup import image
from geovlm._optional import require
from geovlm.detection._canvas import Sheet, edge
from geovlm.detection._map import COLOURS, coloured
from geovlm.detection._preview import take
from geovlm.errors import GeovlmError
from geovlm.sources.raster.georeference import Georeference

if TYPE_CHECKING:
    from geovlm.detection._preview import Picture
    from geovlm.detection.detections import Detections
    from geovlm.sources.raster.georeference import Affine

INCHES = 8.0
MOST_NAMES = 12
# A notebook shows results without being asked to, and a picture of a larger file takes longer than one waits for that.
LARGEST_UNASKED = 256 << 20


def draw(found: Detections, *, raster: Any, max_side: int) -> Any:
    """A `matplotlib.figure.Figure`, upright as the raster lies in its file."""
    figure_class = require("matplotlib.figure", extra="viz", purpose="plots").Figure
    return _draw(figure_class, found, take(found, raster, max_side=max_side))


def _draw(figure_class: Any, found: Detections, picture: Picture | None) -> Any:
    transform, height, width = _frame(found, picture)
    sheet = Sheet(transform)
    longest = max(height, width)
    figure = figure_class(
        figsize=(max(INCHES * width / longest, 3), max(INCHES * height / longest, 2)), layout="constrained"
    )
    axes = figure.subplots()
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xticks=[], yticks=[], facecolor="0.92")
    if picture is not None:
        axes.imshow(picture.rgba, extent=(0, width, height, 0))
    maps = [heat for heat in found.heat_maps.values() if heat.crs == found.crs]
    if len(maps) == 1:
        (bottom, left), (top, right) = _bounds(sheet, maps[0].transform, maps[0].scores.shape)
        axes.imshow(coloured(np.asarray(maps[0].scores)), extent=(left, right, -bottom, -top), interpolation="nearest")
        axes.set(xlim=(0, width), ylim=(height, 0))
    _draw_places(axes, found, sheet)
    _draw_scale(
        axes, Georeference(crs=found.crs, affine=transform).pixel_size(round(width), round(height)), width, height
    )
    return figure


def _frame(found: Detections, picture: Picture | None) -> tuple[Affine, float, float]:
    """The transform of the pixels that are drawn on, and their height and width."""
    if picture is not None:
        return (_affine(picture.transform), *picture.valid.shape)
    for heat in found.heat_maps.values():
        if heat.crs == found.crs:
            return (_affine(heat.transform), *heat.scores.shape)
    if not len(found):
        return (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), 1.0, 1.0
    boxes = np.array([item.box for item in found])
    (left, bottom), (right, top) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
    step = max(right - left, top - bottom) / 1000
    height, width = (top - bottom) / step, (right - left) / step
    # Rows of pixels grow downwards, coordinates of a map upwards.
    return (
        ((step, 0.0, left, 0.0, step, bottom) if found.crs is None else (step, 0.0, left, 0.0, -step, top)),
        height,
        width,
    )


def _affine(transform: tuple[float, ...]) -> Affine:
    a, b, c, d, e, f = transform
    return a, b, c, d, e, f


def _bounds(sheet: Sheet, transform: tuple[float, ...], shape: tuple[int, ...]) -> list[list[float]]:
    places = sheet.places(edge(transform, *shape))
    return [places.min(axis=0).tolist(), places.max(axis=0).tolist()]


def _draw_places(axes: Any, found: Detections, sheet: Sheet) -> None:
    queries = list(found.queries)
    for item in reversed(found.items):
        colour = COLOURS[queries.index(item.query) % len(COLOURS)]
        for part in getattr(item.polygon, "geoms", [item.polygon]):
            for ring in (part.exterior, *part.interiors):
                places = sheet.places(np.asarray(ring.coords)[:, :2])
                axes.plot(places[:, 1], -places[:, 0], color="white", linewidth=3, alpha=0.7)
                axes.plot(places[:, 1], -places[:, 0], color=colour, linewidth=1.6, alpha=0.4 + 0.6 * item.score)
    for place, query in enumerate(queries[:MOST_NAMES]):
        number = sum(item.query == query for item in found)
        # A dollar sign would begin a formula, and a leading underscore hides a line from the legend.
        label = f"{query} ({number})".replace("$", r"\$").replace("_", "\u2009_", 1 if query.startswith("_") else 0)
        axes.plot([], [], color=COLOURS[place % len(COLOURS)], label=f"{label:.60}")
    if queries:
        axes.legend(loc="upper right", fontsize="small", framealpha=0.85)


def _draw_scale(axes: Any, pixel: tuple[float, float] | None, width: float, height: float) -> None:
    """A bar of a round number of metres, about a fifth as long as the picture is wide."""
    if pixel is None:
        return
    most = pixel[0] * width / 4
    power = 10.0 ** np.floor(np.log10(most))
    metres = max(step for step in (1, 2, 5) if step * power <= most) * power
    length, x, y = metres / pixel[0], 0.04 * width, 0.95 * height
    text = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    axes.plot([x, x + length], [y, y], color="black", linewidth=5, solid_capstyle="butt", gid="scale-border")
    axes.plot([x, x + length], [y, y], color="white", linewidth=3, solid_capstyle="butt", gid="scale")
    axes.text(
        x + length / 2,
        y - 0.015 * height,
        text,
        ha="center",
        va="bottom",
        size="small",
        gid="scale-text",
        bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 1.5},
    )


def picture(found: Detections) -> str:
    """An `<img>` for a notebook; nothing where it cannot be drawn, for a table is better than an error."""
    small = bool(found.raster) and Path(found.raster).is_file() and Path(found.raster).stat().st_size <= LARGEST_UNASKED
    try:
        figure_class = require("matplotlib.figure", extra="viz", purpose="plots").Figure
        figure = _draw(figure_class, found, take(found, None, max_side=600) if small else None)
    except (GeovlmError, OSError):
        return ""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=72)
    return image(buffer.getvalue(), "the places on the raster")
