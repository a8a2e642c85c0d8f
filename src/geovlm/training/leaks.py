"""What training and held-out data have in common, and should not."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import asdict, field, frozen

from geovlm._markup import lines, panel
from geovlm.errors import ImageError
from geovlm.imaging import open_image, resolve
from geovlm.sources.shards import ShardImage

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from geovlm.records import Record

__all__ = ["Leaks", "Shared", "find_leaks"]

# How many pairs of records a finding names.
SHOWN = 5
RECORDS_AT_ONCE = 256


def _examples(value: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(value)


@frozen(kw_only=True)
class Shared:
    """Held-out records that have something in common with training records.

    Args:
        count: How many held-out records.
        examples: The first of them: ids in training and held out.

    Examples:
        >>> Shared(count=1, examples=[("train-7", "val-3")]).examples
        (('train-7', 'val-3'),)
    """

    count: int = 0
    examples: tuple[tuple[str, str], ...] = field(default=(), converter=_examples)


@frozen(kw_only=True)
class Leaks:
    """What `find_leaks` found; false when it found nothing.

    Args:
        images: Records with the same image.
        scenes: Records of the same scene.
        ids: Records with the same id.
        held_out: How many held-out records there are.
        unread: Images, of both, that could not be read and compared.

    Examples:
        >>> bool(Leaks(images=Shared(), scenes=Shared(), ids=Shared(count=2), held_out=10))
        True
    """

    images: Shared
    scenes: Shared
    ids: Shared
    held_out: int
    unread: int = 0

    def __bool__(self) -> bool:
        return bool(self.images.count or self.scenes.count or self.ids.count)

    def __str__(self) -> str:
        found = [
            (self.images, "the same image as"),
            (self.scenes, "the same scene as"),
            (self.ids, "the id of"),
        ]
        lines = [
            f"{shared.count} of {self.held_out} held-out records have {what} a training record, such as"
            f" {_naming(shared)}."
            for shared, what in found
            if shared.count
        ]
        lines = lines or [f"Nothing of {self.held_out} held-out records is in the training data."]
        if self.unread:
            lines.append(f"{self.unread} images could not be read and were not compared.")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return panel("Leaks" if self else "No leaks", lines(str(self).splitlines()))

    def to_json(self) -> dict[str, Any]:
        """JSON-like."""
        return asdict(self)


def _naming(shared: Shared) -> str:
    train, held_out = shared.examples[0]
    return held_out if train == held_out else f"{held_out} ({train} in training)"


def find_leaks(train: Iterable[Record], val: Iterable[Record], *, scene: str = "scene") -> Leaks:
    """Find held-out records that training has seen: figures on these say nothing about new imagery.

    Images are compared by their encoded bytes; those that have none (PIL images, arrays) by their pixels. Only images
    of equal length are read, so that few of millions are. An image that was encoded again is not found; a scene in
    other tiles is, where `meta` names it.

    Args:
        train: Training records; read once.
        val: Held-out records; read once.
        scene: The name of a value in `meta` that is the same for all tiles of one scene.

    Examples:
        >>> from geovlm import Record
        >>> seen = Record(id="a", image=b"same bytes", meta={"scene": "S2A_32TMT_20240601"})
        >>> new = Record(id="b", image=b"other bytes", meta={"scene": "S2A_32TMT_20240601"})
        >>> print(find_leaks([seen], [new]))
        1 of 1 held-out records have the same scene as a training record, such as b (a in training).
    """
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="geovlm-leaks") as pool:
        held_out = _HeldOut(list(val), scene, pool)
        records = iter(train)
        while chunk := list(islice(records, RECORDS_AT_ONCE)):
            held_out.compare(chunk)
    return held_out.leaks()


class _HeldOut:
    """Held-out records by what they may share, and the training record that was first found to share it."""

    def __init__(self, records: list[Record], scene: str, pool: ThreadPoolExecutor) -> None:
        self._records, self._scene, self._pool = records, scene, pool
        self._contents = [_Contents(record) for record in records]
        self._by_length: dict[Hashable, list[int]] = defaultdict(list)
        self._by_scene: dict[str, list[int]] = defaultdict(list)
        self._by_id: dict[str, list[int]] = defaultdict(list)
        self._images: dict[int, str] = {}
        self._scenes: dict[int, str] = {}
        self._ids: dict[int, str] = {}
        self._unread = 0
        for place, (record, length) in enumerate(zip(records, self._measure(self._contents), strict=True)):
            self._by_id[record.id].append(place)
            if record.meta.get(scene) is not None:
                self._by_scene[repr(record.meta[scene])].append(place)
            if length is not None:
                self._by_length[length].append(place)

    def compare(self, records: list[Record]) -> None:
        """Look for some training records among these."""
        contents = [_Contents(record) for record in records]
        alike: list[tuple[_Contents, list[int]]] = []
        for record, content, length in zip(records, contents, self._measure(contents), strict=True):
            # Each is found once, by the first that shares it.
            self._ids |= dict.fromkeys(self._by_id.pop(record.id, ()), record.id)
            self._scenes |= dict.fromkeys(self._by_scene.pop(repr(record.meta.get(self._scene)), ()), record.id)
            places = [place for place in self._by_length.get(length, ()) if place not in self._images]
            if places:
                alike.append((content, places))
        wanted = {place for _, places in alike for place in places}
        list(self._pool.map(_Contents.code, [content for content, _ in alike]))
        list(self._pool.map(_Contents.code, [self._contents[place] for place in wanted]))
        for content, places in alike:
            code = content.code()
            same = [place for place in places if code is not None and self._contents[place].code() == code]
            self._images |= {place: content.id for place in same if place not in self._images}

    def _measure(self, contents: list[_Contents]) -> list[Hashable]:
        lengths = list(self._pool.map(_Contents.length, contents))
        self._unread += lengths.count(None)
        return lengths

    def leaks(self) -> Leaks:
        """What was found."""
        return Leaks(
            images=self._shared(self._images),
            scenes=self._shared(self._scenes),
            ids=self._shared(self._ids),
            held_out=len(self._records),
            unread=self._unread,
        )

    def _shared(self, found: dict[int, str]) -> Shared:
        first = [(found[place], self._records[place].id) for place in sorted(found)[:SHOWN]]
        return Shared(count=len(found), examples=first)


class _Contents:
    """The image of a record, read no further than it takes to tell it from others."""

    def __init__(self, record: Record) -> None:
        self.id = record.id
        self._image: Any = record.image
        self._code: bytes | None = None

    def length(self) -> Hashable:
        """The number of bytes, or for decoded images the width and height; `None` for what cannot be read."""
        try:
            if isinstance(self._image, ShardImage):
                return self._image.size
            image = resolve(self._image)
            if isinstance(image, bytes):
                return len(image)
            if isinstance(image, str | os.PathLike):
                return Path(image).stat().st_size
            return None if image is None else open_image(image).size
        except (ImageError, OSError):
            return None

    def code(self) -> bytes | None:
        """A digest of the bytes or the pixels; `None` where they cannot be read."""
        if self._code is None:
            with suppress(ImageError, OSError):
                self._code = hashlib.sha256(self._bytes()).digest()
        return self._code

    def _bytes(self) -> bytes:
        image = resolve(self._image)
        if isinstance(image, bytes):
            return image
        if isinstance(image, str | os.PathLike):
            return Path(image).read_bytes()
        return open_image(image).tobytes()
