"""Where records come from: folders, tables, shards, rasters, Hugging Face data sets, or any iterable of `Record`s."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geovlm.sources.folder import FolderSource
    from geovlm.sources.huggingface import HuggingFaceSource
    from geovlm.sources.kaggle import download_kaggle
    from geovlm.sources.raster import RasterSource
    from geovlm.sources.shard_writer import write_shards
    from geovlm.sources.shards import ShardSource
    from geovlm.sources.stac import StacSource
    from geovlm.sources.table import TableSource

__all__ = [
    "FolderSource",
    "HuggingFaceSource",
    "RasterSource",
    "ShardSource",
    "StacSource",
    "TableSource",
    "download_kaggle",
    "write_shards",
]

_HOME_OF = {
    "FolderSource": "folder",
    "HuggingFaceSource": "huggingface",
    "RasterSource": "raster",
    "ShardSource": "shards",
    "StacSource": "stac",
    "TableSource": "table",
    "download_kaggle": "kaggle",
    "write_shards": "shard_writer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'geovlm.sources' has no attribute {name!r}")
    return getattr(import_module(f"geovlm.sources.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
