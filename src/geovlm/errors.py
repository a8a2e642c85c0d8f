"""The errors of geovlm: one tree, each message saying what to do next.

```
GeovlmError
├── UsageError (also ValueError)        an argument or a setting cannot be right
│   ├── UnknownName                     no encoder, captioner or store of that name
│   └── ConfigMismatch                  the directory or store was made with other settings
├── MissingExtra (also ImportError)     an optional library is not installed
├── ImageError                          one image cannot be read; carries its place
├── NotGeoreferenced (also UserWarning)    a raster has no place on the Earth; as a warning, its places are pixels
├── WeightsError                        a checkpoint does not fit the model it is loaded into
├── TrainingDiverged                    the loss or its gradient is no longer a number
├── RunLocked                           another process writes in this directory
├── StorageError                        the disk refused: full, read-only, gone
├── StoreError                          a vector store refused or lost something
│   └── IncompleteUpsert                some rows were not written; says what became of each
│       └── RateLimitedUpsert (also RateLimited)    there were too many requests
└── ServiceError                        a hosted service answered with an error
    ├── AuthError                       the key is missing, wrong or not allowed
    ├── RateLimited                     too many requests, and retries were used up
    ├── ServiceUnavailable              no answer, or errors of the service itself; may pass
    ├── RequestRefused                  the service will not do it as it was asked
    ├── ModelRetired                    the model is gone; names its replacement when known
    └── JobFailed                       a batch or fine-tuning job ended without a result
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "AuthError",
    "ConfigMismatch",
    "GeovlmError",
    "ImageError",
    "IncompleteUpsert",
    "JobFailed",
    "MissingExtra",
    "ModelRetired",
    "NotGeoreferenced",
    "RateLimited",
    "RateLimitedUpsert",
    "RequestRefused",
    "RunLocked",
    "ServiceError",
    "ServiceUnavailable",
    "StorageError",
    "StoreError",
    "TrainingDiverged",
    "UnknownName",
    "UsageError",
    "WeightsError",
]


class GeovlmError(Exception):
    """Root of every error that geovlm raises on purpose."""


class UsageError(GeovlmError, ValueError):
    """An argument or a setting cannot be right; nothing was started."""


class UnknownName(UsageError):
    """A name that no registry knows; the message offers the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        # Imported here: a mistake in a name is rare, and the module costs time at import.
        from difflib import get_close_matches

        names = sorted(known)
        near = get_close_matches(name.lower(), names, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(names) or 'none'}."
        super().__init__(f"No {kind} is called {name!r}. {hint}")
        self.name = name


class ConfigMismatch(UsageError):
    """A run directory or a store holds results made with other settings."""


class MissingExtra(GeovlmError, ImportError):
    """An optional library is needed; the message is the command that installs it."""

    def __init__(self, library: str, extra: str, purpose: str = "this") -> None:
        super().__init__(f"{library} is needed for {purpose}: pip install 'geovlm[{extra}]'")
        self.library = library
        self.extra = extra

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str]]:
        return type(self), (self.library, self.extra)


class ImageError(GeovlmError):
    """One image cannot be read.

    Attributes:
        reason: What is wrong, in words.
        uri: Where the image is, when known.
    """

    def __init__(self, reason: str, *, uri: str | None = None) -> None:
        super().__init__(f"{uri}: {reason}" if uri else reason)
        self.reason = reason
        self.uri = uri


class NotGeoreferenced(GeovlmError, UserWarning):
    """A raster has no place on the Earth: no coordinate reference system, or another planet's.

    Given as a warning where work goes on in pixel coordinates, raised where longitude and latitude are asked for.
    """


class WeightsError(GeovlmError):
    """A checkpoint does not fit the model it is to be loaded into."""


class TrainingDiverged(GeovlmError):
    """The loss or its gradient is no longer a finite number; the last good checkpoint stays.

    Attributes:
        step: The step at which it happened, from 0; the weights were not changed by it.
    """

    def __init__(self, message: str, *, step: int | None = None) -> None:
        super().__init__(message)
        self.step = step


class RunLocked(GeovlmError):
    """Another process is writing in the same directory."""


class StorageError(GeovlmError):
    """The disk refused to take a result; finished parts stay and the call can be repeated."""


class StoreError(GeovlmError):
    """A vector store refused or lost something."""


class IncompleteUpsert(StoreError):
    """Some rows of an `upsert` were not written, or nobody knows whether they were.

    Calling again with the same rows is safe, and sends little of what is there already.

    Attributes:
        outcomes: What became of each row, in order, as `upsert` returns it; `None` for those that are not known to be
            written.
        reasons: Why, by id.
    """

    def __init__(self, outcomes: Sequence[str | None], reasons: Mapping[str, str]) -> None:
        key, reason = next(iter(reasons.items()))
        missing = sum(outcome is None for outcome in outcomes)
        super().__init__(
            f"{missing} of {len(outcomes)} rows were not written, the first is {key!r:.80}: {reason} The others are in"
            " the store; the same call can be repeated."
        )
        self.outcomes = list(outcomes)
        self.reasons = dict(reasons)

    def __reduce__(self) -> tuple[type[IncompleteUpsert], tuple[list[str | None], dict[str, str]]]:
        return type(self), (self.outcomes, self.reasons)


class ServiceError(GeovlmError):
    """A hosted service answered with an error.

    Attributes:
        status: The HTTP status, when there was an answer.
        request_id: The service's own name for the request, when it gave one.
    """

    def __init__(self, message: str, *, status: int | None = None, request_id: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.request_id = request_id


class AuthError(ServiceError):
    """The key is missing, wrong or not allowed to do this."""


class RateLimited(ServiceError):
    """Too many requests, and the allowed retries were used up.

    Attributes:
        retry_after: Seconds after which the service would take another one, when it told.
    """

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, status=status)
        self.retry_after = retry_after


class RateLimitedUpsert(IncompleteUpsert, RateLimited):
    """Some rows of an `upsert` were not written because there were too many requests."""

    def __init__(self, outcomes: Sequence[str | None], reasons: Mapping[str, str]) -> None:
        super().__init__(outcomes, reasons)
        self.status, self.request_id = 429, None


class ServiceUnavailable(ServiceError):
    """There was no answer, or the service failed, and the allowed retries were used up; it may work later."""


class RequestRefused(ServiceError):
    """The service will not do it as it was asked; the same request will be refused again."""


class ModelRetired(ServiceError):
    """The model is no longer served.

    Attributes:
        replacement: The model that takes its place, when known.
    """

    def __init__(self, message: str, *, status: int | None = None, replacement: str | None = None) -> None:
        super().__init__(message, status=status)
        self.replacement = replacement


class JobFailed(ServiceError):
    """A batch or fine-tuning job ended without a result."""
