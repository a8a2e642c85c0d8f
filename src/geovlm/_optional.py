"""Import an optional library, or say which extra installs it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from geovlm.errors import MissingExtra

if TYPE_CHECKING:
    from types import ModuleType


def require(library: str, *, extra: str, purpose: str = "this") -> ModuleType:
    """Import `library`, or raise `MissingExtra` naming the extra that brings it.

    Only the absence of the library itself is translated: an import error inside it is a broken
    installation, and hiding that behind "pip install" would send people the wrong way.
    """
    try:
        return import_module(library)
    except ModuleNotFoundError as error:
        package = library.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise MissingExtra(package, extra, purpose) from error
