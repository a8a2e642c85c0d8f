"""The training pairs, epoch after epoch: a function of the seed, the epoch and the place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geovlm.errors import UsageError
from geovlm.training.augment import DRAWS, decoded_side
from geovlm.training.batch import Batch, batch_count, in_batches, make_example, other_numbers
from geovlm.training.pairs import Pairs, ShardPairs, read_pairs
from geovlm.training.pixels import Pixels
from geovlm.training.sampling import Balanced, HardNegatives, spans
from geovlm.training.streaming import ShardBatches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from geovlm.records import Failure, Record
    from geovlm.training.batch import Example, TrainingBatches
    from geovlm.training.config import TrainingConfig

    Order = Callable[[np.random.Generator], NDArray[np.int64]]
    TextVectors = Callable[[Sequence[str]], NDArray[np.float32]]

__all__ = ["Batch", "Batches", "Pairs", "Pixels", "batch_count", "make_batches", "read_pairs"]


class Batches:
    """The pairs in memory, epoch after epoch.

    Everything random follows from the seed, the epoch and the place in its order, so that an epoch can be entered at
    any batch, and a broken image changes nothing for the others. Batches are the same for any number of processes, each
    of which makes a slice of every batch.

    Args:
        records: The pairs.
        pixels: Their images, somewhat larger than the model takes them.
        size: Side in pixels of what the model takes.
        config: The settings.
        rank: The number of this process, from 0.
        ranks: How many processes there are.
        vectors: Embeds texts, float `(n, dim)`, the same in all processes; needed for hard negatives, and called at the
            first epoch.

    Raises:
        UsageError: Hard negatives are to be found without `vectors`.
    """

    def __init__(
        self,
        records: Sequence[Record],
        pixels: Pixels,
        *,
        size: int,
        config: TrainingConfig,
        rank: int = 0,
        ranks: int = 1,
        vectors: TextVectors | None = None,
    ) -> None:
        self._records, self._pixels, self._size, self._config = records, pixels, size, config
        self._rank, self._ranks = rank, ranks
        self._vectors = vectors
        self._order: Order | None = None
        self._numbers = np.array([other_numbers(record, config) for record in records], dtype=np.int64)
        self.count: int = batch_count(len(records), config)
        self.nbytes: int = pixels.nbytes
        if config.sampling == "hard-negatives" and vectors is None:
            raise UsageError("Hard negatives are found by text vectors: give vectors=encoder.encode_texts.")

    @property
    def failures(self) -> dict[int, Failure]:
        """Images that could not be read, by place."""
        return self._pixels.failures

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Batch]:
        """This process's share of each batch of one epoch, from the one numbered `start`."""
        rng = np.random.default_rng([self._config.seed, number])
        order = self._sampler()(rng)
        draws = rng.random((len(order), 1 + DRAWS))
        mine = list(spans(len(order), self.count, start=start, rank=self._rank, ranks=self._ranks))
        tasks = ((int(order[place]), draws[place]) for first, end in mine for place in range(first, end))
        yield from in_batches(mine, tasks, make=self._make, config=self._config, size=self._size)

    def _sampler(self) -> Order:
        if self._order is None:
            self._order = self._make_order()
        return self._order

    def _make_order(self) -> Order:
        if self._config.sampling == "balanced":
            return Balanced(self._records)
        if self._config.sampling == "hard-negatives":
            assert self._vectors is not None  # checked when this was made
            return HardNegatives(self._records, self._vectors)
        return lambda rng: rng.permutation(len(self._records))

    def _make(self, task: tuple[int, NDArray[np.float64]]) -> Example:
        place, draws = task
        return make_example(
            self._records[place],
            lambda: self._pixels[place],
            draws,
            augmentation=self._config.augmentation,
            size=self._size,
            numbers=self._numbers[place],
        )


def make_batches(
    pairs: Pairs | ShardPairs,
    *,
    prepare: Callable[..., NDArray[np.uint8]],
    size: int,
    config: TrainingConfig,
    rank: int = 0,
    ranks: int = 1,
    vectors: TextVectors | None = None,
) -> TrainingBatches:
    """Batches of what `read_pairs` returned.

    Args:
        pairs: The pairs.
        prepare: An encoder's `preprocess`, which takes an RGB image and `size=`.
        size: Side in pixels of what the model takes.
        config: The settings.
        rank: The number of this process, from 0.
        ranks: How many processes there are.
        vectors: Embeds texts; needed for hard negatives.

    Raises:
        UsageError: The settings ask for a sampling that these pairs do not allow.
    """
    side = decoded_side(size, config.augmentation)

    def decode(image: Image.Image) -> NDArray[np.uint8]:
        return prepare(image, size=side)

    if isinstance(pairs, ShardPairs):
        return ShardBatches(pairs.source, prepare=decode, side=side, size=size, config=config, rank=rank, ranks=ranks)
    pixels = Pixels(pairs.records, prepare=decode, side=side, budget=config.cache_bytes)
    return Batches(pairs.records, pixels, size=size, config=config, rank=rank, ranks=ranks, vectors=vectors)
