"""All images at once: a Gaussian mixture whose components are held at the classes by what the texts say.

In the family of TransCLIP (Zanella et al., NeurIPS 2024) and RS-TransCLIP (El Khoury et al., ICASSP 2025): the label of
an image is a compromise between its text probabilities, the mixture fitted to all images, and its nearest neighbours.
What differs here: the components share a full covariance within a space of principal directions, as in linear
discriminant analysis, where theirs is diagonal; means are drawn to the mean of all images as far as few images hold
them; and every step is a few passes over the rows, so that time and memory are linear in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen

from geovlm.evaluation._classify_rows import ROWS_A_BLOCK
from geovlm.evaluation._transductive_graph import neighbours

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geovlm.evaluation._classify_rows import Rows
    from geovlm.protocols import Vectors

# One setting for all embeddings, chosen by accuracy for a good worst case over two published sets, a weak encoder,
# handwritten digits and made-up embeddings, each also with absent and rare classes, few images and worse texts. On
# single ones of these other settings are better.
DIRECTIONS = 128  # classes lie in far fewer, and noise in the others would be whitened up
LIKELIHOOD = 0.15  # images are not Gaussian in 128 directions: their log-likelihoods are several times too sure
NEIGHBOURS = 5
VOTE = 1.0  # unanimous neighbours outweigh odds of e = 2.7 against them; they are few, and alike in being wrong
SHRINKAGE = 0.1  # share of a round covariance, so that directions with little spread do not decide
# A mean counts as if further images lay at the mean of all: so many, and this share of an average class. A class of
# which there are no images then attracts none, and does not split another one's.
MEAN_IMAGES = 5.0
MEAN_SHARE = 0.1
LEAST_LOGIT = np.float32(-50)  # its exp is of no weight, and products with smaller ones are denormal and slow
STEPS = 15
TEMPERATURE = 2.0  # the texts' evidence is counted twice: by itself, and in the mixture that was fitted to it
SETTLED = 1e-3  # stop when fewer labels than this share change in a step


@frozen(kw_only=True)
class Space:
    """The mean of all images, and the directions in which they differ most.

    Args:
        mean: `(dim,)`.
        directions: `(dim, r)`, orthonormal.
    """

    mean: Vectors
    directions: Vectors

    @classmethod
    def of(cls, rows: Rows, dim: int) -> Space:
        """Fit to all rows, in two passes: images of one model share a mean far from zero, and so does its text."""
        total, squares = np.zeros(dim), np.zeros((dim, dim))
        for _, unit in rows.blocks():
            total += unit.sum(axis=0, dtype=np.float64)
            squares += unit.T @ unit
        mean = total / rows.count
        _, directions = np.linalg.eigh(squares / rows.count - np.outer(mean, mean))
        kept = directions[:, ::-1][:, :DIRECTIONS]
        return cls(mean=mean.astype(np.float32), directions=np.ascontiguousarray(kept, dtype=np.float32))

    def project(self, unit: Vectors) -> Vectors:
        """Rows `(n, dim)` to `(n, r)`."""
        low: Vectors = np.matmul(unit - self.mean, self.directions, dtype=np.float32)
        return low


@frozen(kw_only=True)
class Support:
    """Images whose class is known.

    Args:
        low: `(m, r)`, where they lie.
        labels: `(m,)`, their classes.
    """

    low: Vectors
    labels: NDArray[np.int64]

    def one_hot(self, classes: int) -> Vectors:
        """`(m, classes)`, one in the column of each label."""
        return np.eye(classes, dtype=np.float32)[self.labels]


def fit(low: Vectors, log_prior: Vectors, support: Support | None = None) -> Vectors:
    """The probability of each class for each image, `(n, classes)`, after the mixture has settled.

    Args:
        low: `(n, r)`, images in the space of `Space`.
        log_prior: `(n, classes)`, logarithms of the probabilities by the texts alone.
        support: Images whose class is known.
    """
    near = neighbours(low, min(NEIGHBOURS, len(low) - 1))
    total = _second_moment(low, support)
    now, then = np.exp(log_prior), np.empty_like(log_prior)
    for _ in range(STEPS):
        weights, offsets = _discriminants(low, now, total, support)
        changed = 0
        for start in range(0, len(low), ROWS_A_BLOCK):
            block = slice(start, start + ROWS_A_BLOCK)
            logits = low[block] @ weights
            logits += offsets
            logits += log_prior[block]
            for column in near[block].T:
                logits += np.float32(VOTE / near.shape[1]) * now[column]
            then[block] = softmax(logits)
            changed += int((then[block].argmax(axis=1) != now[block].argmax(axis=1)).sum())
        now, then = then, now
        if changed < SETTLED * len(low):
            break
    return _tempered(now)


def _tempered(shares: Vectors) -> Vectors:
    """Probabilities that are less sure, in place; the most probable class stays."""
    for start in range(0, len(shares), ROWS_A_BLOCK):
        block = shares[start : start + ROWS_A_BLOCK]
        block **= np.float32(1 / TEMPERATURE)
        block /= block.sum(axis=1, keepdims=True)
    return shares


def softmax(logits: Vectors) -> Vectors:
    """Probabilities of logits `(n, classes)`, in place."""
    logits -= logits.max(axis=1, keepdims=True)
    np.maximum(logits, LEAST_LOGIT, out=logits)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits


def log_softmax(logits: Vectors) -> Vectors:
    """Logarithms of the probabilities of logits `(n, classes)`, in place."""
    for start in range(0, len(logits), ROWS_A_BLOCK):
        block = logits[start : start + ROWS_A_BLOCK]
        block -= block.max(axis=1, keepdims=True)
        block -= np.log(np.exp(block).sum(axis=1, keepdims=True))
    return logits


def _second_moment(low: Vectors, support: Support | None) -> NDArray[np.float64]:
    total = np.zeros((low.shape[1], low.shape[1]))
    for start in range(0, len(low), ROWS_A_BLOCK):
        total += low[start : start + ROWS_A_BLOCK].T @ low[start : start + ROWS_A_BLOCK]
    return total if support is None else total + support.low.T @ support.low


def _discriminants(
    low: Vectors, shares: Vectors, total: NDArray[np.float64], support: Support | None
) -> tuple[Vectors, Vectors]:
    """Log-likelihoods of the classes as linear functions of a row, up to what is common to all: weights and offsets."""
    counts, sums = np.zeros(shares.shape[1]), np.zeros((shares.shape[1], low.shape[1]))
    for start in range(0, len(low), ROWS_A_BLOCK):
        block = slice(start, start + ROWS_A_BLOCK)
        counts += shares[block].sum(axis=0, dtype=np.float64)
        sums += shares[block].T @ low[block]
    if support is not None:
        known = support.one_hot(shares.shape[1])
        counts += known.sum(axis=0)
        sums += known.T @ support.low
    further = max(MEAN_IMAGES, MEAN_SHARE * counts.sum() / len(counts))
    means = sums / (counts + further)[:, None]
    # Σ z (x − μ)(x − μ)ᵀ without a pass over the rows; the means are shrunk, hence twice what they were shrunk by.
    within = (total - (means.T * (counts + 2 * further)) @ means) / counts.sum()
    round_ = np.trace(within) / len(within)
    within *= 1 - SHRINKAGE
    within[np.diag_indices(len(within))] += SHRINKAGE * round_ + np.finfo(np.float32).tiny
    weights = np.linalg.solve(within, means.T)
    offsets = -0.5 * np.einsum("rk,kr->k", weights, means)
    return (LIKELIHOOD * weights).astype(np.float32), (LIKELIHOOD * offsets).astype(np.float32)
