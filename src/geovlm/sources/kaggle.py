"""Data sets of images from Kaggle, by its own client."""

from __future__ import annotations

from pathlib import Path

from geovlm._optional import require
from geovlm.errors import ServiceError, UsageError
from geovlm.sources.folder import FolderSource

__all__ = ["download_kaggle"]


def download_kaggle(handle: str) -> FolderSource:
    """Download a data set with a folder for each class, such as AID, and read it as a `FolderSource`.

    `kagglehub` keeps what it downloads, so that a second call reads from disk; it asks for an account where Kaggle
    does. Folders that hold nothing but one other folder are stepped into, so that the class folders give the labels. A
    data set of another form can be read by a `FolderSource` or `TableSource` of one's own: `root` tells where it is.

    Args:
        handle: The data set's name at Kaggle, `"owner/name"` as in its address.

    Raises:
        UsageError: The handle is not of that form, or the data set holds no images.
        ServiceError: It cannot be downloaded.
        MissingExtra: `kagglehub` is not installed.

    Examples:
        >>> source = download_kaggle("jiayuanchengala/aid-scene-classification-datasets")  # doctest: +SKIP
        >>> source.labels[:2]  # doctest: +SKIP
        ['Airport', 'BareLand']
        >>> from geovlm import GeovlmError
        >>> try:
        ...     download_kaggle("aid")
        ... except GeovlmError:  # says how a handle looks, or what to install
        ...     print("refused")
        refused
    """
    hub = require("kagglehub", extra="kaggle", purpose="data sets of Kaggle")
    try:
        folder = Path(hub.dataset_download(handle))
    except ValueError as error:
        raise UsageError(f"{handle!r} is not a data set's handle, such as 'owner/name': {error}") from error
    except OSError as error:  # those of the HTTP library too
        raise ServiceError(f"Kaggle did not give {handle!r}: {error}") from error
    return FolderSource(_with_classes(folder))


def _with_classes(folder: Path) -> Path:
    """The first folder on the way down that holds more than one folder."""
    inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return _with_classes(inside[0]) if len(inside) == 1 and inside[0].is_dir() else folder
