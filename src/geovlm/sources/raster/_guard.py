"""Files whose headers lie: refused where nothing makes such a file, tried in another process where in doubt.

Reading one takes all memory or never ends, and nothing in this process can stop GDAL once it has begun. The check costs
microseconds for files that look right; those that claim far more samples than their size can hold are opened and read
once by a child process that has a time limit and a memory limit.
"""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geovlm.errors import ImageError

if TYPE_CHECKING:
    from geovlm.sources.raster._gdal import Place

# Real hyperspectral sensors stay below 512 bands, and no writer makes blocks near this size; a file of 262 bytes that
# claims 65,535 bands in blocks of 172 GB takes all memory.
MAX_BANDS = 512
MAX_BLOCK_BYTES = 1 << 29

# Deflate, the strongest of the old methods, shrinks at most to a 1,032nd. A real raster of one colour reached a 617th.
BELIEVABLE_RATIO = 1000
# Below, even a file that is all lies is soon read.
SMALL_BYTES = 1 << 24

PROBE_SECONDS = 20.0
PROBE_BYTES = 4 << 30

PROGRAM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
import warnings
warnings.simplefilter("ignore")
import rasterio
with rasterio.open(sys.argv[1]) as dataset:
    _, window = next(dataset.block_windows(1))
    dataset.read(1, window=window)
    dataset.read_masks(1, window=window)
"""


def check(dataset: Any, place: Place) -> None:
    """Raise an `ImageError` for a data set that cannot be what it says."""
    size = _sample_bytes(dataset)
    rows, columns = dataset.block_shapes[0]
    is_interleaved = getattr(dataset.interleaving, "name", "") == "pixel"
    block_bytes = rows * columns * size * (dataset.count if is_interleaved else 1)
    if dataset.count > MAX_BANDS or block_bytes > MAX_BLOCK_BYTES:
        raise ImageError(
            f"its header claims {dataset.count:,} bands in blocks of {block_bytes:,} bytes: not believable",
            uri=place.name,
        )
    claimed = dataset.width * dataset.height * dataset.count * size
    if claimed > SMALL_BYTES and (held := _file_bytes(place.path)) and claimed > BELIEVABLE_RATIO * held:
        reason = probe(place.path, held)
        if reason:
            raise ImageError(reason, uri=place.name)


def _sample_bytes(dataset: Any) -> int:
    kind = dataset.dtypes[0]
    return {"complex_int16": 4, "complex_int32": 8}.get(kind) or np.dtype(kind).itemsize


def _file_bytes(path: str) -> int:
    """Of a file that holds all its samples itself; 0 for a VRT, a remote one, or anything else."""
    if path.endswith(".vrt") or path.startswith(("/vsi", "<")):
        return 0
    return Path(path).stat().st_size


@lru_cache(maxsize=256)
def probe(path: str, size: int, *, seconds: float = PROBE_SECONDS) -> str | None:
    """Read the first block in a child process: why it failed, or `None`.

    Args:
        path: A local file.
        size: In bytes; part of what is remembered, so that a file that was mended is tried again.
        seconds: How long the child may take.
    """
    del size
    command = [sys.executable, "-c", PROGRAM, path, str(PROBE_BYTES)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return f"reading its first block did not end in {seconds:.0f} s; the file is broken"
    if result.returncode == 0:
        return None
    last = (result.stderr.strip().splitlines() or [f"ended with signal {-result.returncode}"])[-1]
    return f"reading its first block failed in a process of its own ({last:.200})"
