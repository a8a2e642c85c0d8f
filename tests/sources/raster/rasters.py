"""Small rasters for tests."""

from __future__ import annotations

import numpy as np
import rasterio
from rasterio.transform import Affine

UTM = "EPSG:32614"
CORNER = (486_000.0, 5_209_000.0)


def write(path, samples, *, transform=None, crs=UTM, pixel=2.0, **profile):
    """Samples `(bands, height, width)` as a GeoTIFF; returns its path as text."""
    samples = np.asarray(samples)
    count, height, width = samples.shape
    if transform is None and crs is not None:
        transform = Affine(pixel, 0, CORNER[0], 0, -pixel, CORNER[1])
    options = {"driver": "GTiff", "width": width, "height": height, "count": count, "dtype": samples.dtype, **profile}
    if transform is not None:
        options["transform"] = transform
    with rasterio.open(path, "w", crs=crs, **options) as file:
        file.write(samples)
    return str(path)


def noise(count, height, width, *, dtype="uint8", low=1, high=255, seed=0):
    return np.random.default_rng(seed).integers(low, high, size=(count, height, width)).astype(dtype)
