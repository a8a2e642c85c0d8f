"""The calls to a service that fine-tunes, by mistralai before 2.5.2; errors that say what to do instead."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from geovlm.errors import ModelRetired, RequestRefused
from geovlm.pixtral._compat import library

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from geovlm.pixtral._policy import Caller

INSTEAD = "Train on a machine of your own instead, with backend='local'; the exported files are in {files}."
PAGE = 100


class TuningService:
    """Files and fine-tuning jobs of a service.

    Args:
        caller: Repeats calls and translates errors.
        mistral: The client of mistralai.
        exported: Where the exported files are, for messages.

    Raises:
        RequestRefused: The installed mistralai cannot fine-tune.
    """

    def __init__(self, caller: Caller, mistral: Any, *, exported: Path) -> None:
        self._caller, self._mistral = caller, mistral
        self._instead = INSTEAD.format(files=exported)
        if not library().has_fine_tuning:
            raise RequestRefused(
                f"Mistral withdrew hosted fine-tuning in July 2026, and mistralai {library().version} no longer has it"
                f" (for an account that has: pip install 'mistralai==1.9.11'). {self._instead}"
            )

    def upload(self, path: Path) -> str:
        """Send a training file; its id. The service hands out the same id for the same file."""

        def once() -> str:
            with path.open("rb") as file:
                sent = self._mistral.files.upload(
                    file={"file_name": path.name, "content": file, "content_type": "application/jsonl"},
                    purpose="fine-tune",
                )
            return str(sent.id)

        with self._explained():
            return self._caller.call(once)

    def create(self, *, training_files: Sequence[str], **settings: Any) -> dict[str, Any]:
        """Make a job that waits to be started, or find the one that an earlier attempt made."""
        wanted = {**settings, "training_files": list(training_files)}

        def once() -> dict[str, Any]:
            found = self._find(wanted)
            if found is not None:
                return found
            made = self._jobs.create(
                **settings,
                training_files=[{"file_id": name, "weight": 1.0} for name in training_files],
                auto_start=False,
            )
            return _plain(made)

        with self._explained():
            return self._caller.call(once)

    def _find(self, wanted: dict[str, Any]) -> dict[str, Any] | None:
        """A job that was made and never started, such as one whose answer was lost."""
        page = 0
        while True:
            listed = _plain(self._jobs.list(page=page, page_size=PAGE, model=wanted["model"], created_by_me=True))
            jobs: list[dict[str, Any]] = listed.get("data") or []
            found = next((job for job in jobs if _is_waiting(job) and _is_as_wanted(job, wanted)), None)
            if found is not None or len(jobs) < PAGE:
                return found
            page += 1

    def get(self, job: str) -> dict[str, Any]:
        """What is known of a job."""
        return self._caller.call(lambda: _plain(self._jobs.get(job_id=job)))

    def start(self, job: str) -> dict[str, Any]:
        """Start a job that was validated, unless an attempt whose answer was lost has done so."""

        def once() -> dict[str, Any]:
            known = _plain(self._jobs.get(job_id=job))
            return _plain(self._jobs.start(job_id=job)) if known["status"] == "VALIDATED" else known

        return self._caller.call(once)

    def cancel(self, job: str) -> dict[str, Any]:
        """Ask a job to end."""
        return self._caller.call(lambda: _plain(self._jobs.cancel(job_id=job)))

    @property
    def _jobs(self) -> Any:
        return self._mistral.fine_tuning.jobs

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (ModelRetired, RequestRefused) as error:
            raise RequestRefused(
                f"The service does not fine-tune this: {error} {self._instead}", status=error.status
            ) from error


def _is_waiting(job: Mapping[str, Any]) -> bool:
    return job["status"] in ("QUEUED", "VALIDATING", "VALIDATED") and not job.get("auto_start")


def _is_as_wanted(job: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a job has these settings; it may have more, which the service has chosen."""
    return all(
        _is_as_wanted(job.get(name) or {}, value)
        if isinstance(value, dict)
        else (job.get(name) or None) == (value or None)
        for name, value in wanted.items()
    )


def _plain(answer: Any) -> dict[str, Any]:
    """An answer as JSON-like values."""
    found: dict[str, Any] = answer.model_dump(mode="json")
    return found
