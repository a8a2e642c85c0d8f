"""What runs in a worker: the model, loaded once, and the loop of a batch."""

from __future__ import annotations

import os
import sys
from threading import Lock
from typing import TYPE_CHECKING, Any

import ray
from ray import cloudpickle

from geovlm._stream import map_batches
from geovlm.distributed._travel import unpack_model
from geovlm.records import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from geovlm.protocols import Steps
    from geovlm.records import Record

# A machine may go away once or twice, and the batch is no worse for it.
MOST_DEATHS = 2


class Worker:
    """Maps rows of `position` and `batch` to rows of `position` and `outcomes`; Ray Data makes one in each actor.

    Args:
        feed: The actor that knows what was begun.
        model: A reference to what `pack_model` made of the model.
        steps: From the model to what is done with a record and with a batch.
        stage: Name of what is done, for failures.
        device: Where the model computes.
        threads: Of decoding, and of torch on a CPU.
        timeout: Seconds that decoding one image may take.
        folder: The directory that relative paths start from.
    """

    def __init__(
        self,
        *,
        feed: Any,
        model: ray.ObjectRef[Any],
        steps: Callable[[Any], Steps],
        stage: str,
        device: str,
        threads: int,
        timeout: float | None,
        folder: Path,
    ) -> None:
        self._feed, self._model, self._make_steps, self._stage = feed, model, steps, stage
        self._device, self._threads, self._timeout = device, threads, timeout
        self._steps: Steps | None = None
        self._loading, self._computing = Lock(), Lock()
        if folder.is_dir():
            os.chdir(folder)

    def __call__(self, rows: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Compute a batch; two threads may be in here, and one of them in the model."""
        positions = [int(position) for position in rows["position"]]
        pairs = zip(positions, rows["batch"], strict=True)
        return {"position": positions, "outcomes": [self._answer(position, packed) for position, packed in pairs]}

    def _answer(self, position: int, packed: bytes) -> bytes:
        """Outcomes, or the error that is to be raised in the process that asked."""
        try:
            records: list[Record] = cloudpickle.loads(packed)
            if ray.get(self._feed.begin.remote(position)) < MOST_DEATHS:
                found: list[Any] | Exception = self._compute(records)
            else:
                found = [self._try_alone(record, position, place) for place, record in enumerate(records)]
            ray.get(self._feed.end.remote(position))
        except Exception as error:  # noqa: BLE001 - raised again by the engine
            found = error
        return _dump(found)

    def _try_alone(self, record: Record, *place: int) -> Any:
        """One record of a batch of which workers died; the record that they died of is a failure."""
        if ray.get(self._feed.begin.remote(*place)) >= MOST_DEATHS:
            reason = "the worker died each time that it was tried"
            return Failure(id=record.id, uri=record.uri, stage=self._stage, reason=reason)
        (outcome,) = self._compute([record])
        ray.get(self._feed.end.remote(*place))
        return outcome

    def _compute(self, records: Sequence[Record]) -> list[Any]:
        prepare, run = self._loaded()

        def run_alone(some: Sequence[Record], items: Sequence[Any]) -> Sequence[Any]:
            with self._computing:
                return run(some, items)

        pairs = map_batches(
            records,
            prepare=prepare,
            run=run_alone,
            batch_size=len(records),
            stage=self._stage,
            timeout=self._timeout,
            threads=self._threads,
        )
        return [outcome for _, outcome in pairs]

    def _loaded(self) -> Steps:
        """What the model does; it is loaded here, so that an error is told like those of batches."""
        with self._loading:
            if self._steps is None:
                model = unpack_model(ray.get(self._model), self._device)
                if "torch" in sys.modules:
                    sys.modules["torch"].set_num_threads(self._threads)
                self._steps = self._make_steps(model)
            return self._steps


def _dump(found: list[Any] | Exception) -> bytes:
    try:
        packed: bytes = cloudpickle.dumps(found)
        cloudpickle.loads(packed)
    except Exception:  # an error of a library may hold what cannot travel
        if not isinstance(found, Exception):
            raise
        packed = cloudpickle.dumps(RuntimeError(f"{type(found).__name__}: {found}"))
    return packed
