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
    """Root of every error that geovlm raises on purpose.

    Examples:
        >>> from geovlm import FolderSource
        >>> try:
        ...     FolderSource("no/such/folder")
        ... except GeovlmError as error:
        ...     print(type(error).__name__)
        UsageError
    """


class UsageError(GeovlmError, ValueError):
    """An argument or a setting cannot be right; nothing was started.

    Examples:
        >>> from geovlm import TrainingConfig
        >>> TrainingConfig(batch_size=1)
        Traceback (most recent call last):
        ...
        geovlm.errors.UsageError: batch_size is a whole number of at least 2, not 1. ...
    """


class UnknownName(UsageError):
    """A name that no registry knows; the message offers the nearest ones.

    Args:
        kind: What it is the name of, in words.
        name: What was given.
        known: The names there are.

    Examples:
        >>> print(UnknownName("encoder", "skyclip-vit-b32", ["skyclip-vit-b-32", "georsclip-vit-b-32"]))
        No encoder is called 'skyclip-vit-b32'. Did you mean skyclip-vit-b-32 or georsclip-vit-b-32?
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        # Imported here: a mistake in a name is rare, and the module costs time at import.
        from difflib import get_close_matches

        names = sorted(known)
        spelt = {one.casefold(): one for one in reversed(names)}
        near = [spelt[one] for one in get_close_matches(name.casefold(), spelt, n=3, cutoff=0.5)]
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(names) or 'none'}."
        super().__init__(f"No {kind} is called {name!r}. {hint}")
        self.name = name


class ConfigMismatch(UsageError):
    """A run directory or a store holds results made with other settings.

    Examples:
        >>> from geovlm import NumpyStore
        >>> store = NumpyStore()
        >>> store.bind(dim=2, fingerprint="one encoder")
        >>> try:
        ...     store.bind(dim=2, fingerprint="another encoder")
        ... except ConfigMismatch as error:
        ...     print("refused")
        refused
    """


class MissingExtra(GeovlmError, ImportError):
    """An optional library is needed; the message is the command that installs it.

    Args:
        library: What could not be imported.
        extra: What brings it.
        purpose: What it is needed for, in words.

    Examples:
        >>> print(MissingExtra("rasterio", "geo", "GeoTIFFs"))
        rasterio is needed for GeoTIFFs: pip install 'geovlm[geo]' brings it.
    """

    def __init__(self, library: str, extra: str, purpose: str = "this") -> None:
        super().__init__(f"{library} is needed for {purpose}: pip install 'geovlm[{extra}]' brings it.")
        self.library = library
        self.extra = extra

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str]]:
        return type(self), (self.library, self.extra)


class ImageError(GeovlmError):
    """One image cannot be read.

    Args:
        reason: What is wrong, in words.
        uri: Where the image is, when known.

    Attributes:
        reason: What is wrong, in words.
        uri: Where the image is, when known.

    Examples:
        >>> from geovlm import open_image
        >>> open_image(b"")
        Traceback (most recent call last):
        ...
        geovlm.errors.ImageError: the file is empty.
    """

    def __init__(self, reason: str, *, uri: str | None = None) -> None:
        message = f"{uri}: {reason}" if uri else reason
        super().__init__(message if message.endswith((".", "?", "!")) else f"{message}.")
        self.reason = reason
        self.uri = uri


class NotGeoreferenced(GeovlmError, UserWarning):
    """A raster has no place on the Earth: no coordinate reference system, or another planet's.

    Given as a warning where work goes on in pixel coordinates, raised where longitude and latitude are asked for.

    Examples:
        >>> import warnings
        >>> warnings.simplefilter("error", NotGeoreferenced)  # rather stop than work in pixels
        >>> warnings.simplefilter("default", NotGeoreferenced)
    """


class WeightsError(GeovlmError):
    """A checkpoint does not fit the model it is to be loaded into.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from geovlm import load_encoder
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     (Path(folder) / "half.safetensors").write_bytes(b"half a file")
        ...     try:
        ...         load_encoder(Path(folder) / "half.safetensors", architecture="ViT-B-32")
        ...     except WeightsError:
        ...         print("fetch it again")
        11
        fetch it again
    """


class TrainingDiverged(GeovlmError):
    """The loss or its gradient is no longer a finite number; the last good checkpoint stays.

    Args:
        message: What happened, and what to do.
        step: The step at which it happened, from 0.

    Attributes:
        step: The step at which it happened, from 0; the weights were not changed by it.

    Examples:
        >>> TrainingDiverged("The loss is nan at step 12; lower the learning rate.", step=11).step
        11
    """

    def __init__(self, message: str, *, step: int | None = None) -> None:
        super().__init__(message)
        self.step = step


class RunLocked(GeovlmError):
    """Another process is writing in the same directory.

    Examples:
        >>> from geovlm import embed
        >>> def wait_and_repeat(source, encoder, out):
        ...     try:
        ...         return embed(source, encoder, out=out)
        ...     except RunLocked:  # another process is at it
        ...         return None
    """


class StorageError(GeovlmError):
    """The disk refused to take a result; finished parts stay and the call can be repeated.

    Examples:
        >>> import tempfile
        >>> from geovlm import Record, embed
        >>> from geovlm.testing import HashEncoder
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     try:
        ...         embed([Record(id="a", image=b"")], HashEncoder(), out=file.name)
        ...     except StorageError:
        ...         print("a file is no folder for results")
        a file is no folder for results
    """


class StoreError(GeovlmError):
    """A vector store refused or lost something.

    Examples:
        >>> import tempfile
        >>> from geovlm import NumpyStore
        >>> with tempfile.TemporaryDirectory() as empty:
        ...     try:
        ...         NumpyStore.open(empty)
        ...     except StoreError:
        ...         print("there is no store")
        there is no store
    """


class IncompleteUpsert(StoreError):
    """Some rows of an `upsert` were not written, or nobody knows whether they were.

    Calling again with the same rows is safe, and sends little of what is there already.

    Args:
        outcomes: What became of each row; `None` for those that are not known to be written.
        reasons: Why, by id.

    Attributes:
        outcomes: What became of each row, in order, as `upsert` returns it; `None` for those that are not known to be
            written.
        reasons: Why, by id.

    Examples:
        >>> error = IncompleteUpsert(["inserted", None], {"b": "it is too large."})
        >>> [key for key in error.reasons]
        ['b']
    """

    def __init__(self, outcomes: Sequence[str | None], reasons: Mapping[str, str]) -> None:
        key, reason = next(iter(reasons.items()))
        missing = sum(outcome is None for outcome in outcomes)
        super().__init__(
            f"{missing} of {len(outcomes)} rows were not written, the first is {key!r:.80}: {reason} The others are in"
            " the store; the same call can be repeated."
        )
        self.outcomes: list[str | None] = list(outcomes)
        self.reasons: dict[str, str] = dict(reasons)

    def __reduce__(self) -> tuple[type[IncompleteUpsert], tuple[list[str | None], dict[str, str]]]:
        return type(self), (self.outcomes, self.reasons)


class ServiceError(GeovlmError):
    """A hosted service answered with an error.

    Args:
        message: What happened, and what to do.
        status: The HTTP status, when there was an answer.
        request_id: The service's own name for the request, when it gave one.

    Attributes:
        status: The HTTP status, when there was an answer.
        request_id: The service's own name for the request, when it gave one.

    Examples:
        >>> ServiceError("The server refuses the request (HTTP 400).", status=400).status
        400
    """

    def __init__(self, message: str, *, status: int | None = None, request_id: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.request_id = request_id


class AuthError(ServiceError):
    """The key is missing, wrong or not allowed to do this.

    Args:
        message: What happened, and what to do.
        status: The HTTP status, when there was an answer.
        request_id: The service's own name for the request, when it gave one.

    Examples:
        >>> issubclass(AuthError, ServiceError)
        True
    """


class RateLimited(ServiceError):
    """Too many requests, and the allowed retries were used up.

    Args:
        message: What happened, and what to do.
        status: The HTTP status, when there was an answer.
        retry_after: Seconds after which the service would take another request, when it told.

    Attributes:
        retry_after: Seconds after which the service would take another one, when it told.

    Examples:
        >>> RateLimited("Too many requests.", status=429, retry_after=7).retry_after
        7
    """

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, status=status)
        self.retry_after = retry_after


class RateLimitedUpsert(IncompleteUpsert, RateLimited):
    """Some rows of an `upsert` were not written because there were too many requests.

    Args:
        outcomes: What became of each row; `None` for those that are not known to be written.
        reasons: Why, by id.

    Examples:
        >>> isinstance(RateLimitedUpsert([None], {"a": "too many requests."}), RateLimited)
        True
    """

    def __init__(self, outcomes: Sequence[str | None], reasons: Mapping[str, str]) -> None:
        super().__init__(outcomes, reasons)
        self.status: int = 429
        self.request_id: None = None


class ServiceUnavailable(ServiceError):
    """There was no answer, or the service failed, and the allowed retries were used up; it may work later.

    Args:
        message: What happened, and what to do.
        status: The HTTP status, when there was an answer.
        request_id: The service's own name for the request, when it gave one.

    Examples:
        >>> from geovlm import PixtralClient
        >>> client = PixtralClient("my-model", base_url="http://127.0.0.1:9", max_retries=0)
        >>> try:
        ...     client.ask("Hello")
        ... except ServiceUnavailable:
        ...     print("go on later")
        go on later
    """


class RequestRefused(ServiceError):
    """The service will not do it as it was asked; the same request will be refused again.

    Args:
        message: What happened, and what to do.
        status: The HTTP status, when there was an answer.
        request_id: The service's own name for the request, when it gave one.

    Examples:
        >>> issubclass(RequestRefused, ServiceError)
        True
    """


class ModelRetired(ServiceError):
    """The model is no longer served.

    Args:
        message: What happened, and what to do.
        status: The HTTP status, when there was an answer.
        replacement: The model that takes its place, when known.

    Attributes:
        replacement: The model that takes its place, when known.

    Examples:
        >>> ModelRetired("pixtral-12b-2409 was retired.", replacement="ministral-14b-2512").replacement
        'ministral-14b-2512'
    """

    def __init__(self, message: str, *, status: int | None = None, replacement: str | None = None) -> None:
        super().__init__(message, status=status)
        self.replacement = replacement


class JobFailed(ServiceError):
    """A batch or fine-tuning job ended without a result.

    Args:
        message: What happened, and what to do.
        status: The HTTP status, when there was an answer.
        request_id: The service's own name for the request, when it gave one.

    Examples:
        >>> issubclass(JobFailed, ServiceError)
        True
    """
