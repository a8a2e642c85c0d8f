"""`RayEngine`: the batches of `embed` and `caption` in the workers of a Ray cluster."""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from geovlm._optional import require
from geovlm._vectors import check_count
from geovlm.distributed._travel import pack_model
from geovlm.errors import ServiceUnavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from geovlm.protocols import Steps
    from geovlm.records import Failure, Record

logger = logging.getLogger(__name__)


@frozen(kw_only=True)
class RayEngine:
    """Computes batches in the workers of a Ray cluster, through Ray Data.

    Give it to `embed` or `caption`. Each worker loads the model once and reads the images itself, so they must be where
    all machines find them: a shared folder, or what a record carries along (encoded bytes, pixels). This process sends
    records, writes the parts and the manifest, and goes on where an earlier call stopped, with whatever engine that
    was. The results are those of one process, as far as the arithmetic is the same: device, precision and threads.

    A worker that dies is replaced by Ray and its batches are computed again; one image of which workers die again and
    again is a failure. No more than four batches a worker are on their way, so memory is flat on all sides.

    The cluster is the one that the program is connected to (`ray.init`), or else `address`, or else one that is
    started on this machine for the call and shut down after it.

    Args:
        workers: How many. Those for which a cluster has no room yet join when it has.
        num_cpus: Cores of a worker: so many threads decode, and compute where there is no GPU. From two on, images are
            decoded while the model computes. A GPU wants eight or more.
        num_gpus: GPUs of a worker: 0 or 1, or a fraction where workers share one.
        address: Of a cluster that this machine belongs to; `"auto"` finds it.

    Raises:
        UsageError: A number cannot be right.

    Examples:
        >>> import geovlm as gv
        >>> engine = RayEngine(workers=8, num_cpus=8, num_gpus=1, address="auto")
        >>> gv.embed(gv.FolderSource("/shared/scenes"), encoder, out="vectors", engine=engine)  # doctest: +SKIP
    """

    workers: int = field(default=1)
    num_cpus: float = field(default=1.0, converter=float)
    num_gpus: float = field(default=0.0, converter=float)
    address: str | None = None

    def __attrs_post_init__(self) -> None:
        check_count(self.workers, name="workers")
        if not self.num_cpus > 0:
            raise UsageError(f"A worker needs num_cpus of more than 0, not {self.num_cpus:g}.")
        if not 0 <= self.num_gpus <= 1:
            raise UsageError(
                f"A worker computes on one GPU or a part of it: num_gpus is 0 to 1, not {self.num_gpus:g}."
            )

    @property
    def _needs(self) -> dict[str, float]:
        return {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus}

    def map_batches(
        self,
        batches: Iterable[Sequence[Record]],
        *,
        model: Any,
        steps: Callable[[Any], Steps],
        stage: str,
        timeout: float | None,
    ) -> Iterator[tuple[Record, Any | Failure]]:
        """Yield each record with its result or its failure, in order; see `geovlm.protocols.Engine`.

        Raises:
            MissingExtra: Ray is not installed.
            ServiceUnavailable: The cluster failed; what was finished before is kept.
            UsageError: The model cannot be sent, or no worker fits on this machine.
        """
        require("ray.data", extra="ray", purpose="RayEngine")
        todo = iter(batches)
        first = next(todo, None)
        if first is None:  # nothing to start a cluster for
            return
        work = {
            "steps": steps,
            "stage": stage,
            "device": "cuda:0" if self.num_gpus else "cpu",
            "threads": max(1, int(self.num_cpus)),
            "timeout": timeout,
            "folder": Path.cwd(),
        }
        with self._cluster():
            yield from self._run(chain([first], todo), model, work)

    def _run(
        self, batches: Iterator[Sequence[Record]], model: Any, work: dict[str, Any]
    ) -> Iterator[tuple[Record, Any | Failure]]:
        import ray

        from geovlm.distributed._run import run

        sent = _send(model)
        try:
            yield from run(batches, workers=self.workers, needs=self._needs, work={"model": sent, **work})
        except ray.exceptions.RayError as error:
            raise ServiceUnavailable(
                f"The Ray cluster failed ({type(error).__name__}: {str(error).strip():.500}). What was finished before"
                " is kept; the same call goes on from there."
            ) from error

    @contextmanager
    def _cluster(self) -> Iterator[None]:
        import ray

        if ray.is_initialized():
            self._warn_if_nowhere()
            yield
            return
        quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if self.address is None:
            cpus = math.ceil(self.workers * self.num_cpus)
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
        else:
            ray.init(address=self.address, **quiet)
        try:
            self._warn_if_nowhere()
            yield
        finally:
            ray.shutdown()

    def _warn_if_nowhere(self) -> None:
        """Say so if no machine of the cluster has room for a worker; Ray would wait for one without a word."""
        import ray

        machines = [machine["Resources"] for machine in ray.nodes() if machine["Alive"]]
        if any(
            machine.get("CPU", 0) >= self.num_cpus and machine.get("GPU", 0) >= self.num_gpus for machine in machines
        ):
            return
        wanted = f"A worker needs {self.num_cpus:g} CPUs and {self.num_gpus:g} GPUs, and no machine has as many"
        if self.address is None and len(machines) == 1:
            raise UsageError(f"{wanted}: this one has {machines[0].get('CPU', 0):g} and {machines[0].get('GPU', 0):g}.")
        logger.warning("%s. Ray waits until one joins the cluster.", wanted)


def _send(model: Any) -> Any:
    import ray

    try:
        return ray.put(pack_model(model))
    except Exception as error:  # pickling runs code of the model, which may raise anything
        reason = error.__cause__ or error  # Ray puts a page of its own around it
        raise UsageError(
            f"{type(model).__name__} cannot be sent to workers ({reason}). It must be picklable: leave open files,"
            " locks and connections out of its state (__getstate__), and make them again where it arrives"
            " (__setstate__)."
        ) from error
