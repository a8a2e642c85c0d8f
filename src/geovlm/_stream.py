"""Decode ahead in threads, run the model in batches, keep the order, isolate what fails.

The one loop behind `embed` and `caption`. A batch is a fixed number of *inputs*: one that cannot be decoded leaves its
place empty and moves nobody else into another batch, so a result does not depend on where a run was interrupted.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from geovlm.errors import ImageError
from geovlm.records import Failure, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

P = TypeVar("P")
R = TypeVar("R")

# Two batches wait while one is computed: enough to hide decoding, little enough to keep memory flat.
BATCHES_AHEAD = 2


def map_batches(
    records: Iterable[Record],
    *,
    prepare: Callable[[Record], P],
    run: Callable[[Sequence[Record], Sequence[P]], Sequence[R]],
    batch_size: int,
    stage: str,
) -> Iterator[tuple[Record, R | Failure]]:
    """Yield each record with its result or its failure, in order.

    Args:
        records: Read lazily, a few batches ahead.
        prepare: Decodes one record; called in threads. An `ImageError` is a failure of stage `"decode"`.
        run: The model, on the prepared records of one batch; called in this thread. If it raises, each record is tried
            alone: those that fail alone are failures, unless none passes, which is no fault of the images and raised.
        batch_size: Inputs a batch.
        stage: Name of what `run` does, for failures.
    """
    todo = iter(records)
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="geovlm-decode") as pool:
        waiting: deque[tuple[list[Record], list[Future[P]]]] = deque()

        def fill() -> None:
            batch = list(islice(todo, batch_size))
            if batch:
                waiting.append((batch, [pool.submit(prepare, record) for record in batch]))

        try:
            for _ in range(BATCHES_AHEAD + 1):
                fill()
            while waiting:
                batch, futures = waiting.popleft()
                yield from _finish(batch, futures, run, stage)
                fill()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _finish(
    batch: list[Record],
    futures: list[Future[P]],
    run: Callable[[Sequence[Record], Sequence[P]], Sequence[R]],
    stage: str,
) -> Iterator[tuple[Record, R | Failure]]:
    outcomes: list[R | Failure | None] = [None] * len(batch)
    ready: list[tuple[int, P]] = []
    for position, (record, future) in enumerate(zip(batch, futures, strict=True)):
        try:
            ready.append((position, future.result()))
        except ImageError as error:
            outcomes[position] = Failure(id=record.id, uri=record.uri, stage="decode", reason=error.reason)
    if ready:
        places = [position for position, _ in ready]
        results = _run_isolating([batch[p] for p in places], [item for _, item in ready], run, stage)
        for position, result in zip(places, results, strict=True):
            outcomes[position] = result
    for record, outcome in zip(batch, outcomes, strict=True):
        assert outcome is not None  # every place was filled above
        yield record, outcome


def _run_isolating(
    records: list[Record],
    items: list[P],
    run: Callable[[Sequence[Record], Sequence[P]], Sequence[R]],
    stage: str,
) -> list[R | Failure]:
    try:
        return list(run(records, items))
    except ImageError as error:
        if len(records) == 1:
            return [Failure(id=records[0].id, uri=records[0].uri, stage=stage, reason=error.reason)]
    except Exception:
        if len(records) == 1:
            raise
    return _run_one_by_one(records, items, run, stage)


def _run_one_by_one(
    records: list[Record],
    items: list[P],
    run: Callable[[Sequence[Record], Sequence[P]], Sequence[R]],
    stage: str,
) -> list[R | Failure]:
    outcomes: list[R | Failure] = []
    last_error: Exception | None = None
    for record, item in zip(records, items, strict=True):
        try:
            outcomes.extend(run([record], [item]))
        except Exception as error:  # noqa: BLE001 - a model may raise anything; what is systemic is raised below
            last_error = error
            reason = error.reason if isinstance(error, ImageError) else f"{type(error).__name__}: {error}"
            outcomes.append(Failure(id=record.id, uri=record.uri, stage=stage, reason=reason))
    blameless = all(isinstance(outcome, Failure) for outcome in outcomes) and not isinstance(last_error, ImageError)
    if blameless and last_error is not None:
        raise last_error
    return outcomes
