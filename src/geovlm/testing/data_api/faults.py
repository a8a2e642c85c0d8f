"""Faults that the emulator makes on purpose, one by one or at random."""

from __future__ import annotations

import dataclasses
import random
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from geovlm.testing.data_api import wire
from geovlm.testing.data_api.errors import KNOWN_CODES, CommandFailure
from geovlm.testing.data_api.requests import DocumentFault
from geovlm.testing.data_api.responses import Response, failed

if TYPE_CHECKING:
    from collections.abc import Sequence

_HTML = b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>"
_RATE = "Rate limit reached. Wait before the next request."


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way for a request to go wrong; make it with one of the class methods.

    Args:
        name: as the request log tells it.
        written: whether the command is carried out all the same.
        ending: what the client gets: the command's own answer, the answer cut off, another response, or a closed
            connection.
        seconds: how long the client waits.
        response: the other response.
        error_codes: of the errors in the other response.
        documents: which documents of an ``insertMany`` fail.
    """

    name: str
    written: bool
    ending: Literal["answer", "cut", "response", "close"]
    seconds: float = 0.0
    response: Response | None = None
    error_codes: tuple[str, ...] = ()
    documents: DocumentFault | None = None

    @classmethod
    def rate_limited(cls, *, retry_after: float | None = 1.0, json: bool = True) -> Fault:
        """HTTP 429, with a ``Retry-After`` header in seconds or without, its body JSON or plain text."""
        headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
        if json:
            body = wire.encode({"errors": [{"message": _RATE}]})
            response = Response(status=429, body=body, headers=headers)
        else:
            response = Response(status=429, body=_RATE.encode(), content_type="text/plain", headers=headers)
        return cls(name="rate_limited", written=False, ending="response", response=response)

    @classmethod
    def unavailable(cls, *, written: bool = False) -> Fault:
        """HTTP 503 with an empty body."""
        response = Response(status=503, content_type="text/plain")
        return cls(name="unavailable", written=written, ending="response", response=response)

    @classmethod
    def slow(cls, seconds: float) -> Fault:
        """The command is carried out, and its answer comes late."""
        return cls(name="slow", written=True, ending="answer", seconds=seconds)

    @classmethod
    def dropped(cls) -> Fault:
        """The connection is closed; nothing was done."""
        return cls(name="dropped", written=False, ending="close")

    @classmethod
    def acknowledgement_lost(cls) -> Fault:
        """The command is carried out, then the connection is closed without an answer."""
        return cls(name="acknowledgement_lost", written=True, ending="close")

    @classmethod
    def timed_out(cls, code: str = "TIMEOUT_WRITING_DATA", *, written: bool = False) -> Fault:
        """HTTP 200 with an error code of the database, before the command is carried out or after."""
        response = failed(CommandFailure(_known(code), "The database did not answer in time. Try again."))
        return cls(name="timed_out", written=written, ending="response", response=response, error_codes=(code,))

    @classmethod
    def unauthorized(cls) -> Fault:
        """HTTP 401, as when a token is withdrawn."""
        code = "UNAUTHENTICATED_REQUEST"
        response = failed(CommandFailure(code, "The token is not valid. Use another one."))
        return cls(name="unauthorized", written=False, ending="response", response=response, error_codes=(code,))

    @classmethod
    def truncated(cls) -> Fault:
        """The command is carried out, and the connection breaks in the middle of the answer."""
        return cls(name="truncated", written=True, ending="cut")

    @classmethod
    def html(cls, status: int = 200, *, written: bool = False) -> Fault:
        """A page of a proxy in place of JSON."""
        response = Response(status=status, body=_HTML, content_type="text/html")
        return cls(name="html", written=written, ending="response", response=response)

    @classmethod
    def some_documents(
        cls, places: Sequence[int], code: str = "TIMEOUT_WRITING_DATA", *, written: bool = False
    ) -> Fault:
        """The documents of an ``insertMany`` at these places fail, the others are inserted.

        Args:
            places: counted from 0.
            code: of their errors.
            written: whether the documents that are told as failed are inserted all the same.
        """
        documents = DocumentFault(frozenset(places), _known(code), written)
        return cls(name="some_documents", written=True, ending="answer", documents=documents)

    def applied(self, own: Response | None) -> Response | None:
        """What the client gets in place of a command's own response; None for a closed connection."""
        if self.ending == "close":
            return None
        if self.ending == "cut" and own is not None:
            return dataclasses.replace(own, sent=len(own.body) // 2, closes=True)
        return self.response if self.ending == "response" else own


def _known(code: str) -> str:
    if code not in KNOWN_CODES:
        near = ", ".join(sorted(name for name in KNOWN_CODES if name.startswith(("FAILED", "TIMEOUT", "UNAVAILABLE"))))
        raise ValueError(f"{code!r} is not an error code of the Data API; use one such as {near}")
    return code


@dataclass
class _Script:
    fault: Fault
    command: str | None
    skip: int
    times: int


@dataclass(frozen=True)
class _Chance:
    faults: tuple[Fault, ...]
    share: float
    commands: frozenset[str] | None
    source: random.Random


class Faults:
    """The faults that are to come; scripted ones first, then random ones.

    Example:
        >>> faults = Faults()
        >>> faults.add(Fault.unavailable(), command="insertMany", skip=1)
        >>> [fault and fault.name for fault in map(faults.draw, ["insertMany", "find", "insertMany", "insertMany"])]
        [None, None, 'unavailable', None]
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scripts: list[_Script] = []
        self._chances: list[_Chance] = []

    def add(self, fault: Fault, *, command: str | None = None, times: int = 1, skip: int = 0) -> None:
        """Let the next requests go wrong.

        Args:
            fault: in which way.
            command: only requests of this command; None for any.
            times: how many requests.
            skip: how many such requests go well before.
        """
        with self._lock:
            self._scripts.append(_Script(fault, command, skip, times))

    def at_random(
        self, faults: Sequence[Fault], *, share: float, seed: int = 0, commands: Sequence[str] | None = None
    ) -> None:
        """Let a share of all requests go wrong, each in one of several ways.

        Args:
            faults: the ways, equally likely.
            share: of the requests, from 0 to 1.
            seed: the same seed gives the same faults for the same order of requests.
            commands: only requests of these commands; None for any.
        """
        if not faults or not 0 <= share <= 1:
            raise ValueError(f"give at least one fault and a share from 0 to 1, not {len(faults)} and {share}")
        wanted = None if commands is None else frozenset(commands)
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

    def draw(self, command: str) -> Fault | None:
        """The fault of the next request of a command, or None; it counts as come."""
        with self._lock:
            for script in self._scripts:
                if script.command in {None, command} and script.times:
                    if not script.skip:
                        script.times -= 1
                        return script.fault
                    script.skip -= 1
            for chance in self._chances:
                concerned = chance.commands is None or command in chance.commands
                if concerned and chance.source.random() < chance.share:
                    return chance.source.choice(chance.faults)
            return None
