"""How good a model is: classification and image-text retrieval, over all inputs; before and after."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geovlm.evaluation.benchmark_data import BenchmarkData
    from geovlm.evaluation.benchmark_published import PUBLISHED, PublishedRow
    from geovlm.evaluation.benchmark_result import BenchmarkMean, BenchmarkResult, BenchmarkScore
    from geovlm.evaluation.benchmark_run import benchmark
    from geovlm.evaluation.benchmark_sets import BENCHMARK_SETS, EIGHT_SETS, SEVEN_SETS, BenchmarkSet
    from geovlm.evaluation.classification import class_vectors, classify_vectors, zero_shot
    from geovlm.evaluation.classify_arrays import Classification, classify
    from geovlm.evaluation.comparison import Comparison, compare
    from geovlm.evaluation.cross_modal import RetrievalResult, retrieval
    from geovlm.evaluation.detection import DetectionResult, evaluate_detections
    from geovlm.evaluation.labels import score_labels
    from geovlm.evaluation.result import ClassificationResult

_HOME_OF = {
    "BENCHMARK_SETS": "benchmark_sets",
    "BenchmarkData": "benchmark_data",
    "BenchmarkMean": "benchmark_result",
    "BenchmarkResult": "benchmark_result",
    "BenchmarkScore": "benchmark_result",
    "BenchmarkSet": "benchmark_sets",
    "Classification": "classify_arrays",
    "ClassificationResult": "result",
    "Comparison": "comparison",
    "DetectionResult": "detection",
    "EIGHT_SETS": "benchmark_sets",
    "PUBLISHED": "benchmark_published",
    "PublishedRow": "benchmark_published",
    "RetrievalResult": "cross_modal",
    "SEVEN_SETS": "benchmark_sets",
    "benchmark": "benchmark_run",
    "class_vectors": "classification",
    "classify": "classify_arrays",
    "classify_vectors": "classification",
    "compare": "comparison",
    "evaluate_detections": "detection",
    "retrieval": "cross_modal",
    "score_labels": "labels",
    "zero_shot": "classification",
}

__all__ = [
    "BENCHMARK_SETS",
    "EIGHT_SETS",
    "PUBLISHED",
    "SEVEN_SETS",
    "BenchmarkData",
    "BenchmarkMean",
    "BenchmarkResult",
    "BenchmarkScore",
    "BenchmarkSet",
    "Classification",
    "ClassificationResult",
    "Comparison",
    "DetectionResult",
    "PublishedRow",
    "RetrievalResult",
    "benchmark",
    "class_vectors",
    "classify",
    "classify_vectors",
    "compare",
    "evaluate_detections",
    "retrieval",
    "score_labels",
    "zero_shot",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'geovlm.evaluation' has no attribute {name!r}")
    return getattr(import_module(f"geovlm.evaluation.{_HOME_OF[name]}"), name)
