"""Requests and responses as the emulator's parts see them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geovlm.testing._loopback import Response

if TYPE_CHECKING:
    from collections.abc import Mapping


class Refused(Exception):
    """The emulated service will not do it.

    A brain may raise it for one request; in a batch job the request then ends in the error file.

    Args:
        status: of HTTP.
        message: as the service words it.
        kind: the `type` of the error body.

    Examples:
        >>> Refused(422, "The image is too large.").status
        422
    """

    def __init__(self, status: int, message: str, *, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind

    def body(self) -> dict[str, Any]:
        """The error body that the service documents."""
        return {"object": "error", "message": self.message, "type": self.kind, "param": None, "code": str(self.status)}


@dataclass(frozen=True, kw_only=True)
class Request:
    """An HTTP request after routing.

    Args:
        method: of HTTP.
        path: without the query.
        query: names and values, repeated ones apart.
        headers: with names in lower case.
        body: as it came.
        operation: the client's name for what is asked, such as `"batch.jobs.create"`; empty for an unknown path.
        params: the variable parts of the path.
        base_url: of the server.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    body: bytes
    operation: str
    params: Mapping[str, str]
    base_url: str = ""

    def json(self) -> dict[str, Any]:
        """The body as a JSON object.

        Raises:
            Refused: It is not one.
        """
        try:
            value = json.loads(self.body)
        except ValueError as error:
            raise Refused(422, f"The body is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise Refused(422, "The body is not a JSON object.")
        return value

    def one(self, name: str, default: str = "") -> str:
        """The last value of a query parameter."""
        return next((value for key, value in reversed(self.query) if key == name), default)

    def many(self, name: str) -> list[str]:
        """All values of a query parameter."""
        return [value for key, value in self.query if key == name]


def answered(value: Any, status: int = 200) -> Response:
    """A response with JSON."""
    return Response(status=status, body=json.dumps(value).encode())


def page_of(rows: list[Any], request: Request) -> list[Any]:
    """The part of a list that `page` (from 0) and `page_size` ask for."""
    size = int(request.one("page_size", "100"))
    start = int(request.one("page", "0")) * size
    return rows[start : start + size]
