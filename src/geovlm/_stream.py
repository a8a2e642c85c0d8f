"""Decode ahead in threads, run the model in batches, keep the order, isolate what fails.

The one loop behind `embed` and `caption`. A batch is a fixed number of *inputs*: one that cannot be decoded leaves its
place empty and moves nobody else into another batch, so a result does not depend on where a run was interrupted.
"""

from __future__ import annotations

import os
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from geovlm._workers import Workers
from geovlm.errors import GeovlmError, ImageError
from geovlm.records import Failure, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from geovlm._workers import Jobs

P = TypeVar("P")
R = TypeVar("R")

# Two batches wait while one is computed: enough to hide decoding, little enough to keep memory flat.
BATCHES_AHEAD = 2
# Seconds for one image: the slowest honest reads (a large file on a busy network disk) take less.
TIMEOUT = 120.0


def map_batches(
    records: Iterable[Record],
    *,
    prepare: Callable[[Record], P],
    run: Callable[[Sequence[Record], Sequence[P]], Sequence[R]],
    batch_size: int,
    stage: str,
    cut: int | None = None,
    timeout: float | None = TIMEOUT,
    threads: int | None = None,
) -> Iterator[tuple[Record, R | Failure]]:
    """Yield each record with its result or its failure, in order.

    Args:
        records: Read lazily, a few batches ahead.
        prepare: Decodes one record; called in threads. What it raises is a failure of stage `"decode"`, unless it is
            an error of geovlm's other than `ImageError`, or nothing of a batch passes and the reasons are not
            `ImageError`s: these are raised.
        run: The model, on the prepared records of one batch; called in this thread. If memory runs out, the batch is
            halved. If it raises something else, each record is tried alone: those that fail alone are failures, unless
            none passes, which is no fault of the images and raised.
        batch_size: Inputs a batch.
        stage: Name of what `run` does, for failures.
        cut: A batch ends after every so many inputs, even if it is smaller then.
        timeout: Seconds after which a `prepare` that has not come back is a failure; `None` waits for ever.
        threads: For `prepare`; `None` is one for each core.
    """
    batches = cut_batches(iter(records), batch_size, cut)
    workers = Workers(prepare, count=threads or os.cpu_count() or 1, timeout=timeout)
    waiting: deque[tuple[list[Record], Jobs[P]]] = deque()

    def fill(count: int) -> None:
        waiting.extend((batch, workers.submit(batch)) for batch in islice(batches, count))

    try:
        fill(BATCHES_AHEAD + 1)
        while waiting:
            batch, jobs = waiting.popleft()
            yield from _finish(batch, workers.wait(jobs), run, stage)
            del batch, jobs
            fill(1)
    finally:
        workers.close()


def cut_batches(todo: Iterator[Record], size: int, cut: int | None) -> Iterator[list[Record]]:
    """Batches of `size`; one ends after every `cut` inputs, even if it is smaller then."""
    place = 0
    while batch := list(islice(todo, size if cut is None else min(size, cut - place % cut))):
        place += len(batch)
        yield batch


def _finish(
    batch: list[Record],
    prepared: list[Any],
    run: Callable[[Sequence[Record], Sequence[P]], Sequence[R]],
    stage: str,
) -> Iterator[tuple[Record, R | Failure]]:
    errors = {place: item for place, item in enumerate(prepared) if isinstance(item, BaseException)}
    _raise_systemic(list(errors.values()), len(batch))
    places = [place for place in range(len(batch)) if place not in errors]
    outcomes: list[R | Failure | None] = [None] * len(batch)
    for place, error in errors.items():
        outcomes[place] = _failure(batch[place], "decode", error)
    if places:
        results = _run_isolating([batch[p] for p in places], [prepared[p] for p in places], run, stage)
        for place, result in zip(places, results, strict=True):
            outcomes[place] = result
    for record, outcome in zip(batch, outcomes, strict=True):
        assert outcome is not None  # every place was filled above
        yield record, outcome


def _raise_systemic(errors: Sequence[BaseException], total: int) -> None:
    """Raise what is no fault of single images: geovlm's own errors, and what befalls a whole batch."""
    for error in errors:
        if isinstance(error, GeovlmError) and not isinstance(error, ImageError):
            raise error
    strange = [error for error in errors if not isinstance(error, ImageError)]
    if strange and len(errors) == total:
        raise strange[0]


def _failure(record: Record, stage: str, error: BaseException) -> Failure:
    reason = error.reason if isinstance(error, ImageError) else f"{type(error).__name__}: {error}"
    return Failure(id=record.id, uri=record.uri, stage=stage, reason=reason)


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
            return [_failure(records[0], stage, error)]
        try_again = _run_one_by_one
    except Exception as error:
        if len(records) == 1:
            raise
        try_again = _run_halves if is_out_of_memory(error) else _run_one_by_one
    return try_again(records, items, run, stage)


def _run_halves(
    records: list[Record],
    items: list[P],
    run: Callable[[Sequence[Record], Sequence[P]], Sequence[R]],
    stage: str,
) -> list[R | Failure]:
    middle = len(records) // 2
    first = _run_isolating(records[:middle], items[:middle], run, stage)
    return first + _run_isolating(records[middle:], items[middle:], run, stage)


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, on the machine or on its device; torch says so by several names."""
    names = {kind.__name__ for kind in type(error).__mro__}
    told = str(error).lower()
    return bool({"MemoryError", "OutOfMemoryError"} & names) or (
        isinstance(error, RuntimeError) and ("out of memory" in told or "can't allocate memory" in told)
    )


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
        except Exception as error:
            if is_out_of_memory(error):
                raise
            last_error = error
            outcomes.append(_failure(record, stage, error))
    blameless = all(isinstance(outcome, Failure) for outcome in outcomes) and not isinstance(last_error, ImageError)
    if blameless and last_error is not None:
        raise last_error
    return outcomes
