"""Each setting that cannot be right is an error that says what can."""

from __future__ import annotations

import json

import pytest

from geovlm.errors import UnknownName, UsageError
from geovlm.training import Augmentation, TrainingConfig


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"epochs": 0}, "epochs is a whole number of at least 1, not 0"),
        ({"epochs": 2.5}, "epochs is a whole number"),
        ({"epochs": True}, "epochs is a whole number"),
        ({"batch_size": 1}, "compares pairs with each other"),
        ({"learning_rate": 0}, "learning_rate is a number above 0 and at most 1, not 0. 1e-5 suits"),
        ({"learning_rate": "1e-5"}, "learning_rate is a number"),
        ({"learning_rate": float("nan")}, "not nan"),
        ({"weight_decay": -1}, "weight_decay"),
        ({"warmup": -0.1}, "warmup"),
        ({"warmup": 1.5}, "a share of the steps below 1 or a whole number"),
        ({"betas": (0.9,)}, "betas are two numbers"),
        ({"betas": (0.9, 1.0)}, "betas are two numbers"),
        ({"epsilon": 0}, "epsilon"),
        ({"max_grad_norm": 0}, "max_grad_norm"),
        ({"label_smoothing": 0.9}, "at most 0.5"),
        ({"average": 1.0}, "average"),
        ({"patience": 0}, "patience"),
        ({"checkpoint_interval": 0}, "checkpoint_interval"),
        ({"checkpoints_kept": 0}, "checkpoints_kept"),
        ({"cache_bytes": -1}, "cache_bytes"),
        ({"seed": -1}, "seed"),
        ({"augmentation": None}, r"Augmentation.off\(\)"),
    ],
)
def test_wrong_values_are_explained(setting, words):
    with pytest.raises(UsageError, match=words):
        TrainingConfig(**setting)


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ({"precision": "bfloat"}, "Did you mean bfloat16"),
        ({"freeze": "txt"}, "Did you mean text"),
        ({"loss": "info-nce"}, "Did you mean infonce"),
        ({"loss": "zzz"}, "Known: infonce, multi-positive"),
    ],
)
def test_typos_name_the_nearest(setting, hint):
    with pytest.raises(UnknownName, match=hint):
        TrainingConfig(**setting)


@pytest.mark.parametrize(
    "setting", [{"crop": (0, 1)}, {"crop": (0.9, 0.5)}, {"crop": (0.5, 1.1)}, {"crop": 0.5}, {"color": 2}, {"flip": 1}]
)
def test_augmentation_is_checked(setting):
    with pytest.raises(UsageError, match=next(iter(setting))):
        Augmentation(**setting)


def test_the_manifest_holds_what_decides_the_result():
    """As JSON gives it back: a tuple that comes back as a list would be another configuration."""
    one = TrainingConfig(cache_bytes=0, checkpoint_interval=3, checkpoints_kept=9).for_manifest()
    assert one == TrainingConfig().for_manifest() == json.loads(json.dumps(one))
    assert one != TrainingConfig(augmentation=Augmentation(flip=False)).for_manifest()
