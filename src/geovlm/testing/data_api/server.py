"""The emulator as an HTTP server on the loopback address."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import socket
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self, cast

from geovlm.testing.data_api.limits import Limits
from geovlm.testing.data_api.responses import Response
from geovlm.testing.data_api.service import NOT_FOUND, Credentials, Service

if TYPE_CHECKING:
    from types import TracebackType

    from geovlm.testing.data_api.faults import Faults
    from geovlm.testing.data_api.log import RequestLog

_logger = logging.getLogger(__name__)

# A client that still sends cannot read the refusal; what comes up to here is read for it.
_DRAINED = 64 * 1024 * 1024
_BAD_REQUEST = Response(status=400, closes=True)


class DataAPIEmulator:
    """An emulator of the Data API of Astra DB, HCD and self-hosted installations, for tests.

    It keeps all data in memory, speaks HTTP on 127.0.0.1 as the service does, and takes any client. Use it as a
    context manager; the data stays until the object goes.

    Args:
        keyspaces: that exist from the beginning.
        token: that clients may show.
        username: that clients may show instead, with the password.
        password: of the user.
        limits: what is refused, and the sizes of pages.
        port: to listen on; 0 takes a free one.

    Attributes:
        faults: faults to come, see :class:`Faults`.
        log: requests so far, see :class:`RequestLog`.

    Examples:
        >>> import json, urllib.request
        >>> def post(api, path, command):
        ...     headers = {"Token": api.token, "Content-Type": "application/json"}
        ...     request = urllib.request.Request(api.endpoint + path, json.dumps(command).encode(), headers)
        ...     with urllib.request.urlopen(request) as response:
        ...         return json.load(response)
        >>> with DataAPIEmulator() as api:
        ...     _ = post(api, "/v1/default_keyspace", {"createCollection": {"name": "scenes"}})
        ...     inserted = post(api, "/v1/default_keyspace/scenes", {"insertOne": {"document": {"_id": "a"}}})
        ...     counts = api.log.commands
        >>> inserted
        {'status': {'insertedIds': ['a']}}
        >>> counts["insertOne"]
        1
    """

    def __init__(
        self,
        *,
        keyspaces: tuple[str, ...] = ("default_keyspace",),
        token: str = "AstraCS:emulator",  # noqa: S107 - opens nothing but the emulator
        username: str = "cassandra",
        password: str = "cassandra",  # noqa: S107 - the same
        limits: Limits | None = None,
        port: int = 0,
    ) -> None:
        self.token = token
        self.username = username
        self.password = password
        self.limits = limits or Limits()
        self._port = port
        self._service = Service(Credentials(token, username, password), self.limits, tuple(keyspaces))
        self.faults: Faults = self._service.faults
        self.log: RequestLog = self._service.log
        self._server: _Server | None = None

    @property
    def endpoint(self) -> str:
        """The address to give to a client, such as ``"http://127.0.0.1:40001"``.

        Raises:
            RuntimeError: the emulator is not running.
        """
        if self._server is None:
            raise RuntimeError("the emulator is not running; use it in a with statement")
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._service.stopping.clear()
        self._server = _Server(self._service, self._port)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), name="data-api", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._service.stopping.set()
        self._server.stop()
        self._server = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, service: Service, port: int) -> None:
        self.service = service
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        # Without HTTPServer's look-up of the host's name, which can take long.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = cast("tuple[str, int]", self.server_address)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - as in the base class
        # Clients hang up in the middle of requests; that is their affair, and often the point of a test.
        _logger.debug("the connection of %s ended: %r", client_address, sys.exception())

    def stop(self) -> None:
        """Stop listening and close all connections, idle ones too."""
        self.shutdown()
        self.server_close()
        with self._open_lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "DataAPIEmulator"
    wbufsize = -1
    disable_nagle_algorithm = True

    @property
    def _service(self) -> Service:
        return cast("_Server", self.server).service

    def do_POST(self) -> None:
        """Answer a command."""
        try:
            body = self._read_body()
        except ValueError:
            self._send(_BAD_REQUEST)
            return
        self._send(self._service.respond(self.path, self.headers, body))

    def _not_found(self) -> None:
        # Closed because a body may follow that is not read.
        self._send(dataclasses.replace(NOT_FOUND, closes=True))

    do_GET = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _not_found  # noqa: N815 - as the base class calls them

    def handle_expect_100(self) -> bool:
        """Refuse a body that is too large before it is sent."""
        if self._length() > self._service.limits.body_bytes:
            self._send(self._service.respond(self.path, self.headers, None))
            return False
        return super().handle_expect_100()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """Keep standard error clean."""
        _logger.debug(format, *args)

    def _length(self) -> int:
        length = int(self.headers.get("Content-Length") or 0)
        if length < 0:
            raise ValueError(f"Content-Length is negative: {length}")
        return length

    def _read_body(self) -> bytes | None:
        """The body, or None if it is too large."""
        largest = self._service.limits.body_bytes
        if "chunked" in (self.headers.get("Transfer-Encoding") or "").lower():
            return self._read_chunks(largest)
        length = self._length()
        if length > largest:
            self._drain(length)
            return None
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionAbortedError(f"{len(body)} bytes of {length} came")
        return body

    def _read_chunks(self, largest: int) -> bytes | None:
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

    def _drain(self, length: int) -> None:
        left = min(length, _DRAINED)
        while left > 0 and (part := self.rfile.read(min(left, 1 << 20))):
            left -= len(part)

    def _send(self, response: Response | None) -> None:
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
