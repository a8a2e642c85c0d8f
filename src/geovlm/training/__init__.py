"""Fine-tune CLIP-style encoders on pairs of images and captions."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geovlm.training.config import Augmentation, TrainingConfig

if TYPE_CHECKING:
    from geovlm.training.leaks import Leaks, Shared, find_leaks
    from geovlm.training.result import History, TrainingReport, TrainingResult
    from geovlm.training.trainer import ContrastiveTrainer
    from geovlm.training.validation import Scores
    from geovlm.training.wise_ft import interpolate

__all__ = [
    "Augmentation",
    "ContrastiveTrainer",
    "History",
    "Leaks",
    "Scores",
    "Shared",
    "TrainingConfig",
    "TrainingReport",
    "TrainingResult",
    "find_leaks",
    "interpolate",
]

# These bring torch, so they are imported when they are first asked for.
_HOMES = {
    "ContrastiveTrainer": "trainer",
    "History": "result",
    "Leaks": "leaks",
    "Scores": "validation",
    "Shared": "leaks",
    "TrainingReport": "result",
    "TrainingResult": "result",
    "find_leaks": "leaks",
    "interpolate": "wise_ft",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'geovlm.training' has no attribute {name!r}")
    return getattr(import_module(f"geovlm.training.{_HOMES[name]}"), name)
