"""Preparing a batch of scenes against Pillow's own decode, resize and encode, on the same files and cores.

    python benchmarks/pixtral_prepare.py [IMAGES] [--count 8000] [--side 300] [--rounds 3] [--out FILE]

Both read the same JPEG files (mosaics of 600 × 600 pixels, of scenes in IMAGES or of drawn ones) and make JPEGs of the
same size and quality, in as many threads as there are cores; rounds alternate. Ours also writes the request files, an
index and the ledger, durably. The peer keeps nothing. Two more processes measure memory: one prepares a tenth of the
scenes, one all of them. Nothing is sent.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

import geovlm as gv
from geovlm.pixtral import PIXTRAL_GRID
from geovlm.pixtral.batch import BatchOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

QUALITY = 85
LABELS = ["Beach", "Bridge", "Forest", "Port", "River"]


def scenes(folder: Path | None, count: int, to: Path) -> list[Path]:
    """Files by name; a few pictures stand for many, each read from disk on its own."""
    tiles = [np.asarray(tile) for tile in (found(folder) if folder else drawn())]
    originals = [mosaic(tiles, seed) for seed in range(64)]
    paths = [to / f"{place:05d}.jpg" for place in range(count)]
    for place, path in enumerate(paths):
        path.write_bytes(originals[place % len(originals)])
    return paths


def found(folder: Path) -> Iterator[Image.Image]:
    for path in islice(sorted(folder.rglob("*.jpg")), 0, None, 7):
        with Image.open(path) as image:
            yield image.convert("RGB").resize((150, 150))


def drawn() -> Iterator[Image.Image]:
    for seed in range(64):
        pixels = np.random.default_rng(seed).integers(0, 255, (50, 50, 3), dtype=np.uint8)
        yield Image.fromarray(pixels).resize((150, 150), Image.Resampling.BICUBIC)


def mosaic(tiles: list[NDArray[np.uint8]], seed: int) -> bytes:
    """A JPEG of 600 × 600 pixels with as much detail as the tiles have."""
    chosen = np.random.default_rng(seed).choice(len(tiles), (4, 4))
    pixels = np.concatenate([np.concatenate([tiles[place] for place in row], axis=1) for row in chosen])
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def pillow(paths: list[Path], side: int) -> None:
    def one(path: Path) -> int:
        with Image.open(path) as image:
            small = image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=QUALITY)
        return buffer.tell()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sum(pool.map(one, paths))


def ours(paths: list[Path], side: int, out: Path) -> None:
    client = gv.PixtralClient(
        "pixtral-12b-2409", api_key="none", image_tokens=PIXTRAL_GRID.tokens(side, side), jpeg_quality=QUALITY
    )
    source = (gv.Record(id=path.name, image=path) for path in paths)
    plan = client.batch_classify(source, labels=LABELS, out=out, dry_run=True, options=BatchOptions(via="jobs"))
    assert plan.requests == len(paths)


def peak(paths: list[Path], side: int, work: Path) -> float:
    """Peak memory in MB of a process that prepares them."""
    (work / "list").write_text("\n".join(map(str, paths)))
    command = [sys.executable, __file__, "--prepare", str(work / "list"), "--side", str(side)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def prepare(listed: Path, side: int) -> None:
    with tempfile.TemporaryDirectory() as out:
        ours([Path(line) for line in listed.read_text().splitlines()], side, Path(out))
    unit = 1 if sys.platform == "darwin" else 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


def timed(label: str, count: int, work: object) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()  # type: ignore[operator]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{label:8} {count / wall:7.1f} images/s   {1000 * cpu / count:6.2f} ms of CPU an image", flush=True)
    return wall, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="?")
    parser.add_argument("--count", type=int, default=8000)
    parser.add_argument("--side", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        return prepare(options.prepare, options.side)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "scenes").mkdir()
        paths = scenes(options.images, options.count, work / "scenes")
        sent = PIXTRAL_GRID.fit(600, 600, max_tokens=PIXTRAL_GRID.tokens(options.side, options.side))[0]
        print(f"{len(paths)} scenes to {sent}x{sent} px on {os.cpu_count()} cores")
        theirs, own = [], []
        for number in range(options.rounds):
            theirs.append(timed("Pillow", len(paths), lambda: pillow(paths, sent)))
            own.append(timed("geovlm", len(paths), lambda n=number: ours(paths, options.side, work / f"out-{n}")))
        wall, cpu = (
            min(kind) / min(peer) for kind, peer in zip(zip(*own, strict=True), zip(*theirs, strict=True), strict=True)
        )
        print(f"geovlm / Pillow: {1 / wall:.2f} of the images/s, {cpu:.2f} of the CPU (best rounds)")
        few, all_ = (peak(part, options.side, work) for part in (paths[: len(paths) // 10], paths))
        print(f"peak memory: {few:.0f} MB for {len(paths) // 10} scenes, {all_:.0f} MB for {len(paths)}")
    if options.out:
        figures = {"scenes": len(paths), "speed_over_pillow": 1 / wall, "cpu_over_pillow": cpu}
        figures |= {"peak_mb_of_a_tenth": few, "peak_mb": all_}
        options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return None


if __name__ == "__main__":
    main()
