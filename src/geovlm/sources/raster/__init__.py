"""Georeferenced rasters: windows over GeoTIFFs, COGs, VRTs and remote files, with their places on the map."""

from __future__ import annotations

from geovlm.sources.raster.georeference import Georeference
from geovlm.sources.raster.grid import Grid, Window, cover
from geovlm.sources.raster.raster import Raster
from geovlm.sources.raster.source import RasterSource

__all__ = ["Georeference", "Grid", "Raster", "RasterSource", "Window", "cover"]
