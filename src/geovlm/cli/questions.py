"""What filters and areas on the command line mean."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from geovlm._files import read_json

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["read_area", "read_filters"]

OPERATORS = {"=": "$eq", "!=": "$ne", ">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}
COMPARISON = re.compile(r"([^=!<>{}]+?)\s*(!=|>=|<=|=|>|<)\s*(.*)", re.DOTALL)


def read_filters(texts: Sequence[str] | None) -> dict[str, Any] | None:
    """Filters, all of which are to hold, as `Index.search` takes them.

    Each is a comparison, such as `year>=2024`, or JSON in the grammar of `geovlm.filters`.

    Raises:
        typer.BadParameter: One is neither.

    Examples:
        >>> read_filters(["year>=2024", '{"label": {"$in": ["Port", "Pier"]}}'])
        {'$and': [{'year': {'$gte': 2024}}, {'label': {'$in': ['Port', 'Pier']}}]}
    """
    filters = [_filter(text) for text in texts or ()]
    return {"$and": filters} if len(filters) > 1 else filters[0] if filters else None


def _filter(text: str) -> dict[str, Any]:
    if text.lstrip().startswith("{"):
        value = _json(text)
        if isinstance(value, dict):
            return value
    elif found := COMPARISON.fullmatch(text.strip()):
        name, operator, value = found.groups()
        return {name: {OPERATORS[operator]: _json(value)}}
    raise typer.BadParameter(
        f"""{text!r} is neither a comparison, such as "year>=2024", nor JSON, such as '{{"label": "Port"}}'""",
        param_hint="--where",
    )


def _json(text: str) -> Any:
    """JSON, or else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def read_area(text: str | None) -> Any:
    """`west,south,east,north` in degrees, or what a GeoJSON file holds: a geometry, or a feature with one.

    Raises:
        typer.BadParameter: It is neither.
        StorageError: The file is not JSON.
    """
    if text is None:
        return None
    if Path(text).expanduser().is_file():
        return _geometry(read_json(Path(text).expanduser()), text)
    try:
        west, south, east, north = map(float, text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither west,south,east,north in degrees nor a GeoJSON file", param_hint="--within"
        ) from None
    return west, south, east, north


def _geometry(value: Any, name: str) -> Any:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "FeatureCollection" and len(value.get("features", ())) == 1:
        return _geometry(value["features"][0], name)
    if kind == "Feature":
        return value.get("geometry")
    if kind in ("Polygon", "MultiPolygon"):
        return value
    raise typer.BadParameter(f"{name} holds no polygon, and no single feature with one", param_hint="--within")
