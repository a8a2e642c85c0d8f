"""How good a model is: classification and image-text retrieval, over all inputs; before and after."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geovlm.evaluation.classification import class_vectors, classify_vectors, zero_shot
    from geovlm.evaluation.comparison import Comparison, compare
    from geovlm.evaluation.cross_modal import RetrievalResult, retrieval
    from geovlm.evaluation.labels import score_labels
    from geovlm.evaluation.result import ClassificationResult

_HOME_OF = {
    "ClassificationResult": "result",
    "Comparison": "comparison",
    "RetrievalResult": "cross_modal",
    "class_vectors": "classification",
    "classify_vectors": "classification",
    "compare": "comparison",
    "retrieval": "cross_modal",
    "score_labels": "labels",
    "zero_shot": "classification",
}

__all__ = [
    "ClassificationResult",
    "Comparison",
    "RetrievalResult",
    "class_vectors",
    "classify_vectors",
    "compare",
    "retrieval",
    "score_labels",
    "zero_shot",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'geovlm.evaluation' has no attribute {name!r}")
    return getattr(import_module(f"geovlm.evaluation.{_HOME_OF[name]}"), name)
