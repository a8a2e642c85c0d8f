"""Files that are whole or absent: atomic writes, JSON in one canonical form, a lock that dies with its process."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from geovlm.errors import RunLocked, StorageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` on a temporary neighbour, then move it into place; a reader never sees half a file.

    Raises:
        StorageError: The disk is full, read-only or gone; the temporary file is removed, as it is after any error.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        to_disk(temporary)
        temporary.replace(path)
        to_disk(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        raise StorageError(
            f"{path} could not be written ({error.strerror or error}). What was finished before is kept: make room or"
            " mend the disk, then repeat the same call."
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys, so that equal values are equal bytes."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> Any:
    """Read a JSON file, saying which one is broken when it is."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StorageError(f"{path} is not valid JSON ({error}); remove the directory and run again.") from error


def digest(value: Any) -> str:
    """A short stable name for a JSON-like value, or for bytes: 16 hex digits of its SHA-256."""
    data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """16 hex digits of a file's SHA-256, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def must_exist(path: Path) -> None:
    """Raise a `UsageError` that names the nearest path there is, if this one does not exist."""
    if not path.exists():
        near = nearest(path.absolute())
        raise UsageError(f"{path} does not exist." + (f" Did you mean {near}?" if near else ""))


def nearest(path: Path) -> Path | None:
    """The existing path whose name is most like that of an absolute path with typing errors; `None` if none is near."""
    from difflib import get_close_matches

    parent = next(folder for folder in path.parents if folder.is_dir())
    wrong, *rest = path.relative_to(parent).parts
    names = {entry.name.lower(): entry.name for entry in islice(parent.iterdir(), 10_000)}
    close = get_close_matches(wrong.lower(), names, n=1)
    if not close:
        return None
    guess = parent / names[close[0]]
    whole = guess.joinpath(*rest)
    return whole if whole.exists() else nearest(whole)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a directory for one writer; the operating system lets go when the process dies.

    Raises:
        RunLocked: Another process holds it.
        StorageError: The directory cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = (directory / ".lock").open("w")
    except OSError as error:
        raise StorageError(
            f"{directory} cannot be used for results ({error.strerror or error}); choose one that can be written."
        ) from error
    with file:
        if not _try_lock(file.fileno()):
            raise RunLocked(f"Another process is writing in {directory}. Wait for it, or choose another directory.")
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:  # not a POSIX system: work goes on without the guard
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def to_disk(path: Path) -> None:
    """Have the disk keep a file, or the list of names of a directory; until then a power cut can undo it."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
