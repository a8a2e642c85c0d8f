"""Pairs in tar archives: WebDataset shards in img2dataset's layout."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from attrs import evolve, frozen

from geovlm._files import digest
from geovlm.errors import ImageError, UsageError
from geovlm.records import Record
from geovlm.sources._columns import choose, to_record
from geovlm.sources._shard_names import find_shards
from geovlm.sources._tar import read, samples

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from geovlm.sources._tar import Sample

__all__ = ["ShardImage", "ShardSource"]

IMAGE_ENDINGS = ("jpg", "jpeg", "png", "webp", "tif", "tiff", "jp2", "bmp", "gif")
SIZES = "sizes.json"
# Names in a row that no JSON has.
IMAGE, KEY = "(image)", "(key)"
# Samples need not have the same names in their JSON; those of the first ones are the columns.
FIRST_SAMPLES = 100


@frozen(kw_only=True)
class ShardImage:
    """The encoded image of a sample, read when it is called.

    Args:
        path: The shard.
        offset: Where the image begins.
        size: Its length in bytes.
    """

    path: Path
    offset: int
    size: int

    def __call__(self) -> bytes:
        """Read it.

        Raises:
            ImageError: The shard is gone or shorter than it was.
        """
        return read(self.path, self.offset, self.size)


class ShardSource:
    """The pairs in WebDataset shards: tar files with `0001.jpg`, `0001.txt` and `0001.json` side by side.

    Captions are a value of `.json` (`captions`, `caption`, `title` …; text or a list), or where it has none the lines
    of `.txt`. Other values of the JSON become the label, the footprint and `meta` by their names, as `TableSource`
    takes columns. A record's id is the value `id`, where there is one, else the key (`0001`).

    Shards stay packed, and images are read when they are opened, at their place in the shard: memory does not grow with
    the shards, a list of records is small, and `ContrastiveTrainer` draws pairs from millions in random order. Shards
    are plain tar files on a disk; other processes may read them, too.

    A shard that is cut off or damaged yields what comes before, then one record that fails with the reason. So does a
    sample whose JSON is broken.

    Args:
        shards: A folder, a path, a pattern (`"train/{00000..00127}.tar"`, `"train/*.tar"`), or a list of these.
        caption: The name in the JSON, or several, of captions; `"txt"` for the text file.
        label: The name of the class; if not given, one of a common name, or a `.cls` file.
        id: The name of the id.

    Raises:
        UsageError: A shard does not exist, with the nearest that does, or no shard has a sample.
        UnknownName: A value that is named is in none of the first samples.

    Examples:
        >>> import tempfile
        >>> from geovlm.sources.shard_writer import write_shards
        >>> scene = np.zeros((8, 8, 3), dtype=np.uint8)
        >>> with tempfile.TemporaryDirectory() as out:
        ...     report = write_shards([Record(id="a", image=scene, captions="a port")], out, progress=False)
        ...     source = ShardSource(out)
        ...     print([(record.id, record.captions, record.open().size) for record in source], len(source))
        [('a', ('a port',), (8, 8))] 1
    """

    def __init__(
        self,
        shards: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        caption: str | Sequence[str] | None = None,
        label: str | None = None,
        id: str | None = None,  # noqa: A002 - the word that users know
    ) -> None:
        self.paths: list[Path] = find_shards(shards)
        names = self._names()
        roles = choose(
            names,
            table="the shards",
            image=IMAGE,
            caption=caption,
            label=label,
            id=id or ("id" if "id" in names else KEY),
        )
        self._roles = evolve(
            roles,
            captions=roles.captions or ("txt",),
            label=roles.label or ("cls" if "cls" in names else None),
        )

    def __iter__(self) -> Iterator[Record]:
        for path in self.paths:
            try:
                for sample in samples(path):
                    yield self._record(path, sample)
            except ImageError as error:
                yield Record(id=path.name, image=partial(_fail, error.reason, path))

    def __len__(self) -> int:
        return sum(self.sizes)

    def __repr__(self) -> str:
        first, *rest = self.paths
        return f"ShardSource({first}{f' and {len(rest)} more' if rest else ''})"

    @property
    def labels(self) -> list[str]:
        """The classes, sorted; read from all shards."""
        return sorted({record.label for record in self if record.label is not None})

    @cached_property
    def sizes(self) -> list[int]:
        """Samples in each shard: by `sizes.json` beside the shards, where it is there, else by their headers.

        The end of a shard that is cut off counts as one.
        """
        stored = {folder: _stored_sizes(folder) for folder in {path.parent for path in self.paths}}
        return [
            size if (size := stored[path.parent].get(path.name)) is not None else self._count(number)
            for number, path in enumerate(self.paths)
        ]

    def _count(self, number: int) -> int:
        starts, reason = self.starts(number)
        return len(starts) + (reason is not None)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with the names, lengths and counts of the shards, and with what is read of them."""
        lengths = [path.stat().st_size for path in self.paths]
        names = [path.name for path in self.paths]
        read_as = [self._roles.captions, self._roles.label, self._roles.id]
        return digest([names, lengths, self.sizes, read_as])

    def starts(self, number: int) -> tuple[NDArray[np.int64], str | None]:
        """Where the samples of one shard begin, and what is wrong with the shard, if anything."""
        found: list[int] = []
        try:
            for sample in samples(self.paths[number]):
                found.append(sample.start)  # noqa: PERF401 - what comes before an error is kept
        except ImageError as error:
            return np.array(found, dtype=np.int64), error.reason
        return np.array(found, dtype=np.int64), None

    def at(self, number: int, start: int) -> Record:
        """The sample of one shard that begins at `start`.

        Raises:
            ImageError: It is not there any more.
        """
        path = self.paths[number]
        sample = next(samples(path, start), None)
        if sample is None:
            raise ImageError("the shard is shorter than it was", uri=str(path))
        return self._record(path, sample)

    def _names(self) -> list[str]:
        """What the first samples that can be read hold."""
        rows = list(islice(filter(None, self._rows()), FIRST_SAMPLES))
        if not rows:
            raise UsageError(
                f"{self!r} has no sample, that is, no files such as 0001.jpg and 0001.txt beside each other."
            )
        return list(dict.fromkeys(name for row in rows for name in row))

    def _rows(self) -> Iterator[dict[str, Any] | None]:
        for path in self.paths:
            with suppress(ImageError):
                yield from (_row(path, sample) for sample in samples(path))

    def _record(self, path: Path, sample: Sample) -> Record:
        row, roles = _row(path, sample), self._roles
        if row is None:
            return Record(id=sample.key, image=partial(_fail, "its .json is not valid JSON", path))
        key, texts = row.pop(KEY), row.get("txt", ())
        name = roles.id or KEY
        if row.get(name) is None:
            row[name] = key
        if "txt" not in roles.captions:
            row.pop("txt", None)
        record = to_record(row, roles, position=0, locate=str)
        return record if record.captions else record.with_captions(texts)


def _row(path: Path, sample: Sample) -> dict[str, Any] | None:
    """What is known of a sample, by name; `None` where its JSON is broken."""
    try:
        row = json.loads(_text(path, sample, "json") or "{}")
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    if row.get("key") == sample.key.rpartition("/")[2]:  # as img2dataset repeats it
        del row["key"]
    image = next((sample.parts[ending] for ending in IMAGE_ENDINGS if ending in sample.parts), None)
    row[KEY], row[IMAGE] = sample.key, image and ShardImage(path=path, offset=image[0], size=image[1])
    if "txt" in sample.parts:
        row["txt"] = [line for line in _text(path, sample, "txt").splitlines() if line.strip()]
    if "cls" in sample.parts:
        row["cls"] = _text(path, sample, "cls").strip()
    return row


def _text(path: Path, sample: Sample, ending: str) -> str:
    return read(path, *sample.parts[ending]).decode("utf-8", "replace") if ending in sample.parts else ""


def _fail(reason: str, path: Path) -> NoReturn:
    raise ImageError(reason, uri=str(path))


def _stored_sizes(folder: Path) -> dict[str, int]:
    path = folder / SIZES
    if not path.exists():
        return {}
    try:
        sizes = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): int(size) for name, size in sizes.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} does not give a number for each shard ({error}); remove it, and they are counted."
        ) from error
