"""From an iterator in this process into Ray Data: a source of unknown length, read by one task, batch by batch."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

if TYPE_CHECKING:
    from collections.abc import Iterator

GONE = b""


class Feed:
    """Keeps the batches that are not finished yet, by position, so that a reader that died starts over and loses none.

    It also counts how often each was begun, so that one which kills its workers is found. An actor; `batch` waits for
    one that is still to come.
    """

    def __init__(self) -> None:
        self._batches: dict[int, bytes] = {}
        self._begun: Counter[tuple[int, ...]] = Counter()
        self._first = 0
        self._count: int | None = None
        self._changed = asyncio.Condition()

    async def put(self, position: int, batch: bytes) -> None:
        """Add a batch."""
        async with self._changed:
            self._batches[position] = batch
            self._changed.notify_all()

    async def close(self, count: int) -> None:
        """Say how many batches there are in all."""
        async with self._changed:
            self._count = count
            self._changed.notify_all()

    async def forget(self, position: int) -> None:
        """Drop a batch that is finished, and those before it."""
        for finished in range(self._first, position + 1):
            self._batches.pop(finished, None)
        self._first = position + 1

    async def batch(self, position: int) -> bytes | None:
        """A batch; `GONE` if it is finished, `None` behind the last one."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._is_known(position))
        return GONE if position < self._first else self._batches.get(position)

    async def begin(self, *place: int) -> int:
        """Note that work on a batch, or on one record of it, begins; returns how often that ended in a death."""
        self._begun[place] += 1
        return self._begun[place] - 1

    async def end(self, *place: int) -> None:
        """Note that this work is over, and nobody died of it."""
        del self._begun[place]

    def _is_known(self, position: int) -> bool:
        return position < self._first or position in self._batches or self._count is not None


class FeedSource(Datasource):  # type: ignore[misc]
    """A `Feed` as a source of Ray Data: rows of `position` and `batch`."""

    def __init__(self, feed: Any) -> None:
        super().__init__()
        self._feed = feed

    def get_name(self) -> str:
        """For Ray's own logs."""
        return "Records"

    def estimate_inmemory_data_size(self) -> int | None:
        """Nobody knows."""
        return None

    def get_read_tasks(self, parallelism: int, **_: Any) -> list[ReadTask]:
        """One task, that goes on as long as batches come."""
        del parallelism
        feed = self._feed
        metadata = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None)
        return [ReadTask(lambda: _read(feed), metadata)]


def _read(feed: Any) -> Iterator[pa.Table]:
    position = 0
    while (batch := ray.get(feed.batch.remote(position))) is not None:
        yield pa.table({"position": [position], "batch": pa.array([batch], pa.large_binary())})
        position += 1
