"""The losses against each other: AID scenes from scratch, with the model and the settings of `examples/train_aid.py`.

    python benchmarks/train_losses.py path/to/aid --out runs/losses [--epochs 60] [--seeds 0 1 2] [--parallel 2]

Each loss is trained with each seed on the `train` split, captions only, in a process of its own with one thread. Told
are, over all scenes of `val` and `test`, zero-shot top-1 by the names of the classes and text→image recall@10 by their
captions. A run leaves one file of JSON; when the program is called again, only what is missing is run.

The settings were found with the duplicate-aware loss; `sigmoid` has no label smoothing, and all else is the same.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from attrs import evolve

import geovlm as gv
from geovlm.training.config import LOSSES

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "train_aid.py"
MEASURES = {"top1": "zero-shot top-1", "recall_at_10": "text→image recall@10"}


def train(data: Path, loss: Any, seed: int, epochs: int) -> dict[str, Any]:
    """One run from the first weights to its row."""
    example, captions = runpy.run_path(str(EXAMPLE)), data / "captions.json"
    held_out = [*gv.TableSource(captions, split="val"), *gv.TableSource(captions, split="test")]
    smoothing = 0.0 if loss == "sigmoid" else example["CONFIG"].label_smoothing
    config = evolve(example["CONFIG"], loss=loss, label_smoothing=smoothing, seed=seed, epochs=epochs)
    encoder = gv.new_encoder(example["SMALL_CLIP"], preprocess={"interpolation": "bilinear"}, seed=seed)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        trainer = gv.ContrastiveTrainer(encoder, config)
        result = trainer.fit(gv.TableSource(captions, split="train"), out=folder, progress=False)
        seconds = time.monotonic() - started
        tuned = result.encoder
        top1 = gv.zero_shot(tuned, held_out, templates=example["TEMPLATES"], progress=False).top1
        recall = gv.retrieval(tuned, held_out, ks=[10], progress=False).text_to_image[10]
    row = {"loss": loss, "seed": seed, "epochs": epochs, "scenes": len(held_out), "top1": top1, "recall_at_10": recall}
    return {**row, "seconds": round(seconds)}


def row_file(out: Path, loss: str, seed: int, epochs: int) -> Path:
    return out / f"{loss}-{epochs}-epochs-seed-{seed}.json"


def in_a_process(arguments: argparse.Namespace, loss: str, seed: int) -> dict[str, Any]:
    """A row, from its file if the run is done."""
    file = row_file(arguments.out, loss, seed, arguments.epochs)
    if not file.exists():
        run = ["--losses", loss, "--seeds", str(seed), "--epochs", str(arguments.epochs), "--one"]
        command = [sys.executable, __file__, str(arguments.data), "--out", str(arguments.out), *run]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    row: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    print(f"{loss}, seed {seed}: {row}", file=sys.stderr, flush=True)
    return row


def save(row: dict[str, Any], file: Path) -> None:
    """A killed run leaves no half of a row."""
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(row) + "\n", encoding="utf-8")
    temporary.replace(file)


def table(rows: list[dict[str, Any]]) -> str:
    """A row a loss: mean, standard deviation and each seed."""
    lines = [f"| loss | {' | '.join(MEASURES.values())} | time of a run |", f"|{' --- |' * (len(MEASURES) + 2)}"]
    for loss in dict.fromkeys(row["loss"] for row in rows):
        mine = [row for row in rows if row["loss"] == loss]
        cells = [spread([row[measure] for row in mine]) for measure in MEASURES]
        seconds = statistics.mean(row["seconds"] for row in mine)
        lines.append(f"| {loss} | {' | '.join(cells)} | {seconds:.0f} s |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.1%}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1%}{deviation} ({', '.join(f'{value:.1%}' for value in values)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder with captions.json and the images")
    parser.add_argument("--out", type=Path, default=Path("runs/losses"), help="where the rows go")
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=["infonce", "multi-positive", "sigmoid"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--parallel", type=int, default=2, help="runs at a time, each with one thread")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.one:
        (loss,), (seed,) = arguments.losses, arguments.seeds
        row = train(arguments.data, loss, seed, arguments.epochs)
        save(row, row_file(arguments.out, loss, seed, arguments.epochs))
        return

    runs = [(loss, seed) for seed in arguments.seeds for loss in arguments.losses]
    with ThreadPoolExecutor(arguments.parallel) as pool:
        rows = list(pool.map(lambda run: in_a_process(arguments, *run), runs))
    print(table(rows))
    (arguments.out / "losses.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
