"""How good an encoder is: zero-shot classification and image-text retrieval, over all inputs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geovlm.evaluation.classification import ClassificationResult, class_vectors, classify_vectors, zero_shot
    from geovlm.evaluation.cross_modal import RetrievalResult, retrieval

__all__ = [
    "ClassificationResult",
    "RetrievalResult",
    "class_vectors",
    "classify_vectors",
    "retrieval",
    "zero_shot",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'geovlm.evaluation' has no attribute {name!r}")
    home = "cross_modal" if name in ("RetrievalResult", "retrieval") else "classification"
    return getattr(import_module(f"geovlm.evaluation.{home}"), name)
