"""Forms with files, as uploads send them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from geovlm.testing.mistral_api.wire import Refused

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)
_PARAMETER = re.compile(rb'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass
class Form:
    """The fields of a form and its one file."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    content: bytes = b""


def read_form(content_type: str, body: bytes) -> Form:
    r"""Take a `multipart/form-data` body apart.

    Raises:
        Refused: It is not such a body.

    Examples:
        >>> part = b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x--\r\n'
        >>> read_form("multipart/form-data; boundary=x", part).fields
        {'purpose': 'batch'}
    """
    match = _BOUNDARY.search(content_type)
    if match is None or not content_type.lower().startswith("multipart/form-data"):
        raise Refused(422, "An upload is a multipart/form-data body.")
    form = Form()
    for part in (b"\r\n" + body).split(b"\r\n--" + match.group(1).encode())[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        parameters = {name.decode().lower(): value.decode() for name, value in _PARAMETER.findall(head)}
        if "filename" in parameters:
            form.filename, form.content = parameters["filename"], content
        elif "name" in parameters:
            form.fields[parameters["name"]] = content.decode()
    return form
