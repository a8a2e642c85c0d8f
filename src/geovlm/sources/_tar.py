"""Tar archives as samples: where the parts of each lie, without unpacking anything.

Headers are read at their places and contents are skipped. Plain headers, which are nearly all, are parsed here, in a
quarter of the time that `tarfile` takes; any other (long names, sparse files, links) is left to it. Nothing is ever
written, so that no archive can write outside of its folder.

The webdataset library is not used: it reads shards from front to back, so that an epoch is entered in the middle only
by reading what comes before, and its decoder unpickles what is named so.
"""

from __future__ import annotations

import os
import tarfile
from typing import TYPE_CHECKING, NamedTuple

from geovlm.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO
    from pathlib import Path

BLOCK = 512
END = bytes(BLOCK)


class Sample(NamedTuple):
    """Neighbours of one key: `a/0001.jpg`, `a/0001.txt` and `a/0001.json` have the key `a/0001`.

    Args:
        key: The name up to the first dot of its last part.
        start: Where its first header begins.
        parts: Offset and length of each content, by ending.
    """

    key: str
    start: int
    parts: dict[str, tuple[int, int]]


class _Member(NamedTuple):
    name: str
    start: int
    offset: int
    size: int
    following: int


def samples(path: Path, start: int = 0) -> Iterator[Sample]:
    """Samples in order, from the header at `start`.

    Raises:
        ImageError: The archive is cut off, damaged or cannot be read; what came before is good.
    """
    sample: Sample | None = None
    try:
        with path.open("rb", buffering=0) as file:
            for member in _members(file, start):
                key, ending = _split(member.name)
                if not key:
                    continue
                if sample is None or sample.key != key or ending in sample.parts:
                    if sample is not None:
                        yield sample
                    sample = Sample(key, member.start, {})
                sample.parts[ending] = member.offset, member.size
    except OSError as error:
        raise ImageError(f"the shard cannot be read ({error.strerror or error})", uri=str(path)) from error
    except _Cut as error:
        if sample is not None and sample.key != _split(error.within)[0]:
            yield sample
        raise ImageError(str(error), uri=str(path)) from error
    if sample is not None:
        yield sample


class _Cut(Exception):
    """The archive ends too early, perhaps within a member."""

    def __init__(self, reason: str, *, within: str = "") -> None:
        super().__init__(reason)
        self.within = within


def _members(file: FileIO, at: int) -> Iterator[_Member]:
    length = os.fstat(file.fileno()).st_size
    last = "its beginning"
    while True:
        file.seek(at)
        block = file.read(BLOCK)
        if block == END:
            return
        if len(block) < BLOCK:
            raise _Cut(f"the shard is cut off after {last}")
        try:
            member = _plain(block, at) or _other(file, at)
        except (ValueError, tarfile.TarError):
            member = None
        if member is None or member.following <= at:
            raise _Cut(f"the shard is damaged after {last}")
        if member.offset + member.size > length:
            raise _Cut(f"the shard is cut off in {member.name}", within=member.name)
        at, last = member.following, member.name or last
        if member.name:
            yield member


def _plain(block: bytes, at: int) -> _Member | None:
    """A regular file with a short name; `None` for anything else."""
    if block[156] not in b"0\0" or block[124] >= 0x80:
        return None
    if sum(block) - sum(block[148:156]) + 256 != _octal(block[148:156]):
        raise ValueError("not a header")
    size = _octal(block[124:136])
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0" and block[345]:
        name = block[345:500].partition(b"\0")[0] + b"/" + name
    padded = -(-size // BLOCK) * BLOCK
    return _Member(name.decode("utf-8", "backslashreplace"), at, at + BLOCK, size, at + BLOCK + padded)


def _octal(field: bytes) -> int:
    return int(field.partition(b"\0")[0] or b"0", 8)


def _other(file: FileIO, at: int) -> _Member | None:
    """Whatever `tarfile` finds there; without a name if it is no regular file."""
    file.seek(at)
    with tarfile.TarFile(fileobj=file, errors="backslashreplace") as archive:
        found = archive.next()
        if found is None:
            return None
        regular = found.isreg() and not found.issparse()
        name, size = (found.name, found.size) if regular else ("", 0)
        return _Member(name, at, found.offset_data, size, archive.offset)


def _split(name: str) -> tuple[str, str]:
    """Key and ending; no key for hidden files, which systems leave in archives."""
    folder, slash, last = name.removeprefix("./").rpartition("/")
    stem, _, ending = last.partition(".")
    return (folder + slash + stem if stem else ""), ending.lower()


def read(path: Path, offset: int, size: int) -> bytes:
    """Some bytes of a file.

    Raises:
        ImageError: They are not there any more.
    """
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            data = file.read(size)
    except OSError as error:
        raise ImageError(f"the shard cannot be read ({error.strerror or error})", uri=str(path)) from error
    if len(data) < size:
        raise ImageError("the shard is shorter than it was", uri=str(path))
    return data
