"""What `geovlm.embed` adds to decoding and encoding: records, ids, order, parts, manifest, report.

    python benchmarks/embed_overhead.py [--counts 1000 10000 100000 1000000] [--rates 70 1000 5000] [--out FILE.json]

The encoder is a fake one that costs next to nothing, and the pictures are arrays of 8 x 8 pixels, so that nothing but
the bookkeeping is left. Two tables, each beside a loop without any bookkeeping that calls the same encoder on the same
records in batches of the same size:

- *growth*: processor time an image for more and more images, `out=` on disk, and that of the same call repeated, which
  reads the parts and skips everything;
- *share*: wall time when the encoder takes as long as a real one (it sleeps): 70 images a second is ViT-B/32 on two
  cores, 1,000 and 5,000 are GPUs. What `embed` takes beyond the encoder's own time is its share.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import geovlm as gv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DIM = 512
BATCH = 64
SCENE = np.full((8, 8, 3), 90, dtype=np.uint8)


class Fake:
    """A `PixelEncoder` that knows its answer; `seconds` is how long it takes for an image."""

    name, fingerprint, dim, image_size, logit_scale = "fake", "fake-1", DIM, 8, 100.0

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.answer = np.full((BATCH, DIM), DIM**-0.5, dtype=np.float32)

    def preprocess(self, image: Any) -> np.ndarray:
        return np.asarray(image)

    def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
        if self.seconds:
            time.sleep(self.seconds * len(pixels))
        return self.answer[: len(pixels)].copy()

    def encode_images(self, images: Any) -> np.ndarray:
        return self.encode_pixels(np.stack([self.preprocess(image) for image in images]))

    def encode_texts(self, texts: Any) -> np.ndarray:
        return self.answer[: len(texts)]


def records(count: int) -> Iterator[gv.Record]:
    return (gv.Record(id=f"scene-{number:09}.jpg", image=SCENE, label="Port") for number in range(count))


def bare(count: int, encoder: Fake) -> None:
    """The same work, with nothing kept."""
    todo = records(count)
    while batch := list(islice(todo, BATCH)):
        encoder.encode_pixels(np.stack([encoder.preprocess(record.open(size_hint=8)) for record in batch]))


def embed(count: int, encoder: Fake, out: Path) -> None:
    report = gv.embed(records(count), encoder, out=out, batch_size=BATCH, progress=False).report
    assert report.total == count
    assert not report.failed


def best(work: Callable[[], object], clock: Callable[[], float], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        started = clock()
        work()
        taken.append(clock() - started)
    return min(taken)


def growth(counts: list[int], folder: Path) -> list[dict[str, Any]]:
    rows = []
    for count in counts:
        rounds = 3 if count <= 10_000 else 1
        fresh = iter(range(rounds))
        alone = best(lambda: bare(min(count, 20_000), Fake()), time.process_time, 3) / min(count, 20_000)  # noqa: B023
        whole = best(lambda: embed(count, Fake(), folder / f"{count}-{next(fresh)}"), time.process_time, rounds)  # noqa: B023
        again = best(lambda: embed(count, Fake(), folder / f"{count}-0"), time.process_time, rounds)  # noqa: B023
        rows.append(
            {
                "images": count,
                "loop_us": round(1e6 * alone, 1),
                "embed_us": round(1e6 * whole / count, 1),
                "bookkeeping_us": round(1e6 * (whole / count - alone), 1),
                "resume_us": round(1e6 * again / count, 1),
            }
        )
        print("| {images:,} | {loop_us} | {embed_us} | {bookkeeping_us} | {resume_us} |".format(**rows[-1]), flush=True)
    return rows


def share(rates: list[int], seconds: float, folder: Path) -> list[dict[str, Any]]:
    rows = []
    for rate in rates:
        count = max(2 * BATCH, round(rate * seconds / 512) * 512)
        encoder = Fake(1 / rate)
        fresh = iter(range(3))
        alone = best(lambda: list(map(encoder.encode_pixels, _stacks(count))), time.perf_counter, 3)  # noqa: B023
        whole = best(lambda: embed(count, encoder, folder / f"at-{rate}-{next(fresh)}"), time.perf_counter, 3)  # noqa: B023
        rows.append({"rate": rate, "images": count, "share": round(1 - alone / whole, 4)})
        print(f"| {rate:,} | {count:,} | {100 * rows[-1]['share']:.1f} % |", flush=True)
    return rows


def _stacks(count: int) -> Iterator[np.ndarray]:
    whole = np.stack([SCENE] * BATCH)
    return (whole[: min(BATCH, count - start)] for start in range(0, count, BATCH))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="*", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--rates", type=int, nargs="*", default=[70, 1_000, 5_000])
    parser.add_argument("--seconds", type=float, default=8.0, help="of encoding for each rate")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"machine": f"{os.cpu_count()} cores, {platform.machine()}"}
    with tempfile.TemporaryDirectory() as temporary:
        print("| images | loop, µs an image | embed | bookkeeping | repeated call |\n|---|---|---|---|---|")
        figures["growth"] = growth(arguments.counts, Path(temporary))
        print("\n| encoder's images a second | images | embed's share of the time |\n|---|---|---|")
        figures["share"] = share(arguments.rates, arguments.seconds, Path(temporary))
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
