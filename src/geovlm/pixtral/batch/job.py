"""`BatchRun`: the handle of a batch, in this process or a later one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from attrs import frozen

from geovlm import _progress
from geovlm._files import locked, write_atomically
from geovlm._markup import panel, table
from geovlm._parts import Parts
from geovlm.errors import ConfigMismatch, UsageError
from geovlm.pixtral.batch.direct import Requests
from geovlm.pixtral.batch.files import cancel_path, cancelled
from geovlm.pixtral.batch.hosted import GONE, Jobs, look
from geovlm.pixtral.batch.ledger import Ledger
from geovlm.pixtral.batch.planning import KIND, Task
from geovlm.pixtral.batch.reading import Outcomes, table_of
from geovlm.pixtral.batch.repeating import repeat
from geovlm.pixtral.batch.results import BatchResult
from geovlm.pixtral.batch.service import service_of
from geovlm.pixtral.batch.waiting import Waiting, pending
from geovlm.pixtral.models import Price

if TYPE_CHECKING:
    import os

    from geovlm.pixtral.batch.ledger import Shipment
    from geovlm.pixtral.batch.service import JobService
    from geovlm.pixtral.client import PixtralClient

__all__ = ["BatchRun", "BatchStatus", "JobStatus"]


@frozen(kw_only=True)
class JobStatus:
    """One request file.

    Args:
        number: From 0.
        attempt: 1 for what is sent for the first time.
        requests: How many.
        status: What the service says of its job, or how far it came here: `"written"`, `"uploaded"` …
        job: The service's name of the job.

    Examples:
        >>> JobStatus(number=0, attempt=1, requests=200, status="written").job is None
        True
    """

    number: int
    attempt: int
    requests: int
    status: str
    job: str | None = None


@frozen(kw_only=True)
class BatchStatus:
    """How far a batch is.

    Args:
        jobs: All of them, repetitions included.
        cancelled: Whether it is to end.
        finished: Whether the results of all jobs are here. `wait` may then still send again what failed.

    Examples:
        >>> job = JobStatus(number=0, attempt=1, requests=200, status="RUNNING")
        >>> BatchStatus(jobs=(job,), cancelled=False, finished=False).finished
        False
    """

    jobs: tuple[JobStatus, ...]
    cancelled: bool
    finished: bool

    def __str__(self) -> str:
        lines = [
            f"{job.number:5d}  {job.status:22} {job.requests:7d} requests  attempt {job.attempt}" for job in self.jobs
        ]
        return "\n".join(lines) or "nothing to send"

    def _repr_html_(self) -> str:
        state = "cancelled" if self.cancelled else "finished" if self.finished else "under way"
        rows = [(job.number, job.status, job.requests, job.attempt, job.job or "") for job in self.jobs]
        return panel(f"Batch: {state}", table(("file", "status", "requests", "attempt", "job"), rows))


class BatchRun:
    """A batch in a directory; made by `PixtralClient.batch_classify` and `batch_caption`, or opened again.

    Ending the process, by an interrupt or by force, does not end the jobs. `BatchRun.open(out).wait()` goes on, and
    what was sent is not sent again.

    Args:
        out: The directory.
        client: To send with; `None` makes one for the model and the server of the run when it is needed.

    Raises:
        ConfigMismatch: The client is for another model or another server.
        UsageError: The directory does not hold a batch.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> from geovlm import PixtralClient, Record
        >>> from geovlm.testing.mistral_api import MistralEmulator
        >>> scenes = [Record(id="a", image=Image.new("RGB", (64, 64)), label="Beach")]
        >>> with MistralEmulator(brain=lambda request: "Beach") as api, tempfile.TemporaryDirectory() as out:
        ...     client = PixtralClient("pixtral-12b-2409", base_url=api.url, api_key=api.api_key)
        ...     begun = client.batch_classify(scenes, labels=["Beach", "Forest"], out=out)
        ...     result = BatchRun.open(out, client=client).wait(poll=0)  # as another process would
        >>> result.predictions
        ['Beach']
    """

    def __init__(self, out: str | os.PathLike[str], *, client: PixtralClient | None = None) -> None:
        self.out: Path = Path(out).expanduser()
        self._parts = Parts.open(self.out, kind=KIND)
        self._task = Task.of(self._parts.config)
        sending = Ledger.read(self.out).sending
        self._url: str = sending["url"] if sending else ""
        self._client = client
        if client is not None:
            self._check(client)

    @classmethod
    def open(cls, out: str | os.PathLike[str], *, client: PixtralClient | None = None) -> Self:
        """A batch that an earlier call began; see `BatchRun`."""
        return cls(out, client=client)

    def status(self) -> BatchStatus:
        """Ask the service how far the jobs are; changes nothing.

        Raises:
            ServiceError: The service refused, or gave no answer.
        """
        ledger = Ledger.read(self.out)
        jobs = tuple(
            JobStatus(
                number=shipment.number,
                attempt=shipment.attempt,
                requests=shipment.requests,
                status=self._told(shipment),
                job=shipment.job,
            )
            for shipment in ledger.shipments
        )
        finished = all(shipment.step == "settled" for shipment in ledger.shipments)
        return BatchStatus(jobs=jobs, cancelled=cancelled(self.out), finished=finished)

    def wait(self, *, progress: bool | None = None, poll: float = 5.0, patience: float = 3600.0) -> BatchResult:
        """Wait for all answers, bring them home, and send again what failed or is missing.

        An interrupt detaches: the jobs go on, and the next `wait` finds them.

        Args:
            progress: Show a bar; `None` decides by where the output goes.
            poll: Seconds before the first look at the jobs; looks become rarer, down to one a minute.
            patience: Seconds without any answer of the service after which its error is raised.

        Returns:
            One state for every input, and the answers.

        Raises:
            AuthError: The key is wrong.
            RunLocked: Another process waits in the same directory.
            ServiceError: The service refused, or gave no answer for `patience` seconds. What was done is kept; call
                again to go on.
            StorageError: The disk refused.
            UsageError: The batch was only prepared.
        """
        started = time.monotonic()
        with locked(self.out), Ledger.open(self.out) as ledger:
            _must_be_sent(ledger, self.out)
            total = sum(shipment.requests for shipment in ledger.allowed())
            with _progress.bar(progress, total=total, desc=self._task.kind, unit="img") as bar:
                outcomes = self._bring_home(ledger, bar, poll=poll, patience=patience)
                while not cancelled(self.out) and (more := repeat(self.out, self._parts, ledger, outcomes)):
                    bar.total = (bar.total or 0) + more
                    outcomes = self._bring_home(ledger, bar, poll=poll, patience=patience)
            return self._result(ledger, outcomes, time.monotonic() - started)

    def resume(self) -> Self:
        """Take up what failed, is missing, expired or was cancelled, and send it; attempts are counted anew.

        What was answered is not sent again, and a cancellation is lifted. After a crash this is not needed: `wait` goes
        on by itself.

        Raises:
            ServiceError: As for `wait`.
        """
        with locked(self.out), Ledger.open(self.out) as ledger:
            _must_be_sent(ledger, self.out)
            settled = [shipment.number for shipment in ledger.shipments if shipment.step == "settled"]
            cancel_path(self.out).unlink(missing_ok=True)
            ledger.append("resumed", shipments=max(settled, default=-1) + 1)
            if not pending(ledger):
                repeat(self.out, self._parts, ledger, self._outcomes(ledger))
            self._sender(ledger).submit()
        return self

    def cancel(self) -> None:
        """End the batch: nothing more is sent, and all its jobs are cancelled. Answers so far can be had by `wait`.

        Raises:
            ServiceError: The service refused, or gave no answer; repeat the call.
        """
        write_atomically(cancel_path(self.out), lambda path: path.touch())
        ledger = Ledger.read(self.out)
        if pending(ledger):
            self._sender(ledger).cancel_orphans()

    def submit(self) -> None:
        """Send what was not sent yet; `batch_classify` has done it.

        Raises:
            ServiceError: As for `wait`.
        """
        with locked(self.out), Ledger.open(self.out) as ledger:
            self._sender(ledger).submit()

    def _told(self, shipment: Shipment) -> str:
        if shipment.step == "created" and shipment.job is not None:
            found = look(self._service(), shipment.job)
            return GONE if found is None else str(found.status)
        return shipment.status or shipment.step

    def _bring_home(self, ledger: Ledger, bar: Any, *, poll: float, patience: float) -> Outcomes:
        if pending(ledger):
            Waiting(self._sender(ledger), ledger, bar).run(poll=poll, patience=patience)
        return self._outcomes(ledger)

    def _result(self, ledger: Ledger, outcomes: Outcomes, seconds: float) -> BatchResult:
        labels = self._task.labels
        return BatchResult(
            table=table_of(self._parts, ledger, outcomes),
            labels=None if labels is None else labels.names,
            strays=outcomes.strays,
            price=price_of(ledger),
            discounted=ledger.means == "jobs",
            seconds=seconds,
        )

    def _outcomes(self, ledger: Ledger) -> Outcomes:
        return Outcomes(self._parts, ledger, self.out, self._task.labels)

    def _sender(self, ledger: Ledger) -> Jobs | Requests:
        return (Jobs if ledger.means == "jobs" else Requests)(self._service(), ledger, self.out)

    def _service(self) -> JobService:
        if self._client is None:
            from geovlm.pixtral.client import PixtralClient

            local = self._url.startswith("file:")
            self._client = PixtralClient(
                self._parts.config["model"],
                backend="local" if local else "server",
                base_url=None if local else self._url,
            )
        return service_of(self._client)

    def _check(self, client: PixtralClient) -> None:
        model = self._parts.config["model"]
        if client.model != model:
            raise ConfigMismatch(f"{self.out} is a batch for {model!r}, and this client is for {client.model!r}.")
        if Ledger.read(self.out).means == "jobs" and client.base_url != self._url:
            raise ConfigMismatch(
                f"The jobs of {self.out} are at {self._url}, and this client is for {client.base_url}; only that server"
                " has the results."
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.out)!r})"


def price_of(ledger: Ledger) -> Price | None:
    """Of a token, as the call that sent the batch knew it."""
    told = ledger.sending["price"] if ledger.sending else None
    return None if told is None else Price(prompt=told[0], completion=told[1])


def _must_be_sent(ledger: Ledger, out: Path) -> None:
    if ledger.sending is None:
        state = "prepared (dry_run)" if ledger.prepared else "begun, and its preparation was interrupted"
        raise UsageError(f"The batch in {out} was only {state}: repeat batch_classify or batch_caption to send it.")
