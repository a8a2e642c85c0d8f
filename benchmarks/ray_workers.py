"""Images a second of `embed` on Ray: two workers against one, each with one core; and this process beside them.

    python benchmarks/ray_workers.py [--images FOLDER] [--count 512] [--batch-size 32] [--rounds 3] [--out ray.json]

ViT-B/32 of open_clip with random weights in float32, JPEGs of 600 px, batches that are the same everywhere. In turns,
several rounds:

- *one worker*, *two workers*: `embed` with `RayEngine(workers=…)`; a worker has one thread of torch and of decoding;
- *this process*: `embed` without an engine, with all its cores.

Rates are those of a run that is under way: from the moment when every worker has answered once, so that the start of
Ray, of the workers and the loading of the model do not count; *start* tells how long these took. *overhead* is the time
of a batch that costs nothing, by one worker: what Ray and the way of records and vectors cost. Medians over rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from attrs import frozen
from encode import write_images
from PIL import Image

import geovlm as gv
from geovlm.distributed import RayEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geovlm.protocols import Engine

VIT_B_32: dict[str, Any] = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
}


@frozen
class Clocked:
    """An engine, with the moments at which its outcomes came."""

    engine: Engine
    moments: list[float]

    def map_batches(self, batches: Any, **settings: Any) -> Iterator[Any]:
        """As the engine's own."""
        for pair in self.engine.map_batches(batches, **settings):
            self.moments.append(time.monotonic())
            yield pair


@frozen
class Here:
    """This process as an engine, so that the same clock fits."""

    def map_batches(self, batches: Any, *, model: Any, steps: Any, stage: str, timeout: float | None) -> Iterator[Any]:
        """As `geovlm.distributed.RayEngine.map_batches`."""
        from geovlm._stream import map_batches

        prepare, run = steps(model)
        for first in batches:
            records = chain(first, chain.from_iterable(batches))
            yield from map_batches(
                records, prepare=prepare, run=run, batch_size=len(first), stage=stage, timeout=timeout
            )


class NoWork:
    """An encoder whose work is done at once."""

    name, dim, fingerprint, logit_scale = "no work", 512, "no-work", 1.0

    def encode_images(self, images: Any) -> Any:
        """Ones."""
        return np.ones((len(images), self.dim), dtype=np.float32)

    def encode_texts(self, texts: Any) -> Any:
        """Ones."""
        return np.ones((len(texts), self.dim), dtype=np.float32)


def measure(source: Any, encoder: Any, engine: Engine, *, batch_size: int, workers: int) -> dict[str, float]:
    """Images a second when all workers run, and seconds until the first of them has answered."""
    moments: list[float] = []
    start = time.monotonic()
    vectors = gv.embed(source, encoder, batch_size=batch_size, engine=Clocked(engine, moments), progress=False)
    assert vectors.report.failed == 0, vectors.report
    warm = moments[2 * workers * batch_size - 1]
    return {
        "images_per_second": (len(moments) - 2 * workers * batch_size) / (moments[-1] - warm),
        "start": moments[0] - start,
        "seconds": time.monotonic() - start,
    }


def median(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}


def overhead(batch_size: int) -> float:
    """Milliseconds a batch of tiny pictures takes that nobody computes on."""
    scenes = [gv.Record(id=str(number), image=Image.new("RGB", (1, 1))) for number in range(100 * batch_size)]
    found = measure(scenes, NoWork(), RayEngine(), batch_size=batch_size, workers=1)
    return 1000 * batch_size / found["images_per_second"]


def run(source: Any, *, batch_size: int, rounds: int) -> dict[str, Any]:
    encoder = gv.new_encoder(VIT_B_32, device="cpu", dtype="float32")
    ways: dict[str, tuple[Engine, int]] = {
        "one worker": (RayEngine(workers=1), 1),
        "two workers": (RayEngine(workers=2), 2),
        "this process": (Here(), 1),
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (engine, workers) in ways.items():
            found[name].append(measure(source, encoder, engine, batch_size=batch_size, workers=workers))
    rates = {name: median(all_rounds) for name, all_rounds in found.items()}
    ratios = [
        two["images_per_second"] / one["images_per_second"]
        for one, two in zip(found["one worker"], found["two workers"], strict=True)
    ]
    return {"ways": rates, "two_over_one": statistics.median(ratios), "overhead_ms": overhead(batch_size)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="a folder of images; without it, JPEGs are made")
    parser.add_argument("--count", type=int, default=512, help="how many JPEGs to make")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    asked = parser.parse_args(arguments)
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        source = (
            write_images(Path(folder) / "images", asked.count)
            if asked.images is None
            else gv.FolderSource(asked.images)
        )
        result = run(source, batch_size=asked.batch_size, rounds=asked.rounds)
    ray.shutdown()
    print(f"\n{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Ray {ray.__version__}\n")
    print("| | images a second | start, s | whole call, s |\n| --- | ---: | ---: | ---: |")
    for name, row in result["ways"].items():
        print(f"| {name} | {row['images_per_second']:.1f} | {row['start']:.1f} | {row['seconds']:.1f} |")
    print(f"\ntwo workers over one: {result['two_over_one']:.2f}; a batch costs {result['overhead_ms']:.1f} ms")
    if asked.out is not None:
        asked.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
