"""From an HTTP request to its response, without the sockets."""

from __future__ import annotations

import base64
import hmac
import logging
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from geovlm.testing._loopback import Response
from geovlm.testing.data_api import wire
from geovlm.testing.data_api.commands import command_name, run_command
from geovlm.testing.data_api.errors import CommandFailure
from geovlm.testing.data_api.faults import Faults
from geovlm.testing.data_api.log import RequestLog, RequestRecord
from geovlm.testing.data_api.requests import Request
from geovlm.testing.data_api.responses import CONTENT_TYPE, answered, failed
from geovlm.testing.data_api.store import Database

if TYPE_CHECKING:
    from email.message import Message

    from geovlm.testing.data_api.limits import Limits
    from geovlm.testing.data_api.requests import Answer, DocumentFault

_logger = logging.getLogger(__name__)

_PATH = re.compile(r"(?:/api/json)?/v1(?:/(?P<keyspace>[^/]+)(?:/(?P<collection>[^/]+))?)?/?")

NOT_FOUND = Response(status=404, content_type=CONTENT_TYPE)
_TOO_LARGE = Response(status=413, content_type=CONTENT_TYPE, closes=True)


@dataclass(frozen=True)
class Credentials:
    """What a client has to show: a token, or a user name with a password."""

    token: str
    username: str
    password: str

    def accept(self, header: str | None) -> bool:
        """Whether the ``Token`` header is one of the two."""
        parts = [base64.b64encode(part.encode()).decode() for part in (self.username, self.password)]
        accepted = (self.token, f"Cassandra:{parts[0]}:{parts[1]}")
        return any(hmac.compare_digest((header or "").encode(), known.encode()) for known in accepted)


@dataclass
class _Exchange:
    """A request while it is answered."""

    headers: Message
    body: bytes
    keyspace: str | None
    collection: str | None
    command: str = ""
    fault: str | None = None
    error_codes: tuple[str, ...] = field(default_factory=tuple)


class Service:
    """The Data API behind the server.

    Args:
        credentials: that clients must show.
        limits: what is refused.
        keyspaces: that there are from the beginning.
    """

    def __init__(self, credentials: Credentials, limits: Limits, keyspaces: tuple[str, ...]) -> None:
        self.limits = limits
        self.faults: Faults = Faults()
        self.log: RequestLog = RequestLog()
        self.stopping = threading.Event()
        self._credentials = credentials
        self._database = Database()
        self._database.keyspaces.update({name: {} for name in keyspaces})

    def respond(self, path: str, headers: Message, body: bytes | None) -> Response | None:
        """The response to a POST request; None if the connection is to be closed without one.

        Args:
            path: of the request.
            headers: of the request.
            body: of the request; None if it was too large to be read.
        """
        match = _PATH.fullmatch(urlsplit(path).path)
        if match is None:
            return NOT_FOUND
        keyspace, collection = (name and unquote(name) for name in match.group("keyspace", "collection"))
        exchange = _Exchange(headers, body or b"", keyspace, collection)
        response = _TOO_LARGE if body is None else self._checked(exchange)
        self._note(exchange, response)
        return response

    def _note(self, exchange: _Exchange, response: Response | None) -> None:
        self.log.add(
            RequestRecord(
                command=exchange.command,
                keyspace=exchange.keyspace,
                collection=exchange.collection,
                request_bytes=int(exchange.headers.get("Content-Length") or len(exchange.body)),
                response_bytes=0 if response is None else len(response.body),
                status=None if response is None else response.status,
                error_codes=exchange.error_codes,
                fault=exchange.fault,
            )
        )

    def _checked(self, exchange: _Exchange) -> Response | None:
        try:
            self._admit(exchange.headers)
            decoded = wire.decode(exchange.body, self.limits.number_chars) if exchange.body.strip() else {}
            exchange.command = command_name(decoded)
        except CommandFailure as failure:
            exchange.error_codes = (failure.code,)
            return failed(failure)
        return self._with_faults(exchange, decoded)

    def _admit(self, headers: Message) -> None:
        content_type = (headers.get("Content-Type") or "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            message = f"The Content-Type '{content_type}' is not supported. Send application/json."
            raise CommandFailure("UNSUPPORTED_CONTENT_TYPE", message)
        if not self._credentials.accept(headers.get("Token")):
            message = "The `Token` header is missing or holds no token of the database. Send a valid one."
            raise CommandFailure("UNAUTHENTICATED_REQUEST", message)

    def _with_faults(self, exchange: _Exchange, decoded: Any) -> Response | None:
        fault = self.faults.draw(exchange.command)
        if fault is None:
            return self._run(exchange, decoded, None)
        exchange.fault = fault.name
        own = self._run(exchange, decoded, fault.documents) if fault.written else None
        if fault.ending in {"response", "close"}:
            exchange.error_codes = fault.error_codes
        self.stopping.wait(fault.seconds)
        return fault.applied(own)

    def _run(self, exchange: _Exchange, decoded: Any, fault: DocumentFault | None) -> Response:
        request = Request(
            database=self._database,
            limits=self.limits,
            name=exchange.command,
            keyspace=exchange.keyspace,
            collection=exchange.collection,
            size=len(exchange.body),
        )
        try:
            answer: Answer = run_command(decoded, request, fault)
            exchange.error_codes = tuple(error["errorCode"] for error in answer.get("errors", ()))
            return answered(answer)
        except CommandFailure as failure:
            refused = failure
        except RecursionError:
            message = "Request invalid, mismatching structure: it is nested too deeply. Send a flatter request."
            refused = CommandFailure("REQUEST_STRUCTURE_MISMATCH", message)
        except Exception as error:
            _logger.exception("the emulator failed in %s", exchange.command)
            refused = CommandFailure("UNEXPECTED_SERVER_ERROR", f"The emulator failed: {error!r}. Report it.")
        exchange.error_codes = (refused.code,)
        return failed(refused)
