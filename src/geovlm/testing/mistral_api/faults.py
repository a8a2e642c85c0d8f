"""Faults that the emulator makes on purpose, one by one or at random."""

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass
from email.utils import format_datetime
from typing import TYPE_CHECKING

from geovlm.testing._loopback import FaultSchedule, LoopbackFault
from geovlm.testing.mistral_api.wire import Refused, answered

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True)
class Fault(LoopbackFault):
    """One way for a request to go wrong; make it with one of the class methods.

    Args:
        name: For logs.
        written: Whether the request is carried out before it goes wrong.
        ending: What the client sees: the answer, a part of it, another response, or a closed connection.
        seconds: To wait before that.
        response: The other response.

    Examples:
        >>> Fault.rate_limited(retry_after=2).name, Fault.server_error(503).written
        ('rate_limited', False)
    """

    page = b"<!DOCTYPE html><html><body><h1>Welcome to the proxy</h1></body></html>"

    @classmethod
    def rate_limited(cls, *, retry_after: float | dt.datetime | None = 1.0) -> Fault:
        """HTTP 429, with `Retry-After` in seconds, as an HTTP date, or without it."""
        text = _retry_after(retry_after)
        own = answered(Refused(429, "Requests rate limit exceeded", kind="rate_limited").body(), 429)
        response = dataclasses.replace(own, headers={} if text is None else {"Retry-After": text})
        return cls(name="rate_limited", written=False, ending="response", response=response)

    @classmethod
    def server_error(cls, status: int = 500, *, written: bool = False) -> Fault:
        """An error of the service, 500 or another, before the request is carried out or after."""
        response = answered(Refused(status, "Service error", kind="internal_server_error").body(), status)
        return cls(name="server_error", written=written, ending="response", response=response)

    @classmethod
    def unauthorized(cls) -> Fault:
        """HTTP 401, as when a key is withdrawn."""
        response = answered(Refused(401, "Unauthorized", kind="unauthorized").body(), 401)
        return cls(name="unauthorized", written=False, ending="response", response=response)

    @classmethod
    def shortened(cls) -> Fault:
        """The request is carried out, and half of the answer or the download comes, with nothing to show it."""
        return cls(name="shortened", written=True, ending="half")


def _retry_after(value: float | dt.datetime | None) -> str | None:
    if isinstance(value, dt.datetime):
        return format_datetime(value.astimezone(dt.UTC), usegmt=True)
    return None if value is None else f"{value:g}"


class Faults(FaultSchedule[Fault]):
    """The faults that are to come; scripted ones first, then random ones.

    Examples:
        >>> faults = Faults()
        >>> faults.add(Fault.unavailable(), operation="files.upload", skip=1)
        >>> [fault and fault.name for fault in map(faults.draw, ["files.upload", "chat.complete", "files.upload"])]
        [None, None, 'unavailable']
    """

    def add(self, fault: Fault, *, operation: str | None = None, times: int = 1, skip: int = 0) -> None:
        """Let the next requests go wrong.

        Args:
            fault: in which way.
            operation: only requests of this one, such as `"batch.jobs.create"`; None for any.
            times: how many requests.
            skip: how many such requests go well before.
        """
        self._script(fault, operation, times=times, skip=skip)

    def at_random(
        self, faults: Sequence[Fault], *, share: float, seed: int = 0, operations: Sequence[str] | None = None
    ) -> None:
        """Let a share of all requests go wrong, each in one of several ways.

        Args:
            faults: the ways, equally likely.
            share: of the requests, from 0 to 1.
            seed: the same seed gives the same faults for the same order of requests.
            operations: only requests of these; None for any.
        """
        self._chance(faults, share, seed, operations)
