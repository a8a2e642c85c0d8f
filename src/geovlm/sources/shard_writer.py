"""Any source as WebDataset shards."""

from __future__ import annotations

import io
import os
import tarfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from geovlm._files import write_atomically, write_json
from geovlm._parts import Parts, fill, read_manifest
from geovlm._stream import map_batches
from geovlm._tables import dump_meta, to_table
from geovlm.errors import ConfigMismatch, ImageError, StorageError, UsageError
from geovlm.imaging import open_image, resolve
from geovlm.records import Failure, Record, Report
from geovlm.sources.shards import SIZES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from geovlm.protocols import ImageSource

__all__ = ["write_shards"]

KIND = "shards"
# What every reader of shards decodes; anything else becomes a PNG.
COMMON = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
# Enough to find a broken file, and JPEGs decode several times faster at an eighth of their size.
CHECKED_SIZE = 32
SIDES = ("west", "south", "east", "north")

# The ending and the bytes of an image.
Encoded = tuple[str, bytes]


def write_shards(
    source: ImageSource,
    folder: str | os.PathLike[str],
    *,
    images_a_shard: int = 2000,
    max_bytes: int = 1 << 30,
    on_error: Literal["skip", "raise"] = "skip",
    progress: bool | None = None,
) -> Report:
    """Write the images of any source to WebDataset shards, `00000.tar` and on, as `ShardSource` and others read them.

    JPEG, PNG and WebP files are copied byte by byte after a check that they can be decoded; other images become 8-bit
    RGB PNGs. A sample is the image, its first caption in `.txt`, and in `.json` the id, all captions, the label, the
    footprint and `meta`. Shuffle the source first if it is sorted and the shards are for programs that read them in
    order; `ContrastiveTrainer` shuffles by itself.

    A shard appears whole or not at all, and a ledger beside the shards says what became of every input. A call that was
    stopped goes on when it is repeated; inputs that failed are tried again, and new ones are added in new shards.
    `sizes.json` tells readers how many samples each shard has.

    Args:
        source: Records.
        folder: The directory.
        images_a_shard: Inputs that go into one shard, at most.
        max_bytes: A shard is closed before it becomes larger than this, unless a single sample is.
        on_error: `"raise"` stops at the first failure.
        progress: Show a bar; `None` decides by where the output goes.

    Returns:
        What became of every input.

    Raises:
        ConfigMismatch: The folder holds something else, or shards of other sizes.
        UsageError: A number is not at least 1.
        ImageError: An input failed, and `on_error` is `"raise"`.
        RunLocked: Another process is writing here.
        StorageError: The disk refused; finished shards are kept.

    Examples:
        >>> import tempfile
        >>> fields = [Record(id=name, image=Image.new("RGB", (8, 8), name), captions=name) for name in ("red", "blue")]
        >>> with tempfile.TemporaryDirectory() as out:
        ...     print(write_shards(fields, out, images_a_shard=1, progress=False))
        ...     print(sorted(path.name for path in Path(out).glob("*.tar")))
        shards: 2 done, 0 skipped, 0 failed of 2
        ['00000.tar', '00001.tar']
    """
    for name, value in (("images_a_shard", images_a_shard), ("max_bytes", max_bytes)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise UsageError(f"{name} is a whole number of at least 1, not {value!r}.")
    out = Path(folder).expanduser()
    if read_manifest(out) is None and any(out.glob("*.tar")):
        raise ConfigMismatch(f"{out} holds shards that geovlm did not write; choose another folder.")
    parts = Parts(out, kind=KIND, config={"images_a_shard": images_a_shard, "max_bytes": max_bytes})
    with _Writer(parts, out, max_bytes=max_bytes) as writer:
        report = fill(
            parts,
            source,
            stage=KIND,
            part_size=images_a_shard,
            process=lambda records: _pack(records, writer),
            to_part=writer.publish,
            on_error=on_error,
            progress=progress,
        )
    write_json(out / SIZES, dict(_shards_in(parts)))
    return report


def _pack(records: Iterable[Record], writer: _Writer) -> Iterator[tuple[Record, str | Failure]]:
    """Each record with the name of its shard; by the time that a part is full, its shards are too."""
    encoded = map_batches(records, prepare=_encode, run=lambda _, images: images, batch_size=32, stage="write")
    for record, outcome in encoded:
        yield record, outcome if isinstance(outcome, Failure) else writer.add(record, outcome)


def _encode(record: Record) -> Encoded:
    """Bytes that every reader can decode, those of the file where it is so already."""
    if record.image is None:
        raise ImageError("the record has no image")
    image = resolve(record.image)
    ending = _common_format(image) if isinstance(image, str | os.PathLike | bytes) else None
    if ending is not None:
        open_image(image, size_hint=CHECKED_SIZE)
        return ending, image if isinstance(image, bytes) else Path(image).read_bytes()
    buffer = io.BytesIO()
    open_image(image).save(buffer, format="PNG")
    return "png", buffer.getvalue()


def _common_format(image: str | os.PathLike[str] | bytes) -> str | None:
    """The ending, for 8 bits of a common format."""
    try:
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
            return None if opened.mode.startswith(("I", "F")) else COMMON.get(opened.format or "")
    except Exception:  # noqa: BLE001 - decoders raise anything; the reader that comes next says what is wrong
        return None


class _Writer:
    """Shards that are being written, under temporary names until their part is full."""

    def __init__(self, parts: Parts, out: Path, *, max_bytes: int) -> None:
        self._parts, self._out, self._max_bytes = parts, out, max_bytes
        self._closing = ExitStack()
        self._number: int | None = None
        self._archive: tarfile.TarFile | None = None
        self._written: list[str] = []
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.close()
        for name in self._written:
            self._temporary(name).unlink(missing_ok=True)

    def add(self, record: Record, image: Encoded) -> str:
        """Append a sample to the open shard, or to a new one; returns the shard's name."""
        contents = _contents(record, image)
        length = tarfile.RECORDSIZE + sum(len(data) + 2 * tarfile.BLOCKSIZE for _, data in contents)
        try:
            archive = self._archive
            if archive is None or (self._count and archive.offset + length > self._max_bytes):
                archive = self._open()
            name = self._written[-1]
            for ending, data in contents:
                member = tarfile.TarInfo(f"{name.removesuffix('.tar')}{self._count:04d}.{ending}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        except OSError as error:
            raise _refused(self._out, error) from error
        self._count += 1
        return name

    def _open(self) -> tarfile.TarFile:
        self._closing.close()
        if self._number is None:
            self._number = _next_number(self._parts)
        name = f"{self._number:05d}.tar"
        self._number += 1
        self._written.append(name)
        self._count = 0
        self._archive = tarfile.open(self._temporary(name), "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        return self._closing.enter_context(self._archive)

    def publish(self, chunk: Sequence[tuple[Record, str | Failure]]) -> pa.Table:
        """Give the shards of a part their names; returns the ledger's rows."""
        try:
            self._closing.close()
        except OSError as error:
            raise _refused(self._out, error) from error
        self._archive = None
        for name in self._written:
            write_atomically(self._out / name, self._temporary(name).replace)
        self._written = []
        rows = [
            record if isinstance(outcome, Failure) else Record(id=record.id, image=outcome) for record, outcome in chunk
        ]
        return to_table(rows, [outcome if isinstance(outcome, Failure) else None for _, outcome in chunk])

    def _temporary(self, name: str) -> Path:
        return self._out / f".{name}.part"


def _refused(out: Path, error: OSError) -> StorageError:
    return StorageError(
        f"A shard could not be written in {out} ({error.strerror or error}). Finished shards are kept: make room or"
        " mend the disk, then repeat the same call."
    )


def _contents(record: Record, image: Encoded) -> list[tuple[str, bytes]]:
    """The files of a sample."""
    fields: dict[str, Any] = dict(record.meta)
    if record.footprint is not None:
        fields |= zip(SIDES, record.footprint.bounds, strict=True)
    if record.label is not None:
        fields["label"] = record.label
    fields |= {"id": record.id, "captions": list(record.captions)}
    text = dump_meta(fields) or ""
    files = [image, ("json", _utf8(text))]
    if record.captions:
        files.append(("txt", _utf8(" ".join(record.captions[0].split()))))
    return files


def _utf8(text: str) -> bytes:
    """Half surrogates, which UTF-8 does not have, as JSON escapes them."""
    return text.encode("utf-8", "backslashreplace")


def _shards_in(parts: Parts) -> Counter[str]:
    """How many samples each shard of the ledger has."""
    counts: Counter[str] = Counter()
    for table in parts.tables(["uri", "reason"]):
        counts.update(table.filter(pc.is_null(table["reason"]))["uri"].to_pylist())
    return counts


def _next_number(parts: Parts) -> int:
    return 1 + max((int(Path(name).stem) for name in _shards_in(parts)), default=-1)
