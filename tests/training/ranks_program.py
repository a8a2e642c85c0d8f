"""Five steps of every kind of training, in one process or as one of several; run as a program it is one of several."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

import numpy as np
import torch

from geovlm import load_encoder, new_encoder
from geovlm.training import TrainingConfig
from geovlm.training._ranks import Ranks
from geovlm.training._towers import Towers
from geovlm.training.batch import Batch
from geovlm.training.learner import Learner

STEPS = 5
# How many pairs of each step the first process has; the other has the rest, which is nothing in the third step.
SHARES = [4, 5, 7, 0, 6]
PAIRS = 7

CASES = {
    "infonce": {"loss": "infonce"},
    "multi-positive": {"loss": "multi-positive", "label_smoothing": 0.1},
    "sigmoid": {"loss": "sigmoid"},
    "infonce in parts": {"loss": "infonce", "micro_batch_size": 2},
    "multi-positive in parts": {"loss": "multi-positive", "micro_batch_size": 2},
    "sigmoid in parts": {"loss": "sigmoid", "micro_batch_size": 3},
    "locked image tower": {"freeze": "image", "micro_batch_size": 2},
    "adapters": {"lora_rank": 2, "average": 0.9},
    "activations again": {"gradient_checkpointing": True, "layer_decay": 0.8, "micro_batch_size": 4},
    "memory runs out": {},
}


def batch(encoder, step, rows):
    """A part of the batch of one step, some of whose captions repeat."""
    rng = np.random.default_rng(step)
    pixels = rng.integers(0, 256, (PAIRS, encoder.image_size, encoder.image_size, 3), dtype=np.uint8)
    captions = [f"a field of the kind {number}" for number in rng.integers(0, 4, PAIRS)]
    return Batch(pixels=pixels[rows], captions=captions[rows])


def encoder_for(name, folder):
    """SigLIP has a bias to learn."""
    return load_encoder(folder / ("siglip" if name == "sigmoid" else "open_clip"), device="cpu", dtype="float32")


def train(encoder, settings, ranks):
    """Losses and weights of five steps on this process's shares."""
    # With AdamW's usual epsilon, weights whose gradient is zero but for rounding would wander.
    config = TrainingConfig(learning_rate=1e-3, epsilon=1e-4, precision="float32", warmup=0, **settings)
    learner = Learner(encoder, config, steps=STEPS, ranks=ranks)
    losses = []
    for step in range(STEPS):
        rows = slice(0, PAIRS)
        if ranks.count > 1:
            rows = slice(0, SHARES[step]) if ranks.is_main else slice(SHARES[step], PAIRS)
        losses.append(learner.step(step, batch(encoder, step, rows)))
    with learner.for_use() as used:
        weights = {name: tensor.clone() for name, tensor in used.model.state_dict().items()}
    return {"losses": losses, "weights": weights, "micro": learner.state()["micro_batch_size"]}


def out_of_memory_once(ranks):
    """As if the second pass of the other process did not fit."""
    forward, calls = Towers.forward, count()

    def checked(self, part, *towers, **ready):
        if ranks.index == 1 and not ready and next(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, part, *towers, **ready)

    return checked


def check_ranks(ranks):
    """What the processes tell each other."""
    assert (ranks.count, ranks.is_main) == (2, ranks.index == 0)
    assert ranks.broadcast({"from": ranks.index}) == {"from": 0}
    assert ranks.collect(("rank", ranks.index)) == [("rank", 0), ("rank", 1)]
    for sizes in ([2, 3], [0, 4], [1, 0], [0, 0]):
        mine = torch.full((sizes[ranks.index], 3), ranks.index, dtype=torch.int64)
        assert ranks.sizes(len(mine)) == sizes
        gathered = ranks.gather(mine, sizes)
        assert gathered[:, 0].tolist() == [0] * sizes[0] + [1] * sizes[1]
        own = ranks.own(torch.arange(sum(sizes), dtype=torch.float32), sizes)
        assert own.tolist() == [2.0 * row for row in range(sum(sizes))][ranks.rows(sizes)]
    assert ranks.every(True)
    assert not ranks.every(ranks.is_main)
    ranks.barrier()


def check_statistics(ranks):
    """Batch norms of both processes end with the same statistics, each counting by its pairs."""
    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8}
    text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    encoder = new_encoder({"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}, device="cpu", dtype="float32")
    for cut in (4, 7):
        learner = Learner(encoder, TrainingConfig(precision="float32"), steps=STEPS, ranks=ranks)
        rows = slice(0, cut) if ranks.is_main else slice(cut, PAIRS)
        learner.step(0, batch(encoder, 0, rows))
        wanted = 0.0
        for part, rows in enumerate((slice(0, cut), slice(cut, PAIRS))):
            alone = encoder.copy()
            if batch(encoder, 0, rows).captions:
                alone.model.train()
                alone.image_features(alone.normalize_pixels(torch.from_numpy(batch(encoder, 0, rows).pixels)))
            wanted += alone.model.visual.bn1.running_mean * (cut if part == 0 else PAIRS - cut) / PAIRS
        torch.testing.assert_close(learner.model.visual.bn1.running_mean, wanted)


if __name__ == "__main__":
    torch.set_num_threads(1)
    root, process = Path(sys.argv[1]), Ranks.find("cpu")
    check_ranks(process)
    check_statistics(process)
    found = {}
    for case, chosen in CASES.items():
        untouched = Towers.forward
        if case == "memory runs out":
            Towers.forward = out_of_memory_once(process)
        found[case] = train(encoder_for(case.split()[0], root), chosen, process)
        Towers.forward = untouched
    torch.save(found, root / f"rank-{process.index}.pt")
    process.barrier()
