"""What goes back to a client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from geovlm.testing.data_api import wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geovlm.testing.data_api.errors import CommandFailure
    from geovlm.testing.data_api.requests import Answer


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

    status: int
    body: bytes = b""
    content_type: str = "application/json;charset=UTF-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: int | None = None
    closes: bool = False


def answered(answer: Answer, status: int = 200) -> Response:
    """The response with a command's answer."""
    return Response(status=status, body=wire.encode(answer))


def failed(failure: CommandFailure) -> Response:
    """The response for a command that is refused."""
    return answered({"errors": [failure.describe()]}, failure.http_status)
