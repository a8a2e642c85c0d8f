"""Numbers with their uncertainty: recall where captions are shared, and confidence intervals."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import field, frozen

from geovlm._metrics import BLOCK_BYTES, NEVER, TIE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LEVEL = 0.95
CUTS = (1, 5, 10)
REPLICATES = 1000
REPLICATES_AT_ONCE = 50
SEED = 0

Interval = tuple[float, float]


def wilson(right: int, count: int, *, level: float = LEVEL) -> Interval:
    """The score interval of a share (Wilson, 1927, Journal of the American Statistical Association 22).

    Examples:
        >>> [round(float(end), 4) for end in wilson(45, 50)]
        [0.7864, 0.9565]
    """
    if not count:
        return math.nan, math.nan
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, square = right / count, z * z / count
    middle = (share + square / 2) / (1 + square)
    half = math.sqrt(square * share * (1 - share) + square**2 / 4) / (1 + square)
    return (0.0 if right == 0 else middle - half), (1.0 if right == count else middle + half)


def mean_interval(values: Sequence[float], intervals: Sequence[Interval]) -> Interval:
    """The interval of a mean of independent figures, from the interval of each.

    The variance estimates are recovered from the limits (Zou and Donner, 2008, Statistics in Medicine 27), so that the
    interval keeps its place between 0 and 1 where figures lie near the ends.
    """
    count, middle = len(values), math.fsum(values) / len(values)
    down = math.sqrt(math.fsum((value - low) ** 2 for value, (low, _) in zip(values, intervals, strict=True)))
    up = math.sqrt(math.fsum((high - value) ** 2 for value, (_, high) in zip(values, intervals, strict=True)))
    return middle - down / count, middle + up / count


@frozen(kw_only=True, eq=False)
class Recalls:
    """How well images and captions find each other, where one caption may belong to several images.

    Args:
        image_ranks: `(images,)`, rank from 0 of the best placed caption of each image's own; `NEVER` if it is missed.
        text_ranks: `(captions,)`, rank from 0 of the best placed image of each caption's own.
        image: `(pairs,)`, the image of each pair.
        text: `(pairs,)`, the caption of each pair.
    """

    image_ranks: NDArray[np.int64] = field(repr=False)
    text_ranks: NDArray[np.int64] = field(repr=False)
    image: NDArray[np.int64] = field(repr=False)
    text: NDArray[np.int64] = field(repr=False)

    @property
    def asked(self) -> NDArray[np.bool_]:
        """`(images,)`, which images have captions, and so are queries."""
        return np.bincount(self.image, minlength=len(self.image_ranks)) > 0

    def image_to_text(self, k: int) -> float:
        """Share of the images with captions that have one of their own among the best `k`."""
        return float((self.image_ranks[self.asked] < k).mean())

    def text_to_image(self, k: int) -> float:
        """Share of the captions that have an image of theirs among the best `k`."""
        return float((self.text_ranks < k).mean())

    def directions(self) -> tuple[float, float]:
        """Mean recall at 1, 5 and 10, image to text and text to image."""
        return (
            math.fsum(self.image_to_text(k) for k in CUTS) / len(CUTS),
            math.fsum(self.text_to_image(k) for k in CUTS) / len(CUTS),
        )

    def interval(self, *, level: float = LEVEL) -> Interval:
        """The interval of the mean of both directions: a percentile bootstrap over images, with a fixed seed.

        Images are drawn with their captions; what each is ranked among stays as it is, so the interval tells how the
        figure would differ with other queries of the same kind. A caption of several images counts with the share of
        them that was drawn. Where all queries are answered, or none, a bootstrap has no width, and the interval is
        Wilson's with as many trials as there are images.
        """
        parts = self._per_image()
        images = len(self.image_ranks)
        if sum(self.directions()) in (0, 2):
            return wilson(images * (sum(self.directions()) > 0), images, level=level)
        rng = np.random.default_rng(SEED)
        means: list[NDArray[np.float64]] = []
        for start in range(0, REPLICATES, REPLICATES_AT_ONCE):
            size = min(REPLICATES_AT_ONCE, REPLICATES - start)
            sums = rng.multinomial(images, np.full(images, 1 / images), size=size) @ parts
            with np.errstate(invalid="ignore", divide="ignore"):
                means.append((sums[:, 0] / sums[:, 1] + sums[:, 2] / sums[:, 3]) / 2)
        tail = (1 - level) / 2
        low, high = np.nanquantile(np.concatenate(means), [tail, 1 - tail])
        return float(low), float(high)

    def _per_image(self) -> NDArray[np.float64]:
        """`(images, 4)`: hits and queries that each image adds, image to text and text to image."""
        count = len(self.image_ranks)
        asked = self.asked.astype(np.float64)
        found = sum((self.image_ranks < k).astype(np.float64) for k in CUTS) / len(CUTS)
        share = 1 / np.bincount(self.text)[self.text]
        named = sum((self.text_ranks < k).astype(np.float64) for k in CUTS) / len(CUTS)
        hits = np.bincount(self.image, weights=share * np.asarray(named)[self.text], minlength=count)
        queries = np.bincount(self.image, weights=share, minlength=count)
        return np.column_stack([found * asked, asked, hits, queries])


def recalls(
    images: NDArray[np.floating[Any]],
    texts: NDArray[np.floating[Any]],
    *,
    image: NDArray[np.int64],
    text: NDArray[np.int64],
    place: NDArray[np.int64],
) -> Recalls:
    """Rank every image's captions among all captions, and every caption's images among all images.

    An image may have several captions and a caption several images: the best placed of its own counts, and the others
    of its own do not stand in the way. Ties are counted against the model, as in `geovlm._metrics`.

    Args:
        images: `(read, dim)`, vectors of the images that could be read, L2-normalised.
        texts: `(captions, dim)`, L2-normalised.
        image: `(pairs,)`, the image of each pair, a number below `len(place)`.
        text: `(pairs,)`, the row of `texts` of each pair.
        place: `(all images,)`, the row of each image in `images`, or −1 if it could not be read: it is missed, and so
            are its captions, which stay in the way of others.
    """
    left, right = images.astype(np.float64), texts.astype(np.float64)
    there = place[image] >= 0
    rows, columns = place[image][there], text[there]
    own = np.einsum("pd,pd->p", left[rows], right[columns])
    best_image, best_text = np.full(len(left), -np.inf), np.full(len(right), -np.inf)
    with np.errstate(invalid="ignore"):
        np.maximum.at(best_image, rows, own)
        np.maximum.at(best_text, columns, own)
    image_ranks, text_ranks = _count(left, right, (rows, columns), (best_image, best_text))
    image_ranks[np.bincount(rows, minlength=len(left)) == 0] = NEVER
    text_ranks[np.bincount(columns, minlength=len(right)) == 0] = NEVER
    return Recalls(image_ranks=np.append(image_ranks, NEVER)[place], text_ranks=text_ranks, image=image, text=text)


def _count(
    left: NDArray[np.float64],
    right: NDArray[np.float64],
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
    best: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many wrong candidates stand before the best right one, for each row and each column, in blocks of rows."""
    order = np.argsort(pairs[0], kind="stable")
    rows, columns = pairs[0][order], pairs[1][order]
    by_row, by_column = np.zeros(len(left), dtype=np.int64), np.zeros(len(right), dtype=np.int64)
    step = max(1, BLOCK_BYTES // (8 * max(1, len(right))))
    for start in range(0, len(left), step):
        block = slice(start, min(start + step, len(left)))
        scores = left[block] @ right.T
        mine = slice(*np.searchsorted(rows, [block.start, block.stop]))
        others = np.ones(scores.shape, dtype=np.bool_)
        others[rows[mine] - start, columns[mine]] = False
        by_row[block] = np.sum(others & ~(scores < best[0][block, None] - TIE), axis=1)
        by_column += np.sum(others & ~(scores < best[1][None, :] - TIE), axis=0)
    return by_row, by_column
