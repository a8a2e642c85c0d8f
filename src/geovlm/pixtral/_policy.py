"""Requests that are sent again, after how long, and the errors they end in."""

from __future__ import annotations

import datetime as dt
import json
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

import tenacity
from attrs import field, frozen

from geovlm.errors import AuthError, ModelRetired, RateLimited, RequestRefused, ServiceError, ServiceUnavailable
from geovlm.pixtral._checks import number, whole
from geovlm.pixtral._compat import ErrorAnswer, error_answer, library
from geovlm.pixtral._endpoint import KEY
from geovlm.pixtral.models import find_model

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from geovlm.errors import GeovlmError
    from geovlm.pixtral._endpoint import Endpoint

T = TypeVar("T")

TRANSIENT_STATUS = (408, 425, 429)
LONGEST_PAUSE = 30.0
# A server that asks for a longer wait gets none: the caller has better things to do.
LONGEST_TOLD_WAIT = 120.0
EXCERPT = 400


class Again(Exception):
    """An attempt failed in a way that may pass; nobody knows whether the request was carried out."""

    def __init__(self, reason: str, *, status: int | None = None, wait: float | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.wait = wait

    def given_up(self, attempts: int) -> GeovlmError:
        """What is raised after the last attempt."""
        tried = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        if self.status == 429:
            when = f"in {self.wait:.0f} s, as it asks" if self.wait else "later"
            message = f"Too many requests: no answer in {tried}. Go on {when}, or with a lower concurrency."
            return RateLimited(message, status=429, retry_after=self.wait)
        advice = "Go on later." if self.status else "Go on later, or correct base_url."
        return ServiceUnavailable(f"No answer in {tried}; the last failed by {self}. {advice}", status=self.status)


@frozen(kw_only=True)
class Policy:
    """How long requests may take, and how they are repeated.

    Args:
        timeout: Seconds that one attempt may take.
        max_retries: How often a request is sent again.
        pause: About the seconds before the second attempt; doubled before each further one.
    """

    timeout: float = field(default=120.0, validator=number(0, above=True))
    max_retries: int = field(default=4, validator=whole(0))
    pause: float = field(default=0.5, validator=number(0))

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        told = error.wait if isinstance(error, Again) else None
        own = min(self.pause * 2.0 ** min(state.attempt_number - 1, 30), LONGEST_PAUSE)
        jitter: float = tenacity.wait_random(0, self.pause)(state)
        return (own if told is None else told) + jitter

    def rules(self, *, repeat: bool) -> dict[str, Any]:
        """Settings for tenacity."""
        return {
            "stop": tenacity.stop_after_attempt(self.max_retries + 1 if repeat else 1),
            "wait": self._wait,
            "retry": tenacity.retry_if_exception(_may_pass),
            "reraise": True,
        }


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, Again) and (error.wait or 0.0) <= LONGEST_TOLD_WAIT


@frozen(kw_only=True)
class Caller:
    """Runs calls of the client under a policy, and turns its errors into geovlm's.

    Args:
        policy: How calls are repeated.
        endpoint: The server, for messages; its key is cut out of them.
        model: For messages.
    """

    policy: Policy
    endpoint: Endpoint
    model: str

    def call(self, once: Callable[[], T], *, repeat: bool = True) -> T:
        """Run `once` until it succeeds.

        Args:
            once: A call of the client.
            repeat: Whether it may be made again where nobody knows if it was carried out.

        Raises:
            ServiceError: It was refused, or the attempts are used up.
        """
        attempts = 0
        try:
            for attempt in tenacity.Retrying(**self.policy.rules(repeat=repeat)):
                with attempt, self._translated():
                    attempts += 1
                    result = once()
        except Again as error:
            raise error.given_up(attempts) from None
        return result

    async def call_async(self, once: Callable[[], Awaitable[T]], *, repeat: bool = True) -> T:
        """As `call`."""
        attempts = 0
        try:
            async for attempt in tenacity.AsyncRetrying(**self.policy.rules(repeat=repeat)):
                with attempt, self._translated():
                    attempts += 1
                    result = await once()
        except Again as error:
            raise error.given_up(attempts) from None
        return result

    @contextmanager
    def _translated(self) -> Iterator[None]:
        # The client's own errors are not chained: their text is the server's, which may repeat the key.
        known = library()
        try:
            yield
        except known.answered as error:
            raise self._refusal(error_answer(error)) from None
        except known.no_body:
            raise Again("an error answer without a body") from None
        except known.no_answer as error:
            raise Again(f"a broken connection or a time limit ({type(error).__name__})") from None

    def _refusal(self, answer: ErrorAnswer) -> Exception:
        status, reason = answer.status, self._without_key(reason_of(answer))
        if status in TRANSIENT_STATUS or status >= 500:
            return Again(f"HTTP {status}: {reason}", status=status, wait=told_wait(answer.headers))
        if status in (401, 403):
            return AuthError(f"{self._about_key()} ({reason.rstrip('.')}).", status=status)
        if _tells_of_no_model(status, reason):
            return self._no_model(status, reason)
        if status >= 400:
            return RequestRefused(f"The server refuses the request (HTTP {status}): {_ended(reason)}", status=status)
        return ServiceError(
            f"{self.endpoint.url} answered with something else than Mistral's API does: {_ended(reason)} Is base_url"
            " right?",
            status=status,
        )

    def _about_key(self) -> str:
        if self.endpoint.api_key is None:
            return f"The server wants a key; none was sent (that of {KEY} goes to Mistral's hosts only): give api_key=…"
        return f"The server does not accept the key, or the key may not do this; set {KEY}, or give api_key=…"

    def _no_model(self, status: int, reason: str) -> ServiceError:
        info, url = find_model(self.model), self.endpoint.url
        if (info is None or info.retired is None) and "retired" not in reason.lower():
            message = f"{url} knows no model {self.model!r}, or no such path (HTTP {status}): {_ended(reason)}"
            return RequestRefused(f"{message} What it serves is listed at {url}/v1/models.", status=status)
        replacement = info.replacement if info else None
        since = f" on {info.retired}" if info and info.retired else ""
        instead = f"use {replacement!r} instead" if replacement else "use another model"
        return ModelRetired(
            f"{self.model!r} is not served by {url}: Mistral retired it{since}; {instead}, or serve its weights"
            f" yourself and give base_url= and the name it has there. The server says: {_ended(reason)}",
            status=status,
            replacement=replacement,
        )

    def _without_key(self, text: str) -> str:
        key = self.endpoint.api_key
        return text.replace(key, "…") if key else text


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _tells_of_no_model(status: int, reason: str) -> bool:
    return status in (404, 410) or (status == 400 and "invalid model" in reason.lower())


def reason_of(answer: ErrorAnswer) -> str:
    """What an error body says, in a line; the bodies of Mistral, of vLLM, of proxies."""
    kind = next((value for name, value in answer.headers.items() if name.lower() == "content-type"), "")
    text = answer.text.strip()
    if "html" in kind.lower() or text[:1] == "<":
        return "an HTML page, not JSON."
    try:
        body = json.loads(text)
    except ValueError:
        return _short(text) or "an empty answer."
    if isinstance(body, dict):
        inner = body.get("error")
        body = inner if isinstance(inner, dict) else body
        body = body.get("message") or body.get("detail") or body
    return _short(body if isinstance(body, str) else json.dumps(body, ensure_ascii=False))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= EXCERPT else line[:EXCERPT] + "…"


def told_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait, from a number or an HTTP date; `None` if it says nothing.

    Examples:
        >>> told_wait({"Retry-After": "3"}), told_wait({}), told_wait({"retry-after": "soon"})
        (3.0, None, None)
    """
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "").strip()
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=dt.UTC)
    return max(0.0, (when - dt.datetime.now(dt.UTC)).total_seconds())
