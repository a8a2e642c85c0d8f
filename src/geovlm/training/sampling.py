"""In which order pairs are seen: a function of the seed, the epoch and the pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geovlm.training.groups import plain_caption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from geovlm.records import Record

# A pair and so many less one of its likes come into one batch; the rest of the batch comes from anywhere.
ALIKE = 8
LEVELS = 31


def span(total: int, parts: int, number: int) -> tuple[int, int]:
    """Start and end of one of `parts` nearly equal pieces, the larger ones first.

    Examples:
        >>> [span(10, 3, number) for number in range(3)]
        [(0, 4), (4, 7), (7, 10)]
    """
    size, larger = divmod(total, parts)
    start = number * size + min(number, larger)
    return start, start + size + (number < larger)


def spans(total: int, count: int, *, start: int, rank: int, ranks: int) -> Iterator[tuple[int, int]]:
    """What one of several processes takes of each batch, from the one numbered `start`: places in the epoch's order."""
    for number in range(start, count):
        first, end = span(total, count, number)
        low, high = span(end - first, ranks, rank)
        yield first + low, first + high


class Balanced:
    """Draws with replacement in which every class is equally likely, as many as there are pairs.

    Args:
        records: The pairs; the class is the label, or the first caption where there is none.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        classes = _classes(records)
        self._members = np.argsort(classes, kind="stable")
        self._sizes = np.bincount(classes)

    def __call__(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """The places of one epoch."""
        chosen = rng.integers(len(self._sizes), size=len(self._members))
        within = (rng.random(len(chosen)) * self._sizes[chosen]).astype(np.int64)
        starts = np.cumsum(self._sizes) - self._sizes
        places: NDArray[np.int64] = self._members[starts[chosen] + within]
        return places


def _classes(records: Sequence[Record]) -> NDArray[np.int64]:
    numbers: dict[tuple[str, str], int] = {}
    names = (("label", r.label) if r.label is not None else ("caption", plain_caption(r.captions[0])) for r in records)
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)


class HardNegatives:
    """Orders in which pairs with alike captions are neighbours, each pair once.

    Batches of pairs from everywhere are easy to tell apart. As in NegCLIP (Yuksekgonul et al. 2023, "When and Why
    Vision-Language Models Behave like Bags-of-Words"), near neighbours are put into one batch; here they are found anew
    in each epoch by a random projection tree (Dasgupta and Freund 2008, "Random projection trees and low dimensional
    manifolds"), whose leaves of eight pairs are then shuffled. Equal captions are positives, not hard negatives: a leaf
    holds different ones, as far as there are any.

    Args:
        records: The pairs.
        vectors: Embeds texts, float `(n, dim)`; asked once, for the different first captions.
    """

    def __init__(self, records: Sequence[Record], vectors: Callable[[Sequence[str]], NDArray[np.floating]]) -> None:
        rows: dict[str, int] = {}
        captions = [plain_caption(record.captions[0]) for record in records]
        self._rows = np.array([rows.setdefault(caption, len(rows)) for caption in captions], dtype=np.int64)
        self._vectors = _in_levels(np.asarray(vectors(list(rows)), dtype=np.float32))

    def __call__(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """The places of one epoch."""
        count = len(self._rows)
        shuffled = rng.permutation(count)
        position = np.empty(len(self._vectors), dtype=np.int64)
        position[self._neighbours(rng)] = np.arange(len(position))
        # Of each caption, the first pair comes in the first round, the second in the next: no two in one round.
        order = shuffled[np.lexsort((position[self._rows[shuffled]], _occurrences(self._rows[shuffled])))]
        leaves = np.arange(count) // ALIKE
        keys = rng.permutation(int(leaves[-1]) + 1)[leaves]
        return order[np.argsort(keys, kind="stable")]

    def _neighbours(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """The captions, cut in halves by random directions until `ALIKE` are left."""
        leaves: list[NDArray[np.int64]] = []
        cells = [np.arange(len(self._vectors))]
        while cells:
            cell = cells.pop()
            if len(cell) <= ALIKE:
                leaves.append(cell)
                continue
            one, other = self._vectors[rng.choice(cell, 2, replace=False)].astype(np.float32)
            along = np.argsort(self._vectors[cell].astype(np.float32) @ (one - other), kind="stable")
            # Whole leaves on both sides, so that all but the last are full.
            half = (len(cell) // 2 + ALIKE - 1) // ALIKE * ALIKE
            cells += [cell[along[half:]], cell[along[:half]]]
        return np.concatenate(leaves)


def _in_levels(vectors: NDArray[np.float32]) -> NDArray[np.int8]:
    """Each column centred, in 63 levels over four standard deviations to both sides.

    A byte a number, and sums of products of so small whole numbers are exact: the order does not depend on how a
    machine adds.
    """
    centred = vectors - vectors.mean(axis=0)
    deviation = np.maximum(centred.std(axis=0), np.finfo(np.float32).tiny)
    levels: NDArray[np.int8] = np.rint(centred / deviation * (LEVELS / 4)).clip(-LEVELS, LEVELS).astype(np.int8)
    return levels


def _occurrences(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each value how often it came before."""
    order = np.argsort(values, kind="stable")
    counts = np.bincount(values)
    starts = (np.cumsum(counts) - counts)[values[order]]
    before = np.empty(len(values), dtype=np.int64)
    before[order] = np.arange(len(values)) - starts
    return before
