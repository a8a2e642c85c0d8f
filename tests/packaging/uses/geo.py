"""A raster drawn, cut into windows, scanned, and its places written."""

import geovlm as gv
from geovlm.testing import HashEncoder
from geovlm.testing.rasters import planted_raster

planted_raster("land.tif", size=600)
windows = list(gv.RasterSource("land.tif", window=300))
assert len(windows) == 4
assert windows[0].footprint is not None
found = gv.scan("land.tif", "a round pond", HashEncoder(), window=300)
found.to_geojson("places.geojson")
found.to_geodataframe()
