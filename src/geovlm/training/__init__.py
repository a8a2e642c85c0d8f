"""Fine-tune CLIP-style encoders on pairs of images and captions."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geovlm.training.config import Augmentation, TrainingConfig

if TYPE_CHECKING:
    from geovlm.training.result import History, TrainingReport, TrainingResult
    from geovlm.training.trainer import ContrastiveTrainer
    from geovlm.training.validation import Scores

__all__ = [
    "Augmentation",
    "ContrastiveTrainer",
    "History",
    "Scores",
    "TrainingConfig",
    "TrainingReport",
    "TrainingResult",
]

# These bring torch, so they are imported when they are first asked for.
_HOMES = {
    "ContrastiveTrainer": "trainer",
    "History": "result",
    "Scores": "validation",
    "TrainingReport": "result",
    "TrainingResult": "result",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'geovlm.training' has no attribute {name!r}")
    return getattr(import_module(f"geovlm.training.{_HOMES[name]}"), name)
