"""Memory and speed of `scan` by the size of the raster, and whether reading keeps up with the model.

    python benchmarks/scan.py [--sizes 2000 20000] [--model ViT-B-32] [--window 448] [--out scan.json] [--folder DIR]

The rasters are generated: 8-bit RGB, tiles of 512 px, deflate with a horizontal predictor, about half of their size on
disk as aerial photographs are. Each row is a process of its own, so that its largest resident memory is its own:

- *nothing*: an encoder that does no work, so that reading, resizing, stitching and places are all there is;
- the model: a vision transformer of open_clip with random weights, which cost what trained ones do, in float32.

Told are:

- the peak memory of the process, with Python, all libraries, the model and the raster's caches;
- windows a second of wall-clock time;
- reading: CPU time of reading, resizing and stitching a window, and how many windows a second that is for a core;
- the model's share of the wall-clock time, with two threads at most for reading: near 1 means that reading is hidden.

The scores of random weights mean nothing; the threshold is such that some places are found.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

TILE = 512


def make_raster(path: Path, size: int) -> None:
    """Blocks of smooth noise, in an order that does not repeat."""
    import rasterio
    from PIL import Image
    from rasterio.transform import from_origin
    from rasterio.windows import Window

    rng = np.random.default_rng(0)

    def block() -> Any:
        coarse = rng.integers(0, 256, (TILE // 8, TILE // 8, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((TILE, TILE), Image.Resampling.BICUBIC)).astype(int)
        return np.clip(smooth + rng.integers(-3, 4, smooth.shape), 0, 255).astype(np.uint8).transpose(2, 0, 1)

    blocks = [block() for _ in range(16)]
    profile = {"driver": "GTiff", "width": size, "height": size, "count": 3, "dtype": "uint8", "crs": "EPSG:32632"}
    profile |= {"tiled": True, "blockxsize": TILE, "blockysize": TILE, "compress": "deflate", "predictor": 2}
    with rasterio.open(path, "w", transform=from_origin(5e5, 5e6, 0.5, 0.5), BIGTIFF="YES", **profile) as file:
        for row in range(0, size, TILE):
            for column in range(0, size, TILE):
                height, width = min(TILE, size - row), min(TILE, size - column)
                pixels = blocks[rng.integers(len(blocks))][:, :height, :width]
                file.write(pixels, window=Window(column, row, width, height))


class Nothing:
    """A `DenseEncoder` with vectors out of nowhere."""

    name, fingerprint, dim, logit_scale, logit_bias = "nothing", "nothing", 512, 100.0, None
    image_size, patch_size = 224, 32

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(32 * 49 + 32, self.dim)).astype(np.float32)
        self._rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def preprocess(self, image: Any) -> Any:
        """What every encoder of this size has to do."""
        return np.asarray(image.resize((224, 224), 3))

    def encode_texts(self, texts: Any) -> Any:
        """Random directions."""
        rng = np.random.default_rng(len(texts))
        rows = rng.normal(size=(len(texts), self.dim)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def encode_pixels(self, pixels: Any) -> Any:
        """The same for all."""
        return self._rows[: len(pixels)]

    def encode_images(self, images: Any) -> Any:
        """The same for all."""
        return self._rows[: len(images)]

    def encode_dense(self, pixels: Any) -> Any:
        """The same for all, and for their patches."""
        return self._rows[: len(pixels)], self._rows[: 49 * len(pixels)].reshape(-1, 7, 7, self.dim)


def new_encoder(model: str) -> Any:
    if model == "nothing":
        return Nothing()
    import open_clip
    import torch

    import geovlm as gv

    torch.set_num_threads(1)
    return gv.new_encoder(open_clip.get_model_config(model), device="cpu", dtype="float32", name=model)


class Clock:
    """Adds up wall-clock time of calls."""

    def __init__(self, call: Any) -> None:
        self.call, self.seconds = call, 0.0

    def __call__(self, *arguments: Any) -> Any:
        """The call, and its time."""
        started = time.perf_counter()
        try:
            return self.call(*arguments)
        finally:
            self.seconds += time.perf_counter() - started


def measure(path: str, model: str, window: int) -> dict[str, Any]:
    """One scan in this process."""
    import geovlm as gv

    encoder = new_encoder(model)
    clock = Clock(encoder.encode_dense)
    encoder.encode_dense = clock
    started, cpu = time.perf_counter(), time.process_time()
    found = gv.scan(path, "a vineyard", encoder, threshold=0.2, window=window, progress=False)
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    windows = found.report.done
    reading = cpu if model == "nothing" else None
    return {
        "windows": windows,
        "places": len(found),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "windows_a_second": round(windows / wall, 1),
        "reading_ms": None if reading is None else round(1000 * reading / windows, 2),
        "reading_windows_a_second_and_core": None if reading is None else round(windows / reading),
        "share_of_model": round(clock.seconds / wall, 3),
    }


def in_a_process(path: Path, model: str, window: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", str(path), model, str(window)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(result.stderr)
    figures: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000, 20_000], help="sides of the rasters in pixels")
    parser.add_argument("--model", default="ViT-B-32", help="of open_clip's configurations")
    parser.add_argument("--window", type=int, default=448)
    parser.add_argument("--folder", type=Path, help="where the rasters are made and kept; a temporary one if not given")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        path, model, window = arguments.measure
        print(json.dumps(measure(path, model, int(window))))
        return

    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for size in arguments.sizes:
            path = folder / f"{size}.tif"
            if not path.exists():
                make_raster(path, size)
            for model in ("nothing", arguments.model):
                row = {"size": size, "model": model, **in_a_process(path, model, arguments.window)}
                rows.append(row)
    names = list(rows[0])
    print("| " + " | ".join(names) + " |\n|" + " --- |" * len(names))
    for row in rows:
        print("| " + " | ".join("" if row[name] is None else str(row[name]) for name in names) + " |")
    figures = {"machine": f"{platform.machine()}, Python {platform.python_version()}", "rows": rows}
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
