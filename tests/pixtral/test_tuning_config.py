"""Settings of a fine-tuning are checked when they are made."""

from __future__ import annotations

import pytest

from geovlm.errors import UsageError
from geovlm.pixtral.tuning import Estimate, FineTuningConfig


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"epochs": 1.5},
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"weight_decay": -1},
        {"warmup": 2},
        {"suffix": "a b"},
        {"suffix": "x" * 19},
        {"suffix": ""},
        {"batch_size": 0},
        {"micro_batch_size": True},
        {"max_length": 0},
        {"lora_rank": "8"},
        {"lora_alpha": 0},
        {"lora_dropout": 1},
        {"train": "vision"},
        {"max_grad_norm": -1},
        {"precision": "float16"},
        {"gradient_checkpointing": 1},
        {"device": 0},
        {"checkpoint_interval": 0},
        {"checkpoints_kept": 0},
        {"seed": -1},
    ],
    ids=str,
)
def test_wrong_settings_are_told_at_once(wrong):
    with pytest.raises(UsageError):
        FineTuningConfig(**wrong)


def test_how_a_run_is_kept_does_not_decide_what_it_is():
    kept = FineTuningConfig(device="cpu", checkpoint_interval=3, checkpoints_kept=9)
    assert kept.for_manifest() == FineTuningConfig().for_manifest()
    assert FineTuningConfig(seed=1).for_manifest() != FineTuningConfig().for_manifest()


def test_an_estimate_reads_as_a_sentence():
    assert (
        str(Estimate(cost=8.94, currency="USD", train_tokens=10, seconds=1715)) == "8.94 USD, 10 tokens, about 29 min"
    )
    assert str(Estimate()) == "an unknown cost"
