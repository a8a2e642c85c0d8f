"""Peak memory of training with a batch 16 times as large, by `micro_batch_size`, and what it does to the gradient.

    python benchmarks/train_memory.py [--model ViT-B-32] [--small 16] [--times 16] [--out train_memory.json]

Each row is a process of its own that takes two steps (float32, CPU) and tells its largest resident memory:

- *weights*: a batch of two, which needs the weights, their copy, gradients and AdamW's moments, and little else;
- *small*: a batch that goes through the model at once;
- *large*: a batch so many times as large, of which as much as the small one goes through at once.

Told are the ratio of large to small for the whole process, and for what is above *weights*, which are the activations,
the batch itself and its vectors. The latter is above 1 because from its second part on the gradient, as large as the
weights, is there together with the activations; a batch at once makes it while the activations go.

The gradient of a large batch in parts is compared with that of the same batch at once, on a small model: the largest
difference of any weight, relative to the largest gradient in its tensor.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch

import geovlm as gv
from geovlm.training._gradients import Gradients
from geovlm.training._ranks import Ranks
from geovlm.training._towers import Towers
from geovlm.training.batch import Batch
from geovlm.training.learner import Learner

TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 64, "patch_size": 8, "head_width": 32},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 3},
}


def random_batch(count: int, *, size: int) -> Batch:
    """Captions of real length, all different."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    captions = [f"many buildings and some green trees are near the river number {number}" for number in range(count)]
    return Batch(pixels=pixels, captions=captions)


def peak_mb(model: str, batch: int, micro: int | None) -> float:
    """Of this process after two steps; on Linux the unit of the system's figure is KiB."""
    encoder: Any = gv.new_encoder(open_clip.get_model_config(model), device="cpu", dtype="float32")
    config = gv.TrainingConfig(batch_size=batch, micro_batch_size=micro, precision="float32")
    learner, pairs = Learner(encoder, config, steps=2), random_batch(batch, size=encoder.image_size)
    for step in range(2):
        learner.step(step, pairs)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_a_process(model: str, batch: int, micro: int | None) -> float:
    command = [sys.executable, __file__, "--model", model, "--measure", str(batch), str(micro or 0)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(result.stdout)


def memory(model: str, small: int, times: int) -> dict[str, Any]:
    weights, one, many = (
        in_a_process(model, batch, micro) for batch, micro in ((2, None), (small, None), (small * times, small))
    )
    return {
        "model": model,
        "small_batch": small,
        "large_batch": small * times,
        "peak_mb": {"weights": round(weights), "small": round(one), "large": round(many)},
        "large_over_small": round(many / one, 3),
        "large_over_small_above_weights": round((many - weights) / (one - weights), 3),
    }


def gradients(batch: int, micro: int | None, loss: Any) -> dict[str, torch.Tensor]:
    encoder: Any = gv.new_encoder(TINY, device="cpu", dtype="float32")
    config = gv.TrainingConfig(batch_size=batch, micro_batch_size=micro, precision="float32", loss=loss)
    towers, scaler = Towers(encoder, config, dtype=None), torch.amp.GradScaler("cpu", enabled=False)
    pairs = random_batch(batch, size=encoder.image_size)
    Gradients(towers, config, ranks=Ranks(device="cpu"), scaler=scaler).add(0, pairs, [batch])
    return {name: weight.grad for name, weight in encoder.model.named_parameters() if weight.grad is not None}


def difference(batch: int, micro: int, loss: str) -> float:
    """Tensors whose gradient is nothing but rounding, such as the bias of keys in attention, are left out."""
    whole, parts = gradients(batch, None, loss), gradients(batch, micro, loss)
    largest = max(float(gradient.abs().max()) for gradient in whole.values())
    return max(
        float((whole[name] - parts[name]).abs().max() / whole[name].abs().max())
        for name in whole
        if float(whole[name].abs().max()) > 1e-6 * largest
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32", help="of open_clip's configurations")
    parser.add_argument("--small", type=int, default=16)
    parser.add_argument("--times", type=int, default=16)
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    parser.add_argument("--measure", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        batch, micro = arguments.measure
        print(peak_mb(arguments.model, batch, micro or None))
        return

    figures: dict[str, Any] = {"machine": f"{platform.machine()}, torch {torch.__version__}"}
    figures["gradient_difference"] = {
        loss: difference(128, 8, loss) for loss in ("infonce", "multi-positive", "sigmoid")
    }
    figures |= memory(arguments.model, arguments.small, arguments.times)
    print(json.dumps(figures, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
