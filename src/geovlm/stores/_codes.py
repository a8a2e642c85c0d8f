"""A first pass over codes of two bits a number, which leaves few rows to compare exactly.

Vectors of one encoder lie in a narrow cone, and vary in some directions much more than in others. So the mean is taken
away, the rest is whitened (every direction varies as much) and turned at random (no number carries more than the
others), which leaves numbers that are about normal. Each is coded by the nearest of four levels, −3, −1, 1 and 3, in
two bits; the query, in which the whitening is undone, gets eight levels in three bits. Distances come from three steps,
each for the rows that the one before it has left: the rows' signs against the query's signs, where the query is large;
the rows' signs against all bits of the query; the rows' second bits as well. Each is a sum over words of 64 numbers of
one `xor` and one count of bits. (Signs against finer queries: Gao and Long 2024, "RaBitQ".)

How many rows a step must leave depends on the data and on the query, so it is measured for each query: cosines of a
sample of rows say how far distances stray from what a cosine should give, and rows farther than `STRAY` times that from
the `k`-th best are left out. The `k`-th best is that of the rows that look nearest after the first step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from geovlm.stores._bits import levels, packed, product, share_out, weighted
from geovlm.stores._changes import Changes, grown
from geovlm.stores._exact import MARGIN, kth

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from geovlm.protocols import Vectors
    from geovlm.stores._bits import Distances, Words

# Columns of a block, and what comes of them, stay in a core's cache.
ROWS_A_BLOCK = 16_384
ROWS_A_CHUNK = 4096
SAMPLE = 1024
FAR = np.iinfo(np.uint16).max

# The `k`-th best is looked for among so many rows, of which so many, or eight times `k`, are compared exactly.
FIRST_ROWS, FIRST_COMPARED = 4096, 256

# Below this length a product with all rows is about as fast; above it a distance does not fit into 16 bits.
DIMS = range(128, FAR // 10)

# Bits a number, and the distance of levels that suits them and normal numbers of unit spread (Max 1960, "Quantizing for
# minimum distortion"); where the query is smaller than `SMALL`, its sign says little.
ROW_BITS, ROW_STEP = 2, 0.996
QUERY_BITS, QUERY_STEP = 3, 0.586
SMALL = 0.612

# Directions that hardly vary are not stretched beyond this part of the mean variance.
LEAST_VARIANCE = 1e-3

# Three steps, each of which loses one in four thousand of the rows as near as the k-th best at so many deviations.
STRAY = 3.5

# Compare exactly at most this share of the rows.
SHARE = 0.1


class Codes:
    """Codes of the rows of a store, which follow its changes.

    Args:
        mean: `(dim,)`, taken from every row.
        whiten: `(dim, dim)`, applied to rows.
        unwhiten: `(dim, dim)`, applied to queries, so that products stay what they were.
        columns: First bits that exist, to be read in full: (block, 64 numbers, row).
        signs: The same, to be read of some rows: (row, 64 numbers).
        seconds: Second bits.
        rows: How many rows they are the codes of.
        made_for: How many rows mean and variances were taken from.
    """

    def __init__(self, *, rows: int, made_for: int, **arrays: NDArray[Any]) -> None:
        self.changes = Changes(read=rows)
        self._made_for = made_for
        self._mean, self._whiten, self._unwhiten = arrays["mean"], arrays["whiten"], arrays["unwhiten"]
        self._columns, self._signs, self._seconds = arrays["columns"], arrays["signs"], arrays["seconds"]

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
        none = {name: np.empty((0, *_shapes(dim)[name]), dtype=np.uint64) for name in ("columns", "signs", "seconds")}
        return cls(mean=mean, whiten=whiten, unwhiten=unwhiten, **none, rows=0, made_for=rows)

    def follow(self, vectors: Vectors) -> bool:
        """Bring the codes up to date; `False` if the store has grown so much that they should be made anew."""
        if len(vectors) > 2 * self._made_for:
            return False
        stale, first = self.changes.take(len(vectors))
        self._columns = grown(self._columns, -(-len(vectors) // ROWS_A_BLOCK))
        self._signs, self._seconds = (grown(bits, len(vectors)) for bits in (self._signs, self._seconds))
        for rows in (stale, np.arange(first, len(vectors))):
            for start in range(0, len(rows), ROWS_A_CHUNK):
                some = rows[start : start + ROWS_A_CHUNK]
                block, place = np.divmod(some, ROWS_A_BLOCK)
                white = (vectors[some] - self._mean) @ self._whiten
                bits = levels(white, ROW_BITS, ROW_STEP)
                self._columns[block, :, place] = bits[:, 0]
                self._signs[some], self._seconds[some] = bits[:, 0], bits[:, 1]
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
        rough = self._rough(coded, len(vectors))
        sample = _spread_out(len(vectors), SAMPLE)
        lines = self._lines(coded, sample, rough[sample], product(vectors, sample, query))
        if mask is not None:
            rough = np.where(mask, rough, FAR)
        best = self._best(coded, rough, max(FIRST_COMPARED, 8 * k))
        if lines is None or len(best) < k:
            return None
        scores = product(vectors, best, query)
        floor = float(kth(scores, k)) - float(MARGIN)
        rough[best] = FAR
        more = self._within(coded, rough, [line.at(floor) for line in lines])
        if len(more) > SHARE * len(vectors):
            return None
        rows, scores = np.concatenate([best, more]), np.concatenate([scores, product(vectors, more, query)])
        return np.sort(rows[scores >= kth(scores, k) - MARGIN])

    def _coded_query(self, query: Vectors) -> Words | None:
        """`(bit, words)`, the last one telling which numbers are not small; `None` if no rows vary along the query."""
        # Small products are not left to BLAS: its threads are one team, for which several queries would wait.
        turned = np.einsum("d,de->e", query, self._unwhiten)
        spread = np.sqrt(np.mean(turned**2))
        if spread <= 1e-9:
            return None
        large = packed(np.abs(turned) > SMALL * spread)
        return np.vstack([levels(turned[None], QUERY_BITS, QUERY_STEP * spread)[0], large])

    def _rough(self, coded: Words, rows: int) -> Distances:
        """The distances of all rows by their signs and the query's, where the query is not small."""
        distances = np.empty(rows, dtype=np.uint16)
        sign, large = coded[0, :, None], coded[-1, :, None]

        def some(blocks: range) -> None:
            room = np.empty(self._columns.shape[1:], dtype=np.uint64)
            counts = np.empty(room.shape, dtype=np.uint8)
            for block in blocks:
                out = distances[block * ROWS_A_BLOCK : (block + 1) * ROWS_A_BLOCK]
                words, count = room[:, : len(out)], counts[:, : len(out)]
                np.bitwise_xor(self._columns[block, :, : len(out)], sign, out=words)
                np.bitwise_count(np.bitwise_and(words, large, out=words), out=count)
                np.add.reduce(count, axis=0, dtype=np.uint16, out=out)

        share_out(some, -(-rows // ROWS_A_BLOCK))
        return distances

    def _by_signs(self, coded: Words, rows: NDArray[np.int64]) -> Distances:
        """The distances of some rows by their signs and all bits of the query."""
        return weighted(self._signs, rows, coded[:QUERY_BITS])

    def _by_seconds(self, coded: Words, rows: NDArray[np.int64]) -> Distances:
        """What second bits add to that.

        A row's number is `2s + b` and the query's `4s' + 2b' + c'` in bits of ±1, so that their product is
        `2(4ss' + 2sb' + sc' + 2bs' + bb') + bc'`, of which the last is left out.
        """
        return weighted(self._seconds, rows, coded[: QUERY_BITS - 1])

    def _lines(self, coded: Words, sample: NDArray[np.int64], rough: Distances, cosines: Vectors) -> list[_Line] | None:
        """What distances cosines give, in each of the three steps; `None` if they say nothing."""
        by_signs = self._by_signs(coded, sample)
        lines = [_line(cosines, each) for each in (rough, by_signs, by_signs + self._by_seconds(coded, sample))]
        return None if None in lines else lines  # type: ignore[return-value]

    def _best(self, coded: Words, rough: Distances, count: int) -> NDArray[np.int64]:
        """About so many rows that look nearest, or all of them."""
        rows = _nearest_by_distance(rough, max(FIRST_ROWS, 2 * count))
        if len(rows) <= count:
            return rows
        distances = self._by_signs(coded, rows) + self._by_seconds(coded, rows)
        return np.sort(rows[np.argpartition(distances, count)[:count]])

    def _within(self, coded: Words, rough: Distances, most: list[int]) -> NDArray[np.int64]:
        """The rows of which no distance is over that of its step."""
        rows = np.flatnonzero(rough <= most[0])
        distances = self._by_signs(coded, rows)
        left = distances <= most[1]
        rows, distances = rows[left], distances[left]
        return rows[distances + self._by_seconds(coded, rows) <= most[2]]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything there is to save."""
        return {name: getattr(self, f"_{name}") for name in _shapes(len(self._mean))}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]], *, rows: int, dim: int) -> Self:
        """What `arrays` gave, for the same rows.

        Raises:
            KeyError: Something is missing.
            ValueError: The arrays do not fit together.
        """
        shapes = _shapes(dim)
        found = {name: arrays[name] for name in shapes}
        rows_coded = len(found["columns"]) * ROWS_A_BLOCK, len(found["signs"]), len(found["seconds"])
        if any(found[name].shape[-len(shape) :] != shape for name, shape in shapes.items()) or min(rows_coded) < rows:
            raise ValueError(f"codes of the shape {found['columns'].shape} for {rows} rows")
        return cls(**found, rows=rows, made_for=rows)


def _shapes(dim: int) -> dict[str, tuple[int, ...]]:
    """The shapes of the arrays of codes, behind the axis along which they grow, if they do."""
    words = -(-dim // 64)
    bits = {"columns": (words, ROWS_A_BLOCK), "signs": (words,), "seconds": (words,)}
    return {"mean": (dim,), "whiten": (dim, dim), "unwhiten": (dim, dim)} | bits


class _Line(NamedTuple):
    """What distance a cosine gives."""

    start: float
    slope: float
    stray: float

    def at(self, cosine: float) -> int:
        """The distance that hardly any row of so high a cosine exceeds."""
        return int(min(max(self.start + self.slope * cosine + STRAY * self.stray, 0), FAR - 1))


def _line(cosines: Vectors, distances: Distances) -> _Line | None:
    """A line by least squares, with the standard deviation from it; `None` if the sample says nothing."""
    spread = float(cosines.var())
    if spread < 1e-12:
        return None
    far = distances.astype(np.float64)
    slope = float(np.mean((cosines - cosines.mean()) * (far - far.mean()))) / spread
    start = float(far.mean()) - slope * float(cosines.mean())
    return _Line(start, slope, float(np.std(far - start - slope * cosines))) if slope < 0 else None


def _nearest_by_distance(distances: Distances, count: int) -> NDArray[np.int64]:
    """About so many rows of the smallest distances, by a threshold from every 16th row."""
    seen = np.bincount(distances[::16])
    cut = int(np.searchsorted(np.cumsum(seen), count / 16))
    return np.flatnonzero(distances <= min(cut, FAR - 1))


def _spread_out(rows: int, count: int) -> NDArray[np.int64]:
    """Up to `count` row numbers, evenly spread."""
    return np.unique(np.linspace(0, rows - 1, min(rows, count)).astype(np.int64))
