"""Features with a place, as GeoJSON (RFC 7946) and as a GeoDataFrame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geovlm._files import write_atomically
from geovlm._optional import require

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

Feature = dict[str, Any]


def feature(
    geometry: Mapping[str, Any] | None, properties: Mapping[str, Any], bounds: Sequence[float] | None
) -> Feature:
    """One feature.

    Args:
        geometry: In WGS 84; `None` where the place is not known.
        properties: What is told of it.
        bounds: `(west, south, east, north)`; west is more than east across the antimeridian.
    """
    box = {} if bounds is None else {"bbox": list(bounds)}
    return {"type": "Feature", **box, "geometry": geometry, "properties": dict(properties)}


def write_features(path: str | os.PathLike[str], features: Iterable[Feature]) -> Path:
    """Write a FeatureCollection.

    Raises:
        StorageError: It cannot be written.
    """
    out = Path(path).expanduser()
    text = json.dumps({"type": "FeatureCollection", "features": list(features)}, ensure_ascii=False)
    write_atomically(out, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="replace"))
    return out


def to_frame(features: Sequence[Feature], columns: Sequence[str]) -> Any:
    """Features as a `geopandas.GeoDataFrame` in EPSG:4326.

    Args:
        features: In order.
        columns: Names that are there even if there is no feature.

    Raises:
        MissingExtra: geopandas is not installed.
    """
    geopandas = require("geopandas", extra="geo", purpose="a GeoDataFrame")
    shapely = require("shapely", extra="geo", purpose="a GeoDataFrame")
    rows = [one["properties"] for one in features]
    drawn = [None if one["geometry"] is None else json.dumps(one["geometry"]) for one in features]
    shapes = shapely.from_geojson(drawn) if drawn else []
    table = {
        name: [row.get(name) for row in rows] for name in dict.fromkeys([*columns, *(k for row in rows for k in row)])
    }
    return geopandas.GeoDataFrame(table, geometry=shapes, crs="EPSG:4326")
