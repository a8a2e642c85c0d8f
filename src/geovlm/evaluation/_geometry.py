"""Places of two kinds of origin on one flat, equal-area sheet, so that their overlaps are shares of square metres."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geovlm._files import must_exist
from geovlm._optional import require
from geovlm.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

WGS84 = "EPSG:4326"


def read_places(value: Any, *, what: str) -> Any:
    """A GeoDataFrame of a path, a GeoJSON mapping, a GeoDataFrame, or an object with `to_geodataframe()`.

    Raises:
        UsageError: It is none of these, or cannot be read.
        MissingExtra: geopandas is not installed.
    """
    geopandas = require("geopandas", extra="geo", purpose="evaluating detections")
    if isinstance(value, geopandas.GeoDataFrame):
        return value
    if hasattr(value, "to_geodataframe"):
        return value.to_geodataframe()
    if isinstance(value, str | os.PathLike):
        return _read_file(geopandas, Path(value).expanduser(), what)
    mapping = value if isinstance(value, Mapping) else getattr(value, "__geo_interface__", None)
    if not isinstance(mapping, Mapping) or mapping.get("type") != "FeatureCollection":
        raise UsageError(
            f"{what} is a path, a GeoJSON FeatureCollection, a GeoDataFrame or what scan() returns,"
            f" not {type(value).__name__}."
        )
    if not mapping.get("features"):
        return geopandas.GeoDataFrame({"geometry": []}, geometry="geometry", crs=WGS84)
    return geopandas.GeoDataFrame.from_features(mapping["features"], crs=_crs_of(mapping))


def _crs_of(mapping: Mapping[str, Any]) -> str:
    """WGS 84, or what the `crs` member says, which GeoJSON had before RFC 7946 and many programs still write."""
    named = (mapping.get("crs") or {}).get("properties", {}).get("name")
    return WGS84 if named is None or str(named).endswith("CRS84") else str(named)


def _read_file(geopandas: Any, path: Path, what: str) -> Any:
    must_exist(path)
    read = geopandas.read_parquet if path.suffix.lower() in (".parquet", ".geoparquet") else geopandas.read_file
    try:
        return read(path)
    except Exception as error:  # each reader has errors of its own
        raise UsageError(f"{what} cannot be read from {path} ({error}).") from error


def on_one_sheet(*frames: Any) -> list[tuple[NDArray[np.object_], Any]]:
    """Geometries of frames in metres of one equal-area projection around them, and how points get there.

    Where no frame has a CRS all are pixels and stay so.

    Returns:
        For each frame its valid geometries and a function from `(n, 2)` of its coordinates to those of the sheet.

    Raises:
        UsageError: Some have a CRS and others have not.
    """
    import shapely

    known = [frame.crs for frame in frames if len(frame)]
    if any(crs is None for crs in known) and any(crs is not None for crs in known):
        raise UsageError(
            "The detections and the truth cannot be laid on each other: one of them has a CRS and the other has none."
            " set_crs() of geopandas says what coordinates are."
        )
    moves = [_same] * len(frames) if not known or known[0] is None else _moves(frames)
    return [
        (shapely.make_valid(shapely.transform(np.asarray(frame.geometry.array), move)), move)
        for frame, move in zip(frames, moves, strict=True)
    ]


def _same(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points


def _moves(frames: tuple[Any, ...]) -> list[Any]:
    pyproj = require("pyproj", extra="geo", purpose="evaluating detections")
    middles = [_middles(frame.to_crs(WGS84)) for frame in frames if len(frame)]
    longitudes, latitudes = np.concatenate(middles).T
    middle = np.degrees(np.angle(np.exp(1j * np.radians(longitudes)).mean()))
    sheet = f"+proj=laea +lat_0={latitudes.mean():.6f} +lon_0={middle:.6f} +datum=WGS84 +units=m +no_defs"

    def move_from(crs: Any) -> Any:
        transformer = pyproj.Transformer.from_crs(crs or WGS84, sheet, always_xy=True)
        return lambda points: np.column_stack(transformer.transform(points[:, 0], points[:, 1]))

    return [move_from(frame.crs) for frame in frames]


def _middles(frame: Any) -> NDArray[np.float64]:
    bounds = frame.geometry.bounds.to_numpy()
    return (bounds[:, :2] + bounds[:, 2:]) / 2  # type: ignore[no-any-return]
