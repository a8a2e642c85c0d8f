"""Where requests go, and with which key."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from attrs import field, frozen

from geovlm.errors import AuthError, UsageError

API_URL = "https://api.mistral.ai"
KEY = "MISTRAL_API_KEY"
_OWN_HOST = re.compile(r"(?:.+\.)?mistral\.ai")


@frozen(kw_only=True)
class Endpoint:
    """A server, and the key for it, which does not show.

    Args:
        url: Without `/v1` and without a slash at its end.
        api_key: `None` where none is needed.
    """

    url: str
    api_key: str | None = field(repr=False)

    @property
    def is_hosted(self) -> bool:
        """Whether it is Mistral's own service."""
        return _is_hosted(self.url)


def find_endpoint(*, api_key: str | None, base_url: str | None) -> Endpoint:
    """Settings from arguments and the environment, checked; the environment's key goes to Mistral's own hosts only.

    Raises:
        UsageError: The address cannot be right.
        AuthError: There is no key for Mistral's own service, or the key cannot be one.
    """
    url = _checked_url(API_URL if base_url is None else base_url)
    hosted = _is_hosted(url)
    key = api_key if api_key is not None or not hosted else os.environ.get(KEY)
    if hosted and not key:
        raise AuthError(
            f"No API key is known: set {KEY}, or give api_key=…. A server of your own needs base_url= and no key."
        )
    return Endpoint(url=url, api_key=_checked_key(key) if key else None)


def _is_hosted(url: str) -> bool:
    return _OWN_HOST.fullmatch(urlsplit(url).hostname or "") is not None


def _checked_url(url: str) -> str:
    # What is wrong is told without the address where that may hold a password.
    if not isinstance(url, str) or not re.fullmatch(r"https?://[^\s?#]+", url):
        raise UsageError("base_url is an address such as http://localhost:8000: with http, and without a query.")
    if "@" in urlsplit(url).netloc:
        raise UsageError("base_url holds a user name or a password; give the secret as api_key= instead.")
    try:
        if not urlsplit(url).hostname or urlsplit(url).port == 0:
            raise ValueError("no host")
    except ValueError as error:
        raise UsageError(f"base_url is an address such as http://localhost:8000, not {url!r:.200}.") from error
    # The client adds /v1 itself, and would ask for /v1/v1/….
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def _checked_key(key: str) -> str:
    if not isinstance(key, str) or not key.isascii() or not key.isprintable() or " " in key:
        raise AuthError(
            "The API key holds a line break, a space or another character that no key has; perhaps it was read from a"
            " file with its line end. Strip it. (It is not shown here.)"
        )
    return key
