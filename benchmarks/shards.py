"""Memory and speed of training data in shards: an epoch of `ShardBatches` at growing numbers of pairs.

    python benchmarks/shards.py [--counts 1000 10000 100000] [--batch 64] [--fit] [--out shards.json]

Each number of pairs is written to shards of JPEGs (256 px, synthetic scenes) and read in a process of its own, without
a model. Told are, for each:

- *peak*: the process's largest resident memory over one epoch, looked at (in /proc) whenever a batch comes, and that
  before the epoch;
- *rate*: pairs a second that come out augmented at 224 px, by the clock and by processor time;
- *preloaded*: the same from decoded pixels in memory, in the same process, for the smallest number of pairs.

With `--fit`, a small model is trained for the epoch instead, and the peak is that of the whole training process, looked
at ten times a second.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

import geovlm as gv
from geovlm.training import TrainingConfig
from geovlm.training.data import make_batches, read_pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geovlm.training.batch import TrainingBatches

SIDE, SIZE, DIFFERENT = 256, 224, 64


def pairs(count: int) -> Iterator[gv.Record]:
    """Few scenes again and again, as files that compress like real ones, each with captions of its own."""
    from geovlm.testing.scenes import draw_scene

    images = []
    for number in range(min(count, DIFFERENT)):
        rng = np.random.default_rng(number)
        grain = rng.normal(scale=9, size=(SIDE, SIDE, 3))
        buffer = io.BytesIO()
        scene = np.asarray(draw_scene(rng, side=SIDE)[0], dtype=np.float32) + grain
        Image.fromarray(scene.clip(0, 255).astype(np.uint8)).save(buffer, format="JPEG", quality=85)
        images.append(buffer.getvalue())
    for number in range(count):
        captions = [f"scene number {number} from above", f"an aerial view, the {number}th"]
        yield gv.Record(id=f"pair {number}", image=images[number % len(images)], captions=captions)


def prepare(image: Image.Image, *, size: int) -> np.ndarray:
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def resident_mb() -> float:
    """Not `ru_maxrss`, which starts with what the parent process had."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def epoch(batches: TrainingBatches, number: int) -> dict[str, float]:
    clock, processor = time.perf_counter(), time.process_time()
    count, peak = 0, resident_mb()
    for batch in batches.epoch(number):
        count, peak = count + len(batch.ids), max(peak, resident_mb())
    return {
        "pairs": count,
        "peak_mb": round(peak, 1),
        "pairs_a_second": round(count / (time.perf_counter() - clock), 1),
        "pairs_a_processor_second": round(count / (time.process_time() - processor), 1),
    }


def measure(folder: Path, batch: int, *, preloaded: bool) -> dict[str, Any]:
    """What one process sees."""
    config = TrainingConfig(batch_size=batch)
    source = gv.ShardSource(folder)
    streamed = make_batches(
        read_pairs(source, what="train", at_least=2, positives=None), prepare=prepare, size=SIZE, config=config
    )
    figures: dict[str, Any] = {"before_mb": round(resident_mb(), 1)}
    figures |= {"shards": epoch(streamed, 0), "failed": len(streamed.failures)}
    if preloaded:
        held = read_pairs(list(source), what="train", at_least=2, positives=None)
        batches = make_batches(held, prepare=prepare, size=SIZE, config=config)
        epoch(batches, 0)
        figures["preloaded"] = epoch(batches, 1)
        figures["shards again"] = epoch(streamed, 1)
    return figures


def measure_fit(folder: Path, batch: int) -> dict[str, float]:
    """Memory of a process that trains for an epoch, a ResNet of 64 px with two layers of text."""
    vision = {"timm_model_name": "test_resnet", "timm_model_pretrained": False, "timm_pool": "avg", "image_size": 64}
    text = {"context_length": 24, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 2}
    encoder = gv.new_encoder({"embed_dim": 128, "vision_cfg": {**vision, "timm_proj": "linear"}, "text_cfg": text})
    peaks, finished = [resident_mb()], threading.Event()

    def watch() -> None:
        while not finished.wait(0.1):
            peaks.append(resident_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    with tempfile.TemporaryDirectory() as out:
        config = TrainingConfig(epochs=1, batch_size=batch)
        gv.ContrastiveTrainer(encoder, config).fit(gv.ShardSource(folder), out=out, progress=False)
    finished.set()
    watcher.join()
    return {"before_mb": round(peaks[0], 1), "peak_mb": round(max(peaks), 1)}


def in_a_process(folder: Path, batch: int, *, preloaded: bool, fit: bool) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", str(folder), "--batch", str(batch)]
    flags = [flag for flag, given in (("--preloaded", preloaded), ("--fit", fit)) if given]
    result = subprocess.run([*command, *flags], capture_output=True, check=True)
    figures: dict[str, Any] = json.loads(result.stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000], help="pairs")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    parser.add_argument("--fit", action="store_true", help="memory of a training with a small model")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--preloaded", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        folder, batch = arguments.measure, arguments.batch
        found = measure_fit(folder, batch) if arguments.fit else measure(folder, batch, preloaded=arguments.preloaded)
        print(json.dumps(found))
        return

    figures: dict[str, Any] = {"machine": f"{os.cpu_count()} cores, {platform.machine()}", "batch": arguments.batch}
    for count in sorted(arguments.counts):
        with tempfile.TemporaryDirectory() as folder:
            started = time.process_time()
            gv.write_shards(pairs(count), folder, progress=False)
            written = round(count / (time.process_time() - started), 1)
            first = count == min(arguments.counts) and not arguments.fit
            figures[str(count)] = in_a_process(Path(folder), arguments.batch, preloaded=first, fit=arguments.fit)
            figures[str(count)]["written_a_processor_second"] = written
    rows = [figures[str(count)] for count in arguments.counts]
    peaks = [row["peak_mb"] if arguments.fit else row["shards"]["peak_mb"] for row in rows]
    figures["largest peak over smallest"] = round(max(peaks) / min(peaks), 3)
    print(json.dumps(figures, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
