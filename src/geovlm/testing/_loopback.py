"""What the emulators of hosted services share: a server on the loopback address, and faults made on purpose."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import random
import socket
import socketserver
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Response:
    """An HTTP response.

    Args:
        status: of HTTP.
        body: in full.
        content_type: of the body.
        headers: others.
        sent: bytes of the body after which the connection breaks, None to send all.
        closes: whether the connection is closed after it.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: int | None = None
    closes: bool = False


@dataclass(frozen=True, kw_only=True)
class LoopbackFault:
    """One way for a request to go wrong that any service knows.

    Args:
        name: as the request log tells it.
        written: whether the request is carried out all the same.
        ending: what the client gets: the request's own answer, the answer cut off by a broken connection, its first
            half as if it were all, another response, or a closed connection.
        seconds: how long the client waits.
        response: the other response.
    """

    page: ClassVar[bytes] = b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>"

    name: str
    written: bool
    ending: Literal["answer", "cut", "half", "response", "close"]
    seconds: float = 0.0
    response: Response | None = None

    @classmethod
    def unavailable(cls, *, written: bool = False) -> Self:
        """HTTP 503 with an empty body."""
        response = Response(status=503, content_type="text/plain")
        return cls(name="unavailable", written=written, ending="response", response=response)

    @classmethod
    def slow(cls, seconds: float) -> Self:
        """The request is carried out, and its answer comes late."""
        return cls(name="slow", written=True, ending="answer", seconds=seconds)

    @classmethod
    def dropped(cls) -> Self:
        """The connection is closed; nothing was done."""
        return cls(name="dropped", written=False, ending="close")

    @classmethod
    def acknowledgement_lost(cls) -> Self:
        """The request is carried out, then the connection is closed without an answer."""
        return cls(name="acknowledgement_lost", written=True, ending="close")

    @classmethod
    def truncated(cls) -> Self:
        """The request is carried out, and the connection breaks in the middle of the answer."""
        return cls(name="truncated", written=True, ending="cut")

    @classmethod
    def html(cls, status: int = 200, *, written: bool = False) -> Self:
        """A page of a proxy in place of JSON."""
        response = Response(status=status, body=cls.page, content_type="text/html")
        return cls(name="html", written=written, ending="response", response=response)

    def applied(self, own: Response | None) -> Response | None:
        """What the client gets in place of the request's own response; None for a closed connection."""
        if self.ending == "close":
            return None
        if self.ending == "cut" and own is not None:
            return dataclasses.replace(own, sent=len(own.body) // 2, closes=True)
        if self.ending == "half" and own is not None:
            return dataclasses.replace(own, body=own.body[: len(own.body) // 2])
        return self.response if self.ending == "response" else own


F = TypeVar("F", bound=LoopbackFault)
R = TypeVar("R")


class RecordLog(Generic[R]):
    """What requests came, in the order of their answers; safe to read while requests come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: list[R] = []

    def __len__(self) -> int:
        return len(self._records)

    @property
    def records(self) -> list[R]:
        """The requests so far."""
        with self._lock:
            return list(self._records)

    def add(self, record: R) -> None:
        """Note a request."""
        with self._lock:
            self._records.append(record)

    def clear(self) -> None:
        """Forget all requests."""
        with self._lock:
            self._records.clear()


@dataclass
class _Script(Generic[F]):
    fault: F
    request: str | None
    skip: int
    times: int


@dataclass(frozen=True)
class _Chance(Generic[F]):
    faults: tuple[F, ...]
    share: float
    requests: frozenset[str] | None
    source: random.Random


class FaultSchedule(Generic[F]):
    """The faults that are to come; scripted ones first, then random ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scripts: list[_Script[F]] = []
        self._chances: list[_Chance[F]] = []

    def _script(self, fault: F, request: str | None, *, times: int, skip: int) -> None:
        with self._lock:
            self._scripts.append(_Script(fault, request, skip, times))

    def _chance(self, faults: Sequence[F], share: float, seed: int, requests: Sequence[str] | None) -> None:
        if not faults or not 0 <= share <= 1:
            raise ValueError(f"give at least one fault and a share from 0 to 1, not {len(faults)} and {share}")
        wanted = None if requests is None else frozenset(requests)
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

    def draw(self, request: str) -> F | None:
        """The fault of the next request of a kind, or None; it counts as come."""
        with self._lock:
            for script in self._scripts:
                if script.request in {None, request} and script.times:
                    if not script.skip:
                        script.times -= 1
                        return script.fault
                    script.skip -= 1
            for chance in self._chances:
                concerned = chance.requests is None or request in chance.requests
                if concerned and chance.source.random() < chance.share:
                    return chance.source.choice(chance.faults)
            return None


class LoopbackHandler(BaseHTTPRequestHandler):
    """Reads requests and sends responses; what they mean is for the subclass to say."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    @property
    def service(self) -> Any:
        """What answers."""
        return cast("LoopbackServer", self.server).service

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """Keep standard error clean."""
        logger.debug(format, *args)

    def length(self) -> int:
        """Bytes of the body.

        Raises:
            ValueError: The header is no such number.
        """
        length = int(self.headers.get("Content-Length") or 0)
        if length < 0:
            raise ValueError(f"Content-Length is negative: {length}")
        return length

    def is_chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return "chunked" in (self.headers.get("Transfer-Encoding") or "").lower()

    def read_whole(self) -> bytes:
        """A body whose length is told."""
        length = self.length()
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionAbortedError(f"{len(body)} bytes of {length} came")
        return body

    def read_chunks(self, largest: float = float("inf")) -> bytes | None:
        """A body in chunks; None as soon as it is larger than it may be."""
        parts, size = [], 0
        while length := int(self.rfile.readline(100).partition(b";")[0], 16):
            size += length
            if size > largest:
                return None
            parts.append(self.rfile.read(length))
            self.rfile.readline(3)
        while self.rfile.readline(10_000).strip():
            pass
        return b"".join(parts)

    def send(self, response: Response | None) -> None:
        """Send a response, or close the connection where there is none."""
        if response is None:
            self.close_connection = True
            return
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        if response.closes:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body[: response.sent])
        self.wfile.flush()


class LoopbackServer(ThreadingHTTPServer):
    """Listens on 127.0.0.1, and closes all connections when it stops.

    Args:
        service: What answers; handlers find it as `service`.
        handler: Reads and sends.
        port: To listen on; 0 takes a free one.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, service: Any, handler: type[LoopbackHandler], port: int) -> None:
        self.service = service
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(("127.0.0.1", port), handler)

    def server_bind(self) -> None:
        """Without HTTPServer's look-up of the host's name, which can take long."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = cast("tuple[str, int]", self.server_address)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection."""
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget it."""
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - as in the base class
        """Clients hang up in the middle of requests; that is their affair, and often the point of a test."""
        logger.debug("the connection of %s ended: %r", client_address, sys.exception())

    def stop(self) -> None:
        """Stop listening and close all connections, idle ones too."""
        self.shutdown()
        self.server_close()
        with self._open_lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class LoopbackEmulator:
    """A service that runs while a `with` statement does.

    Args:
        service: What answers; it has an event `stopping`, which ends slow answers.
        handler: Reads and sends.
        port: To listen on; 0 takes a free one.
    """

    def __init__(self, service: Any, handler: type[LoopbackHandler], port: int) -> None:
        self._service, self._handler, self._port = service, handler, port
        self._server: LoopbackServer | None = None

    def _address(self) -> str:
        if self._server is None:
            raise RuntimeError("the emulator is not running; use it in a with statement")
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._service.stopping.clear()
        self._server = LoopbackServer(self._service, self._handler, self._port)
        name = type(self).__name__
        threading.Thread(target=self._server.serve_forever, args=(0.01,), name=name, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._service.stopping.set()
        self._server.stop()
        self._server = None
