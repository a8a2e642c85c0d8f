"""Retrieval metrics on arrays: exact, in blocks, with ties counted against the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geovlm.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEVER = np.iinfo(np.int64).max
"""The rank of an image that has no caption to be found."""

# Scores are computed in float64; closer than this they differ by rounding only, and count as a tie.
TIE = 1e-9
BLOCK_BYTES = 64 << 20


def retrieval_ranks(
    images: NDArray[np.floating[Any]], texts: NDArray[np.floating[Any]], owner: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rank, from 0, of the right answer for every image and for every text.

    For an image the right answer is the best placed of its own captions, which do not compete with each other; for a
    text it is its one image. A wrong candidate with the same score stands before the right one, and so does one whose
    score is not a number: a model that maps everything to one point finds nothing.

    Args:
        images: `(n, dim)`, L2-normalised.
        texts: `(m, dim)`, L2-normalised.
        owner: `(m,)`, the row of `images` that each text belongs to.

    Returns:
        Ranks among the texts `(n,)`, `NEVER` for an image without captions, and ranks among the images `(m,)`.

    Raises:
        UsageError: The shapes do not fit, or a text belongs to no row.

    Examples:
        >>> ranks = retrieval_ranks(np.eye(2), np.array([[1.0, 0.0], [0.8, 0.6]]), np.array([0, 1]))
        >>> [rank.tolist() for rank in ranks]
        [[0, 0], [0, 1]]
    """
    _check(images, texts, owner)
    left, right = images.astype(np.float64), texts.astype(np.float64)
    own = np.einsum("md,md->m", left[owner], right)
    best = np.full(len(left), -np.inf)
    with np.errstate(invalid="ignore"):  # NaN stays NaN, and loses every comparison below
        np.maximum.at(best, owner, own)

    image_ranks = np.full(len(left), NEVER)
    text_ranks = np.zeros(len(right), dtype=np.int64)
    has_text = np.isin(np.arange(len(left)), owner)
    step = max(1, BLOCK_BYTES // (8 * max(1, len(right))))
    for start in range(0, len(left), step):
        rows = np.arange(start, min(start + step, len(left)))
        scores = left[rows] @ right.T
        others = owner[None, :] != rows[:, None]
        found = np.sum(others & ~(scores < best[rows, None] - TIE), axis=1)
        image_ranks[rows] = np.where(has_text[rows], found, NEVER)
        text_ranks += np.sum(others & ~(scores < own[None, :] - TIE), axis=0)
    return image_ranks, text_ranks


def recall_at(ranks: NDArray[np.int64], k: int) -> float:
    """Share of queries whose right answer is among the first `k`; NaN when there are no queries.

    Examples:
        >>> recall_at(np.array([0, 3, 12, 4]), 5)
        0.75
    """
    return float(np.mean(ranks < k)) if len(ranks) else float("nan")


def _check(images: NDArray[Any], texts: NDArray[Any], owner: NDArray[np.integer[Any]]) -> None:
    if images.ndim != 2 or texts.ndim != 2 or images.shape[1] != texts.shape[1]:
        raise UsageError(f"Images and texts are (n, dim) and (m, dim), not {images.shape} and {texts.shape}.")
    if owner.shape != (len(texts),):
        raise UsageError(f"There must be one owner for each of the {len(texts)} texts, not {owner.shape}.")
    if len(owner) and not 0 <= owner.min() <= owner.max() < len(images):
        raise UsageError(
            f"An owner is a row of the {len(images)} images, from 0; found {owner.min()} to {owner.max()}."
        )
