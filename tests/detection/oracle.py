"""An encoder that cannot be wrong, and rasters with rectangles of known places: what is tested then is the geometry."""

from __future__ import annotations

import os
import time

import numpy as np
import rasterio
from rasterio.transform import Affine

COLOURS = {"red": (220, 30, 30), "green": (40, 160, 60), "blue": (40, 80, 200), "yellow": (240, 220, 60)}
SIDE, PATCH = 64, 16


class Oracle:
    """A `DenseEncoder` whose vectors are mean colours, and whose texts are the colours they name.

    `log` is a file that gets a line a forward pass; `pause` is how long a pass takes.
    """

    name, dim, logit_scale, logit_bias = "oracle", 3, 40.0, None
    image_size, patch_size = SIDE, PATCH

    def __init__(self, *, log=None, pause=0.0, fingerprint="oracle-1"):
        self.log, self.pause, self.fingerprint = log, pause, fingerprint

    def preprocess(self, image):
        return np.array(image.resize((self.image_size, self.image_size)))

    def encode_pixels(self, pixels):
        return self.encode_dense(pixels)[0]

    def encode_images(self, images):
        return self.encode_pixels(np.stack([self.preprocess(image) for image in images]))

    def encode_texts(self, texts):
        rows = [np.mean([COLOURS[c] for c in COLOURS if c in text] or [(90, 90, 90)], axis=0) for text in texts]
        return unit(np.array(rows, dtype=np.float32) - 127.5)

    def encode_dense(self, pixels):
        if self.log is not None:
            descriptor = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(descriptor, f"{len(pixels)}\n".encode())
            os.close(descriptor)
        time.sleep(self.pause)
        n, height, width, _ = pixels.shape
        shape = (n, height // PATCH, PATCH, width // PATCH, PATCH, 3)
        cells = pixels.reshape(shape).mean(axis=(2, 4), dtype=np.float32) - 127.5
        return unit(cells.mean(axis=(1, 2))), unit(cells)


def unit(rows):
    return (rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-9)).astype(np.float32)


def paint(width, height, boxes, background="green"):
    """Pixels `(height, width, 3)` with coloured boxes `(left, top, right, bottom, colour)`."""
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    pixels[:] = COLOURS[background]
    for left, top, right, bottom, colour in boxes:
        pixels[top:bottom, left:right] = COLOURS[colour]
    return pixels


def write(path, pixels, *, crs="EPSG:32632", transform=None, nodata=None, **profile):
    """A GeoTIFF of these pixels."""
    transform = transform if transform is not None else Affine(2, 0, 500_000, 0, -2, 5_000_000)
    height, width, bands = pixels.shape
    options = {"driver": "GTiff", "width": width, "height": height, "count": bands, "dtype": "uint8", **profile}
    with rasterio.open(path, "w", crs=crs, transform=transform, nodata=nodata, **options) as file:
        file.write(pixels.transpose(2, 0, 1))
    return path
