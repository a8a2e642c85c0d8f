"""Near neighbours of every row: exact while that is cheap, else within groups of rows that lie together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from geovlm.protocols import Vectors

EXACT_ROWS = 20_000  # all pairs are compared up to here: 4e8 of them, some seconds
ROWS_A_GROUP = 2_000  # beyond it the cost grows with n times this
PAIRS_A_BLOCK = 8_000_000  # 32 MiB of similarities


def neighbours(vectors: Vectors, k: int) -> NDArray[np.int32]:
    """For each row the `k` others with the largest cosine, `(n, k)`, in no order.

    Above `EXACT_ROWS` rows they are looked for only among the rows of the same group, which is linear in `n`.

    Args:
        vectors: `(n, dim)` of any length, float32.
        k: How many, below the number of rows.
    """
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
    found = np.empty((len(unit), k), dtype=np.int32)
    for members in _groups(unit):
        for start, near in _nearest(unit[members], k):
            found[members[start : start + len(near)]] = members[near]
    return found


def _nearest(unit: Vectors, k: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    rows = max(1, PAIRS_A_BLOCK // len(unit))
    for start in range(0, len(unit), rows):
        cosines = unit[start : start + rows] @ unit.T
        cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -np.inf
        yield start, np.argpartition(cosines, len(unit) - k, axis=1)[:, len(unit) - k :]


def _groups(unit: Vectors) -> Iterator[NDArray[np.int32]]:
    """Rows halved again and again, each time at the median along the direction in which they differ most."""
    waiting = [np.arange(len(unit), dtype=np.int32)]
    limit = EXACT_ROWS if len(unit) <= EXACT_ROWS else ROWS_A_GROUP
    while waiting:
        members = waiting.pop()
        if len(members) <= limit:
            yield members
            continue
        along = unit[members] @ _widest(unit[members[:: max(1, len(members) // ROWS_A_GROUP)]])
        half = len(members) // 2
        order = np.argpartition(along, half)
        waiting += [np.sort(members[order[:half]]), np.sort(members[order[half:]])]


def _widest(sample: Vectors) -> Vectors:
    centred = sample - sample.mean(axis=0)
    direction: Vectors = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    return direction
