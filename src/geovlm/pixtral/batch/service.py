"""The service's side of a batch: one method for each request that travels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from attrs import field, frozen

from geovlm.errors import ServiceError
from geovlm.pixtral.values import ChatRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from geovlm.pixtral._base import ClientBase
    from geovlm.pixtral._policy import Caller
    from geovlm.pixtral.local import LocalModel
    from geovlm.pixtral.values import Answer

T = TypeVar("T")

ENDPOINT = "/v1/chat/completions"
PAGE = 100
# An upload may take much longer than an answer.
UPLOAD_SECONDS = 1800


@frozen(kw_only=True)
class JobService:
    """Files and batch jobs of the service; each method is one request and raises the library's errors.

    Args:
        caller: Repeats requests and turns errors into geovlm's.
        model: That jobs are for.
        is_hosted: Whether it is Mistral's own service.
        concurrency: Single requests under way at a time.
        mistral: The library's client; `None` for a local model.
        chat: Its part for chat completions.
        local: Answers instead of a server.
    """

    caller: Caller = field(repr=False)
    model: str
    is_hosted: bool
    concurrency: int
    mistral: Any = field(repr=False)
    chat: Any = field(repr=False)
    local: LocalModel | None = field(default=None, repr=False)

    def call(self, once: Callable[[], T]) -> T:
        """Run `once` until it succeeds; see `Caller.call`."""
        return self.caller.call(once)

    def offers_jobs(self) -> bool:
        """Whether the server has batch jobs; one that is not Mistral's own is asked."""
        if self.is_hosted or self.local is not None:
            return self.is_hosted
        try:
            self.call(lambda: self.list_jobs(0))
        except ServiceError as error:
            if error.status in {404, 405, 501}:
                return False
            raise
        return True

    def upload(self, path: Path, name: str) -> Any:
        """Upload a request file; it is read from disk while it travels."""
        with path.open("rb") as content:
            return self.mistral.files.upload(
                file={"file_name": name, "content": content}, purpose="batch", timeout_ms=UPLOAD_SECONDS * 1000
            )

    def list_files(self, name: str, page: int) -> list[Any]:
        """Uploaded files whose name contains `name`."""
        found = self.mistral.files.list(purpose="batch", search=name, page=page, page_size=PAGE)
        return list(found.data or [])

    def size_of(self, file: str) -> int | None:
        """Bytes of a file, where the service tells."""
        size = getattr(self.mistral.files.retrieve(file_id=file), "size_bytes", None)
        return size if isinstance(size, int) else None

    def download(self, file: str, path: Path) -> None:
        """Write a file to disk while it comes."""
        response = self.mistral.files.download(file_id=file)
        try:
            with path.open("wb") as to:
                for block in response.iter_bytes():
                    to.write(block)
        finally:
            response.close()

    def create(self, file: str, *, metadata: dict[str, str], timeout_hours: int) -> Any:
        """Start a job."""
        return self.mistral.batch.jobs.create(
            endpoint=ENDPOINT, input_files=[file], model=self.model, metadata=metadata, timeout_hours=timeout_hours
        )

    def list_jobs(self, page: int) -> list[Any]:
        """Jobs, the newest first."""
        # Not filtered by metadata: whether the service does is not documented.
        return list(self.mistral.batch.jobs.list(page=page, page_size=PAGE).data or [])

    def get(self, job: str) -> Any:
        """A job as it is now."""
        return self.mistral.batch.jobs.get(job_id=job)

    def cancel(self, job: str) -> Any:
        """Ask for the end of a job."""
        return self.mistral.batch.jobs.cancel(job_id=job)

    def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one request outside of a job; the body of a chat completion.

        Raises:
            ServiceError: As `PixtralClient.complete`.
        """
        if self.local is not None:
            return _completion(self.local.complete(ChatRequest(model=self.model, **body)))
        answer = self.call(lambda: self.chat.complete(model=self.model, **body))
        told: dict[str, Any] = answer.model_dump(mode="json")
        return told


def _completion(answer: Answer) -> dict[str, Any]:
    """An answer in the form of a server's."""
    return {
        "model": answer.model,
        "choices": [{"finish_reason": answer.finish_reason, "message": {"role": "assistant", "content": answer.text}}],
        "usage": {
            "prompt_tokens": answer.usage.prompt_tokens,
            "completion_tokens": answer.usage.completion_tokens,
        },
    }


def service_of(client: ClientBase) -> JobService:
    """The service that a client talks to."""
    return JobService(
        caller=client._caller,  # noqa: SLF001 - these are parts of one client
        model=client.model,
        is_hosted=client._endpoint.is_hosted,  # noqa: SLF001 - the same
        concurrency=client._concurrency,  # noqa: SLF001 - the same
        mistral=client._mistral,  # noqa: SLF001 - the same
        chat=client._chat,  # noqa: SLF001 - the same
        local=client._local,  # noqa: SLF001 - the same
    )


def pages(of: Callable[[int], list[Any]]) -> Iterator[list[Any]]:
    """All pages of a list, one after the other."""
    number = 0
    while page := of(number):
        yield page
        if len(page) < PAGE:
            return
        number += 1
