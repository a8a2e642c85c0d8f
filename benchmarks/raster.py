"""Speed and memory of reading a raster in windows: `Raster.read` over the whole of it, on one core.

    python benchmarks/raster.py [--sides 2000 20000] [--window 448] [--overlap 0] [--layouts …] [--out raster.json]

Rasters are generated (drawn scenes with grain, so that they compress like pictures) and read in a process of their
own that is held to one core. Told are, for each side and layout:

- *windows*: how many a second, by processor time and by the clock, each as RGB with its mask;
- *plain*: the same windows read by rasterio alone, with GDAL's own cache and no mask, in a process of its own;
- *peak*: the process's largest resident memory, and that before the first window (in /proc, looked at every window);
- *open*: milliseconds to open a raster, its stretch and the check of its header included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

WGS_84_UTM = "EPSG:32614"
TILES = {"tiled": True, "blockxsize": 512, "blockysize": 512}
LAYOUTS: dict[str, dict[str, Any]] = {
    "deflate, tiles": {"count": 3, "dtype": "uint8", "compress": "deflate", "predictor": 2, "zlevel": 1, **TILES},
    "jpeg, tiles": {"count": 3, "dtype": "uint8", "compress": "jpeg", "photometric": "ycbcr", **TILES},
    "jpeg, tiles, nodata": {"count": 3, "dtype": "uint8", "compress": "jpeg", "nodata": 0, **TILES},
    "16 bits, 4 bands, deflate, tiles": {"count": 4, "dtype": "uint16", "compress": "deflate", "zlevel": 1, **TILES},
    "deflate, strips": {"count": 3, "dtype": "uint8", "compress": "deflate", "predictor": 2, "zlevel": 1},
}


def generate(path: Path, side: int, layout: dict[str, Any]) -> None:
    """One row of tiles at a time, each with a grain of its own."""
    import rasterio
    from rasterio.transform import from_origin
    from rasterio.windows import Window

    from geovlm.testing.scenes import draw_scene

    rng = np.random.default_rng(0)
    scenes = [np.asarray(draw_scene(rng, side=512)[0], dtype=np.int16) for _ in range(8)]
    grain = rng.normal(scale=6, size=(512, 512, 3)).astype(np.int16)
    tiles = [np.clip(scene + np.roll(grain, 64 * n, axis=0), 1, 255) for n, scene in enumerate(scenes)]
    factor = 1 if layout["dtype"] == "uint8" else 12
    profile = {"driver": "GTiff", "width": side, "height": side, "crs": WGS_84_UTM, "BIGTIFF": "IF_SAFER"}
    with rasterio.open(path, "w", **profile, **layout, transform=from_origin(5e5, 5.2e6, 0.5, 0.5)) as file:
        for row in range(0, side, 512):
            chosen = rng.integers(len(tiles), size=-(-side // 512))
            strip = np.concatenate([tiles[n] for n in chosen], axis=1)[: side - row, :side] * factor
            bands = [strip[..., band % 3].astype(layout["dtype"]) for band in range(layout["count"])]
            file.write(np.stack(bands), window=Window(0, row, side, strip.shape[0]))


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(path: str, window: int, overlap: int, *, plain: bool) -> dict[str, float]:
    """What one process sees."""
    import rasterio

    from geovlm.sources.raster import Raster, cover

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    times = []
    for _ in range(5):
        started = time.process_time()
        raster = Raster(path)
        times.append(time.process_time() - started)
    dataset = rasterio.open(path)
    before = peak = resident_mb()
    grid = cover(raster.width, raster.height, window=window, overlap=overlap)
    clock, processor = time.perf_counter(), time.process_time()
    for one in grid:
        if plain:
            rows, columns = (one.row, one.row + one.height), (one.col, one.col + one.width)
            dataset.read([1, 2, 3], window=(rows, columns))
        else:
            raster.read(one)
        peak = max(peak, resident_mb())
    return {
        "windows": len(grid),
        "a_processor_second": round(len(grid) / (time.process_time() - processor), 1),
        "a_second": round(len(grid) / (time.perf_counter() - clock), 1),
        "before_mb": round(before, 1),
        "peak_mb": round(peak, 1),
        "open_ms": round(1000 * min(times), 1),
    }


def in_a_process(path: Path, arguments: argparse.Namespace, *, plain: bool) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", str(path), "--window", str(arguments.window)]
    command += ["--overlap", str(arguments.overlap), *(["--plain"] if plain else [])]
    result = subprocess.run(command, capture_output=True, check=True)
    figures: dict[str, float] = json.loads(result.stdout)
    return figures


def row(side: int, name: str, ours: dict[str, float], plain: dict[str, float], megabytes: float) -> str:
    cells = [
        f"{side:,}", name, f"{megabytes:,.0f} MB", f"{ours['windows']:,}", ours["a_processor_second"], ours["a_second"],
        plain["a_processor_second"], ours["before_mb"], ours["peak_mb"], plain["peak_mb"], ours["open_ms"],
    ]  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[2000, 6000], help="pixels")
    parser.add_argument("--window", type=int, default=448)
    parser.add_argument("--overlap", type=int, default=0)
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.window, arguments.overlap, plain=arguments.plain)))
        return

    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    figures: dict[str, Any] = {"machine": machine, "window": arguments.window, "overlap": arguments.overlap}
    print(f"Windows of {arguments.window} px, {arguments.overlap} px of overlap; {machine}, one core used.\n")
    print("| side | layout | file | windows | a CPU second | a second | plain, a CPU second | MB before | MB peak"
          " | plain MB peak | open ms |")  # fmt: skip
    print("|" + " --- |" * 11)
    for name in arguments.layouts:
        for side in sorted(arguments.sides):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "raster.tif"
                generate(path, side, LAYOUTS[name])
                ours, plain = (in_a_process(path, arguments, plain=plain) for plain in (False, True))
                print(row(side, name, ours, plain, path.stat().st_size / 2**20), flush=True)
                figures.setdefault(name, {})[str(side)] = {"geovlm": ours, "rasterio": plain}
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
