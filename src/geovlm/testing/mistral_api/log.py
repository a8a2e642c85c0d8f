"""What requests the emulator got, and what it billed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from geovlm.testing._loopback import RecordLog


@dataclass(frozen=True, kw_only=True)
class RequestRecord:
    """One request and how it was answered.

    Args:
        operation: the client's name for it, such as `"files.upload"`; empty for an unknown path.
        method: of HTTP.
        path: without the query.
        query: names and values.
        headers: with names in lower case.
        body: a JSON body, or the fields of a form with the size of its file in place of the bytes; None without a body.
        size: bytes of the body.
        status: of the answer; None if the connection was closed without one.
        fault: name of the fault that was made, or None.
        problems: where the request or its answer departs from the OpenAPI contract, if the emulator was given one.

    Examples:
        >>> from geovlm import PixtralClient
        >>> from geovlm.testing.mistral_api import MistralEmulator
        >>> with MistralEmulator(brain=lambda request: "Hello") as api:
        ...     client = PixtralClient("pixtral-12b-2409", base_url=api.url, api_key=api.api_key)
        ...     answer = client.ask("Good morning")
        >>> [record.status for record in api.log.of("chat.complete")]
        [200]
    """

    operation: str
    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: dict[str, str]
    body: Any
    size: int
    status: int | None
    fault: str | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Charge:
    """One completion that a customer would pay for.

    Args:
        model: that answered.
        prompt_tokens: read.
        completion_tokens: written.
        job: id of the batch job; None for a direct request.
        custom_id: of the request in the batch.

    Examples:
        >>> Charge(model="pixtral-12b-2409", prompt_tokens=527, completion_tokens=31).job is None
        True
    """

    model: str
    prompt_tokens: int
    completion_tokens: int
    job: str | None = None
    custom_id: str | None = None


class RequestLog(RecordLog[RequestRecord]):
    """All requests in the order of their answers, and all charges; safe to read while requests come.

    Examples:
        >>> from geovlm import PixtralClient
        >>> from geovlm.testing.mistral_api import MistralEmulator
        >>> with MistralEmulator(brain=lambda request: "Hello") as api:
        ...     client = PixtralClient("pixtral-12b-2409", base_url=api.url, api_key=api.api_key)
        ...     answer = client.ask("Good morning")
        >>> api.log.count("chat.complete"), len(api.log.charges)
        (1, 1)
    """

    def __init__(self) -> None:
        super().__init__()
        self._charges: list[Charge] = []

    @property
    def charges(self) -> list[Charge]:
        """What was billed so far."""
        with self._lock:
            return list(self._charges)

    @property
    def operations(self) -> Counter[str]:
        """How many requests of each operation there were."""
        return Counter(record.operation for record in self.records)

    @property
    def problems(self) -> list[str]:
        """Departures from the contract, each with its operation."""
        return [f"{record.operation}: {problem}" for record in self.records for problem in record.problems]

    def of(self, operation: str) -> list[RequestRecord]:
        """The requests of one operation."""
        return [record for record in self.records if record.operation == operation]

    def count(self, operation: str | None = None, *, status: int | None = None, fault: str | None = None) -> int:
        """How many requests there were, of one operation, HTTP status or fault if these are given."""
        return sum(
            operation in {None, record.operation} and status in {None, record.status} and fault in {None, record.fault}
            for record in self.records
        )

    def charge(self, charge: Charge) -> None:
        """Note a completion that is paid for."""
        with self._lock:
            self._charges.append(charge)

    def clear(self) -> None:
        """Forget all requests and charges."""
        super().clear()
        with self._lock:
            self._charges.clear()
