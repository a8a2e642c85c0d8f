"""For those who build on geovlm: contract tests for back ends, small fakes, and synthetic scenes.

`VectorStoreContract` needs pytest and hypothesis, `planted_raster` needs rasterio and shapely; the rest needs nothing
beyond geovlm itself.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geovlm.testing.fakes import EchoCaptioner, HashEncoder
    from geovlm.testing.rasters import planted_raster
    from geovlm.testing.scenes import draw_scene, write_scenes
    from geovlm.testing.stores import VectorStoreContract

__all__ = ["EchoCaptioner", "HashEncoder", "VectorStoreContract", "draw_scene", "planted_raster", "write_scenes"]

_HOME_OF = {
    "EchoCaptioner": "fakes",
    "HashEncoder": "fakes",
    "VectorStoreContract": "stores",
    "draw_scene": "scenes",
    "planted_raster": "rasters",
    "write_scenes": "scenes",
}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'geovlm.testing' has no attribute {name!r}")
    return getattr(import_module(f"geovlm.testing.{home}"), name)
