"""Open rasters through rasterio: bounded memory, retries and timeouts, one handle a thread."""

from __future__ import annotations

import os
import warnings
from collections import OrderedDict
from contextlib import contextmanager
from threading import Lock, local
from typing import TYPE_CHECKING, Any

from attrs import frozen

from geovlm._optional import require
from geovlm.errors import GeovlmError, ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

# GDAL would keep decoded blocks in a twentieth of the machine's memory. Windows in rows need the blocks of two rows of
# windows: 84 MB for 20,000 columns in four bands of one byte, in tiles of 512 px.
CACHE_BYTES = 96 << 20

# What a remote read waits for, unless the environment says otherwise; GDAL itself would neither end nor try again.
REMOTE_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_HTTP_MAX_RETRY": "4",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
}

# Folders of many rasters must not hold a file open each.
OPEN_IN_A_THREAD = 8


def rasterio() -> ModuleType:
    """The library, or the error that says how to install it."""
    return require("rasterio", extra="geo", purpose="reading rasters")


@frozen
class Place:
    """What GDAL opens.

    Args:
        path: A path, a `/vsi…` path or the XML of a VRT.
        name: For people.
        is_remote: Whether requests go over a network.
        is_shared: One handle serves all threads, one at a time.
        parts: The paths of a VRT's files, for one that was put together here.
        state: Sizes and times of local files, so that a handle of a file that was written anew is not used.
    """

    path: str
    name: str
    is_remote: bool = False
    is_shared: bool = False
    parts: tuple[str, ...] = ()
    state: tuple[int, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of all files that it reads."""
        return self.parts or (self.path,)


class _Handles(local):
    def __init__(self) -> None:
        self.opened: OrderedDict[tuple[int, Place], Any] = OrderedDict()


_OWN = _Handles()
_SHARED: OrderedDict[tuple[int, Place], Any] = OrderedDict()
_SHARED_IN_USE, _OPENING = Lock(), Lock()


@contextmanager
def reading(place: Place) -> Iterator[Any]:
    """An open data set for this thread; what goes wrong with it is an `ImageError`."""
    with environment(is_remote=place.is_remote), _translated(place.name):
        if place.is_shared:
            with _SHARED_IN_USE:
                yield _get(_SHARED, place)
        else:
            yield _get(_OWN.opened, place)


def _get(handles: OrderedDict[tuple[int, Place], Any], place: Place) -> Any:
    # With the process's number: a forked process shares the position in an open file with its parent.
    key = (os.getpid(), place)
    if key not in handles:
        handles[key] = open_quietly(place.path)
        while len(handles) > OPEN_IN_A_THREAD:
            handles.popitem(last=False)[1].close()
    handles.move_to_end(key)
    return handles[key]


def open_quietly(path: str) -> Any:
    """Open without the warning that a file has no place on the map; `Raster` gives its own."""
    from rasterio.errors import NotGeoreferencedWarning

    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio().open(path)


def environment(*, is_remote: bool) -> Any:
    """Settings of GDAL for this thread, as long as it reads; those of the environment go first."""
    library = rasterio()
    wanted: dict[str, Any] = {"GDAL_CACHEMAX": CACHE_BYTES} | (REMOTE_OPTIONS if is_remote else {})
    given = library.env.getenv() if library.env.hasenv() else {}
    return library.Env(**{name: value for name, value in wanted.items() if name not in os.environ | given})


@contextmanager
def _translated(name: str) -> Iterator[None]:
    from rasterio.errors import RasterioError

    try:
        yield
    except GeovlmError:
        raise
    except (RasterioError, OSError, ValueError, MemoryError) as error:
        # rasterio's own sentence of a failed read only says to look at its cause.
        reason = error.__cause__ if "previous exception" in str(error) and error.__cause__ else error
        raise ImageError(f"GDAL cannot read it ({str(reason) or type(reason).__name__:.300})", uri=name) from error
