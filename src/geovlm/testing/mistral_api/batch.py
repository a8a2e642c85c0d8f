"""Batch jobs: from a file or inline requests to an output file and an error file."""

from __future__ import annotations

import json
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geovlm.testing.mistral_api.wire import Refused, Request, answered, page_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from geovlm.testing._loopback import Response
    from geovlm.testing.mistral_api.chat import Chat
    from geovlm.testing.mistral_api.files import Files
    from geovlm.testing.mistral_api.ids import Ids

IN_FLIGHT = ("QUEUED", "RUNNING", "CANCELLATION_REQUESTED")
ENDINGS = ("SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLED")
MOST_INLINE = 10_000
ENDPOINT = "/v1/chat/completions"
_LIST_SETTINGS = frozenset(
    {"page", "page_size", "model", "agent_id", "metadata", "created_after", "created_by_me", "status", "order_by"}
)

Line = dict[str, Any]


@dataclass(kw_only=True)
class BatchJob:
    """One job and what is known of it."""

    id: str
    lines: list[Line]
    input_files: list[str]
    endpoint: str
    model: str | None
    metadata: dict[str, str] | None
    ending: str
    created_at: int
    status: str = "QUEUED"
    looks: int = 0
    started_at: int | None = None
    completed_at: int | None = None
    output_file: str | None = None
    error_file: str | None = None
    outputs: list[Line] | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)
    succeeded: int = 0
    failed: int = 0

    def describe(self, *, inline: bool = False) -> dict[str, Any]:
        """As the service tells it."""
        return {
            "id": self.id,
            "object": "batch",
            "input_files": self.input_files,
            "metadata": self.metadata,
            "endpoint": self.endpoint,
            "model": self.model,
            "agent_id": None,
            "output_file": self.output_file,
            "error_file": self.error_file,
            "errors": self.errors,
            "outputs": self.outputs if inline else None,
            "status": self.status,
            "created_at": self.created_at,
            "total_requests": len(self.lines),
            "completed_requests": self.succeeded + self.failed,
            "succeeded_requests": self.succeeded,
            "failed_requests": self.failed,
            "started_at": self.started_at,
            "completed_at": self.completed_at,
        }


class Batches:
    """All jobs. A job goes on each time it is looked at: queued, running, ended.

    Args:
        files: Where requests come from and results go.
        chat: Answers.
        ids: Where names and the order of results come from.

    Attributes:
        looks: How often a job is told to be running before it ends.
        edit_results: Changes the output lines of a job before they are kept: drops, doubles or mixes them, say.
        jobs: By id.
    """

    def __init__(self, *, files: Files, chat: Chat, ids: Ids) -> None:
        self.looks = 1
        self.edit_results: Callable[[list[Line]], list[Line]] | None = None
        self.jobs: dict[str, BatchJob] = {}
        self._endings: deque[str] = deque()
        self._files = files
        self._chat = chat
        self._ids = ids

    def handlers(self) -> dict[str, Callable[[Request], Response]]:
        """What it answers."""
        return {
            "batch.jobs.create": self._create,
            "batch.jobs.list": self._list,
            "batch.jobs.get": self._get,
            "batch.jobs.cancel": self._cancel,
            "batch.jobs.delete": self._delete,
        }

    def end_with(self, status: str, *, times: int = 1) -> None:
        """Let the next jobs end so; those that do not succeed have done half of their requests."""
        if status not in ENDINGS:
            raise ValueError(f"a job ends with one of {', '.join(ENDINGS)}, not {status!r}")
        self._endings.extend([status] * times)

    def _create(self, request: Request) -> Response:
        body = request.json()
        endpoint = body.get("endpoint")
        if endpoint != ENDPOINT:
            raise Refused(422, f"The emulator's batches are for {ENDPOINT}, not {endpoint!r}.")
        _check_metadata(body.get("metadata"))
        if not 1 <= body.get("timeout_hours", 24) <= 168:
            raise Refused(422, "timeout_hours is 1 to 168.")
        lines, errors = self._lines(body)
        job = BatchJob(
            id=self._ids.uuid(),
            lines=lines,
            input_files=list(body.get("input_files") or []),
            endpoint=endpoint,
            model=body.get("model"),
            metadata=body.get("metadata"),
            ending="FAILED" if errors else self._endings.popleft() if self._endings else "SUCCESS",
            created_at=int(time.time()),
            errors=errors,
        )
        self.jobs[job.id] = job
        return answered(job.describe())

    def _lines(self, body: Mapping[str, Any]) -> tuple[list[Line], list[dict[str, Any]]]:
        files, inline = body.get("input_files"), body.get("requests")
        if bool(files) == bool(inline):
            raise Refused(422, "Give either input_files or requests.")
        if inline:
            if len(inline) > MOST_INLINE:
                raise Refused(422, f"requests: at most {MOST_INLINE} are taken inline.")
            return list(inline), []
        contents = [self._files.get(name) for name in files or []]
        if any(file.purpose != "batch" for file in contents):
            raise Refused(422, "An input file has the purpose 'batch'.")
        return _parsed(b"\n".join(file.content for file in contents))

    def _asked(self, request: Request) -> BatchJob:
        found = self.jobs.get(request.params["job"])
        if found is None:
            raise Refused(404, f"No batch job {request.params['job']}", kind="not_found")
        return found

    def _get(self, request: Request) -> Response:
        job = self._asked(request)
        self._go_on(job)
        return answered(job.describe(inline=request.one("inline").lower() == "true"))

    def _list(self, request: Request) -> Response:
        own = [(name, value) for name, value in request.query if name not in _LIST_SETTINGS]
        statuses, model = request.many("status"), request.one("model")
        found = [
            job
            for job in self.jobs.values()
            if all((job.metadata or {}).get(name) == value for name, value in own)
            and (not statuses or job.status in statuses)
            and (not model or job.model == model)
        ]
        if request.one("order_by", "-created") == "-created":
            found.reverse()
        return answered(
            {"object": "list", "data": [job.describe() for job in page_of(found, request)], "total": len(found)}
        )

    def _cancel(self, request: Request) -> Response:
        job = self._asked(request)
        if job.status not in IN_FLIGHT:
            raise Refused(400, f"The job is {job.status} and cannot be cancelled.")
        job.status, job.ending = "CANCELLATION_REQUESTED", "CANCELLED"
        return answered(job.describe())

    def _delete(self, request: Request) -> Response:
        del self.jobs[self._asked(request).id]
        return answered({"id": request.params["job"], "object": "batch", "deleted": True})

    def _go_on(self, job: BatchJob) -> None:
        if job.status not in IN_FLIGHT:
            return
        job.looks += 1
        if job.looks <= self.looks and job.status != "CANCELLATION_REQUESTED":
            job.status = "RUNNING"
            job.started_at = job.started_at or int(time.time())
            return
        self._end(job)

    def _end(self, job: BatchJob) -> None:
        done = job.lines if job.ending == "SUCCESS" else job.lines[: len(job.lines) // 2]
        results = [self._result(job, place, line) for place, line in enumerate(done)]
        failed = [line for line in results if _is_error(line)]
        passed = [line for line in results if not _is_error(line)]
        self._ids.random.shuffle(passed)  # as the service does: results do not come in the order of the requests
        if self.edit_results is not None:
            passed = self.edit_results(passed)
        job.succeeded, job.failed = len(results) - len(failed), len(failed)
        job.output_file = self._keep(job, passed, "batch_result")
        job.error_file = self._keep(job, failed, "batch_error")
        job.outputs = passed + failed if not job.input_files else None
        job.errors += [{"message": "Some requests failed", "count": len(failed)}] if failed else []
        job.status, job.completed_at = job.ending, int(time.time())
        job.started_at = job.started_at or job.completed_at

    def _result(self, job: BatchJob, place: int, line: Line) -> Line:
        custom_id = line.get("custom_id")
        body = dict(line.get("body") or {})
        if job.model is not None:
            body.setdefault("model", job.model)
        response: dict[str, Any] | None
        error: dict[str, Any] | None = None
        try:
            done = self._chat.complete(body, job=job.id, custom_id=custom_id)
            response = {"status_code": 200, "body": done}
        except Refused as refused:
            # A status of 0 is a failure without any response: the other form that result lines take.
            response = {"status_code": refused.status, "body": refused.body()} if refused.status else None
            error = None if refused.status else {"message": refused.message}
        name = f"batch-{job.id[:8]}-{place}-{self._ids.uuid()}"
        return {"id": name, "custom_id": custom_id, "response": response, "error": error}

    def _keep(self, job: BatchJob, lines: list[Line], sample_type: str) -> str | None:
        if not lines:
            return None
        content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        name = f"{job.id}_{sample_type}.jsonl"
        return self._files.add(name, content, purpose="batch", sample_type=sample_type, source="mistral")


def _is_error(line: Line) -> bool:
    return line["error"] is not None or line["response"]["status_code"] >= 400


def _parsed(content: bytes) -> tuple[list[Line], list[dict[str, Any]]]:
    lines, broken = [], 0
    for text in content.split(b"\n"):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if isinstance(line, dict) and isinstance(line.get("body"), dict):
            lines.append(line)
        else:
            broken += 1
    return lines, [{"message": "Invalid JSON line", "count": broken}] if broken else []


def _check_metadata(metadata: Any) -> None:
    for name, value in (metadata or {}).items():
        if not (isinstance(value, str) and 1 <= len(name) <= 32 and 1 <= len(value) <= 512):
            raise Refused(422, "metadata: names of 1 to 32 characters and text of 1 to 512.")
