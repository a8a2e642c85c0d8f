"""A first pass over codes of two bits a number, which leaves few rows to compare exactly.

Vectors of one encoder lie in a narrow cone, and vary in some directions much more than in others. So the mean is taken
away, the rest is whitened (every direction varies as much) and turned at random (no number carries more than the
others), which leaves numbers that are about normal. Each is coded by the nearest of four levels, −3, −1, 1 and 3, in
two bits; the query, in which the whitening is undone, gets eight levels. Comparing first bits alone is a Hamming
distance, one `xor` and one count of bits for 64 numbers; five pairs of bits make a finer distance at five times the
cost, for data where signs are not enough. (Hamming distances of signs: Charikar 2002, "Similarity estimation techniques
from rounding algorithms".)

How many rows must be compared exactly depends on the data and on the query, so it is measured for each query: cosines
of a sample of rows say how far distances stray from what a cosine should give, and rows farther than `STRAY` times that
from the `k`-th best are left out.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from geovlm.stores._changes import Changes, grown
from geovlm.stores._exact import MARGIN, kth

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from geovlm.protocols import Vectors

    Distances = NDArray[np.uint16]

# Two columns of a block, and what comes of them, stay in a core's cache.
ROWS_A_BLOCK = 32_768
ROWS_A_CHUNK = 4096
SAMPLE = 1024
FIRST_ROWS = 1024
FAR = np.iinfo(np.uint16).max

# Below this length a product with all rows is about as fast; above it a distance does not fit into 16 bits.
DIMS = range(128, FAR // 10)

# Bits a number, and the distance of levels that suits them and normal numbers of unit spread (Max 1960, "Quantizing for
# minimum distortion").
ROW_BITS, ROW_STEP = 2, 0.996
QUERY_BITS, QUERY_STEP = 3, 0.586

# Directions that hardly vary are not stretched beyond this part of the mean variance.
LEAST_VARIANCE = 1e-3

# Of the rows as near as the k-th best, so many standard deviations keep all but one in a thousand.
STRAY = 3.2

# Compare exactly at most this share of the rows after the first distance, and after the second.
SHARES = (0.02, 0.1)


class Codes:
    """Codes of the rows of a store, which follow its changes.

    Args:
        mean: `(dim,)`, taken from every row.
        whiten: `(dim, dim)`, applied to rows.
        unwhiten: `(dim, dim)`, applied to queries, so that products stay what they were.
        blocks: Codes that exist: (block, bit, 64 numbers, row).
        rows: How many rows they are the codes of.
    """

    def __init__(
        self, *, mean: Vectors, whiten: Vectors, unwhiten: Vectors, blocks: NDArray[np.uint64], rows: int
    ) -> None:
        self.changes = Changes(read=rows)
        self._made_for = rows
        self._mean, self._whiten, self._unwhiten, self._blocks = mean, whiten, unwhiten, blocks

    @classmethod
    def suited_to(cls, vectors: Vectors) -> Self:
        """No codes yet, with the mean and the variances of a sample of the vectors."""
        rows, dim = vectors.shape
        sample = vectors[_spread_out(rows, 16 * SAMPLE)]
        mean = sample.mean(axis=0)
        variances, directions = np.linalg.eigh(np.cov((sample - mean).T, bias=True, dtype=np.float64))
        lengths = np.sqrt(np.maximum(variances, max(LEAST_VARIANCE * float(variances.mean()), 1e-12)))
        turn = np.linalg.qr(np.random.default_rng(0).standard_normal((dim, dim)))[0]
        whiten, unwhiten = (np.asarray(directions * by @ turn, dtype=np.float32) for by in (1 / lengths, lengths))
        codes = cls(mean=mean, whiten=whiten, unwhiten=unwhiten, blocks=_no_blocks(dim), rows=0)
        codes._made_for = rows
        return codes

    def follow(self, vectors: Vectors) -> bool:
        """Bring the codes up to date; `False` if the store has grown so much that they should be made anew."""
        if len(vectors) > 2 * self._made_for:
            return False
        stale, first = self.changes.take(len(vectors))
        self._blocks = grown(self._blocks, -(-len(vectors) // ROWS_A_BLOCK))  # type: ignore[assignment]
        for rows in (stale, np.arange(first, len(vectors))):
            for start in range(0, len(rows), ROWS_A_CHUNK):
                some = rows[start : start + ROWS_A_CHUNK]
                block, place = np.divmod(some, ROWS_A_BLOCK)
                white = (vectors[some] - self._mean) @ self._whiten
                self._blocks[block, :, :, place] = _bits(white, ROW_BITS, ROW_STEP)
        return True

    def nearest(
        self, vectors: Vectors, query: Vectors, k: int, *, mask: NDArray[np.bool_] | None = None
    ) -> NDArray[np.int64] | None:
        """Rows that hold the `k` nearest, and few others; `None` if the codes cannot tell enough of them apart.

        Args:
            vectors: `(n, dim)`, all rows, L2-normalised.
            query: `(dim,)`, L2-normalised.
            k: How many.
            mask: Which rows count.
        """
        coded = self._coded_query(query)
        if coded is None:
            return None
        sample = _spread_out(len(vectors), SAMPLE)
        cosines = vectors[sample] @ query
        distances = np.full(len(vectors), FAR, dtype=np.uint16)
        for measure, share in zip((_by_signs, _by_all), SHARES, strict=True):
            self._measure(measure, coded, distances)
            line = _line(cosines, distances[sample])
            seen = distances if mask is None else np.where(mask, distances, FAR)
            found = line and _near(vectors, query, k, seen, line, most=int(share * len(vectors)))
            if found is not None:
                return found
        return None

    def _coded_query(self, query: Vectors) -> NDArray[np.uint64] | None:
        """`(bit, words)`; `None` if the rows do not vary along the query."""
        turned = query @ self._unwhiten
        spread = np.sqrt(np.mean(turned**2))
        return _bits(turned[None], QUERY_BITS, QUERY_STEP * spread)[0] if spread > 1e-9 else None

    def _measure(self, measure: Callable[[Any, Any, Distances, _Room], None], coded: Any, distances: Distances) -> None:
        """Fill in the distances of all rows, the blocks shared out over threads; NumPy works outside of the lock."""
        starts = range(0, len(distances), ROWS_A_BLOCK)

        def some(first: int) -> None:
            room = _Room()
            for number in range(first, len(starts), workers):
                start = starts[number]
                measure(self._blocks[number], coded, distances[start : start + ROWS_A_BLOCK], room)

        workers = min(threads(), max(1, len(starts)))
        _share_out(some, workers)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything there is to save."""
        return {"mean": self._mean, "whiten": self._whiten, "unwhiten": self._unwhiten, "blocks": self._blocks}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]], *, rows: int, dim: int) -> Self:
        """What `arrays` gave, for the same rows.

        Raises:
            KeyError: Something is missing.
            ValueError: The arrays do not fit together.
        """
        mean, whiten, unwhiten = arrays["mean"], arrays["whiten"], arrays["unwhiten"]
        blocks = arrays["blocks"]
        fits = mean.shape == (dim,) and whiten.shape == unwhiten.shape == (dim, dim)
        if not fits or blocks.shape[1:] != _no_blocks(dim).shape[1:] or len(blocks) * ROWS_A_BLOCK < rows:
            raise ValueError(f"codes of the shape {blocks.shape} for {rows} rows")
        return cls(mean=mean, whiten=whiten, unwhiten=unwhiten, blocks=blocks, rows=rows)


def _no_blocks(dim: int) -> NDArray[np.uint64]:
    return np.empty((0, ROW_BITS, -(-dim // 64), ROWS_A_BLOCK), dtype=np.uint64)


def _bits(values: NDArray[Any], bits: int, step: float) -> NDArray[np.uint64]:
    """Values as the numbers of their levels, `(n, bit, words)`, the first bit being the sign."""
    most = 2 ** (bits - 1)
    levels = (np.clip(np.floor(values / np.float32(step)), -most, most - 1) + most).astype(np.uint8)
    dim = values.shape[1]
    padded = np.zeros((len(values), bits, -(-dim // 64) * 64), dtype=np.uint8)
    for bit in range(bits):
        padded[:, bit, :dim] = levels >> (bits - 1 - bit) & 1
    return np.packbits(padded, axis=2).view("<u8").astype(np.uint64, copy=False)


class _Room:
    """Arrays that one thread writes to over and over."""

    def __init__(self) -> None:
        self.words = np.empty(ROWS_A_BLOCK, dtype=np.uint64)
        self.counts = np.empty((2, ROWS_A_BLOCK), dtype=np.uint8)
        self.sums = np.empty(ROWS_A_BLOCK, dtype=np.uint16)


def _by_signs(block: NDArray[np.uint64], query: NDArray[np.uint64], out: Distances, room: _Room) -> None:
    out[:] = 0
    words, counts = room.words[: len(out)], room.counts[0, : len(out)]
    for signs, sign in zip(block[0, :, : len(out)], query[0], strict=True):
        np.bitwise_count(np.bitwise_xor(signs, sign, out=words), out=counts)
        np.add(out, counts, out=out)


def _by_all(block: NDArray[np.uint64], query: NDArray[np.uint64], out: Distances, room: _Room) -> None:
    """From the distances by signs.

    A row's number is `2s + b` and the query's `4s' + 2b' + c'` in bits of ±1, so that their product is
    `8ss' + 4(sb' + bs') + 2(sc' + bb') + bc'`, of which the last is left out.
    """
    rows, (sign, second, third) = len(out), query
    words, (counts, more), sums = room.words[:rows], room.counts[:, :rows], room.sums[:rows]
    sums[:] = 0
    np.left_shift(out, 1, out=out)
    for word in range(block.shape[1]):
        signs, seconds = block[:, word, :rows]
        for one, other, total in ((second[word], sign[word], out), (third[word], second[word], sums)):
            np.bitwise_count(np.bitwise_xor(signs, one, out=words), out=counts)
            np.bitwise_count(np.bitwise_xor(seconds, other, out=words), out=more)
            np.add(counts, more, out=counts)
            np.add(total, counts, out=total)
    np.left_shift(out, 1, out=out)
    np.add(out, sums, out=out)


def _line(cosines: Vectors, distances: Distances) -> tuple[float, float, float] | None:
    """What distance a cosine gives, as start, slope and standard deviation; `None` if it says nothing."""
    spread = float(cosines.var())
    if spread < 1e-12:
        return None
    far = distances.astype(np.float64)
    slope = float(np.mean((cosines - cosines.mean()) * (far - far.mean()))) / spread
    start = float(far.mean()) - slope * float(cosines.mean())
    return (start, slope, float(np.std(far - start - slope * cosines))) if slope < 0 else None


def _near(
    vectors: Vectors, query: Vectors, k: int, distances: Distances, line: tuple[float, float, float], *, most: int
) -> NDArray[np.int64] | None:
    """The rows that may be among the `k` nearest; `None` if more than `most` must be compared exactly."""
    first = _nearest_by_distance(distances, max(FIRST_ROWS, 8 * k))
    if not k <= len(first) <= most:
        return None
    scores = product(vectors, first, query)
    start, slope, stray = line
    floor = float(kth(scores, k)) - float(MARGIN)
    cut = start + slope * floor + STRAY * stray
    within = np.flatnonzero(distances <= min(max(cut, 0), FAR - 1))
    if len(within) > most:
        return None
    more = np.setdiff1d(within, first, assume_unique=True)
    rows, scores = np.concatenate([first, more]), np.concatenate([scores, product(vectors, more, query)])
    return np.sort(rows[scores >= kth(scores, k) - MARGIN])


def _nearest_by_distance(distances: Distances, count: int) -> NDArray[np.int64]:
    """About so many rows of the smallest distances, by a threshold from every 16th row."""
    seen = np.bincount(distances[::16])
    cut = int(np.searchsorted(np.cumsum(seen), count / 16))
    return np.flatnonzero(distances <= min(cut, FAR - 1))


def product(vectors: Vectors, rows: NDArray[np.int64], query: Vectors) -> Vectors:
    """The float32 cosines of some rows, gathered in chunks by several threads."""
    scores = np.empty(len(rows), dtype=np.float32)
    starts = range(0, len(rows), ROWS_A_CHUNK)

    def some(first: int) -> None:
        for number in range(first, len(starts), workers):
            here = slice(starts[number], starts[number] + ROWS_A_CHUNK)
            # Not a product by BLAS, which would start threads of its own in each of ours.
            np.einsum("nd,d->n", np.take(vectors, rows[here], axis=0), query, out=scores[here])

    workers = min(threads(), max(1, len(starts)))
    _share_out(some, workers)
    return scores


def _share_out(work: Callable[[int], None], workers: int) -> None:
    if workers <= 1:
        work(0)
        return
    with ThreadPoolExecutor(workers - 1) as pool:
        running = [pool.submit(work, number) for number in range(1, workers)]
        work(0)
        for one in running:
            one.result()


def threads() -> int:
    """How many cores this process may use, up to eight: memory keeps no more of them busy."""
    may_use = getattr(os, "sched_getaffinity", None)
    return min(8, len(may_use(0)) if may_use else os.cpu_count() or 1)


def _spread_out(rows: int, count: int) -> NDArray[np.int64]:
    """Up to `count` row numbers, evenly spread."""
    return np.unique(np.linspace(0, rows - 1, min(rows, count)).astype(np.int64))
