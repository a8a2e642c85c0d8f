"""Who is told of a training, what the file of metrics holds, and the picture made of it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image

from geovlm.training.callbacks import Audience, Callback, MetricsFile, TensorBoard, WeightsAndBiases, read_metrics
from geovlm.training.curves import save_curves


def step(number, loss=1.0):
    return {"step": number, "epoch": 0, "loss": loss, "learning_rate": 1e-3, "logit_scale": 14.0}


def epoch(number, val=None):
    return {"step": number, "epoch": 1, "train_loss": 1.0, "val": val}


def test_a_resumed_run_cuts_off_what_came_after_its_checkpoint(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.on_start({"step": 0})
    for number in range(1, 6):
        file.on_step(step(number))
    with file.path.open("a") as handle:
        handle.write('{"step": 6, "lo')
    file.on_start({"step": 3})
    file.on_step(step(4, 0.5))
    assert [(row["step"], row["loss"]) for row in read_metrics(file.path)] == [(1, 1), (2, 1), (3, 1), (4, 0.5)]
    file.on_start({"step": 0})
    assert read_metrics(file.path) == []


def test_a_callback_that_raises_is_dropped_and_the_others_are_told():
    class Broken(Callback):
        def on_step(self, row):
            raise ConnectionError("no network")

    class Counts(Callback):
        def __init__(self):
            self.steps, self.ended = 0, False

        def on_step(self, row):
            self.steps += 1

        def on_end(self):
            self.ended = True

    counts = Counts()
    audience = Audience([Broken(), counts])
    audience.on_start({"step": 0})
    with pytest.warns(RuntimeWarning, match="Broken failed .* no network"):
        audience.on_step(step(1))
    audience.on_step(step(2))
    audience.on_end()
    assert (counts.steps, counts.ended) == (2, True)


def test_an_interrupt_goes_through():
    class Stops(Callback):
        def on_step(self, row):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Audience([Stops()]).on_step(step(1))


def test_tensorboard_gets_every_number(tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoard(tmp_path)
    board.on_start({"step": 0})
    board.on_step(step(1, 2.0))
    board.on_step(step(2, 1.5))
    board.on_epoch(epoch(2, {"loss": 1.25}))
    board.on_end()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 2.0), (2, 1.5)]
    assert [(e.step, e.value) for e in events.Scalars("val/loss")] == [(2, 1.25)]


@pytest.mark.parametrize("steps", [1, 2, 300])
def test_curves_are_drawn_with_and_without_held_out_pairs(steps, tmp_path):
    rows = [step(number + 1, math.nan if number == 1 else 1 / (number + 1)) for number in range(steps)]
    save_curves([*rows, epoch(steps)], tmp_path / "a.png")
    save_curves([*rows, epoch(steps, {"loss": 0.5, "mean recall": 0.25})], tmp_path / "b.png")
    one, other = (np.asarray(Image.open(tmp_path / name).convert("RGB")) for name in ("a.png", "b.png"))
    assert one.shape == other.shape
    assert (one != other).any()


def test_lines_are_json(tmp_path):
    file = MetricsFile(tmp_path / "m.jsonl")
    file.on_start({"step": 0})
    file.on_epoch(epoch(1, {"loss": 0.5}))
    assert json.loads(file.path.read_text()) == epoch(1, {"loss": 0.5})


def test_weights_and_biases_gets_every_number(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    watcher = WeightsAndBiases("geovlm")
    watcher.on_start({"run": "abc", "step": 0, "epochs": 1})
    watcher.on_step(step(1, 2.0))
    watcher.on_epoch(epoch(2, {"loss": 1.25}))
    watcher.on_step(step(3, 1.0))  # what is told of a step is sent when the next begins
    assert watcher._run.summary["val/loss"] == 1.25
    watcher.on_end()
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
