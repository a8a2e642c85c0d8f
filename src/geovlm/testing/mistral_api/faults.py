"""Faults that the emulator makes on purpose, one by one or at random."""

from __future__ import annotations

import dataclasses
import datetime as dt
import random
import threading
from dataclasses import dataclass
from email.utils import format_datetime
from typing import TYPE_CHECKING, Literal

from geovlm.testing.mistral_api.wire import Refused, Response, answered

if TYPE_CHECKING:
    from collections.abc import Sequence

_HTML = b"<!DOCTYPE html><html><body><h1>Welcome to the proxy</h1></body></html>"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way for a request to go wrong; make it with one of the class methods.

    Args:
        name: as the request log tells it.
        written: whether the request is carried out all the same.
        ending: what the client gets: the request's own answer, the answer cut off by a broken connection, its first
            half as if it were all, another response, or a closed connection.
        seconds: how long the client waits.
        response: the other response.
    """

    name: str
    written: bool
    ending: Literal["answer", "cut", "half", "response", "close"]
    seconds: float = 0.0
    response: Response | None = None

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
    def unavailable(cls, *, written: bool = False) -> Fault:
        """HTTP 503 with an empty body."""
        response = Response(status=503, content_type="text/plain")
        return cls(name="unavailable", written=written, ending="response", response=response)

    @classmethod
    def unauthorized(cls) -> Fault:
        """HTTP 401, as when a key is withdrawn."""
        response = answered(Refused(401, "Unauthorized", kind="unauthorized").body(), 401)
        return cls(name="unauthorized", written=False, ending="response", response=response)

    @classmethod
    def slow(cls, seconds: float) -> Fault:
        """The request is carried out, and its answer comes late."""
        return cls(name="slow", written=True, ending="answer", seconds=seconds)

    @classmethod
    def dropped(cls) -> Fault:
        """The connection is closed; nothing was done."""
        return cls(name="dropped", written=False, ending="close")

    @classmethod
    def acknowledgement_lost(cls) -> Fault:
        """The request is carried out, then the connection is closed without an answer."""
        return cls(name="acknowledgement_lost", written=True, ending="close")

    @classmethod
    def truncated(cls) -> Fault:
        """The request is carried out, and the connection breaks in the middle of the answer or the download."""
        return cls(name="truncated", written=True, ending="cut")

    @classmethod
    def shortened(cls) -> Fault:
        """The request is carried out, and half of the answer or the download comes, with nothing to show it."""
        return cls(name="shortened", written=True, ending="half")

    @classmethod
    def html(cls, status: int = 200, *, written: bool = False) -> Fault:
        """A page of a proxy in place of JSON."""
        response = Response(status=status, body=_HTML, content_type="text/html")
        return cls(name="html", written=written, ending="response", response=response)

    def applied(self, own: Response | None) -> Response | None:
        """What the client gets in place of the request's own response; None for a closed connection."""
        if self.ending == "close":
            return None
        if self.ending == "cut" and own is not None:
            return dataclasses.replace(own, sent=len(own.body) // 2)
        if self.ending == "half" and own is not None:
            return dataclasses.replace(own, body=own.body[: len(own.body) // 2])
        return self.response if self.ending == "response" else own


def _retry_after(value: float | dt.datetime | None) -> str | None:
    if isinstance(value, dt.datetime):
        return format_datetime(value.astimezone(dt.UTC), usegmt=True)
    return None if value is None else f"{value:g}"


@dataclass
class _Script:
    fault: Fault
    operation: str | None
    skip: int
    times: int


@dataclass(frozen=True)
class _Chance:
    faults: tuple[Fault, ...]
    share: float
    operations: frozenset[str] | None
    source: random.Random


class Faults:
    """The faults that are to come; scripted ones first, then random ones.

    Example:
        >>> faults = Faults()
        >>> faults.add(Fault.unavailable(), operation="files.upload", skip=1)
        >>> [fault and fault.name for fault in map(faults.draw, ["files.upload", "chat.complete", "files.upload"])]
        [None, None, 'unavailable']
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scripts: list[_Script] = []
        self._chances: list[_Chance] = []

    def add(self, fault: Fault, *, operation: str | None = None, times: int = 1, skip: int = 0) -> None:
        """Let the next requests go wrong.

        Args:
            fault: in which way.
            operation: only requests of this one, such as `"batch.jobs.create"`; None for any.
            times: how many requests.
            skip: how many such requests go well before.
        """
        with self._lock:
            self._scripts.append(_Script(fault, operation, skip, times))

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
        if not faults or not 0 <= share <= 1:
            raise ValueError(f"give at least one fault and a share from 0 to 1, not {len(faults)} and {share}")
        wanted = None if operations is None else frozenset(operations)
        source = random.Random(seed)  # noqa: S311 - repeatable, not secret
        with self._lock:
            self._chances.append(_Chance(tuple(faults), share, wanted, source))

    def clear(self) -> None:
        """Let all requests go well."""
        with self._lock:
            self._scripts.clear()
            self._chances.clear()

    @property
    def pending(self) -> int:
        """How many scripted faults have not come yet."""
        with self._lock:
            return sum(script.times for script in self._scripts)

    def draw(self, operation: str) -> Fault | None:
        """The fault of the next request of an operation, or None; it counts as come."""
        with self._lock:
            for script in self._scripts:
                if script.operation in {None, operation} and script.times:
                    if not script.skip:
                        script.times -= 1
                        return script.fault
                    script.skip -= 1
            for chance in self._chances:
                concerned = chance.operations is None or operation in chance.operations
                if concerned and chance.source.random() < chance.share:
                    return chance.source.choice(chance.faults)
            return None
