"""One run on Ray Data: a window of batches goes in, their outcomes come out in the same order."""

from __future__ import annotations

import logging
import warnings
from collections import deque
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import ray
from ray import cloudpickle
from ray.data import ActorPoolStrategy, DataContext

from geovlm.distributed._feed import Feed, FeedSource
from geovlm.distributed._travel import pack
from geovlm.distributed._worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ray.data import Dataset

    from geovlm.records import Failure, Record

# One is computed, one is decoded, and two wait.
BATCHES_A_WORKER = 4


class Window:
    """The batches that are out: sent, and not answered yet.

    Args:
        batches: All that is to be done.
        size: How many may be out.
        feed: Where they go.
    """

    def __init__(self, batches: Iterator[Sequence[Record]], *, size: int, feed: Any) -> None:
        self._batches, self._size, self._feed = batches, size, feed
        self._out: deque[Sequence[Record]] = deque()
        self._sent = self._answered = 0

    def __len__(self) -> int:
        return len(self._out)

    def fill(self) -> None:
        """Send until the window is full, or tell that there is no more."""
        room = self._size - len(self._out)
        for batch in islice(self._batches, room):
            self._feed.put.remote(self._sent, pack(batch, cloudpickle.dumps))
            self._out.append(batch)
            self._sent += 1
        if len(self._out) < self._size:
            self._feed.close.remote(self._sent)

    def answer(self, position: int, outcomes: bytes) -> Iterator[tuple[Record, Any | Failure]]:
        """Take what came back for a batch: each record with its outcome.

        Raises:
            Exception: What the worker raised.
        """
        assert position == self._answered, f"batch {position} came in the place of {self._answered}"
        found = cloudpickle.loads(outcomes)
        if isinstance(found, Exception):
            raise found
        self._feed.forget.remote(position)
        self._answered += 1
        yield from zip(self._out.popleft(), found, strict=True)


def run(
    batches: Iterator[Sequence[Record]], *, workers: int, needs: dict[str, float], work: dict[str, Any]
) -> Iterator[tuple[Record, Any | Failure]]:
    """Have workers compute batches.

    Args:
        batches: All that is to be done.
        workers: How many; no more are started than there are batches.
        needs: What each of them takes of the cluster.
        work: The arguments of `Worker`, but for the feed.
    """
    feed = ray.remote(num_cpus=0)(Feed).remote()
    window = Window(batches, size=workers * BATCHES_A_WORKER, feed=feed)
    try:
        with _quiet():
            window.fill()
            for row in _rows(min(workers, len(window)), needs, {"feed": feed, **work}):
                yield from window.answer(row["position"], row["outcomes"])
                window.fill()
        assert not len(window), f"{len(window)} batches never came back"
    finally:
        ray.kill(feed)


def _rows(workers: int, needs: dict[str, float], work: dict[str, Any]) -> Iterator[Any]:
    pool = ActorPoolStrategy(
        size=workers,
        # With a second core, a batch is decoded while the model is at another.
        max_concurrent_calls_per_actor=2 if work["threads"] > 1 else 1,
        enable_true_multi_threading=True,
    )
    with DataContext.current(_context()):
        # The reader waits for records most of the time, so it needs no core of its own.
        read = ray.data.read_datasource(FeedSource(work["feed"]), num_cpus=0, override_num_blocks=1)
        mapped: Dataset = read.map_batches(Worker, batch_size=1, compute=pool, fn_constructor_kwargs=work, **needs)
    for batch in mapped.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0):
        yield from batch.to_pylist()


def _context() -> DataContext:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of settings that a copy sets along with the others
        context = DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    # A batch is one row, and goes on at once instead of waiting for a block to be full.
    context.target_max_block_size = 1
    context.execution_no_progress_timeout_s = -1
    return context


@contextmanager
def _quiet() -> Iterator[None]:
    """Errors alone on the terminal; Ray's own log files have everything."""
    every = logging.getLogger("ray.data").handlers
    handlers = [one for one in every if isinstance(one, logging.StreamHandler) and not hasattr(one, "baseFilename")]
    levels = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)
