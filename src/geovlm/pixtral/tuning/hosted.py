"""Fine-tuning by a service, where there is one: estimated, started, watched; nothing is paid before `start`."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING, Any

from geovlm import _progress
from geovlm._files import read_json, write_json
from geovlm._parts import Parts
from geovlm.errors import JobFailed, RateLimited, ServiceUnavailable, UsageError
from geovlm.pixtral.tuning.values import Estimate, LossPoint, TuningEvent, TuningResult

if TYPE_CHECKING:
    from pathlib import Path

    from geovlm.pixtral.tuning._data import TuningData
    from geovlm.pixtral.tuning._service import TuningService
    from geovlm.pixtral.tuning.config import FineTuningConfig

__all__ = ["HostedTuning"]

KIND = "hosted-fine-tuning"
BEFORE_START = ("QUEUED", "VALIDATING")
FINAL = ("SUCCESS", "FAILED", "FAILED_VALIDATION", "CANCELLED")
VAL_BYTES = 1_000_000
VAL_SHARE = 0.05
# So many polls in a row may fail, each after its own repetitions, before the waiting ends.
MOST_FAILED_POLLS = 10
FIRST_PAUSE = 1.0


class HostedTuning:
    """A fine-tuning job at a service; `PixtralClient.fine_tune(backend="hosted")` makes it.

    The job is made without being started, which costs nothing: `estimate` tells what it would cost, `start` or `wait`
    start it. The ids of files and job are kept in `out/job.json`, so that the same call after a crash goes on with the
    same job. Ctrl-C ends the waiting, not the job.

    Args:
        service: The fine-tuning calls of a service.
        data: The conversations, and those that are held out.
        config: How to train.
        out: The folder of the run.

    Attributes:
        data: The conversations, and those that are held out.
        out: The folder of the run.

    Examples:
        >>> from geovlm import FolderSource, PixtralClient
        >>> client = PixtralClient("pixtral-12b-2409")  # doctest: +SKIP
        >>> job = client.fine_tune(FolderSource("AID"), labels=["Beach"], out="run", backend="hosted")  # doctest: +SKIP
        >>> job.estimate().cost  # doctest: +SKIP
        4.0
        >>> HostedTuning.backend
        'hosted'
    """

    backend = "hosted"

    def __init__(self, service: TuningService, *, data: TuningData, config: FineTuningConfig, out: Path) -> None:
        self.data: TuningData = data
        self.out: Path = out
        self._service, self._config = service, config
        self._job: dict[str, Any] = {}

    def submit(self, *, model: str, url: str) -> None:
        """Send the files and make the job, as far as an earlier call did not.

        Raises:
            ConfigMismatch: The folder holds another run.
            RunLocked: Another process works in the folder.
            RequestRefused: The service no longer fine-tunes, or not this model.
            ServiceError: It cannot be reached, or does not accept the key.
        """
        _check_val(self.data)
        val = self.data.val
        identity = {"model": model, "url": url, "settings": self._settings(), "train": self.data.train.digest}
        parts = Parts(self.out, kind=KIND, config={**identity, "val": None if val is None else val.digest})
        with parts.writing():
            ledger = _Ledger(self.out / "job.json")
            if ledger.job is None:
                ids = {path: ledger.file(path, self._service) for path in self._files()}
                self._job = self._service.create(
                    model=model,
                    training_files=[ids[path] for path in self.data.train.files],
                    validation_files=[] if val is None else [ids[path] for path in val.files],
                    **self._settings(),
                )
                ledger.note_job(self._job["id"])
            else:
                self._job = self._service.get(ledger.job)

    def _files(self) -> list[Path]:
        return [*self.data.train.files, *(self.data.val.files if self.data.val else ())]

    def _settings(self) -> dict[str, Any]:
        config = self._config
        rates = {
            "epochs": config.epochs,
            "learning_rate": config.learning_rate,
            "weight_decay": config.weight_decay,
            "warmup_fraction": config.warmup,
        }
        return {"hyperparameters": rates, "suffix": config.suffix, "job_type": "completion"}

    @property
    def job_id(self) -> str:
        """The job's name at the service."""
        return str(self._job["id"])

    @property
    def status(self) -> str:
        """As last told, such as `VALIDATED`, `RUNNING` or `SUCCESS`."""
        return str(self._job["status"])

    @property
    def events(self) -> tuple[TuningEvent, ...]:
        """What happened, as last told, in order."""
        # The service tells the newest first.
        told = (self._job.get("events") or [])[::-1]
        return tuple(
            TuningEvent(
                name=event["name"],
                at=dt.datetime.fromtimestamp(event["created_at"], dt.UTC),
                data=event.get("data") or {},
            )
            for event in told
        )

    @property
    def losses(self) -> tuple[LossPoint, ...]:
        """The loss curve, as last told."""
        points = [
            LossPoint(step=told["step_number"], train=told["metrics"]["train_loss"], val=told["metrics"]["valid_loss"])
            for told in self._job.get("checkpoints") or []
        ]
        return tuple(sorted(points, key=lambda point: point.step))

    def refresh(self) -> str:
        """Ask how the job is; its status."""
        self._job = self._service.get(self.job_id)
        return self.status

    def estimate(self, *, interval: float = 10.0, progress: bool | None = None) -> Estimate:
        """What the job would take; waits until the service has looked at the files. Nothing is started.

        Args:
            interval: The longest pause between two questions, in seconds.
            progress: Show a bar; `None` decides by where the output goes.

        Raises:
            JobFailed: The service does not accept the files.
            ServiceError: It cannot be reached.
        """
        self._watch(BEFORE_START, interval=interval, progress=progress)
        told = self._job.get("metadata") or {}
        return Estimate(
            cost=told.get("cost"),
            currency=told.get("cost_currency"),
            train_tokens=told.get("train_tokens"),
            data_tokens=told.get("data_tokens"),
            seconds=told.get("expected_duration_seconds"),
        )

    def start(self, *, max_cost: float | None = None, interval: float = 10.0, progress: bool | None = None) -> None:
        """Start the job once the service has looked at the files; one that was started stays as it is.

        Args:
            max_cost: In the service's currency; a job that is dearer, or whose cost is not told, is not started.
            interval: The longest pause between two questions, in seconds.
            progress: Show a bar; `None` decides by where the output goes.

        Raises:
            UsageError: It would cost more.
            JobFailed: The service does not accept the files.
            ServiceError: It cannot be reached.
        """
        estimate = self.estimate(interval=interval, progress=progress)
        if self.status != "VALIDATED":
            return
        if max_cost is not None and (estimate.cost is None or estimate.cost > max_cost):
            raise UsageError(
                f"The job would cost {estimate}, more than max_cost={max_cost:g}, and was not started. Allow more, or"
                " cancel() it."
            )
        self._job = self._service.start(self.job_id)

    def wait(
        self, *, max_cost: float | None = None, interval: float = 10.0, progress: bool | None = None
    ) -> TuningResult:
        """Start the job if it is not started, and wait for its end.

        Args:
            max_cost: As for `start`.
            interval: The longest pause between two questions, in seconds.
            progress: Show a bar; `None` decides by where the output goes.

        Raises:
            UsageError: It would cost more.
            JobFailed: It ended without a model.
            ServiceError: It cannot be reached; the same call later goes on.
        """
        self.start(max_cost=max_cost, interval=interval, progress=progress)
        self._watch(None, interval=interval, progress=progress)
        model = self._job.get("fine_tuned_model")
        if not model:
            raise JobFailed(f"The job {self.job_id} ended, and the service names no model.")
        return TuningResult(
            model=model, backend="hosted", report=self.data.train.report, losses=self.losses, out=self.out
        )

    def cancel(self) -> str:
        """Ask the service to end the job; its status. What was trained so far may be billed."""
        self._job = self._service.cancel(self.job_id)
        return self.status

    def _watch(self, while_in: tuple[str, ...] | None, *, interval: float, progress: bool | None) -> None:
        """Ask until the job leaves some states, or until it has ended."""
        failed, pause = 0, min(FIRST_PAUSE, interval)
        with _progress.bar(progress, total=None, desc="hosted fine-tuning", unit="poll") as bar:
            while True:
                try:
                    self.refresh()
                    failed = 0
                except (RateLimited, ServiceUnavailable):
                    failed += 1
                    if failed == MOST_FAILED_POLLS:
                        raise
                bar.set_postfix_str(self.status)
                bar.update(1)
                if not failed and self._has_left(while_in):
                    return
                time.sleep(pause)
                pause = min(2 * pause, interval)

    def _has_left(self, states: tuple[str, ...] | None) -> bool:
        if self.status in FINAL and self.status != "SUCCESS":
            told = next((str(event.data["error"]) for event in reversed(self.events) if event.data.get("error")), "")
            raise JobFailed(
                f"The job {self.job_id} ended as {self.status}.{f' {told}' if told else ''} The files are in"
                f" {self.data.train.files[0].parent}."
            )
        return self.status in FINAL if states is None else self.status not in states


class _Ledger:
    """The ids of what was sent, on disk before the next thing is sent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Any] = read_json(path) if path.exists() else {"files": {}, "job": None}

    @property
    def job(self) -> str | None:
        """The job, once it was made."""
        name: str | None = self._known["job"]
        return name

    def file(self, path: Path, service: TuningService) -> str:
        """The id of a file; it is sent if it was not."""
        known: dict[str, str] = self._known["files"]
        if path.name not in known:
            known[path.name] = service.upload(path)
            write_json(self._path, self._known)
        return known[path.name]

    def note_job(self, name: str) -> None:
        """Keep the id of the job."""
        self._known["job"] = name
        write_json(self._path, self._known)


def _check_val(data: TuningData) -> None:
    if data.val is None:
        return
    most = min(VAL_BYTES, VAL_SHARE * data.train.bytes)
    if data.val.bytes > most:
        raise UsageError(
            f"The held-out files have {data.val.bytes} bytes; the service takes {most:.0f} (1 MB, and 5 % of the"
            " training files). Leave val= out, and measure the tuned model yourself."
        )
