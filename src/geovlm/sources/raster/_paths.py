"""What GDAL calls a place: local paths, URLs, object stores; and which files of a folder are rasters."""

from __future__ import annotations

import os
from pathlib import Path

from geovlm._files import must_exist
from geovlm.errors import UsageError
from geovlm.sources.raster._gdal import Place

# Schemes and the file systems of GDAL that read them.
SCHEMES = {
    "http://": "/vsicurl/http://",
    "https://": "/vsicurl/https://",
    "s3://": "/vsis3/",
    "gs://": "/vsigs/",
    "az://": "/vsiaz/",
}
REMOTE = (
    "/vsicurl/",
    "/vsis3/",
    "/vsigs/",
    "/vsiaz/",
    "/vsiadls/",
    "/vsioss/",
    "/vsiswift/",
    "/vsihdfs/",
    "/vsiwebhdfs/",
)
ENDINGS = (".tif", ".tiff", ".vrt", ".jp2", ".img", ".gtiff")


def locate(path: str | os.PathLike[str]) -> Place:
    """Turn a path or a URL into what GDAL opens.

    Raises:
        UsageError: A local file does not exist, or is a folder.
    """
    text = os.fspath(path)
    if text.lstrip().startswith("<VRTDataset"):
        return Place(text, "a VRT")
    for scheme, system in SCHEMES.items():
        if text.startswith(scheme):
            return Place(system + text.removeprefix(scheme), text, is_remote=True)
    if text.startswith("/vsi"):
        return Place(text, text, is_remote=text.startswith(REMOTE))
    local = Path(text.removeprefix("file://")).expanduser()
    must_exist(local)
    if local.is_dir():
        raise UsageError(f"{local} is a folder; RasterSource takes all rasters of one.")
    state = local.stat()
    return Place(str(local), str(local), state=(state.st_size, state.st_mtime_ns))


def rasters_in(folder: Path) -> list[Path]:
    """The rasters in a folder and below, in the order of their paths.

    Raises:
        UsageError: There is none.
    """
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
    found = [p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    if not found:
        raise UsageError(f"{folder} holds no raster. Looked for files that end in {' '.join(ENDINGS)}.")
    return found
