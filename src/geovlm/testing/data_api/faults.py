"""Faults that the emulator makes on purpose, one by one or at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from geovlm.testing._loopback import FaultSchedule, LoopbackFault, Response
from geovlm.testing.data_api import wire
from geovlm.testing.data_api.errors import KNOWN_CODES, CommandFailure
from geovlm.testing.data_api.requests import DocumentFault
from geovlm.testing.data_api.responses import CONTENT_TYPE, failed

if TYPE_CHECKING:
    from collections.abc import Sequence

_RATE = "Rate limit reached. Wait before the next request."


@dataclass(frozen=True, kw_only=True)
class Fault(LoopbackFault):
    """One way for a request to go wrong; make it with one of the class methods.

    Args:
        name: for logs.
        written: whether the request is carried out before it goes wrong.
        ending: what the client sees: the answer, a part of it, another response, or a closed connection.
        seconds: to wait before that.
        response: the other response.
        error_codes: of the errors in the other response.
        documents: which documents of an ``insertMany`` fail.

    Examples:
        >>> Fault.rate_limited().name, Fault.timed_out(written=True).error_codes
        ('rate_limited', ('TIMEOUT_WRITING_DATA',))
    """

    error_codes: tuple[str, ...] = ()
    documents: DocumentFault | None = None

    @classmethod
    def rate_limited(cls, *, retry_after: float | None = 1.0, json: bool = True) -> Fault:
        """HTTP 429, with a ``Retry-After`` header in seconds or without, its body JSON or plain text."""
        headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
        if json:
            body = wire.encode({"errors": [{"message": _RATE}]})
            response = Response(status=429, body=body, content_type=CONTENT_TYPE, headers=headers)
        else:
            response = Response(status=429, body=_RATE.encode(), content_type="text/plain", headers=headers)
        return cls(name="rate_limited", written=False, ending="response", response=response)

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


def _known(code: str) -> str:
    if code not in KNOWN_CODES:
        near = ", ".join(sorted(name for name in KNOWN_CODES if name.startswith(("FAILED", "TIMEOUT", "UNAVAILABLE"))))
        raise ValueError(f"{code!r} is not an error code of the Data API; use one such as {near}")
    return code


class Faults(FaultSchedule[Fault]):
    """The faults that are to come; scripted ones first, then random ones.

    Examples:
        >>> faults = Faults()
        >>> faults.add(Fault.unavailable(), command="insertMany", skip=1)
        >>> [fault and fault.name for fault in map(faults.draw, ["insertMany", "find", "insertMany", "insertMany"])]
        [None, None, 'unavailable', None]
    """

    def add(self, fault: Fault, *, command: str | None = None, times: int = 1, skip: int = 0) -> None:
        """Let the next requests go wrong.

        Args:
            fault: in which way.
            command: only requests of this command; None for any.
            times: how many requests.
            skip: how many such requests go well before.
        """
        self._script(fault, command, times=times, skip=skip)

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
        self._chance(faults, share, seed, commands)
