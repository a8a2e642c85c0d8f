"""Where the batches of a long call are computed: in this process, or by an engine on others."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from geovlm._stream import TIMEOUT, cut_batches, map_batches
from geovlm.errors import UsageError
from geovlm.protocols import Engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from geovlm.protocols import Steps
    from geovlm.records import Failure, Record


def processing(
    engine: Engine | None,
    *,
    model: Any,
    steps: Callable[[Any], Steps],
    batch_size: int,
    stage: str,
    cut: int | None = None,
    timeout: float | None = TIMEOUT,
) -> Callable[[Iterable[Record]], Iterator[tuple[Record, Any | Failure]]]:
    """What turns records into outcomes, lazily and in order, here or by an engine.

    Args:
        engine: Where; `None` is in this process.
        model: An encoder or a captioner.
        steps: From the model to what `_stream.map_batches` calls `prepare` and `run`; it travels with the model.
        batch_size: As in `_stream.map_batches`, like all that follow.
        stage: Name of what `run` does.
        cut: Where batches end.
        timeout: Of `prepare`.

    Raises:
        UsageError: The engine is none.
    """
    if engine is None:
        prepare, run = steps(model)
        return partial(
            map_batches, prepare=prepare, run=run, batch_size=batch_size, stage=stage, cut=cut, timeout=timeout
        )
    if not isinstance(engine, Engine) or isinstance(engine, type):
        raise UsageError(
            f"An engine has map_batches(batches, …), as geovlm.distributed.RayEngine() has; not {engine!r:.80}."
        )
    far = partial(engine.map_batches, model=model, steps=steps, stage=stage, timeout=timeout)
    return lambda records: far(cut_batches(iter(records), batch_size, cut))
