"""The most memory that a process takes in `geovlm.embed`, for more and more images.

    python benchmarks/embed_memory.py [--counts 1000 10000 100000] [--broken 0.01] [--out FILE]

Each count in a fresh process: a folder of small JPEGs, the given share of them broken, is read, decoded, prepared at
224 px and written in parts. The encoder is a fake one with 512 numbers a vector, so that the memory is that of the
pipeline; torch is not loaded. `most_mib` is the peak resident memory of the process, `images_per_s` includes decoding.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

import geovlm as gv

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIM, SIDE, DIFFERENT = 512, 224, 200


class Fake:
    """A `PixelEncoder` that costs next to nothing."""

    name, dim, image_size, fingerprint, logit_scale = "fake", DIM, SIDE, "fake", 100.0

    def preprocess(self, image: Image.Image) -> NDArray[np.uint8]:
        return np.asarray(image.convert("RGB").resize((SIDE, SIDE)))

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        rows = pixels.reshape(len(pixels), -1)[:, :DIM].astype(np.float32) + 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def encode_images(self, images: list[Image.Image]) -> NDArray[np.float32]:
        return self.encode_pixels(np.stack([self.preprocess(image) for image in images]))

    def encode_texts(self, texts: list[str]) -> NDArray[np.float32]:
        return np.ones((len(texts), DIM), dtype=np.float32) / DIM**0.5


def write_images(folder: Path, count: int, broken: float) -> None:
    """So many files of which few differ: links to the same bytes cost no disk."""
    pictures = []
    for number in range(DIFFERENT):
        noise = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        file = BytesIO()
        Image.fromarray(noise).resize((256, 256)).save(file, "JPEG")
        pictures.append(folder / f"picture-{number}")
        pictures[-1].write_bytes(file.getvalue())
    wrong = folder / "wrong"
    wrong.write_bytes(b"\xff\xd8\xff no picture")
    scenes = folder / "scenes"
    scenes.mkdir()
    every = round(1 / broken) if broken else count + 1
    for number in range(count):
        place = scenes / f"{number // 1000:03d}"
        if number % 1000 == 0:
            place.mkdir()
        os.link(wrong if number % every == every - 1 else pictures[number % DIFFERENT], place / f"{number:06d}.jpg")


def measure(folder: Path) -> dict[str, Any]:
    started = time.perf_counter()
    report = gv.embed(gv.FolderSource(folder / "scenes"), Fake(), out=folder / "vectors", progress=False).report
    seconds = time.perf_counter() - started
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "images": report.total,
        "failed": report.failed,
        "most_mib": round(most, 1),
        "images_per_s": round(report.total / seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--broken", type=float, default=0.01, help="share of files that are no pictures")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return

    found = []
    print("| images | broken | most memory, MiB | images a second |\n| ---: | ---: | ---: | ---: |")
    for count in arguments.counts:
        with tempfile.TemporaryDirectory() as temporary:
            write_images(Path(temporary), count, arguments.broken)
            call = [sys.executable, __file__, "--measure", temporary]
            found.append(json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout))
        row = found[-1]
        print(f"| {row['images']:,} | {row['failed']:,} | {row['most_mib']} | {row['images_per_s']} |", flush=True)
    most = [row["most_mib"] for row in found]
    summary = {"rows": found, "largest_over_smallest": round(max(most) / min(most), 3)}
    print(json.dumps(summary, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
