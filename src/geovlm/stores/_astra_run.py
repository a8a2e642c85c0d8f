"""Sends the steps of a plan, in threads or in an event loop."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import chain, islice
from threading import Lock
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from geovlm.errors import GeovlmError
from geovlm.stores._astra_send import Step

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from geovlm.stores._astra_send import Body, Policy, Request

Result = TypeVar("Result")
Plan: TypeAlias = Generator[Step, None, Result]
"""Yields what is to be sent, and returns a result."""


class Threads:
    """Sends requests from a pool of threads.

    Args:
        once: Sends a request once, with a time limit in seconds.
        policy: How it is repeated.
        workers: How many requests are on their way at most.
    """

    def __init__(self, once: Callable[[Request, float], Body], policy: Policy, workers: int) -> None:
        self.policy = policy
        self._once = once
        self._workers = workers
        self._pool: ThreadPoolExecutor | None = None
        self._lock = Lock()

    def run(self, plan: Plan[Result]) -> Result:
        """Send a plan's steps, one after the other; what the plan returns."""
        while True:
            try:
                step = next(plan)
            except StopIteration as end:
                result: Result = end.value
                return result
            self.send(step)

    def send(self, step: Step) -> None:
        """Send the requests of one step."""
        time.sleep(step.delay)
        requests = iter(step.requests)
        first = list(islice(requests, 2))
        if len(first) == 1:
            self._send(first[0])
        elif first:
            self._send_all(chain(first, requests))

    def _send(self, request: Request) -> None:
        try:
            answer = self.policy.send(request, self._once)
        except GeovlmError as error:
            request.fail(error)
        else:
            request.take(answer)

    def _send_all(self, requests: Iterable[Request]) -> None:
        pool = self._open()
        pending: deque[Future[None]] = deque()
        try:
            for request in requests:
                if len(pending) >= 2 * self._workers:
                    pending.popleft().result()
                pending.append(pool.submit(self._send, request))
            while pending:
                pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
            # Nothing is written after the call has ended.
            wait(pending)

    def _open(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="geovlm-astra")
            return self._pool

    def close(self) -> None:
        """End the threads; they start again when they are needed."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()


class Tasks:
    """Sends requests from an event loop; as `Threads`."""

    def __init__(self, once: Callable[[Request, float], Awaitable[Body]], policy: Policy, workers: int) -> None:
        self.policy = policy
        self._once = once
        self._workers = workers

    async def run(self, plan: Plan[Result]) -> Result:
        """As `Threads.run`."""
        while True:
            try:
                step = next(plan)
            except StopIteration as end:
                result: Result = end.value
                return result
            await asyncio.sleep(step.delay)
            await self._send_all(iter(step.requests))

    async def _send_all(self, requests: Iterator[Request]) -> None:
        async def work() -> None:
            for request in requests:
                await self._send(request)

        tasks = [asyncio.create_task(work()) for _ in range(self._workers)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, request: Request) -> None:
        try:
            answer = await self.policy.send_async(request, self._once)
        except GeovlmError as error:
            request.fail(error)
        else:
            request.take(answer)
