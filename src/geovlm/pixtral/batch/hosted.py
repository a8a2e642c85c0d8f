"""Sending by batch jobs: upload, create, look, download; each step announced in the ledger first."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from geovlm._files import write_atomically
from geovlm.errors import RequestRefused, ServiceError
from geovlm.pixtral._policy import Again
from geovlm.pixtral.batch.files import cancelled, count_lines, request_path, result_path
from geovlm.pixtral.batch.service import pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from geovlm.pixtral.batch.ledger import Ledger, Shipment
    from geovlm.pixtral.batch.service import JobService

_logger = logging.getLogger(__name__)

ENDED = ("SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLED")
GONE = "GONE"
MOST_PENDING = 1_000_000  # requests of a workspace that wait at a time
LOOKS = 3  # for a job that may not be in the service's list yet
CLOCK_MARGIN = 3600


class Jobs:
    """Sends shipments as batch jobs and brings their results home.

    Args:
        service: Where to.
        ledger: Open for writing.
        folder: Of the run.

    Attributes:
        progress: Requests that jobs under way have finished, by shipment.
        told: Called where a job has ended.
    """

    def __init__(self, service: JobService, ledger: Ledger, folder: Path) -> None:
        self.progress: dict[int, int] = {}
        self.told: Callable[[], object] = lambda: None
        self._service, self._ledger, self._folder = service, ledger, folder

    def submit(self) -> None:
        """Create the jobs that are not there yet, as many as may wait at a time.

        Raises:
            ServiceError: The service refused, or gave no answer; what was done is known.
        """
        for shipment in self._ledger.allowed():
            if shipment.step in {"written", "uploading", "uploaded", "creating"}:
                if cancelled(self._folder):
                    self._withdraw(shipment)
                elif self._has_room(shipment):
                    self._create(self._upload(shipment))

    def advance(self) -> None:
        """Take each shipment as far as it goes now.

        Raises:
            ServiceError: As for `submit`.
        """
        for shipment in self._ledger.allowed():
            seen = self._look(shipment) if shipment.step == "created" else shipment
            if seen.step == "ended":
                self._bring_home(seen)
                self.told()
        self.submit()  # last: trouble with it does not keep results from coming home

    def cancel_orphans(self) -> None:
        """Cancel all jobs of the run that are under way, known or not."""
        for job in self._own_jobs():
            if job.status not in ENDED:
                self._cancel(job.id)

    def _has_room(self, shipment: Shipment) -> bool:
        pending = sum(other.requests for other in self._ledger.shipments if other.step in {"creating", "created"})
        return not pending or pending + shipment.requests <= MOST_PENDING

    def _upload(self, shipment: Shipment) -> Shipment:
        if shipment.step in {"uploaded", "creating"}:
            return shipment
        name = f"geovlm-{self._ledger.run}-{shipment.number:05d}.jsonl"
        path = request_path(self._folder, shipment.number)

        def find() -> Any:
            listed = pages(lambda page: self._service.list_files(name, page))
            same = (file for page in listed for file in page if file.filename == name)
            return next((file for file in same if file.size_bytes == shipment.bytes), None)

        file = self._once(shipment, "uploading", find=find, do=lambda: self._service.upload(path, name))
        return self._ledger.step(shipment, "uploaded", file=str(file.id), uploaded_at=getattr(file, "created_at", None))

    def _create(self, shipment: Shipment) -> Shipment:
        metadata = {
            "geovlm_run": self._ledger.run,
            "geovlm_shipment": str(shipment.number),
            "geovlm_attempt": str(shipment.attempt),
        }
        assert self._ledger.sending is not None  # there are allowed shipments
        hours = self._ledger.sending["timeout_hours"]
        assert shipment.file is not None  # it was uploaded
        file = shipment.file
        job = self._once(
            shipment,
            "creating",
            find=lambda: self._adopt(shipment),
            do=lambda: self._service.create(file, metadata=metadata, timeout_hours=hours),
        )
        return self._ledger.step(shipment, "created", job=str(job.id))

    def _once(self, shipment: Shipment, step: str, *, find: Callable[[], Any], do: Callable[[], Any]) -> Any:
        """Do something that must not be done twice: where it may have been done, look for it first."""
        in_doubt = shipment.step == step
        if not in_doubt:
            self._ledger.step(shipment, step)

        def attempt() -> Any:
            nonlocal in_doubt
            found = find() if in_doubt else None
            if found is None:
                in_doubt = True
                return do()
            _logger.info("shipment %d: found at the service, after a lost answer or a crash: %s", shipment.number, step)
            return found

        return self._service.call(attempt)

    def _adopt(self, shipment: Shipment) -> Any:
        """The job of a shipment that was created without our knowing; of several the first, the others are ended."""
        pause = self._service.caller.policy.pause
        for look in range(LOOKS):
            own = self._own_jobs(since=shipment.uploaded_at)
            found = [job for job in own if (job.metadata or {}).get("geovlm_shipment") == str(shipment.number)]
            if found:
                first, *others = sorted(found, key=lambda job: job.created_at)
                for job in others:
                    if job.status not in ENDED:
                        self._cancel(job.id)
                return first
            if look + 1 < LOOKS:
                time.sleep(pause * 2**look)
        return None

    def _own_jobs(self, *, since: int | None = None) -> Iterator[Any]:
        for page in pages(self._service.list_jobs):
            yield from (job for job in page if (job.metadata or {}).get("geovlm_run") == self._ledger.run)
            if since is not None and all(job.created_at < since - CLOCK_MARGIN for job in page):
                return

    def _withdraw(self, shipment: Shipment) -> None:
        """Do not send what was not sent; a job that may be there is looked for, so that it can be ended."""
        found = self._service.call(lambda: self._adopt(shipment)) if shipment.step == "creating" else None
        if found is None:
            self._ledger.step(shipment, "settled", status="CANCELLED", reason="it was not sent")
        else:
            self._ledger.step(shipment, "created", job=str(found.id))

    def _cancel(self, job: str) -> None:
        with suppress(RequestRefused):  # it ended meanwhile
            self._service.call(lambda: self._service.cancel(job))

    def _look(self, shipment: Shipment) -> Shipment:
        assert shipment.job is not None  # it was created
        job = look(self._service, shipment.job)
        if job is None:
            reason = "the service no longer has the job"
            return self._ledger.step(shipment, "ended", status=GONE, reason=reason)
        self.progress[shipment.number] = job.completed_requests or 0
        if job.status in ENDED:
            return self._ledger.step(
                shipment,
                "ended",
                status=str(job.status),
                output=job.output_file or None,
                error=job.error_file or None,
                succeeded=job.succeeded_requests,
                failed=job.failed_requests,
                reason="; ".join(str(error.message) for error in job.errors or []),
            )
        if cancelled(self._folder) and job.status != "CANCELLATION_REQUESTED":
            self._cancel(job.id)
        return shipment

    def _bring_home(self, shipment: Shipment) -> None:
        brought = [
            self._download(file, result_path(self._folder, shipment.number, kind), lines)
            for file, kind, lines in (
                (shipment.output, "output", shipment.succeeded),
                (shipment.error, "error", shipment.failed),
            )
            if file is not None
        ]
        gone = {} if all(brought) else {"status": GONE, "reason": "the service no longer has the results"}
        self._ledger.step(shipment, "settled", **gone)

    def _download(self, file: str, path: Path, lines: int | None) -> bool:
        def once() -> bool:
            size = self._service.size_of(file)

            def whole(temporary: Path) -> None:
                self._service.download(file, temporary)
                # The size is not documented for result files; where it does not fit, the number of lines decides.
                if temporary.stat().st_size != size and count_lines(temporary) != lines:
                    raise Again("a download that was not whole")

            write_atomically(path, whole)
            return True

        return bool(_or_gone(self._service, once))


def look(service: JobService, job: str) -> Any:
    """A job as it is now; `None` if the service no longer has it.

    Raises:
        ServiceError: The service refused, or gave no answer.
    """
    return _or_gone(service, lambda: service.get(job))


def _or_gone(service: JobService, once: Callable[[], Any]) -> Any:
    try:
        return service.call(once)
    except ServiceError as error:
        if error.status == 404:
            return None
        raise
