"""The emulator as an HTTP server on the loopback address."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from geovlm.testing._loopback import LoopbackEmulator, LoopbackHandler, Response
from geovlm.testing.data_api.limits import Limits
from geovlm.testing.data_api.responses import CONTENT_TYPE
from geovlm.testing.data_api.service import NOT_FOUND, Credentials, Service

if TYPE_CHECKING:
    from geovlm.testing.data_api.faults import Faults
    from geovlm.testing.data_api.log import RequestLog

# A client that still sends cannot read the refusal; what comes up to here is read for it.
_DRAINED = 64 * 1024 * 1024
_BAD_REQUEST = Response(status=400, content_type=CONTENT_TYPE, closes=True)


class DataAPIEmulator(LoopbackEmulator):
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
        self.limits: Limits = limits or Limits()
        service = Service(Credentials(token, username, password), self.limits, tuple(keyspaces))
        self.faults: Faults = service.faults
        self.log: RequestLog = service.log
        super().__init__(service, _Handler, port)

    @property
    def endpoint(self) -> str:
        """The address to give to a client, such as ``"http://127.0.0.1:40001"``.

        Raises:
            RuntimeError: the emulator is not running.
        """
        return self._address()


class _Handler(LoopbackHandler):
    server_version = "DataAPIEmulator"

    def do_POST(self) -> None:  # noqa: N802 - as the base class calls it
        """Answer a command."""
        try:
            body = self._read_body()
        except ValueError:
            self.send(_BAD_REQUEST)
            return
        self.send(self.service.respond(self.path, self.headers, body))

    def _not_found(self) -> None:
        # Closed because a body may follow that is not read.
        self.send(dataclasses.replace(NOT_FOUND, closes=True))

    do_GET = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _not_found  # noqa: N815 - as the base class calls them

    def handle_expect_100(self) -> bool:
        """Refuse a body that is too large before it is sent."""
        if self.length() > self.service.limits.body_bytes:
            self.send(self.service.respond(self.path, self.headers, None))
            return False
        return super().handle_expect_100()

    def _read_body(self) -> bytes | None:
        """The body, or None if it is too large."""
        largest = self.service.limits.body_bytes
        if self.is_chunked():
            return self.read_chunks(largest)
        if self.length() > largest:
            self._drain(self.length())
            return None
        return self.read_whole()

    def _drain(self, length: int) -> None:
        left = min(length, _DRAINED)
        while left > 0 and (part := self.rfile.read(min(left, 1 << 20))):
            left -= len(part)
