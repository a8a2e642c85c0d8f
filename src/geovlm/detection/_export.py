"""Detections as files that other programs read: GeoJSON, GeoParquet, Cloud Optimized GeoTIFF."""

from __future__ import annotations

import json
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from geovlm._files import write_atomically
from geovlm._optional import require
from geovlm.detection._lonlat import DECIMALS, Placer, bounds_of
from geovlm.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from geovlm.detection.detections import Detection, Detections, HeatMap

ROWS_AT_ONCE = 512


def feature_collection(found: Detections) -> dict[str, Any]:
    """A FeatureCollection of RFC 7946; the boxes of features that cross the antimeridian have `west > east`.

    Raises:
        UsageError: The raster has no CRS, or one that is not of the Earth.
    """
    placer = Placer.of(found.crs, "GeoJSON's places")
    shapes = [placer.geometry(item.polygon) for item in found]
    features = [_feature(item, shape, placer) for item, shape in zip(found, shapes, strict=True)]
    collection: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    return {**collection, "bbox": bounds_of(shapes)} if shapes else collection


def _feature(item: Detection, shape: Any, placer: Placer) -> dict[str, Any]:
    return {
        "type": "Feature",
        "bbox": bounds_of([shape]),
        "geometry": shape.__geo_interface__,
        "properties": {
            "query": item.query,
            "score": item.score,
            "area_m2": item.area_m2,
            "peak": [round(number, DECIMALS) for number in placer.point(item.peak)],
            "raster": item.raster,
        },
    }


def write_geojson(found: Detections, path: Path) -> Path:
    """Write the features, and the settings of the scan beside them."""
    content = {**feature_collection(found), "settings": dict(found.settings)}
    text = json.dumps(content, ensure_ascii=False, default=str) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="replace"))
    return path


def to_frame(found: Detections) -> Any:
    """A GeoDataFrame in the raster's CRS."""
    geopandas = require("geopandas", extra="geo", purpose="tables of places")
    columns = {
        "query": np.array([item.query for item in found], dtype=object),
        "score": np.array([item.score for item in found], dtype=np.float64),
        "area_m2": np.array([np.nan if item.area_m2 is None else item.area_m2 for item in found], dtype=np.float64),
        "peak_x": np.array([item.peak[0] for item in found], dtype=np.float64),
        "peak_y": np.array([item.peak[1] for item in found], dtype=np.float64),
        "raster": np.array([item.raster for item in found], dtype=object),
    }
    return geopandas.GeoDataFrame(columns, geometry=[item.polygon for item in found], crs=found.crs)


def write_geoparquet(found: Detections, path: Path) -> Path:
    """Write GeoParquet 1.1 with a covering box for each row."""
    frame = to_frame(found)
    write_atomically(
        path,
        lambda temporary: frame.to_parquet(
            temporary, index=False, schema_version="1.1.0", write_covering_bbox=True, compression="zstd"
        ),
    )
    return path


def write_heat_maps(heat_maps: Mapping[str, HeatMap], path: Path, *, query: str | None) -> Path:
    """Write one band a query, block by block: scores on disk stay there."""
    require("rasterio", extra="geo", purpose="heat maps as GeoTIFF")
    chosen = _chosen(heat_maps, query)
    write_atomically(path, lambda temporary: _write_cog(chosen, temporary))
    return path


def _chosen(heat_maps: Mapping[str, HeatMap], query: str | None) -> dict[str, HeatMap]:
    if not heat_maps:
        raise UsageError("These detections have no heat map; those that scan() returns have one for each query.")
    if query is not None:
        if query not in heat_maps:
            raise UnknownName("heat map", query, heat_maps)
        return {query: heat_maps[query]}
    grids = {(heat.scores.shape, tuple(heat.transform), heat.crs) for heat in heat_maps.values()}
    if len(grids) > 1:
        names = ", ".join(map(repr, heat_maps))
        raise UsageError(f"The heat maps lie on {len(grids)} different grids; write each with query=, one of {names}.")
    return dict(heat_maps)


def _write_cog(bands: Mapping[str, HeatMap], path: Path) -> None:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.shutil import copy

    # The COG driver copies from a raster that is there: overviews lie before the pixels that they are made of.
    plain = path.with_name(f"{path.name}.plain")
    try:
        with rasterio.Env(), warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            _write_plain(bands, plain)
            copy(plain, path, driver="COG", compress="DEFLATE", predictor="YES", overview_resampling="AVERAGE")
            _read_back(path, plain)
    except Exception as error:  # GDAL's errors have no class that is public
        raise OSError(str(error)) from error
    finally:
        with suppress(OSError):
            plain.unlink()


def _write_plain(bands: Mapping[str, HeatMap], path: Path) -> None:
    import rasterio
    from rasterio.windows import Window

    first = next(iter(bands.values()))
    rows, columns = first.scores.shape
    profile = {
        "driver": "GTiff",
        "dtype": "float32",
        "count": len(bands),
        "height": rows,
        "width": columns,
        "crs": first.crs,
        "transform": rasterio.Affine(*first.transform),
        "nodata": np.nan,
        "interleave": "band",
        "BIGTIFF": "IF_SAFER",
    }
    with rasterio.open(path, "w", **profile) as file:
        for number, (name, heat) in enumerate(bands.items(), start=1):
            file.set_band_description(number, name)
            for row in range(0, rows, ROWS_AT_ONCE):
                block = np.asarray(heat.scores[row : row + ROWS_AT_ONCE], dtype=np.float32)
                file.write(block, number, window=Window(0, row, columns, len(block)))


def _read_back(path: Path, plain: Path) -> None:
    """Raise if the copy is not whole: GDAL tells of a full disk when it closes a file, where nobody hears it."""
    import rasterio

    with rasterio.open(path) as copied, rasterio.open(plain) as written:
        if [copied.checksum(band) for band in copied.indexes] != [written.checksum(band) for band in written.indexes]:
            raise OSError("what was written cannot be read back; the disk may be full")
