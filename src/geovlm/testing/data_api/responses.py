"""What goes back to a client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geovlm.testing._loopback import Response
from geovlm.testing.data_api import wire

if TYPE_CHECKING:
    from geovlm.testing.data_api.errors import CommandFailure
    from geovlm.testing.data_api.requests import Answer

CONTENT_TYPE = "application/json;charset=UTF-8"


def answered(answer: Answer, status: int = 200) -> Response:
    """The response with a command's answer."""
    return Response(status=status, body=wire.encode(answer), content_type=CONTENT_TYPE)


def failed(failure: CommandFailure) -> Response:
    """The response for a command that is refused."""
    return answered({"errors": [failure.describe()]}, failure.http_status)
