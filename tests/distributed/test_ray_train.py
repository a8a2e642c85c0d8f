"""The recipe of the guide: the trainer in two processes that Ray Train started ends as in one."""

from __future__ import annotations

import csv

import pytest
import torch

from geovlm import ContrastiveTrainer, TableSource, TrainingConfig, TrainingResult, load_encoder
from tests.docs.blocks import ROOT, blocks
from tests.models import openclip_folder, save_pictures

pytest.importorskip("ray.train.torch")

GUIDE = ROOT / "docs" / "guides" / "many-machines.md"


def recipe():
    """What the guide's last block defines."""
    names = {"__name__": "page"}
    exec([block for block in blocks(GUIDE) if block.language == "python"][-1].text, names)
    return names["fine_tune"]


def test_two_processes_end_as_one(cluster, tmp_path):
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    paths = save_pictures(tmp_path / "scenes", 24)
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        rows = [("filepath", "title"), *((str(path), f"a field, number {n % 5}") for n, path in enumerate(paths))]
        csv.writer(file).writerows(rows)
    settings = {"pairs": str(tmp_path / "pairs.csv"), "encoder": str(openclip_folder(tmp_path / "encoder"))}
    fine_tune = recipe()

    def fine_tune_together(settings):
        fine_tune(settings)
        from geovlm.training._ranks import Ranks

        assert Ranks.find("cpu").count == 2

    TorchTrainer(
        fine_tune_together,
        train_loop_config={**settings, "out": str(tmp_path / "two")},
        scaling_config=ScalingConfig(num_workers=2),
        torch_config=TorchConfig(backend="gloo"),
        run_config=RunConfig(storage_path=str(tmp_path / "ray")),
    ).fit()
    two = TrainingResult.open(tmp_path / "two")
    config = TrainingConfig(epochs=5)
    base = load_encoder(settings["encoder"])
    pairs = TableSource(settings["pairs"], image="filepath", caption="title")
    one = ContrastiveTrainer(base, config).fit(pairs, out=tmp_path / "one", progress=False)
    wanted = one.encoder.model.state_dict()
    for name, tensor in two.encoder.model.state_dict().items():
        torch.testing.assert_close(tensor, wanted[name], rtol=1e-3, atol=1e-4, msg=name)
