"""Pairs a second of `ContrastiveTrainer.fit` against open_clip's own training loop, with a ViT-B/32 on this machine.

    python benchmarks/train.py [--batches 32 64] [--precisions float32 bfloat16] [--words 12 75] [--out train.json]
    python benchmarks/train.py --shards [--batches 32] [--precisions bfloat16]

In one process, in turns of a few steps, from the same weights (random, of real size), on the same 224 px pixels without
augmentation, with AdamW in the same settings and gradients clipped to the same norm:

- *fit*: the public call, from decoded images in memory, with its tokenizer, its default loss and its `metrics.jsonl`;
- *open_clip*: `open_clip_train.train.train_one_epoch` with its `ClipLoss`, from a `DataLoader` over tensors that are
  normalised and tokenised already, so that no work on data counts against it.

All captions differ, so both losses are the same number. Told are the medians over turns, and the median of the ratios
of neighbouring turns by the clock and by processor time, which other programs on the machine disturb less. Captions of
75 words fill the context of 77 tokens; shorter ones are where geovlm saves work, as it leaves out the filling that a
causal text tower never looks at.

With `--shards`, *fit* reads JPEGs from shards with its default augmentation, beside the same steps from decoded pixels
in memory.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import torch
from open_clip_train.params import parse_args
from open_clip_train.scheduler import cosine_lr
from open_clip_train.train import train_one_epoch
from torch.utils.data import DataLoader, TensorDataset

import geovlm as gv
from geovlm.testing.scenes import draw_scene
from geovlm.training.callbacks import Callback
from geovlm.training.data import make_batches, read_pairs
from geovlm.training.learner import Learner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from PIL import Image

    from geovlm.encoders._torch import TorchEncoder

RATE, DECAY, NORM = 5e-4, 0.2, 1.0

# Each of these words is one token.
WORDS = ["a", "river", "road", "field", "forest", "beach", "bridge", "farm", "lake", "city", "street", "roof", "tree"]


def scenes(count: int, *, side: int, words: int, image: Callable[[Image.Image], Any]) -> list[gv.Record]:
    """Drawn scenes whose captions all differ and have from half of so many words up to all of them."""
    rng, records = np.random.default_rng(0), []
    for number in range(count):
        caption = " ".join(rng.choice(WORDS, size=words - int(rng.integers(words // 2 + 1)) * (number > 0)))
        picture = draw_scene(rng, side=side)[0]
        records.append(gv.Record(id=str(number), image=image(picture), captions=caption))
    return records


class Reference:
    """open_clip's loop over the same pairs, an epoch a turn."""

    def __init__(self, encoder: TorchEncoder, pairs: list[gv.Record], *, batch: int, precision: str) -> None:
        names = {"float32": "fp32", "bfloat16": "amp_bf16"}
        self._args = parse_args(
            ["--precision", names[precision], "--batch-size", str(batch), "--lr", str(RATE), "--wd", str(DECAY)]
        )
        more = {"device": "cpu", "distill": False, "rank": 0, "world_size": 1, "grad_clip_norm": NORM, "wandb": False}
        vars(self._args).update(more)
        self._model = copy.deepcopy(encoder.model)
        self._model.output_dict = True
        pixels = np.stack([encoder.preprocess(pair.open()) for pair in pairs])
        tokens = encoder.tokenize([pair.captions[0] for pair in pairs])
        data = TensorDataset(encoder.normalize_pixels(torch.from_numpy(pixels)).contiguous(), tokens)
        self._loader = DataLoader(data, batch_size=batch, shuffle=True)
        self._loader.num_samples, self._loader.num_batches = len(pairs), len(self._loader)
        self._optimizer = self._adamw()
        self._schedule = cosine_lr(self._optimizer, RATE, 10, 10_000)
        self._epoch = 0

    def _adamw(self) -> torch.optim.AdamW:
        """As open_clip's program makes it: what has one dimension does not decay, no fused kernel."""
        parts: tuple[list[Any], list[Any]] = ([], [])
        for parameter in self._model.parameters():
            parts[parameter.ndim >= 2].append(parameter)
        groups = [{"params": parts[0], "weight_decay": 0.0}, {"params": parts[1], "weight_decay": DECAY}]
        return torch.optim.AdamW(groups, lr=RATE, betas=(self._args.beta1, self._args.beta2), eps=self._args.eps)

    @property
    def dataloader(self) -> Any:
        """Under the name that the loop asks for."""
        return self._loader

    def set_epoch(self, epoch: int) -> None:
        """The loop tells it."""

    def __call__(self) -> None:
        """Take the steps of a turn."""
        loss = open_clip.ClipLoss()
        data = {"train": self}
        train_one_epoch(self._model, data, loss, self._epoch, self._optimizer, None, self._schedule, None, self._args)
        self._epoch += 1


class Preloaded:
    """Steps of geovlm on decoded pixels in memory, without what else `fit` does."""

    def __init__(self, encoder: TorchEncoder, pairs: list[gv.Record], config: gv.TrainingConfig) -> None:
        held = read_pairs(pairs, what="train", at_least=2, positives=None)
        self._batches = make_batches(held, prepare=encoder.preprocess, size=encoder.image_size, config=config)
        self._learner = Learner(encoder, config, steps=config.epochs * self._batches.count)
        self._epoch = 0

    def __call__(self) -> None:
        """Take the steps of a turn."""
        for step, batch in enumerate(self._batches.epoch(self._epoch), self._epoch * self._batches.count):
            self._learner.step(step, batch)
        self._epoch += 1


class Turns(Callback):
    """Lets another loop run after each epoch of `fit`, and times both by the clock and by processor time."""

    def __init__(self, other: Callable[[], None]) -> None:
        self._other = other
        self._started = np.zeros(2)
        self.fit: list[np.ndarray] = []
        self.other: list[np.ndarray] = []

    def on_epoch(self, row: Mapping[str, Any]) -> None:
        """At epoch 0 nothing has happened yet."""
        ended = clocks()
        if row["epoch"]:
            self._other()
            self.fit.append(ended - self._started)
            self.other.append(clocks() - ended)
        self._started = clocks()


def clocks() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])


def in_turns(
    encoder: TorchEncoder, train: Any, config: gv.TrainingConfig, other: Callable[[], None], *, pairs: int
) -> dict[str, Any]:
    """Pairs a second of `fit` and of the other; the first turn, in which memory is claimed, does not count."""
    turns = Turns(other)
    with tempfile.TemporaryDirectory() as folder:
        gv.ContrastiveTrainer(encoder, config).fit(train, out=folder, callbacks=[turns], progress=False)
    if len(turns.fit) != config.epochs:
        raise RuntimeError("fit dropped the callback: see its warning.")
    ours, theirs = np.array(turns.fit[1:]), np.array(turns.other[1:])
    ratios = theirs / ours
    by_clock, by_processor = np.median(ratios, axis=0).round(3).tolist()
    return {
        "fit": round(pairs / float(np.median(ours[:, 0])), 2),
        "other": round(pairs / float(np.median(theirs[:, 0])), 2),
        "ratio": by_clock,
        "ratio_by_processor_time": by_processor,
        "ratios": ratios.round(3).tolist(),
    }


def against_open_clip(batch: int, precision: str, words: int, *, turns: int, steps: int) -> dict[str, Any]:
    encoder, pairs = vit_b_32(), scenes(batch * steps, side=224, words=words, image=lambda picture: picture)
    reference = Reference(encoder, pairs, batch=batch, precision=precision)
    config = settings(batch, precision, turns, augmentation=gv.Augmentation.off())
    return in_turns(encoder, pairs, config, reference, pairs=len(pairs))


def from_shards(batch: int, precision: str, words: int, *, turns: int, steps: int) -> dict[str, Any]:
    encoder, config = vit_b_32(), settings(batch, precision, turns)
    with tempfile.TemporaryDirectory() as folder:
        gv.write_shards(scenes(batch * steps, side=256, words=words, image=as_jpeg), folder, progress=False)
        source = gv.ShardSource(folder)
        return in_turns(encoder, source, config, Preloaded(encoder, list(source), config), pairs=batch * steps)


def as_jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def vit_b_32() -> Any:
    return gv.new_encoder(open_clip.get_model_config("ViT-B-32"), name="ViT-B-32", device="cpu", dtype="float32")


def settings(batch: int, precision: Any, turns: int, **more: Any) -> gv.TrainingConfig:
    return gv.TrainingConfig(
        epochs=turns + 1,
        batch_size=batch,
        precision=precision,
        learning_rate=RATE,
        weight_decay=DECAY,
        max_grad_norm=NORM,
        checkpoint_interval=10**9,  # the other loop writes none either
        **more,
    )


def in_a_process(arguments: argparse.Namespace, batch: int, precision: str, words: int) -> dict[str, Any]:
    """A row in a process of its own, because what a row has used does not all go back to the system."""
    which = ["--batches", str(batch), "--precisions", precision, "--words", str(words)]
    length = ["--turns", str(arguments.turns), "--steps", str(arguments.steps)]
    command = [sys.executable, __file__, "--one", *which, *length, *(["--shards"] if arguments.shards else [])]
    row: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--words", type=int, nargs="+", default=[12, 75], help="in the longest caption")
    parser.add_argument("--turns", type=int, default=4, help="that count")
    parser.add_argument("--steps", type=int, default=4, help="in a turn")
    parser.add_argument("--shards", action="store_true", help="shards against decoded pixels in memory, both geovlm")
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    rows = list(product(arguments.batches, arguments.precisions, arguments.words))
    if arguments.one:
        measure = from_shards if arguments.shards else against_open_clip
        print(json.dumps(measure(*rows[0], turns=arguments.turns, steps=arguments.steps)))
        return

    threads = f"{torch.get_num_threads()} threads of torch"
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {threads}, torch {torch.__version__}"
    other = "preloaded" if arguments.shards else "open_clip"
    figures: dict[str, Any] = {"machine": machine, "other": other, "rows": []}
    print(f"{machine}\n\n| batch | precision | words | fit | {other} | ratio | by processor |\n|{' --- |' * 7}")
    for batch, precision, words in rows:
        row = in_a_process(arguments, batch, precision, words)
        figures["rows"].append({"batch": batch, "precision": precision, "words": words, **row})
        rates = f"{row['fit']:.2f} | {row['other']:.2f} | {row['ratio']:.2f} | {row['ratio_by_processor_time']:.2f}"
        print(f"| {batch} | {precision} | {words} | {rates} |", flush=True)
        if arguments.out:
            arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
