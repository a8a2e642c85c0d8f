"""The paths that a folder of shards, a pattern or a list of these stands for."""

from __future__ import annotations

import glob
import os
import re
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from geovlm._files import must_exist
from geovlm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RANGE = re.compile(r"(\d+)\.\.(\d+)")
BRACES = re.compile(r"\{([^{}]*)\}")


def find_shards(shards: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Absolute paths, each once, in the order given; those of a folder or a pattern are sorted.

    Raises:
        UsageError: Nothing is there, or it is no plain tar file on a disk.
    """
    given = [shards] if isinstance(shards, str | os.PathLike) else list(shards)
    paths = list(dict.fromkeys(chain.from_iterable(_find(os.fspath(one)) for one in given)))
    if not paths:
        raise UsageError("No shards were given.")
    for path in paths:
        must_exist(path)
        if path.suffix != ".tar" or path.is_dir():
            raise UsageError(f"{path} is not a plain tar file (.tar); unpack what is compressed, e.g. with gunzip.")
    return paths


def _find(name: str) -> Iterator[Path]:
    if "://" in name or name.startswith("pipe:"):
        raise UsageError(f"Shards are read from files, and {name} is an address: download them first.")
    path = Path(name).expanduser().absolute()
    if path.is_dir():
        found = sorted(path.glob("*.tar"))
        if not found:
            raise UsageError(f"{path} holds no shard, that is, no file that ends in .tar.")
        yield from found
    elif path.exists():
        yield path
    else:
        for one in expand_braces(str(path)):
            yield from _matching(one)


def _matching(name: str) -> list[Path]:
    if not glob.has_magic(name):
        return [Path(name)]
    found = sorted(Path(one) for one in glob.glob(name))  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not found:
        raise UsageError(f"No file matches {name}.")
    return found


def expand_braces(name: str) -> Iterator[str]:
    """Names with each `{000..127}` or `{a,b}` written out, as shells and WebDataset do.

    Examples:
        >>> list(expand_braces("{train,val}/{08..10}.tar"))[:4]
        ['train/08.tar', 'train/09.tar', 'train/10.tar', 'val/08.tar']
    """
    braces = BRACES.search(name)
    if braces is None:
        yield name
        return
    bounds = RANGE.fullmatch(braces[1])
    if bounds:
        first, last = int(bounds[1]), int(bounds[2])
        if last < first:
            raise UsageError(f"{braces[0]} counts down; write {{{bounds[2]}..{bounds[1]}}}.")
        words = [f"{number:0{len(bounds[1])}d}" for number in range(first, last + 1)]
    else:
        words = braces[1].split(",")
    for word in words:
        yield from expand_braces(name[: braces.start()] + word + name[braces.end() :])
