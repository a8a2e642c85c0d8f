"""The emulator as an HTTP server on the loopback address."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import socket
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self, cast

from geovlm.testing.mistral_api.batch import Batches
from geovlm.testing.mistral_api.chat import Chat
from geovlm.testing.mistral_api.faults import Faults
from geovlm.testing.mistral_api.files import MOST_BYTES, Files
from geovlm.testing.mistral_api.fine_tuning import FineTuning
from geovlm.testing.mistral_api.ids import Ids
from geovlm.testing.mistral_api.log import RequestLog
from geovlm.testing.mistral_api.models import Models
from geovlm.testing.mistral_api.service import Service

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from geovlm.testing.mistral_api.brains import Brain
    from geovlm.testing.mistral_api.contract import Contract
    from geovlm.testing.mistral_api.wire import Response

_logger = logging.getLogger(__name__)

# The day of Mistral's own walk-through: Pixtral answers, and fine-tuning is offered.
WALK_THROUGH = dt.date(2025, 7, 9)
FINE_TUNING_ENDED = dt.date(2026, 7, 15)


class MistralEmulator:
    """An emulator of Mistral's API, or of a server of one's own, for tests; it speaks HTTP on 127.0.0.1.

    Everything is in memory and repeatable. Use it as a context manager; what it holds stays until the object goes.

    Args:
        brain: Answers chat requests; see `geovlm.testing.mistral_api.brains`. By default it describes the images.
        today: What Mistral retired before this day answers 404, fine-tuning included; by default Pixtral is alive.
        hosted: False for the habits of vLLM: chat and models only, no key, images as objects only.
        serves: Ids of models that a server of one's own serves.
        api_key: That clients must show.
        contract: An OpenAPI description to compare all traffic with; departures are in `log.problems`.
        most_bytes: Larger uploads are refused.
        port: To listen on; 0 takes a free one.

    Attributes:
        faults: Faults to come, see `Faults`.
        log: Requests so far and what was billed, see `RequestLog`.
        batches: The batch jobs, and how they go.
        files: The files.
        models: The models; `today` may be changed there.
        fine_tuning: The fine-tuning jobs.

    Examples:
        >>> import json, urllib.request
        >>> with MistralEmulator(hosted=False) as api:
        ...     body = {"model": "mistralai/Pixtral-12B-2409", "messages": [{"role": "user", "content": "Hello"}]}
        ...     with urllib.request.urlopen(f"{api.url}/v1/chat/completions", json.dumps(body).encode()) as response:
        ...         answer = json.load(response)
        >>> answer["choices"][0]["message"]["content"]
        'You said: Hello'
        >>> api.log.count("chat.complete", status=200)
        1
    """

    def __init__(
        self,
        *,
        brain: Brain | None = None,
        today: dt.date = WALK_THROUGH,
        hosted: bool = True,
        serves: Sequence[str] = ("mistralai/Pixtral-12B-2409",),
        api_key: str = "emulator-key",
        contract: Contract | None = None,
        most_bytes: int = MOST_BYTES,
        port: int = 0,
    ) -> None:
        ids = Ids()
        self.api_key = api_key
        self.faults = Faults()
        self.log = RequestLog()
        self.files = Files(ids, most_bytes=most_bytes)
        self.models = Models(today=today, serves=None if hosted else serves)
        self.chat = Chat(models=self.models, log=self.log, brain=brain, hosted=hosted)
        self.batches = Batches(files=self.files, chat=self.chat, ids=ids)
        self.fine_tuning = FineTuning(files=self.files, models=self.models, ids=ids)
        parts: list[Any] = [self.chat, self.models]
        parts += [self.files, self.batches] if hosted else []
        parts += [self.fine_tuning] if hosted and today < FINE_TUNING_ENDED else []
        self._service = Service(
            {name: handler for part in parts for name, handler in part.handlers().items()},
            api_key=api_key if hosted else None,
            faults=self.faults,
            log=self.log,
            contract=contract,
        )
        self._port = port
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        """The address to give to a client as `base_url`, such as `"http://127.0.0.1:40001"`.

        Raises:
            RuntimeError: The emulator is not running.
        """
        if self._server is None:
            raise RuntimeError("the emulator is not running; use it in a with statement")
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._service.stopping.clear()
        self._server = _Server(self._service, self._port)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), name="mistral-api", daemon=True).start()
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
    server_version = "MistralEmulator"
    wbufsize = -1
    disable_nagle_algorithm = True

    def _answer(self) -> None:
        server = cast("_Server", self.server)
        url = f"http://127.0.0.1:{server.server_port}"
        self._send(server.service.respond(self.command, self.path, self.headers, self._read_body(), base_url=url))

    do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - as the base class calls them

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """Keep standard error clean."""
        _logger.debug(format, *args)

    def _read_body(self) -> bytes:
        if "chunked" in (self.headers.get("Transfer-Encoding") or "").lower():
            return self._read_chunks()
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionAbortedError(f"{len(body)} bytes of {length} came")
        return body

    def _read_chunks(self) -> bytes:
        parts = []
        while length := int(self.rfile.readline(100).partition(b";")[0], 16):
            parts.append(self.rfile.read(length))
            self.rfile.readline(3)
        while self.rfile.readline(10_000).strip():
            pass
        return b"".join(parts)

    def _send(self, response: Response | None) -> None:
        if response is None:
            self.close_connection = True
            return
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        if response.sent is not None:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(response.body[: response.sent])
        self.wfile.flush()
