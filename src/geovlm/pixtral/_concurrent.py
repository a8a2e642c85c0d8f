"""Several requests at a time, results in order."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

S = TypeVar("S")
T = TypeVar("T")


def in_threads(function: Callable[[S], T], items: Sequence[S], *, workers: int) -> list[T]:
    """Call `function` on all items; the first error ends what has not begun, and is raised."""
    if len(items) < 2 or workers == 1:
        return [function(item) for item in items]
    pool = ThreadPoolExecutor(min(workers, len(items)), thread_name_prefix="geovlm-pixtral")
    try:
        return [future.result() for future in [pool.submit(function, item) for item in items]]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


async def in_tasks(function: Callable[[S], Awaitable[T]], items: Sequence[S], *, workers: int) -> list[T]:
    """As `in_threads`, in an event loop; the first error ends all that is under way."""
    gate = asyncio.Semaphore(workers)

    async def gated(item: S) -> T:
        async with gate:
            return await function(item)

    tasks = [asyncio.create_task(gated(item)) for item in items]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
