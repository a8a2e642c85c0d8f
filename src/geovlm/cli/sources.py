"""Which source a path on the command line means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

import geovlm as gv
from geovlm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geovlm.protocols import ImageSource

__all__ = ["open_source"]

TABLES = {".csv", ".tsv", ".jsonl", ".json", ".parquet"}
RASTERS = {".tif", ".tiff", ".vrt"}
ROLES = ("image", "caption", "label", "id")
REMOTE = ("http://", "https://", "s3://", "gs://", "az://", "/vsi")


def open_source(
    place: str,
    *,
    root: Path | None = None,
    split: str | None = None,
    columns: Sequence[str] | None = None,
    window: int | None = None,
) -> ImageSource:
    """The source that a path on the command line means.

    Raises:
        UsageError: There is no such thing, or an option does not go with it.
        typer.BadParameter: A column is not given as `ROLE=NAME`.
    """
    path, roles = Path(place).expanduser(), _roles(columns)
    ending = path.suffix.lower()
    if place.startswith("hf:"):
        _refuse(place, root=root, window=window)
        return gv.HuggingFaceSource(place.removeprefix("hf:"), split=split, **roles)
    if ending in TABLES and not path.is_dir():
        _refuse(place, window=window)
        return gv.TableSource(path, root=root, split=split, **roles)
    _refuse(place, root=root, split=split)
    if ending == ".tar" or (path.is_dir() and any(path.glob("*.tar"))):
        _refuse(place, window=window, column=roles.pop("image", None))
        return gv.ShardSource(place, **roles)
    _refuse(place, column=roles or None)
    if window is not None or place.startswith(REMOTE) or (ending in RASTERS and not path.is_dir()):
        return gv.RasterSource(place, window=window)
    if (path / "manifest.json").is_file() and any(path.glob("part-*.parquet")):
        return gv.Dataset.open(path)
    return gv.FolderSource(path)


def _roles(columns: Sequence[str] | None) -> dict[str, Any]:
    roles: dict[str, Any] = {}
    for column in columns or ():
        role, equals, name = column.partition("=")
        if role not in ROLES or not equals or not name:
            raise typer.BadParameter(
                f"{column!r} is not ROLE=NAME with a role of {', '.join(ROLES)}", param_hint="--column"
            )
        roles[role] = name
    return roles


def _refuse(place: str, **given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"--{name} does not go with {place}.")
