"""The one place that knows mistralai's versions: 1.9.11 to 3.x.

| | 1.9.11 | 2.x | 3.x |
| --- | --- | --- | --- |
| `Mistral` | `mistralai` | `mistralai.client` | `mistralai.client` |
| errors | `mistralai.models` | `mistralai.client.errors` | `mistralai.client.errors` |
| HTTP | httpx | httpx | httpx2 |
| `fine_tuning` | there | gone from 2.5.2 | gone |
"""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from geovlm._optional import require
from geovlm.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

OLDEST = (1, 9, 11)
WITHDRAWN = "2.4.6"  # held malicious code that ran on import (GHSA-wx9m-wx4f-4cmg)
PURPOSE = "PixtralClient"


@frozen(kw_only=True)
class Library:
    """The installed mistralai.

    Args:
        version: Such as `"3.7.0"`.
        client: The class `Mistral`.
        answered: The base class of errors that come with an answer of the server.
        no_answer: Classes of errors without an answer: connections and time limits.
        no_body: The class of errors that its downloads fall into at an error answer without a body.
        has_fine_tuning: Whether its clients still have `fine_tuning`.
    """

    version: str
    client: Any = field(repr=False)
    answered: type[Exception] = field(repr=False)
    no_answer: tuple[type[Exception], ...] = field(repr=False)
    no_body: type[Exception] = field(repr=False)
    has_fine_tuning: bool

    def open(self, *, api_key: str | None, server_url: str, timeout: float) -> Any:
        """A client without retries of its own; it sends `api_key` or, for `None`, no key at all.

        Left to itself the client would take a key from the environment, which is not meant for every server.
        """
        return self.client(api_key=lambda: api_key, server_url=server_url, timeout_ms=max(1, round(timeout * 1000)))


@cache
def library() -> Library:
    """Import mistralai.

    Raises:
        MissingExtra: It is not installed.
        UsageError: Its version is too old, or the withdrawn one; that one is not imported.
    """
    try:
        installed = version("mistralai")
    except PackageNotFoundError as error:
        raise MissingExtra("mistralai", "mistral", PURPOSE) from error
    if installed == WITHDRAWN:
        raise UsageError(
            f"mistralai {WITHDRAWN} was withdrawn because it held malicious code that runs on import. Remove it, change"
            " the secrets of this machine, and install a later version: pip install 'geovlm[mistral]'."
        )
    if _numbers(installed) < OLDEST:
        raise UsageError(f"mistralai {installed} is too old: pip install --upgrade 'geovlm[mistral]'.")
    if _numbers(installed) < (2,):
        package, errors, http = "mistralai", "mistralai.models", "httpx"
    else:
        package, errors = "mistralai.client", "mistralai.client.errors"
        http = "httpx" if _numbers(installed) < (3,) else "httpx2"
    found: Any = require(package, extra="mistral", purpose=PURPOSE).Mistral
    kinds = import_module(errors)
    return Library(
        version=installed,
        client=found,
        answered=kinds.MistralError,
        no_answer=(import_module(http).TransportError, kinds.NoResponseError),
        no_body=import_module(http).ResponseNotRead,
        has_fine_tuning="fine_tuning" in found.__annotations__,
    )


@frozen(kw_only=True)
class ErrorAnswer:
    """What a server answered where it refused, or where its answer could not be read.

    Args:
        status: Of HTTP.
        text: The body.
        headers: With names in any case.
    """

    status: int
    text: str
    headers: Mapping[str, str]


def error_answer(error: Any) -> ErrorAnswer:
    """The answer behind an error of the kind `Library.answered`."""
    return ErrorAnswer(status=error.status_code, text=error.body or "", headers=error.headers)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])
