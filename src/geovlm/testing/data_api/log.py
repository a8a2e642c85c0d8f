"""What requests the emulator got."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from geovlm.testing._loopback import RecordLog


@dataclass(frozen=True, kw_only=True)
class RequestRecord:
    """One request and how it was answered.

    Args:
        command: its name; empty if the request did not come so far.
        keyspace: named in the path, or None.
        collection: named in the path, or None.
        request_bytes: size of the body.
        response_bytes: size of the answer's body, 0 if the connection was closed.
        status: of HTTP; None if the connection was closed without an answer.
        error_codes: of the errors in the answer.
        fault: name of the fault that was made, or None.

    Examples:
        >>> record = RequestRecord(
        ...     command="find", keyspace=None, collection="scenes", request_bytes=90, response_bytes=400, status=200
        ... )
        >>> record.fault is None
        True
    """

    command: str
    keyspace: str | None
    collection: str | None
    request_bytes: int
    response_bytes: int
    status: int | None
    error_codes: tuple[str, ...] = ()
    fault: str | None = None


class RequestLog(RecordLog[RequestRecord]):
    """All requests in the order of their answers; safe to read while requests come.

    Examples:
        >>> from geovlm import AstraStore
        >>> from geovlm.testing.data_api import DataAPIEmulator
        >>> with DataAPIEmulator() as api:
        ...     AstraStore("scenes", endpoint=api.endpoint, token=api.token).bind(dim=4, fingerprint="toy")
        >>> api.log.count("createCollection")
        1
    """

    @property
    def commands(self) -> Counter[str]:
        """How many requests of each command there were."""
        return Counter(record.command for record in self.records)

    def count(self, command: str | None = None, *, status: int | None = None, fault: str | None = None) -> int:
        """How many requests there were, of one command, HTTP status or fault if these are given."""
        return sum(
            command in {None, record.command} and status in {None, record.status} and fault in {None, record.fault}
            for record in self.records
        )
