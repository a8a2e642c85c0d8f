"""TIFFs that Pillow cannot read, through rasterio: many bands, 16 bits and more, floats, WebP inside."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from geovlm._optional import require
from geovlm._workers import claim
from geovlm.errors import ImageError, MissingExtra
from geovlm.imaging import Stretch

if TYPE_CHECKING:
    from collections.abc import Sequence

# Headers lie: a 262-byte file claims 65,535 bands of 65,535 x 900 pixels, and reading it takes all memory. Real
# hyperspectral sensors stay below 512 bands, and no writer makes blocks near this size.
MAX_BANDS = 512
MAX_BLOCK_BYTES = 1 << 29
MANY_BANDS = 4


def read_tiff(
    source: str | os.PathLike[str] | bytes,
    *,
    size_hint: int | None,
    bands: Sequence[int] | None,
    max_pixels: int,
) -> Image.Image:
    """Read a TIFF as 8-bit RGB; arguments and errors as in `geovlm.imaging.open_image`."""
    try:
        rasterio = require("rasterio", extra="geo", purpose="a TIFF with several 16-bit or float bands")
    except MissingExtra as error:
        raise ImageError(f"Pillow cannot read this TIFF; {error}") from error
    with ExitStack() as stack:
        if isinstance(source, bytes):
            dataset = stack.enter_context(stack.enter_context(rasterio.MemoryFile(source)).open())
        else:
            dataset = stack.enter_context(rasterio.open(os.fspath(source)))
        _guard(dataset, max_pixels)
        chosen = list(bands) if bands is not None else _visible_bands(dataset, rasterio.enums.ColorInterp)
        shape = _reduced_shape(dataset.height, dataset.width, size_hint)
        claim(shape[0] * shape[1] * len(chosen))  # of up to 8 bytes each, where Pillow has four bytes a pixel
        samples = np.moveaxis(dataset.read(chosen, out_shape=(len(chosen), *shape)), 0, -1)
        valid = dataset.dataset_mask(out_shape=shape) > 0
    return _to_rgb(samples, valid)


def _guard(dataset: Any, max_pixels: int) -> None:
    if dataset.width * dataset.height > max_pixels:
        raise ImageError(f"{dataset.width}x{dataset.height} pixels are more than the limit of {max_pixels:,}")
    rows, columns = dataset.block_shapes[0]
    block_bytes = rows * columns * np.dtype(dataset.dtypes[0].replace("_int16", "64").replace("_int32", "64")).itemsize
    if dataset.count > MAX_BANDS or block_bytes > MAX_BLOCK_BYTES:
        raise ImageError(f"its header claims {dataset.count} bands in blocks of {block_bytes:,} bytes: not believable")
    if dataset.dtypes[0].startswith("complex"):
        raise ImageError("complex samples have no brightness; take their magnitude first")


def _visible_bands(dataset: Any, interpretation: Any) -> list[int]:
    """The bands marked red, green and blue, else the only one, else the first three of at most four."""
    colours = list(dataset.colorinterp)
    wanted = [interpretation.red, interpretation.green, interpretation.blue]
    if all(colour in colours for colour in wanted):
        return [colours.index(colour) + 1 for colour in wanted]
    if dataset.count > MANY_BANDS:
        raise ImageError(
            f"{dataset.count} bands and none marked red, green, blue; name them: open_image(path, bands=(4, 3, 2))"
        )
    return [1, 2, 3] if dataset.count >= len(wanted) else [1]


def _reduced_shape(height: int, width: int, size_hint: int | None) -> tuple[int, int]:
    """A whole-number reduction, as overviews have it, that keeps the smaller side at or above the hint."""
    factor = max(1, min(height, width) // size_hint) if size_hint else 1
    return max(1, height // factor), max(1, width // factor)


def _to_rgb(samples: np.ndarray, valid: np.ndarray) -> Image.Image:
    if samples.dtype != np.uint8:
        samples = Stretch.fit(samples, valid=valid).apply(samples)
    samples = np.where(valid[..., None], samples, 0).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(samples.squeeze())).convert("RGB")
