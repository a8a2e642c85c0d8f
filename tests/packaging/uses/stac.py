"""A STAC item whose asset is a raster on this machine."""

from pathlib import Path

import geovlm as gv
from geovlm.testing.rasters import planted_raster

planted_raster("land.tif", size=600)
item = {
    "type": "Feature",
    "stac_version": "1.0.0",
    "id": "land",
    "geometry": None,
    "properties": {"datetime": "2026-01-01T00:00:00Z"},
    "links": [],
    "assets": {"visual": {"href": str(Path("land.tif").resolve())}},
}
assert len(list(gv.StacSource([item], window=300))) == 4
