"""What a run does beside its steps: guard rails, mixes, files, callbacks, shards, several processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

from geovlm import load_encoder
from geovlm.errors import UsageError
from geovlm.records import Record
from geovlm.sources import ShardSource, write_shards
from geovlm.training import ContrastiveTrainer, TrainingConfig, TrainingResult
from geovlm.training.callbacks import Callback, read_metrics
from tests.training.conftest import COLOURS, fields

FAST = {"epochs": 2, "batch_size": 12, "learning_rate": 1e-3, "precision": "float32"}


def config(**settings):
    return TrainingConfig(**{**FAST, **settings})


def state(encoder):
    return encoder.model.state_dict()


def general(count):
    """Small squares on another ground: what an encoder may forget."""
    records = []
    for number in range(count):
        name = list(COLOURS)[number % len(COLOURS)]
        image = Image.new("RGB", (40, 40), (90, 90, 90))
        image.paste(COLOURS[name], (10 + number, 10, 25 + number, 25))
        records.append(Record(id=f"square-{number}", image=image, captions=[f"a {name} square on grey"]))
    return records


@pytest.fixture(autouse=True)
def _no_other_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_a_run_leaves_metrics_a_picture_and_a_card(base, tmp_path):
    result = ContrastiveTrainer(base, config()).fit(fields(36), val=fields(6, start=36), out=tmp_path)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 7))
    assert [row["step"] for row in rows if "loss" not in row] == [0, 3, 6]
    assert rows[-1]["val"]["mean_recall"] == pytest.approx(result.history.rows[-1]["val mean recall"])
    assert all(row["pairs_per_second"] > 0 for row in rows if "loss" in row)
    with Image.open(tmp_path / "curves.png") as curves:
        assert curves.width > 600
    card = (tmp_path / "encoder" / "README.md").read_text()
    for words in (
        result.encoder.fingerprint,
        base.fingerprint,
        "Training pairs: 36",
        "| mean recall |",
        "learning_rate",
    ):
        assert words in card
    assert set(result.report.drift) == {"image", "text"}
    assert all(0 < far < 1 for far in result.report.drift.values())
    assert "weights moved by: image" in str(result.report)


def test_callbacks_are_told_all(base, tmp_path):
    told = []

    class Tells(Callback):
        def on_start(self, info):
            told.append(("start", info["step"]))

        def on_step(self, row):
            told.append(("step", row["step"]))

        def on_epoch(self, row):
            told.append(("epoch", row["epoch"]))

        def on_end(self):
            told.append(("end",))

    ContrastiveTrainer(base, config(epochs=1)).fit(fields(24), out=tmp_path, callbacks=[Tells()])
    assert told == [("start", 0), ("epoch", 0), ("step", 1), ("step", 2), ("epoch", 1), ("end",)]


def test_leaks_are_a_warning_and_in_the_report(base, tmp_path):
    train = fields(24)
    with pytest.warns(RuntimeWarning, match="2 of 4 held-out records have the same image"):
        result = ContrastiveTrainer(base, config(epochs=1)).fit(
            train, val=[*train[:2], *fields(2, start=24)], out=tmp_path
        )
    assert "2 of 4 held-out records have the same image" in str(result.report)
    assert "2 of 4" in TrainingResult.open(tmp_path).report.leaks


def test_what_is_forgotten_is_told(base, tmp_path):
    result = ContrastiveTrainer(base, config()).fit(
        fields(24), val=fields(6, start=24), general=general(6), out=tmp_path
    )
    table = result.report.forgetting()
    assert table.index.name == "on 6 general pairs"
    assert (table["before"] != table["after"]).any()
    assert "on 6 general pairs" in str(result.report)
    assert result.data.done == 36


def test_the_best_mix_is_returned(base, tmp_path):
    """A rate that is far too high: the base, nearly untouched, is better than what comes out."""
    held = fields(12, start=24)
    good = ContrastiveTrainer(base, config(epochs=8, learning_rate=3e-3)).fit(fields(24), val=held, out=tmp_path / "a")
    tuned = good.encoder.copy()
    # One epoch, so that the best epoch is the spoilt one.
    result = ContrastiveTrainer(tuned, config(epochs=1, learning_rate=0.1, warmup=0, interpolation=True)).fit(
        fields(24), val=held, out=tmp_path / "b"
    )
    assert result.report.share < 1
    assert result.report.after.mean_recall > result.history.rows[-1]["val mean recall"]
    assert "mixed with the base" in str(result.report)
    with pytest.raises(UsageError, match="interpolation needs held-out pairs"):
        ContrastiveTrainer(base, config(interpolation=True)).fit(fields(24), out=tmp_path / "c")


@pytest.mark.parametrize("kind", ["open_clip", "clip"])
def test_adapters_are_trained_and_merged(kind, encoders, tmp_path):
    base = encoders[kind]
    settings = config(epochs=6, learning_rate=1e-2, lora_rank=4, average=0.9, micro_batch_size=5)
    result = ContrastiveTrainer(base, settings).fit(fields(36), val=fields(6, start=36), out=tmp_path)
    assert result.report.after.loss < result.report.before.loss
    again = load_encoder(tmp_path / "encoder", device="cpu", dtype="float32")
    assert state(again).keys() == state(base).keys()
    moved = [name for name, tensor in state(again).items() if not torch.equal(tensor, state(base)[name])]
    assert moved
    assert not [name for name in moved if "embed" in name]


def test_shards_are_streamed(base, tmp_path):
    write_shards(fields(36), tmp_path / "shards", images_a_shard=10)
    source = ShardSource(tmp_path / "shards")
    result = ContrastiveTrainer(base, config(epochs=6, learning_rate=3e-3)).fit(
        source, val=fields(6, start=36), out=tmp_path / "run"
    )
    assert result.data.done == 42
    assert result.improved


SCRIPT = """
    import sys, warnings
    import torch
    from geovlm import load_encoder
    from geovlm.training import ContrastiveTrainer, TrainingConfig
    from tests.training.conftest import fields

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder, out = sys.argv[1:]
    settings = TrainingConfig(epochs=2, batch_size=12, learning_rate=1e-3, precision="float32", checkpoint_interval=2)
    base = load_encoder(folder, device="cpu", dtype="float32")
    result = ContrastiveTrainer(base, settings).fit(fields(30), val=fields(6, start=30), out=out, progress=False)
    assert result.data.done == 36, result.data
"""


def test_two_processes_end_as_one(encoders, tmp_path):
    """Through torchrun, as people start it."""
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(SCRIPT))
    folder = str(encoders.folder("open_clip"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for command, out in (([sys.executable], "one"), (launch, "two")):
        done = subprocess.run(
            [*command, str(script), folder, str(tmp_path / out)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (TrainingResult.open(tmp_path / name) for name in ("one", "two"))
    for name, tensor in state(one.encoder).items():
        torch.testing.assert_close(state(two.encoder)[name], tensor, rtol=1e-4, atol=1e-5)
    losses = [
        [row["loss"] for row in read_metrics(tmp_path / name / "metrics.jsonl") if "loss" in row]
        for name in ("one", "two")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
