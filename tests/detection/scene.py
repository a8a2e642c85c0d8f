"""A small raster with a red square, and detections of it: what maps and plots are drawn of."""

from __future__ import annotations

import numpy as np
import rasterio
import shapely

import geovlm as gv

PLACES = {
    "north-up": ("EPSG:32633", rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)),
    "rotated": ("EPSG:32633", rasterio.Affine(8, 3, 500_000, 3, -8, 5_000_000)),
    "south-up": ("EPSG:32633", rasterio.Affine(10, 0, 500_000, 0, 10, 5_000_000)),
    "degrees": ("EPSG:4326", rasterio.Affine(0.001, 0, 20, 0, -0.001, 60)),
    "dateline": ("EPSG:32601", rasterio.Affine(30, 0, 160_000, 0, -30, 7_200_000)),
    "mars": ("IAU_2015:49910", rasterio.Affine(10, 0, 500_000, 0, -10, 500_000)),
    "pole": ("EPSG:3031", rasterio.Affine(1000, 0, -200_000, 0, -1000, 150_000)),
    "pixels": (None, rasterio.Affine.identity()),
}
WIDTH, HEIGHT, CELL = 400, 300, 20
SQUARE = (240, 60, 320, 140)  # columns and rows of the red square
NASTY = "a <b>pond</b> {{7*7}} {% x %} </script>"


def _apply(transform, points):
    x, y = points.T
    return transform.a * x + transform.b * y + transform.c, transform.d * x + transform.e * y + transform.f


def make(folder, place="north-up", *, scores=(0.9, 0.7, 0.3)):
    """Green land with a red square, which is the first detection; two more lie in the west."""
    crs, transform = PLACES[place]
    path = folder / f"{place}.tif"
    pixels = np.zeros((3, HEIGHT, WIDTH), dtype=np.uint8)
    pixels[1] = 120
    left, top, right, bottom = SQUARE
    pixels[:, top:bottom, left:right] = np.array([255, 0, 0])[:, None, None]
    profile = {"driver": "GTiff", "width": WIDTH, "height": HEIGHT, "count": 3, "dtype": "uint8", "crs": crs}
    with rasterio.open(path, "w", transform=transform, **profile) as file:
        file.write(pixels)
    boxes = [SQUARE, (20, 40, 60, 80), (20, 200, 80, 260)]
    items = []
    for number, (box, score) in enumerate(zip(boxes, scores, strict=True)):
        shape = shapely.transform(shapely.box(*box), lambda c: np.column_stack(_apply(transform, c)))
        query = NASTY if number == 1 else "a red square"
        items.append(
            gv.Detection(query=query, score=score, polygon=shape, peak=shape.centroid.coords[0], area_m2=1234.5)
        )
    heat = gv.HeatMap(
        query="a red square",
        scores=np.zeros((HEIGHT // CELL, WIDTH // CELL), dtype=np.float32),
        transform=(
            transform.a * CELL,
            transform.b * CELL,
            transform.c,
            transform.d * CELL,
            transform.e * CELL,
            transform.f,
        ),
        crs=crs,
    )
    return gv.Detections(items=items, crs=crs, raster=str(path), heat_maps={"a red square": heat})
