"""`geovlm scan`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import geovlm as gv
from geovlm.cli import options as o
from geovlm.cli.output import Result, write_through
from geovlm.cli.reports import report_values
from geovlm.cli.session import session_of

if TYPE_CHECKING:
    from geovlm.detection import Detections

RASTER = Annotated[str, typer.Argument(metavar="RASTER", show_default=False, help="A GeoTIFF, COG, VRT or URL.")]
QUERIES = Annotated[
    list[str], typer.Argument(metavar="QUERY...", show_default=False, help="What to look for; commas part synonyms.")
]
AGAINST = Annotated[
    list[str] | None, typer.Option(help="What else may be there; common land covers if not given. May be repeated.")
]
THRESHOLD = Annotated[float | None, typer.Option(help="Least probability of a place.", show_default="0.5")]
CALIBRATION = Annotated[list[Path] | None, typer.Option(help="Files that Calibration.save wrote.")]
GSD = Annotated[float | None, typer.Option(help="Metres a pixel to look at the raster with.")]
WINDOW = Annotated[int | None, typer.Option(min=1, help="Side of a window in pixels.")]
OVERLAP = Annotated[float, typer.Option(min=0, max=0.9, help="Share of a window that the next one covers again.")]
MIN_AREA = Annotated[float | None, typer.Option(help="Square metres that a place has at least.")]
HEATMAP = Annotated[Path | None, typer.Option(help="Write the scores of all cells as a GeoTIFF as well.")]
RUN = Annotated[Path | None, typer.Option(help="Folder that keeps finished rows: an interrupted scan goes on.")]


def scan(
    context: typer.Context,
    raster: RASTER,
    queries: QUERIES,
    *,
    against: AGAINST = None,
    threshold: THRESHOLD = None,
    calibration: CALIBRATION = None,
    gsd: GSD = None,
    window: WINDOW = None,
    overlap: OVERLAP = 0.25,
    min_area: MIN_AREA = None,
    heatmap: HEATMAP = None,
    run: RUN = None,
    encoder: o.Encoder = o.DEFAULT_ENCODER,
    weights: o.Weights = None,
    architecture: o.Architecture = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    batch_size: o.BatchSize = 16,
    format_: o.MapFormat = None,
    out: o.Out = None,
) -> None:
    """Find what words name in a GeoTIFF of any size, as places on the map.

    Scores are probabilities against what else may be there. A thing is found best if it is an eighth to a half of a
    window across: choose --gsd for that. JSON has polygons in the raster's own coordinates, GeoJSON in longitude and
    latitude; HTML is a map that needs no network.

    \b
    Examples:
      geovlm scan region.tif "a vineyard"
      geovlm scan region.tif "a pond, a small lake" "a greenhouse" --against forest --against "a town"
      geovlm scan region.tif "a vineyard" --threshold 0.7 --out vineyards.geojson --heatmap vineyards.tif
      geovlm scan region.tif "a vineyard" --run scan/ --out vineyards.html
    """  # noqa: D301 - \b keeps lines apart
    session = session_of(context)
    fitted = [gv.Calibration.load(path) for path in calibration or ()]
    loaded = gv.load_encoder(encoder, weights=weights, architecture=architecture, device=device, dtype=dtype)
    session.kept = run
    found = gv.scan(
        raster,
        queries,
        loaded,
        against=against,
        threshold=threshold,
        calibration=fitted or None,
        gsd=gsd,
        window=window,
        overlap=overlap,
        min_area=min_area,
        out=run,
        batch_size=batch_size,
        progress=session.progress,
    )
    session.hint(str(found.report))
    if heatmap is not None:
        found.to_heatmap(heatmap)
    _as_result(found).write(format_, out)


def _as_result(found: "Detections") -> Result:
    return Result(
        table=lambda: _table(found),
        json=lambda: {
            "raster": found.raster,
            "crs": found.crs,
            "places": _places(found),
            "report": report_values(found.report),
        },
        html=lambda: write_through(found.save_map),
        more={"geojson": lambda: write_through(found.to_geojson)},
    )


def _places(found: "Detections") -> list[dict[str, Any]]:
    return [
        {
            "query": item.query,
            "score": item.score,
            "area_m2": item.area_m2,
            "point": item.point,
            "box": item.box,
            "geometry": item.polygon.__geo_interface__,
        }
        for item in found
    ]


def _table(found: "Detections") -> str:
    lines = [
        f"{item.score:8.4f}  {_area(item.area_m2):>14}  {item.point[0]:.7g}, {item.point[1]:.7g}  {item.query}"
        for item in found
    ]
    return "\n".join([repr(found).split("\n", 1)[0], *lines])


def _area(square_metres: float | None) -> str:
    return "" if square_metres is None else f"{square_metres:,.0f} m²"
