"""The benchmark's figures beside those of torchmetrics, scikit-learn and SciPy, on random vectors.

    python benchmarks/protocol.py [--images 1093] [--captions 4000] [--scenes 31500] [--classes 45] [--out FILE]

Random unit vectors take the place of embeddings, as many as RSICD's test split has images and RESISC45 has scenes. One
caption in ten belongs to two images. Peers in the same process, one after the other: torchmetrics' `retrieval_hit_rate`
query by query for recall, scikit-learn for accuracy and macro recall, SciPy for Wilson's interval. Told are the largest
difference over all figures, and the CPU time of each; the one of geovlm has the bootstrap beside it.

Needs `pip install scikit-learn scipy torchmetrics`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, recall_score
from torchmetrics.functional.retrieval import retrieval_hit_rate

from geovlm.evaluation import ClassificationResult, classify_vectors
from geovlm.evaluation._bench_scores import CUTS, Recalls, recalls, wilson
from geovlm.records import Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

DIM = 512


def unit(rng: np.random.Generator, rows: int) -> NDArray[np.float32]:
    vectors = rng.normal(size=(rows, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    return run(), time.process_time() - start


def hit_rates(scores: NDArray[np.float64], own: NDArray[np.bool_]) -> list[float]:
    """Mean hit rate of torchmetrics over the rows, at each cut."""
    pairs = [(torch.as_tensor(row), torch.as_tensor(right)) for row, right in zip(scores, own, strict=True)]
    return [
        sum(float(retrieval_hit_rate(row, right, top_k=k)) for row, right in pairs if right.any())
        / sum(bool(right.any()) for _, right in pairs)
        for k in CUTS
    ]


def measure_retrieval(rng: np.random.Generator, images: int, captions: int) -> dict[str, Any]:
    image = np.concatenate([rng.integers(images, size=captions), rng.integers(images, size=captions // 10)])
    text = np.concatenate([np.arange(captions), rng.choice(captions, size=captions // 10, replace=False)])
    image, text = np.unique(np.column_stack([image, text]), axis=0).T
    texts = unit(rng, captions)
    noise = unit(rng, images)
    pictures = noise.copy()
    np.add.at(pictures, image, 0.15 * texts[text])  # near enough to be found now and then
    pictures /= np.linalg.norm(pictures, axis=1, keepdims=True)

    def ours() -> Recalls:
        return recalls(pictures, texts, image=image, text=text, place=np.arange(images))

    def theirs() -> tuple[list[float], list[float]]:
        scores = pictures.astype(np.float64) @ texts.T.astype(np.float64)
        own = np.zeros(scores.shape, dtype=bool)
        own[image, text] = True
        return hit_rates(scores, own), hit_rates(scores.T, own.T)

    found, seconds = timed(ours)
    (forth, back), peer_seconds = timed(theirs)
    _, bootstrap = timed(found.interval)
    pairs = [
        *((found.image_to_text(k), value) for k, value in zip(CUTS, forth, strict=True)),
        *((found.text_to_image(k), value) for k, value in zip(CUTS, back, strict=True)),
    ]
    return {
        "figures": f"recall at 1, 5, 10, both ways; {images} images, {captions} captions",
        "peer": "torchmetrics",
        "largest difference": max(abs(mine - other) for mine, other in pairs),
        "geovlm s": seconds,
        "peer s": peer_seconds,
        "bootstrap s": bootstrap,
        "mean recall": sum(found.directions()) / 2,
    }


def measure_scenes(rng: np.random.Generator, scenes: int, classes: int) -> dict[str, Any]:
    texts, truth = unit(rng, classes), rng.integers(classes, size=scenes)
    pictures = unit(rng, scenes) + 0.1 * texts[truth]

    def ours() -> tuple[float, float, float, float]:
        ranking, scores = classify_vectors(pictures, texts, k=5)
        result = ClassificationResult(
            classes=tuple(str(number) for number in range(classes)),
            ids=tuple(str(number) for number in range(scenes)),
            truth=truth,
            ranking=ranking,
            scores=scores,
            report=Report(done=scenes),
        )
        return result.top1, float(result.per_class()["recall"].mean()), *wilson(int(result.correct.sum()), scenes)

    def theirs() -> tuple[float, float, float, float]:
        predicted = (pictures @ texts.T).argmax(axis=1)
        right = int((predicted == truth).sum())
        low, high = binomtest(right, scenes).proportion_ci(0.95, method="wilson")
        macro = recall_score(truth, predicted, average="macro")
        return float(accuracy_score(truth, predicted)), float(macro), float(low), float(high)

    mine, seconds = timed(ours)
    other, peer_seconds = timed(theirs)
    return {
        "figures": f"accuracy, macro recall, Wilson's interval; {scenes} scenes, {classes} classes",
        "peer": "scikit-learn, SciPy",
        "largest difference": max(abs(one - two) for one, two in zip(mine, other, strict=True)),
        "geovlm s": seconds,
        "peer s": peer_seconds,
        "accuracy": mine[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1093)
    parser.add_argument("--captions", type=int, default=4000)
    parser.add_argument("--scenes", type=int, default=31_500)
    parser.add_argument("--classes", type=int, default=45)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    rows = [
        measure_retrieval(rng, chosen.images, chosen.captions),
        measure_scenes(rng, chosen.scenes, chosen.classes),
    ]
    print("| figures | peer | largest difference | geovlm, CPU s | peer, CPU s |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            f"| {row['figures']} | {row['peer']} | {row['largest difference']:.1e} | {row['geovlm s']:.2f} |"
            f" {row['peer s']:.2f} |"
        )
    print(f"\nBootstrap of the mean recall, 1,000 draws: {rows[0]['bootstrap s']:.2f} s.")
    if chosen.out:
        chosen.out.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
