"""Exact nearest rows by cosine, in blocks, with an answer that does not depend on the blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geovlm.protocols import Vectors

# A block of scores, 64 x 16,384 float32 or 4 MB, stays in a processor's cache.
ROWS_A_BLOCK = 16_384
QUERIES_A_BLOCK = 64

# A float32 product of unit vectors is wrong by less than this; what lies closer to the k-th is scored again in float64.
MARGIN = np.float32(1e-5)

# Scores are told to this many digits. The order of additions, which differs between blocks, changes digits behind them,
# so that equal vectors have equal scores and ties can be settled by id.
DIGITS = 7

# Below any cosine.
LOWEST = np.float32(-2)

# Reading more than this share of the rows one by one takes longer than reading all of them in their order.
PICKED_SHARE = 0.05

# So many times k hits of a query in one block are too many.
CROWD = 4

Ranked = tuple["NDArray[np.int64]", "NDArray[np.float64]"]


def nearest(
    vectors: Vectors, ids: Sequence[str], queries: Vectors, k: int, *, mask: NDArray[np.bool_] | None = None
) -> list[Ranked]:
    """The `k` nearest rows of each query with their cosines, best first, ties by id.

    Args:
        vectors: `(n, dim)`, L2-normalised.
        ids: The id of each row.
        queries: `(q, dim)`, L2-normalised.
        k: How many, at least 1.
        mask: Which rows count.
    """
    found: list[Ranked] = []
    rows = gathered(mask)
    for start in range(0, len(queries), QUERIES_A_BLOCK):
        some = queries[start : start + QUERIES_A_BLOCK]
        for query, candidates in zip(some, _candidates(vectors, some, k, rows, mask), strict=True):
            found.append(rank(vectors, ids, query, k, candidates))
    return found


def gathered(mask: NDArray[np.bool_] | None) -> NDArray[np.int64] | None:
    """The rows of a mask that are few enough to be picked out; `None` where a pass over all rows is faster."""
    if mask is None or np.count_nonzero(mask) > PICKED_SHARE * len(mask):
        return None
    return np.flatnonzero(mask)


def _candidates(
    vectors: Vectors,
    queries: Vectors,
    k: int,
    rows: NDArray[np.int64] | None,
    mask: NDArray[np.bool_] | None,
) -> list[NDArray[np.int64]]:
    """For each query the rows that may be among its `k` nearest, by float32 products; `rows` is the mask again."""
    total = len(vectors) if rows is None else len(rows)
    floor = np.full(len(queries), LOWEST, dtype=np.float32)
    kept: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
    crowded = True
    for start in range(0, total, ROWS_A_BLOCK):
        stop = min(start + ROWS_A_BLOCK, total)
        block = vectors[start:stop] if rows is None else vectors[rows[start:stop]]
        scores = block @ queries.T  # a third faster than queries @ block.T
        if rows is None and mask is not None:
            scores[~mask[start:stop]] = -np.inf
        if crowded and stop - start >= k:
            floor = np.maximum(floor, kth(scores.T, k) - MARGIN)
        near = np.flatnonzero(scores >= floor)  # several times faster than nonzero of two axes
        place, query = np.divmod(near, len(queries))
        place += start
        kept.append((query, place if rows is None else rows[place], scores.ravel()[near]))
        # The floor of one block serves the next ones, until they are so much nearer that it holds too little back.
        crowded = len(query) > CROWD * k * len(queries)
    if not kept:
        return [np.empty(0, dtype=np.int64) for _ in queries]
    owner, row, score = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    return [_nearest_of(row[own], score[own], k) for own in _groups(owner, len(queries))]


def kth(scores: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """The `k`-th largest along the last axis."""
    return np.asarray(np.partition(scores, -k, axis=-1)[..., -k])


def _groups(owner: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    """For each of `count` owners the places where it stands."""
    order = np.argsort(owner, kind="stable")
    return np.split(order, np.searchsorted(owner[order], np.arange(1, count)))


def _nearest_of(rows: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    return rows if len(rows) <= k else rows[scores >= kth(scores, k) - MARGIN]


def rank(vectors: Vectors, ids: Sequence[str], query: Vectors, k: int, candidates: NDArray[np.int64]) -> Ranked:
    """The `k` best of some rows by float64 cosines, ties by id."""
    wide = query.astype(np.float64)
    scores = np.empty(len(candidates))
    for start in range(0, len(candidates), ROWS_A_BLOCK):
        block = candidates[start : start + ROWS_A_BLOCK]
        # Without BLAS, for whose one team of threads several queries would wait.
        scores[start : start + ROWS_A_BLOCK] = np.einsum("nd,d->n", vectors[block].astype(np.float64), wide)
    # Adding zero turns −0.0 into 0.0.
    scores = np.clip(np.round(scores, DIGITS), -1.0, 1.0) + 0.0
    order = sorted(range(len(candidates)), key=lambda i: (-scores[i], ids[int(candidates[i])]))[:k]
    return candidates[order], scores[order]
