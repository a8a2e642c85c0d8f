"""What a handful of labelled images adds to the texts: prototypes, and a linear probe that starts at the texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geovlm._vectors import unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geovlm.protocols import Vectors

PROBE_PULL = 1.0  # how hard the probe's weights are held at where they start
PROBE_STEPS = 100
PROBE_SETTLED = 1e-4


def prototypes(texts: Vectors, support: Vectors, labels: NDArray[np.int64]) -> Vectors:
    """The mean of each class's labelled images, unit rows `(classes, dim)` (Snell et al., 2017).

    A class without any is put where its text says, seen from the other classes: texts and images lie apart (the
    modality gap of Liang et al., 2022), so that its text itself would be far from all images.
    """
    means, counts = _means(support, labels, len(texts))
    seen = counts > 0
    gap = means[seen].mean(axis=0) - texts[seen].mean(axis=0)
    means[~seen] = texts[~seen] + gap
    return unit_rows(means, what="prototype")


def linear_probe(texts: Vectors, support: Vectors, labels: NDArray[np.int64], scale: float) -> Vectors:
    """Weights `(classes, dim)` that fit the labelled images and stay near the texts where these do not matter.

    Multinomial logistic regression that starts at the texts and is pulled back to them (in the manner of CLAP, Silva-
    Rodríguez et al., 2024), by Nesterov's accelerated gradient. Each class counts the same, however many images it has.
    """
    counts = np.bincount(labels, minlength=len(texts))
    worth = (1 / counts[labels] / (counts > 0).sum()).astype(np.float32)[:, None]
    truth = np.eye(len(texts), dtype=np.float32)[labels]
    weights = ahead = texts.copy()
    # The loss curves by at most scale² / 2 along unit rows, and the pull by PROBE_PULL.
    step = np.float32(1 / (scale**2 / 2 + PROBE_PULL))
    for number in range(PROBE_STEPS):
        logits = scale * (support @ ahead.T)
        logits -= logits.max(axis=1, keepdims=True)
        shares = np.exp(logits)
        shares /= shares.sum(axis=1, keepdims=True)
        slope = scale * ((worth * (shares - truth)).T @ support) + PROBE_PULL * (ahead - texts)
        moved = ahead - step * slope
        ahead = moved + np.float32(number / (number + 3)) * (moved - weights)
        weights = moved
    return weights


def _means(support: Vectors, labels: NDArray[np.int64], classes: int) -> tuple[Vectors, NDArray[np.int64]]:
    sums = np.zeros((classes, support.shape[1]), dtype=np.float32)
    np.add.at(sums, labels, support)
    counts = np.bincount(labels, minlength=classes)
    sums /= np.maximum(counts, 1)[:, None]
    return sums, counts
