"""Training pairs from shards: millions of them, in random order, in little memory.

Shards are shuffled in each epoch, so many of them as hold `WINDOW` pairs are opened together, and the pairs of these
are drawn in random order, each once. Of a pair only its place in the shard is held; captions and image are read when
it is due. As the counts of all shards are known, so is the place of every pair in an epoch: an epoch can be entered at
any batch without reading what comes before, and batches are the same for any number of processes.
"""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
from attrs import evolve, frozen

from geovlm.errors import ImageError, UsageError
from geovlm.imaging import resolve
from geovlm.records import Failure
from geovlm.training.augment import DRAWS
from geovlm.training.batch import batch_count, in_batches, make_example, other_numbers
from geovlm.training.pairs import usable_captions
from geovlm.training.sampling import spans

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from geovlm.records import Record
    from geovlm.sources.shards import ShardSource
    from geovlm.training.batch import Batch, Example
    from geovlm.training.config import TrainingConfig
    from geovlm.training.pixels import Prepare

# Pairs that are shuffled together; half a MB of memory. Fewer read a disk that does not like to jump more in order.
WINDOW = 1 << 15
# The start of a pair that its shard does not hold any more.
LOST = -1


@frozen(kw_only=True)
class _Window:
    """Shards that are open together.

    Args:
        number: Of the window in its epoch.
        shards: Their numbers.
        first: The place of the first pair in the epoch.
        size: How many pairs there are.
    """

    number: int
    shards: tuple[int, ...]
    first: int
    size: int


@frozen(kw_only=True)
class _Opened:
    """Each pair of a window in the order in which it is seen: its shard, and where it begins there."""

    shard: NDArray[np.int64]
    start: NDArray[np.int64]


class ShardBatches:
    """The pairs in shards, epoch after epoch; as `Batches`, for what does not fit into memory.

    A pair that cannot be read, or has no caption, leaves its place empty and is a failure; so is each that was counted
    and is not there any more.

    Args:
        source: The shards.
        prepare: One RGB image to uint8 `(side, side, 3)`.
        side: Side in pixels of decoded images.
        size: Side in pixels of what the model takes.
        config: The settings.
        rank: The number of this process, from 0.
        ranks: How many processes there are.
        window: Pairs that are shuffled together, at least.

    Raises:
        UsageError: The settings ask for a sampling that needs all pairs at once.
    """

    def __init__(
        self,
        source: ShardSource,
        *,
        prepare: Prepare,
        side: int,
        size: int,
        config: TrainingConfig,
        rank: int = 0,
        ranks: int = 1,
        window: int = WINDOW,
    ) -> None:
        if config.sampling != "shuffle":
            raise UsageError(
                f"sampling={config.sampling!r} needs all captions in memory, and shards stay on the disk: train with"
                " sampling='shuffle', or on Dataset.from_records(shards)."
            )
        self._source, self._prepare, self._side = source, prepare, side
        self._size, self._config = size, config
        self._rank, self._ranks, self._window = rank, ranks, window
        self._total = len(source)
        self.count: int = batch_count(self._total, config)
        self.nbytes: int = 0
        self.failures: dict[str, Failure] = {}

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Batch]:
        """This process's share of each batch of one epoch, from the one numbered `start`."""
        cuts = list(spans(self._total, self.count, start=start, rank=self._rank, ranks=self._ranks))
        if not cuts:
            return
        tasks = self._tasks(number, cuts)
        yield from in_batches(cuts, tasks, make=self._make, config=self._config, size=self._size)

    def _tasks(self, epoch: int, cuts: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, NDArray[np.float64]]]:
        """Shard, start and draws of each pair of this process."""
        opened = self._opened(epoch, cuts[0][0])
        window, rows = next(opened)
        for first, end in cuts:
            for place in range(first, end):
                while place >= window.first + window.size:
                    window, rows = next(opened)
                at = place - window.first
                # Drawn when due: kept, they would be most of the memory of a window.
                draws = np.random.default_rng([self._config.seed, epoch, 0, place]).random(1 + DRAWS)
                yield int(rows.shard[at]), int(rows.start[at]), draws

    def _opened(self, epoch: int, place: int) -> Iterator[tuple[_Window, _Opened]]:
        """Windows from the one with a place in the epoch; the next is opened while one is in use."""
        windows = [window for window in self._windows(epoch) if window.first + window.size > place]
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="geovlm-shards") as pool:
            following = pool.submit(self._open, epoch, windows[0])
            for window, after in zip_longest(windows, windows[1:]):
                rows = following.result()
                if after is not None:
                    following = pool.submit(self._open, epoch, after)
                yield window, rows

    def _windows(self, epoch: int) -> Iterator[_Window]:
        """The shards in the order of an epoch, cut into windows."""
        sizes = self._source.sizes
        shards: list[int] = []
        first = size = number = 0
        for shard in np.random.default_rng([self._config.seed, epoch]).permutation(len(sizes)).tolist():
            shards.append(shard)
            size += sizes[shard]
            if size >= self._window:
                yield _Window(number=number, shards=tuple(shards), first=first, size=size)
                first, size, number, shards = first + size, 0, number + 1, []
        if size:
            yield _Window(number=number, shards=tuple(shards), first=first, size=size)

    def _open(self, epoch: int, window: _Window) -> _Opened:
        order = np.random.default_rng([self._config.seed, epoch, 1, window.number]).permutation(window.size)
        starts = [self._starts(shard) for shard in window.shards]
        return _Opened(
            shard=np.repeat(window.shards, [len(places) for places in starts])[order],
            start=np.concatenate(starts)[order],
        )

    def _starts(self, shard: int) -> NDArray[np.int64]:
        """Where pairs begin: as many as were counted, whatever has become of the shard since."""
        starts, reason = self._source.starts(shard)
        counted, path = self._source.sizes[shard], self._source.paths[shard]
        if len(starts) > counted:
            warnings.warn(
                f"{path} holds {len(starts)} pairs, and {counted} were counted: the others are not used. Is a"
                " sizes.json out of date?",
                RuntimeWarning,
                stacklevel=2,
            )
        for number in range(counted):
            key = f"{shard}#{number}"
            if number < len(starts):
                self.failures.pop(key, None)
            else:
                lost = f"it is lost: {reason or 'the shard is shorter than it was'}"
                name = f"{path.name}#{number}"
                self.failures[key] = Failure(id=name, uri=f"{path}#{number}", stage="read", reason=lost)
        return np.pad(starts[:counted], (0, max(0, counted - len(starts))), constant_values=LOST)

    def _make(self, task: tuple[int, int, NDArray[np.float64]]) -> Example:
        shard, start, draws = task
        if start == LOST:
            raise ImageError("it is lost")
        path, key = self._source.paths[shard], f"{shard}:{start}"
        name = f"{path.name}:{start}"
        try:
            record = self._source.at(shard, start)
            name = record.id
            example = self._example(record, draws)
        except ImageError as error:
            self.failures[key] = Failure(id=name, uri=f"{path}#{name}", stage="decode", reason=error.reason)
            raise
        self.failures.pop(key, None)  # an earlier call may have failed where this one does not
        return example

    def _example(self, record: Record, draws: NDArray[np.float64]) -> Example:
        if record.image is None:
            raise ImageError("it has no image")
        record = evolve(record, image=resolve(record.image), captions=usable_captions(record))
        if not record.captions:
            raise ImageError("it has no caption")
        return make_example(
            record,
            lambda: self._prepare(record.open(size_hint=self._side)),
            draws,
            augmentation=self._config.augmentation,
            size=self._size,
            numbers=other_numbers(record, self._config),
        )
