"""Requests to the Data API: what is sent again, after how long, and which error it ends in."""

from __future__ import annotations

import datetime as dt
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal

import tenacity
from attrs import frozen

from geovlm._optional import require
from geovlm.errors import AuthError, GeovlmError, RateLimited, StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

# Codes in answers with HTTP 200 after which the same request may succeed.
TRANSIENT = frozenset(
    {
        "FAILED_COMPARE_AND_SET",
        "FAILED_CONCURRENT_OPERATIONS",
        "FAILED_READ_REQUEST",
        "FAILED_TO_CONNECT_TO_DATABASE",
        "FAILED_WRITE_REQUEST",
        "TIMEOUT_READING_DATA",
        "TIMEOUT_WRITING_DATA",
        "UNAVAILABLE_DATABASE",
        "UNEXPECTED_DRIVER_ERROR",
    }
)
TRANSIENT_STATUS = (408, 425, 429)
LONGEST_WAIT = 60.0
LONGEST_PAUSE = 20.0

Body = dict[str, Any]


class Refused(StoreError):
    """The Data API has answered that it will not do this; its `code` says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"Astra DB refuses: {message[:500]} ({code})")
        self.code = code


class Again(Exception):
    """An attempt failed in a way that may pass; nobody knows whether the command was carried out."""

    def __init__(self, reason: str, *, status: int | None = None, seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.status = status
        self.seconds = seconds

    def given_up(self, attempts: int) -> GeovlmError:
        """What is raised after the last attempt."""
        tried = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        message = f"Astra DB did not do what was asked in {tried}; the last failed by {self}."
        if self.status == 429:
            return RateLimited(f"{message} Go on later, or with fewer workers.", status=429)
        return StoreError(f"{message} Is the database awake, and the endpoint right?")


@frozen
class Answer:
    """What came back, and after how many attempts: only the first cannot meet the traces of an earlier one."""

    body: Body
    attempts: int


def raise_it(error: GeovlmError) -> None:
    """What to do about an error, if nothing else is."""
    raise error


@frozen(kw_only=True)
class Request:
    """One command.

    Args:
        body: The command.
        take: Called with the answer.
        fail: Called with the error if there is none; it may raise.
        target: Whether the command is for the collection or for its keyspace.
        seconds: How long an attempt may take, if not as long as others.
    """

    body: Body
    take: Callable[[Answer], None]
    fail: Callable[[GeovlmError], None] = raise_it
    target: Literal["collection", "keyspace"] = "collection"
    seconds: float = 0.0


@frozen
class Step:
    """Requests that may be sent at the same time.

    Args:
        requests: They are drawn as they are sent.
        delay: Seconds to wait before the first.
    """

    requests: Iterable[Request]
    delay: float = 0.0


@frozen(kw_only=True)
class Policy:
    """How requests are repeated.

    Args:
        attempts: How often one is sent at most.
        seconds: How long an attempt may take.
        pause: About the seconds before the second attempt; doubled before each further one.
    """

    attempts: int
    seconds: float
    pause: float

    def before(self, attempt: int) -> float:
        """Seconds before an attempt, counted from 1."""
        return 0.0 if attempt < 2 else min(self.pause * 2.0 ** (attempt - 2), LONGEST_PAUSE)

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        told = error.seconds if isinstance(error, Again) else 0.0
        jitter = tenacity.wait_random(0, self.pause)
        return min(told, LONGEST_WAIT) + self.before(state.attempt_number + 1) + jitter(state)

    def _rules(self) -> dict[str, Any]:
        return {
            "stop": tenacity.stop_after_attempt(self.attempts),
            "wait": self._wait,
            "retry": tenacity.retry_if_exception_type(Again),
            "reraise": True,
        }

    def send(self, request: Request, once: Callable[[Request, float], Body]) -> Answer:
        """Send a request until it is answered.

        Raises:
            GeovlmError: It was refused, or the attempts are used up.
        """
        try:
            for attempt in tenacity.Retrying(**self._rules()):
                with attempt, translated():
                    body = checked(once(request, request.seconds or self.seconds))
        except Again as error:
            raise error.given_up(self.attempts) from error
        return Answer(body, attempt.retry_state.attempt_number)

    async def send_async(self, request: Request, once: Callable[[Request, float], Awaitable[Body]]) -> Answer:
        """As `send`."""
        try:
            async for attempt in tenacity.AsyncRetrying(**self._rules()):
                with attempt, translated():
                    body = checked(await once(request, request.seconds or self.seconds))
        except Again as error:
            raise error.given_up(self.attempts) from error
        return Answer(body, attempt.retry_state.attempt_number)


@contextmanager
def translated() -> Iterator[None]:
    """Errors of the client as `Again` or as geovlm's own."""
    errors: Any = require("astrapy.exceptions", extra="astra")
    httpx: Any = require("httpx", extra="astra")
    try:
        yield
    except errors.DataAPIHttpException as error:
        raise _of_status(error.response) from error
    except errors.DataAPITimeoutException as error:
        raise Again("a timeout") from error
    except errors.UnexpectedDataAPIResponseException as error:
        raise Again("an answer that is not JSON") from error
    except httpx.TransportError as error:
        raise Again(f"a broken connection ({type(error).__name__})") from error


def _of_status(response: Any) -> Exception:
    status: int = response.status_code
    if status in (401, 403):
        return not_allowed(status)
    if status in TRANSIENT_STATUS or status >= 500:
        return Again(f"HTTP {status}", status=status, seconds=_retry_after(response.headers.get("Retry-After")))
    return StoreError(f"Astra DB answered with HTTP {status}. Is the endpoint that of a Data API?")


def not_allowed(status: int | None = None) -> AuthError:
    """The token is wrong."""
    return AuthError(
        "Astra DB does not accept the token, or the token may not do this. Set ASTRA_DB_APPLICATION_TOKEN, or give"
        " token=, for this database.",
        status=status,
    )


def _retry_after(text: str | None) -> float:
    """Seconds that a service asks to wait, from a number or a date; 0 if it says nothing."""
    if not text:
        return 0.0
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    when = when if when.tzinfo else when.replace(tzinfo=dt.UTC)
    return max(0.0, (when - dt.datetime.now(dt.UTC)).total_seconds())


def checked(body: Any) -> Body:
    """An answer without errors, or with errors of single documents only.

    Raises:
        Again: The errors are of the kind that passes.
        GeovlmError: They are not.
    """
    if not isinstance(body, dict):
        raise Again("an answer that is not an object")
    errors = body.get("errors") or []
    if not errors or "documentResponses" in (body.get("status") or {}):
        return body
    raise refusal(next((one for one in errors if code_of(one) not in TRANSIENT), errors[0]))


def code_of(error: Any) -> str:
    """The code of an error object."""
    return str(error.get("errorCode") or "") if isinstance(error, dict) else ""


def refusal(error: Any) -> Exception:
    """What an error object means."""
    code = code_of(error)
    if code in TRANSIENT:
        return Again(code)
    if code in ("UNAUTHENTICATED_REQUEST", "UNAUTHORIZED_ACCESS"):
        return not_allowed()
    return Refused(code, str(error.get("message") if isinstance(error, dict) else error))
