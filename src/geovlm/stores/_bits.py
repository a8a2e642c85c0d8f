"""Bits of numbers, packed into words, and what is done with the words and vectors of some rows in several threads."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from geovlm.protocols import Vectors

    Distances = NDArray[np.uint16]
    Words = NDArray[np.uint64]

# What is gathered, words of 64 numbers or vectors, stays in a core's cache.
ROWS_A_CHUNK = 4096
ROWS_A_GATHER = 512

# A thread that is started for fewer pieces than these costs more than it brings.
PIECES_A_THREAD = 8


def levels(values: Vectors, bits: int, step: float) -> Words:
    """Values as the numbers of their levels, `(n, bit, words)`, the first bit being the sign."""
    most = 2 ** (bits - 1)
    numbers = (np.clip(np.floor(values / np.float32(step)), -most, most - 1) + most).astype(np.uint8)
    return np.stack([packed(numbers >> (bits - 1 - bit) & 1) for bit in range(bits)], axis=1)


def packed(flags: NDArray[Any]) -> Words:
    """Flags in words of 64 along the last axis, the last word filled up with zeros."""
    dim = flags.shape[-1]
    padded = np.zeros((*flags.shape[:-1], -(-dim // 64) * 64), dtype=np.uint8)
    padded[..., :dim] = flags
    return np.packbits(padded, axis=-1).view("<u8").astype(np.uint64, copy=False)


def weighted(table: Words, rows: NDArray[np.int64], bits: Words) -> Distances:
    """How many bits of some rows differ from each of a query's bits, each counting half as much as the one before."""
    distances = np.zeros(len(rows), dtype=np.uint16)

    def some(chunks: range) -> None:
        gathered = np.empty((min(len(rows), ROWS_A_CHUNK), table.shape[1]), dtype=np.uint64)
        turned, room = np.empty((2, *gathered.shape[::-1]), dtype=np.uint64)
        counts = np.empty(room.shape, dtype=np.uint8)
        for chunk in chunks:
            here = slice(chunk * ROWS_A_CHUNK, (chunk + 1) * ROWS_A_CHUNK)
            total = distances[here]
            words, differing, count = turned[:, : len(total)], room[:, : len(total)], counts[:, : len(total)]
            words[:] = _taken(table, rows[here], gathered).T
            for bit in bits:
                np.bitwise_count(np.bitwise_xor(words, bit[:, None], out=differing), out=count)
                np.left_shift(total, 1, out=total)
                np.add(total, np.add.reduce(count, axis=0, dtype=np.uint16), out=total)

    share_out(some, -(-len(rows) // ROWS_A_CHUNK))
    return distances


def product(vectors: Vectors, rows: NDArray[np.int64], query: Vectors) -> Vectors:
    """The float32 cosines of some rows, gathered in chunks by several threads."""
    scores = np.empty(len(rows), dtype=np.float32)

    def some(chunks: range) -> None:
        room = np.empty((min(len(rows), ROWS_A_GATHER), vectors.shape[1]), dtype=np.float32)
        for chunk in chunks:
            here = slice(chunk * ROWS_A_GATHER, (chunk + 1) * ROWS_A_GATHER)
            # Not a product by BLAS, which would start threads of its own in each of ours.
            np.einsum("nd,d->n", _taken(vectors, rows[here], room), query, out=scores[here])

    share_out(some, -(-len(rows) // ROWS_A_GATHER))
    return scores


def _taken(table: NDArray[Any], rows: NDArray[np.int64], room: NDArray[Any]) -> NDArray[Any]:
    """Some rows, in memory that is at hand: fresh memory costs as much as reading."""
    return np.take(table, rows, axis=0, out=room[: len(rows)], mode="clip")


def share_out(work: Callable[[range], None], count: int) -> None:
    """Do so many pieces of work, in as many threads as there are idle cores; NumPy works outside of the lock.

    Those who come while others are at it get fewer, down to none but their own: threads that wait for each other's
    turns cost more than they bring.
    """
    with _helpers.taken(count // PIECES_A_THREAD - 1) as more:
        if not more:
            work(range(count))
            return
        with ThreadPoolExecutor(more) as pool:
            running = [pool.submit(work, range(first, count, more + 1)) for first in range(1, more + 1)]
            work(range(0, count, more + 1))
            for one in running:
                one.result()


class _Helpers:
    """Counts the threads that are at work in this process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._working = 0

    @contextmanager
    def taken(self, wanted: int) -> Iterator[int]:
        """How many threads may help the one that asks, up to as many as it wants."""
        with self._lock:
            more = max(0, min(wanted, threads() - 1 - self._working))
            self._working += 1 + more
        try:
            yield more
        finally:
            with self._lock:
                self._working -= 1 + more


_helpers = _Helpers()


def threads() -> int:
    """How many cores this process may use, up to eight: memory keeps no more of them busy."""
    may_use = getattr(os, "sched_getaffinity", None)
    return min(8, len(may_use(0)) if may_use else os.cpu_count() or 1)
