"""Fine-tuning jobs, as Mistral's service had them until July 2026."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geovlm.testing.mistral_api.models import TunedModel
from geovlm.testing.mistral_api.wire import Refused, Request, answered, page_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from geovlm.testing._loopback import Response
    from geovlm.testing.mistral_api.files import Files
    from geovlm.testing.mistral_api.ids import Ids
    from geovlm.testing.mistral_api.models import Models

# What a job does each time it is looked at.
_NEXT = {"QUEUED": "VALIDATING", "STARTED": "RUNNING", "RUNNING": "SUCCESS", "CANCELLATION_REQUESTED": "CANCELLED"}
_IN_FLIGHT = (*_NEXT, "VALIDATING", "VALIDATED")
TOKENS_PER_BYTE = 1 / 60  # of base64 images; an estimate, as the service's own is
DOLLARS_PER_TOKEN = 2e-6


@dataclass(kw_only=True)
class TuningJob:
    """One job and what is known of it."""

    id: str
    model: str
    hyperparameters: dict[str, Any]
    training_files: list[str]
    validation_files: list[str]
    suffix: str | None
    auto_start: bool
    created_at: int
    data_tokens: int
    bad_lines: int
    skips: bool
    status: str = "QUEUED"
    fine_tuned_model: str | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """How many training steps it takes."""
        return int(self.hyperparameters.get("training_steps") or 10)

    def estimate(self) -> dict[str, Any]:
        """What the job takes and costs."""
        tokens = round(self.data_tokens * float(self.hyperparameters.get("epochs") or 1))
        return {
            "expected_duration_seconds": 60 + tokens // 2000,
            "cost": round(max(4.0, tokens * DOLLARS_PER_TOKEN), 2),
            "cost_currency": "USD",
            "train_tokens_per_step": tokens // self.steps,
            "train_tokens": tokens,
            "data_tokens": self.data_tokens,
            "estimated_start_time": self.created_at,
        }

    def describe(self, *, details: bool) -> dict[str, Any]:
        """As the service tells it, in a list or alone."""
        told = {
            "id": self.id,
            "object": "job",
            "job_type": "completion",
            "auto_start": self.auto_start,
            "model": self.model,
            "status": self.status,
            "created_at": self.created_at,
            "modified_at": int(time.time()),
            "training_files": self.training_files,
            "validation_files": self.validation_files,
            "fine_tuned_model": self.fine_tuned_model,
            "suffix": self.suffix,
            "integrations": [],
            "trained_tokens": self.estimate()["train_tokens"] if self.status == "SUCCESS" else None,
            "metadata": None if self.status in ("QUEUED", "VALIDATING") else self.estimate(),
            "hyperparameters": self.hyperparameters,
            "repositories": [],
        }
        return {**told, "events": self.events[::-1], "checkpoints": self.checkpoints[::-1]} if details else told

    def enter(self, status: str) -> None:
        """Go to another state."""
        self.status = status
        event = {"name": "status-updated", "created_at": int(time.time()), "data": {"status": status}}
        self.events.append(event)


class FineTuning:
    """All jobs. A job goes on each time it is looked at.

    Args:
        files: Where the training data is.
        models: Takes the models that are made.
        ids: Where names come from.
    """

    def __init__(self, *, files: Files, models: Models, ids: Ids) -> None:
        self.jobs: dict[str, TuningJob] = {}
        self._files = files
        self._models = models
        self._ids = ids

    def handlers(self) -> dict[str, Callable[[Request], Response]]:
        """What it answers."""
        return {
            "fine_tuning.jobs.create": self._create,
            "fine_tuning.jobs.list": self._list,
            "fine_tuning.jobs.get": self._get,
            "fine_tuning.jobs.start": self._start,
            "fine_tuning.jobs.cancel": self._cancel,
        }

    def _create(self, request: Request) -> Response:
        body = request.json()
        root = self._models.check_tunable(body.get("model"))
        files = [self._files.get(one["file_id"]) for one in body.get("training_files") or []]
        if not files or any(file.purpose != "fine-tune" for file in files):
            raise Refused(422, "training_files: files with the purpose 'fine-tune' are needed.")
        lines = [line for file in files for line in file.content.split(b"\n") if line.strip()]
        bad = sum(not _is_conversation(line) for line in lines)
        job = TuningJob(
            id=self._ids.uuid(),
            model=body["model"],
            hyperparameters=_completed(body.get("hyperparameters") or {}),
            training_files=[file.id for file in files],
            validation_files=[self._files.get(name).id for name in body.get("validation_files") or []],
            suffix=body.get("suffix"),
            auto_start=bool(body.get("auto_start", True)),
            created_at=int(time.time()),
            data_tokens=round(sum(map(len, lines)) * TOKENS_PER_BYTE),
            bad_lines=bad,
            skips=bad <= len(lines) * body.get("invalid_sample_skip_percentage", 0),
        )
        if request.one("dry_run").lower() == "true":
            more = {"details": f"Estimate for {root}", "deprecated": True, "object": "job.metadata"}
            return answered({**job.estimate(), **more})
        job.enter("QUEUED")
        self.jobs[job.id] = job
        return answered(job.describe(details=False))

    def _asked(self, request: Request) -> TuningJob:
        found = self.jobs.get(request.params["job"])
        if found is None:
            raise Refused(404, f"No fine-tuning job {request.params['job']}", kind="not_found")
        return found

    def _list(self, request: Request) -> Response:
        status, suffix = request.one("status"), request.one("suffix")
        found = [
            job for job in reversed(self.jobs.values()) if status in {"", job.status} and suffix in {"", job.suffix}
        ]
        data = [job.describe(details=False) for job in page_of(found, request)]
        return answered({"object": "list", "data": data, "total": len(found)})

    def _get(self, request: Request) -> Response:
        job = self._asked(request)
        self._go_on(job)
        return answered(job.describe(details=True))

    def _start(self, request: Request) -> Response:
        job = self._asked(request)
        if job.status != "VALIDATED":
            raise Refused(400, f"The job is {job.status}; one that is VALIDATED can be started.")
        job.enter("STARTED")
        return answered(job.describe(details=True))

    def _cancel(self, request: Request) -> Response:
        job = self._asked(request)
        if job.status not in _IN_FLIGHT:
            raise Refused(400, f"The job is {job.status} and cannot be cancelled.")
        job.enter("CANCELLATION_REQUESTED")
        return answered(job.describe(details=True))

    def _go_on(self, job: TuningJob) -> None:
        if job.status == "VALIDATING":
            job.enter("FAILED_VALIDATION" if not job.skips else "STARTED" if job.auto_start else "VALIDATED")
        elif job.status in _NEXT:
            job.enter(_NEXT[job.status])
        if job.status == "SUCCESS" and job.fine_tuned_model is None:
            self._finish(job)

    def _finish(self, job: TuningJob) -> None:
        job.checkpoints = [_checkpoint(job, step) for step in range(1, job.steps + 1)]
        day = time.strftime("%Y%m%d", time.gmtime(job.created_at))
        parts = ["ft", job.model, *([job.suffix] if job.suffix else []), job.id[:8], day, self._ids.uuid()[:8]]
        job.fine_tuned_model = ":".join(parts)
        root = self._models.find(job.model).id
        made = TunedModel(id=job.fine_tuned_model, root=root, job=job.id, created=job.created_at)
        self._models.tuned[made.id] = made


def _checkpoint(job: TuningJob, step: int) -> dict[str, Any]:
    """A loss that falls evenly towards a tenth."""
    loss = 0.1 + 1.5 * 0.8**step
    metrics = {"train_loss": loss, "valid_loss": None, "valid_mean_token_accuracy": None}
    return {"metrics": metrics, "step_number": step, "created_at": job.created_at + 10 * step}


def _completed(given: Mapping[str, Any]) -> dict[str, Any]:
    known = {
        "learning_rate": 1e-4,
        "weight_decay": 0.1,
        "warmup_fraction": 0.05,
        "training_steps": None,
        "epochs": None,
    }
    return {**known, **given}


def _is_conversation(line: bytes) -> bool:
    """Whether a line ends with an answer; bare lists of messages are taken as well, as by the service."""
    try:
        value = json.loads(line)
    except ValueError:
        return False
    messages = value.get("messages") if isinstance(value, dict) else value
    return isinstance(messages, list) and bool(messages) and messages[-1].get("role") == "assistant"
