"""Mistakes with rasters and places."""

from __future__ import annotations

import warnings

import geovlm as gv
from geovlm.testing import HashEncoder
from tests.mistakes.kit import mistake

DETECTION = "Detection"


@mistake(
    DETECTION,
    "A raster that is not there",
    "regoin.tif does not exist. Did you mean …/region.tif?",
    "Correct the path.",
)
def _():
    gv.scan("regoin.tif", "a vineyard", HashEncoder())


@mistake(
    DETECTION,
    "A raster without a place, put on a map of the Earth",
    "GeoJSON's places need longitudes and latitudes, and the raster has none: it has no coordinate reference"
    " system. to_geodataframe() gives the places in pixel coordinates.",
    "Georeference it (`gdal_translate -a_srs … -a_ullr …`), or use the pixel coordinates.",
)
def _():
    with warnings.catch_warnings(action="ignore"):
        gv.scan("flat.tif", "red", HashEncoder(), against=["green"], window=64).to_geojson("places.geojson")


@mistake(
    DETECTION,
    "A length in metres on a raster without a CRS",
    "flat.tif: decode: flat.tif has no coordinate reference system; give its windows in pixels.",
    "`window=224` instead of `size_m=`.",
)
def _():
    with warnings.catch_warnings(action="ignore"):
        gv.embed(gv.RasterSource("flat.tif", size_m=100), HashEncoder(), on_error="raise")


@mistake(
    DETECTION,
    "One phrase in `against` that is not in a list",
    "against is a list of phrases, such as ['a forest'], not one text.",
    '`against=["a forest"]`.',
)
def _():
    gv.scan("region.tif", "a vineyard", HashEncoder(), against="a forest")


@mistake(
    DETECTION,
    "Nothing to hold the query against",
    "There is nothing to hold 'a vineyard' against, and a softmax over one phrase is 1 everywhere. Give a few"
    " things that are there instead, such as against=['forest', 'a town', 'bare soil'], or leave it out for a"
    " vocabulary of land covers.",
    "Name what else is there, or leave `against` out.",
)
def _():
    gv.scan("region.tif", "a vineyard", HashEncoder(), against=[])


@mistake(
    DETECTION,
    "Detections and truth of which one has no CRS",
    "The detections and the truth cannot be laid on each other: one of them has a CRS and the other has none."
    " set_crs() of geopandas says what coordinates are.",
    '`truth.set_crs("EPSG:32632")`, with the CRS it was drawn in.',
)
def _():
    import geopandas
    from shapely import box

    square = geopandas.GeoDataFrame({"query": ["a"], "score": [1.0]}, geometry=[box(0, 0, 1, 1)])
    gv.evaluation.evaluate_detections(square, square.set_crs(4326))


@mistake(
    DETECTION,
    "A threshold in per cent",
    "A threshold is a probability between 0 and 1, not 50.",
    "`threshold=0.5`.",
)
def _():
    gv.scan("region.tif", "a vineyard", HashEncoder(), threshold=50)


@mistake(
    DETECTION,
    "Bands that the raster does not have",
    "bands names three bands as red, green, blue, or one as grey, each from 1 to 3, not [8, 4, 3].",
    "Bands count from 1; `gdalinfo` or `rio info` tells how many there are.",
)
def _():
    gv.scan("region.tif", "a vineyard", HashEncoder(), bands=(8, 4, 3))
