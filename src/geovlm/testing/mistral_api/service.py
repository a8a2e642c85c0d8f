"""From an HTTP request to its response, without the sockets."""

from __future__ import annotations

import hmac
import json
import logging
import re
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from geovlm.testing.mistral_api.log import RequestRecord
from geovlm.testing.mistral_api.multipart import read_form
from geovlm.testing.mistral_api.wire import Refused, Request, answered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from email.message import Message

    from geovlm.testing._loopback import Response
    from geovlm.testing.mistral_api.contract import Contract
    from geovlm.testing.mistral_api.faults import Faults
    from geovlm.testing.mistral_api.log import RequestLog

_logger = logging.getLogger(__name__)

_ROUTES = [
    (method, re.compile(path), operation)
    for method, path, operation in [
        ("POST", r"/v1/chat/completions", "chat.complete"),
        ("POST", r"/v1/files", "files.upload"),
        ("GET", r"/v1/files", "files.list"),
        ("GET", r"/v1/files/(?P<file>[^/]+)", "files.retrieve"),
        ("DELETE", r"/v1/files/(?P<file>[^/]+)", "files.delete"),
        ("GET", r"/v1/files/(?P<file>[^/]+)/content", "files.download"),
        ("GET", r"/v1/files/(?P<file>[^/]+)/url", "files.get_signed_url"),
        ("GET", r"/signed/(?P<file>[^/]+)", "files.signed"),
        ("POST", r"/v1/batch/jobs", "batch.jobs.create"),
        ("GET", r"/v1/batch/jobs", "batch.jobs.list"),
        ("GET", r"/v1/batch/jobs/(?P<job>[^/]+)", "batch.jobs.get"),
        ("DELETE", r"/v1/batch/jobs/(?P<job>[^/]+)", "batch.jobs.delete"),
        ("POST", r"/v1/batch/jobs/(?P<job>[^/]+)/cancel", "batch.jobs.cancel"),
        ("GET", r"/v1/models", "models.list"),
        ("GET", r"/v1/models/(?P<model>.+)", "models.retrieve"),
        ("DELETE", r"/v1/models/(?P<model>.+)", "models.delete"),
        ("PATCH", r"/v1/fine_tuning/models/(?P<model>[^/]+)", "models.update"),
        ("POST", r"/v1/fine_tuning/models/(?P<model>[^/]+)/archive", "models.archive"),
        ("DELETE", r"/v1/fine_tuning/models/(?P<model>[^/]+)/archive", "models.unarchive"),
        ("POST", r"/v1/fine_tuning/jobs", "fine_tuning.jobs.create"),
        ("GET", r"/v1/fine_tuning/jobs", "fine_tuning.jobs.list"),
        ("GET", r"/v1/fine_tuning/jobs/(?P<job>[^/]+)", "fine_tuning.jobs.get"),
        ("POST", r"/v1/fine_tuning/jobs/(?P<job>[^/]+)/start", "fine_tuning.jobs.start"),
        ("POST", r"/v1/fine_tuning/jobs/(?P<job>[^/]+)/cancel", "fine_tuning.jobs.cancel"),
    ]
]


class Service:
    """Mistral's API behind the server.

    Args:
        handlers: Operation → what answers it; others are not found.
        api_key: That clients must show; None for a service without.
        faults: To come.
        log: Takes every request.
        contract: That requests and answers are compared with.
    """

    def __init__(
        self,
        handlers: Mapping[str, Callable[[Request], Response]],
        *,
        api_key: str | None,
        faults: Faults,
        log: RequestLog,
        contract: Contract | None,
    ) -> None:
        self.stopping = threading.Event()
        self._handlers = handlers
        self._api_key = api_key
        self._faults = faults
        self._log = log
        self._contract = contract
        self._lock = threading.RLock()

    def respond(self, method: str, target: str, headers: Message, body: bytes, *, base_url: str) -> Response | None:
        """The response to a request; None if the connection is to be closed without one."""
        request = _routed(method, target, headers, body, base_url)
        fault = self._faults.draw(request.operation)
        own = self._own(request) if fault is None or fault.written else None
        response = own if fault is None else fault.applied(own)
        problems = self._contract.problems(request, own) if self._contract else ()
        self._log.add(
            RequestRecord(
                operation=request.operation,
                method=method,
                path=request.path,
                query=request.query,
                headers=dict(request.headers),
                body=_told(request),
                size=len(body),
                status=None if response is None else response.status,
                fault=None if fault is None else fault.name,
                problems=problems,
            )
        )
        if fault is not None:
            self.stopping.wait(fault.seconds)
        return response

    def _own(self, request: Request) -> Response:
        try:
            handler = self._handlers.get(request.operation)
            if handler is None:
                raise Refused(404, f"No route matches {request.method} {request.path}", kind="not_found")
            self._admit(request)
            if request.operation == "chat.complete":  # brains may take their time, and may be asked at once
                return handler(request)
            with self._lock:
                return handler(request)
        except Refused as refused:
            return answered(refused.body(), refused.status)
        except Exception as error:
            _logger.exception("the emulator failed in %s", request.operation)
            return answered(Refused(500, f"The emulator failed: {error!r}").body(), 500)

    def _admit(self, request: Request) -> None:
        if self._api_key is None or request.operation == "files.signed":
            return
        shown = request.headers.get("authorization", "")
        if not hmac.compare_digest(shown.encode(), f"Bearer {self._api_key}".encode()):
            raise Refused(401, "Unauthorized", kind="unauthorized")


def _routed(method: str, target: str, headers: Message, body: bytes, base_url: str) -> Request:
    parts = urlsplit(target)
    found = ((operation, pattern.fullmatch(parts.path)) for verb, pattern, operation in _ROUTES if verb == method)
    operation, match = next(((name, match) for name, match in found if match), ("", None))
    return Request(
        method=method,
        path=parts.path,
        query=tuple(parse_qsl(parts.query, keep_blank_values=True)),
        headers={name.lower(): value for name, value in headers.items()},
        body=body,
        operation=operation,
        params={name: unquote(value) for name, value in match.groupdict().items()} if match else {},
        base_url=base_url,
    )


def _told(request: Request) -> Any:
    if not request.body:
        return None
    if request.operation == "files.upload":
        try:
            form = read_form(request.headers.get("content-type", ""), request.body)
        except Refused:
            return None
        return {**form.fields, "filename": form.filename, "size": len(form.content)}
    try:
        return json.loads(request.body)
    except ValueError:
        return None
