"""What it costs to tell where: `encode_dense` against `encode_pixels` of the same encoder, on this machine's CPU.

    python benchmarks/dense.py [--models ViT-B-32 ViT-B-16] [--count 16] [--rounds 5] [--out dense.json]

Both get the same pixels, at the model's own size, in one process and in turns; random weights of real size, float32,
one thread. Times are processor time, the least of several rounds, since other programs only ever add to it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import torch

import geovlm as gv
from geovlm.encoders.dense import is_dense

if TYPE_CHECKING:
    from collections.abc import Callable


def seconds(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def measure(architecture: str, *, count: int, rounds: int) -> dict[str, Any]:
    encoder = gv.new_encoder(open_clip.get_model_config(architecture), name=architecture, device="cpu", dtype="float32")
    assert is_dense(encoder)
    side = encoder.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    encoder.encode_dense(pixels[:2])
    plain, dense = [], []
    for _ in range(rounds):
        plain.append(seconds(lambda: encoder.encode_pixels(pixels)))
        dense.append(seconds(lambda: encoder.encode_dense(pixels)))
    vectors, cells = encoder.encode_dense(pixels[:2])
    return {
        "model": architecture,
        "cells": f"{cells.shape[1]} x {cells.shape[2]}",
        "encode_pixels, images/s": round(count / min(plain), 2),
        "encode_dense, images/s": round(count / min(dense), 2),
        "cost": round(min(dense) / min(plain), 3),
        "vectors differ by": float(np.abs(vectors - encoder.encode_pixels(pixels[:2])).max()),
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["ViT-B-32", "ViT-B-16"], help="architectures of open_clip")
    parser.add_argument("--count", type=int, default=16, help="images in a call")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measure(model, count=arguments.count, rounds=arguments.rounds) for model in arguments.models]
    print(table(rows))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(rows, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
