"""A map of detections as one HTML page that needs no network: Leaflet, pictures and places lie inside it."""

from __future__ import annotations

import base64
import io
import json
import re
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from geovlm._files import write_atomically
from geovlm._optional import require
from geovlm._vectors import check_count
from geovlm.detection._canvas import Earth, Sheet, edge
from geovlm.detection._preview import take

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from geovlm.detection._canvas import Bounds
    from geovlm.detection._preview import Picture
    from geovlm.detection.detections import Detection, Detections

# Told apart by people who see colours differently (Okabe and Ito, 2008).
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
HEAT = ((255, 237, 160), (253, 141, 60), (240, 59, 32), (128, 0, 38))
# More shapes than this are drawn on one canvas, not each as an element of the page.
MOST_ELEMENTS = 2000
THUMBNAIL_SIDE = 400
NO_MESH = np.empty((0, 4))

SCRIPT = """
{% macro header(this, kwargs) %}<style>{{ this.style }}</style><script>{{ this.code }}</script>{% endmacro %}
{% macro script(this, kwargs) %}showPlaces({{ this.arguments }});{% endmacro %}
"""


def write_map(found: Detections, path: Path, *, raster: Any, max_side: int, tiles: str | None) -> Path:
    """Write the page."""
    check_count(max_side, name="max_side")
    page = draw(found, take(found, raster, max_side=max_side), max_side=max_side, tiles=tiles)
    text = page.get_root().render()
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="replace"))
    return path


def draw(found: Detections, picture: Picture | None, *, max_side: int, tiles: str | None) -> Any:
    """A `folium.Map` with Leaflet inside."""
    folium = require("folium", extra="viz", purpose="maps")
    canvas = _canvas(found, picture)
    on_earth = isinstance(canvas, Earth)
    page = folium.Map(
        tiles=tiles if on_earth else None,
        crs=canvas.leaflet_crs,
        control_scale=on_earth,
        zoom_control=True,
        min_zoom=0 if on_earth else -8,
        max_zoom=24,
        zoom_snap=0.25,
        prefer_canvas=len(found) > MOST_ELEMENTS,
    )
    page.default_js = [("leaflet", _data_url("text/javascript", _asset("leaflet.js").encode()))]
    page.default_css = [("leaflet_css", _data_url("text/css", _asset("leaflet.css").encode()))]
    bounds = [*_add_picture(page, canvas, picture, max_side), *_add_heat(page, canvas, found, max_side)]
    bounds += _add_places(page, canvas, found)
    if bounds:
        corners = np.array(bounds)
        page.fit_bounds([corners[:, 0].min(axis=0).tolist(), corners[:, 1].max(axis=0).tolist()])
    folium.LayerControl(collapsed=False).add_to(page)
    return page


def _canvas(found: Detections, picture: Picture | None) -> Earth | Sheet:
    outlines = [np.asarray(item.polygon.envelope.exterior.coords) for item in found]
    outlines += [edge(heat.transform, *heat.scores.shape) for heat in found.heat_maps.values() if heat.crs == found.crs]
    if picture is not None:
        outlines.append(picture.mesh[:, 2:] if len(picture.mesh) else edge(picture.transform, *picture.valid.shape))
    points = np.concatenate(outlines) if outlines else np.zeros((1, 2))
    plain = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0) if found.crs is None else (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
    sheet = Sheet(plain if picture is None else picture.transform)
    return Earth.around(found.crs, points) or sheet


def _add_picture(page: Any, canvas: Earth | Sheet, picture: Picture | None, max_side: int) -> list[Bounds]:
    if picture is None:
        return []
    bands = np.moveaxis(picture.rgba, -1, 0)
    image, bounds = canvas.image(bands, picture.transform, mesh=picture.mesh, max_side=max_side, smooth=True)
    _add_image(page, np.moveaxis(image, 0, -1), bounds, name="imagery", format_="WEBP")
    return [bounds]


def _add_heat(page: Any, canvas: Earth | Sheet, found: Detections, max_side: int) -> list[Bounds]:
    added = []
    for number, (name, heat) in enumerate(found.heat_maps.items()):
        if heat.crs != found.crs:
            continue  # of a merged scan in another CRS
        scores = np.asarray(heat.scores, dtype=np.float32)[None]
        image, bounds = canvas.image(scores, heat.transform, mesh=NO_MESH, max_side=max_side, smooth=False)
        _add_image(page, coloured(image[0]), bounds, name=f"heat map: {name}", format_="PNG", show=number == 0)
        added.append(bounds)
    return added


def _add_image(
    page: Any, rgba: NDArray[np.uint8], bounds: Bounds, *, name: str, format_: str, show: bool = True
) -> None:
    from folium.raster_layers import ImageOverlay

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgba)).save(buffer, format=format_, quality=85)
    url = _data_url(f"image/{format_.lower()}", buffer.getvalue())
    ImageOverlay(url, [list(corner) for corner in bounds], name=_name(name), pixelated=False, show=show).add_to(page)


def thumbnail(scores: NDArray[np.float32]) -> bytes:
    """A heat map as a PNG of some hundred pixels a side: of every so many cells, as it may be larger than memory."""
    step = max(1, -(-max(scores.shape) // THUMBNAIL_SIDE))
    shown = Image.fromarray(coloured(np.asarray(scores[::step, ::step])))
    times = max(1, THUMBNAIL_SIDE // max(shown.size))
    buffer = io.BytesIO()
    shown.resize((shown.width * times, shown.height * times), Image.Resampling.NEAREST).save(buffer, format="PNG")
    return buffer.getvalue()


def coloured(scores: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Probabilities as `(height, width, 4)` bytes, more opaque the larger they are; NaN is transparent."""
    known = np.nan_to_num(scores, nan=0.0)
    stops = np.linspace(0, 1, len(HEAT))
    bands = [np.interp(known, stops, [colour[band] for colour in HEAT]) for band in range(3)]
    opacity = np.where(np.isnan(scores), 0, 150 * np.clip(known, 0, 1))
    return np.stack([*bands, opacity], axis=-1).round().astype(np.uint8)


def _add_places(page: Any, canvas: Earth | Sheet, found: Detections) -> list[Bounds]:
    import folium

    layers = {}
    colours = {query: COLOURS[place % len(COLOURS)] for place, query in enumerate(found.queries)}
    for query, colour in colours.items():
        number = sum(item.query == query for item in found)
        key = f"<i class=gv-swatch style=background:{colour}></i>"
        layers[query] = folium.FeatureGroup(name=key + _name(f"{query} ({number})")).add_to(page)
    places = [_place(item, canvas, colours[item.query]) for item in found]
    groups = ", ".join(f"{_script_text(query)}: {layer.get_name()}" for query, layer in layers.items())
    lowest = min((item.score for item in found), default=0.0)
    page.add_child(_places_script(page.get_name(), groups, places, np.floor(lowest * 100) / 100, bool(found.heat_maps)))
    corners = [np.array(ring) for place in places for part in place["rings"] for ring in part[:1]]
    return [(tuple(ring.min(axis=0)), tuple(ring.max(axis=0))) for ring in corners]


def _place(item: Detection, canvas: Earth | Sheet, colour: str) -> dict[str, Any]:
    parts = getattr(item.polygon, "geoms", [item.polygon])
    rings = [[_ring(ring, canvas) for ring in (part.exterior, *part.interiors)] for part in parts]
    return {
        "query": item.query,
        "layer": item.query,
        "score": round(item.score, 4),
        "area": "" if item.area_m2 is None else f"{item.area_m2:,.0f} m²",
        "where": f"{item.point[0]:.7g}, {item.point[1]:.7g}",
        "color": colour,
        "rings": rings,
    }


def _ring(ring: Any, canvas: Earth | Sheet) -> list[list[float]]:
    return canvas.places(np.asarray(ring.coords)[:-1, :2]).round(7).tolist()  # type: ignore[no-any-return]


def _places_script(map_name: str, groups: str, places: Sequence[dict[str, Any]], lowest: float, has_heat: bool) -> Any:
    element = require("branca.element", extra="viz", purpose="maps")
    template = require("jinja2", extra="viz", purpose="maps").Template

    ramp = f"linear-gradient(90deg, {', '.join('rgb' + str(colour) for colour in HEAT)})" if has_heat else ""
    script = element.MacroElement()
    script._template = template(SCRIPT)  # noqa: SLF001 - branca's way to say it
    script.style, script.code = _asset("places.css"), _asset("places.js")
    values = [_script_text(value) for value in (places, float(lowest), ramp)]
    script.arguments = ", ".join([map_name, f"{{{groups}}}", *values])
    return script


def _script_text(value: Any) -> str:
    """JSON that ends no script, and in which no text is taken for a template: folium renders scripts once more."""
    text = json.dumps(value).replace("<", "\\u003c")
    return re.sub(r"\{(?=[{%#])", r"\\u007b", text)


def _name(text: str) -> str:
    """A layer's name, which is HTML, and which folium takes for a template too."""
    return escape(text).replace("{", "&#123;")


def _asset(name: str) -> str:
    """A file that is shipped with the package, without what it would fetch."""
    text = files("geovlm.detection").joinpath("_assets", name).read_text(encoding="utf-8")
    text = re.sub(r"//# sourceMappingURL=.*", "", text)
    return re.sub(r"url\(images/[^)]*\)", "none", text)


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
