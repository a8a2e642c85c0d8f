"""A place on disk for images that have none, so that rows on disk stay usable when the program ends."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from attrs import evolve
from PIL import Image

from geovlm._files import digest, write_atomically
from geovlm.errors import ImageError
from geovlm.imaging import open_image, resolve

if TYPE_CHECKING:
    from pathlib import Path

    from geovlm.records import Record

IMAGES = "images"
TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def keep_image(record: Record, out: Path) -> Record:
    """Give a record's image a path that can be stored in the tables of `out`.

    A file stays where it is and is named by its absolute path. Encoded bytes are written as they are, anything else
    (PIL images, arrays) as an 8-bit RGB PNG, to `out/images/<digest of the id>.<format>`; these are named relative to
    `out`, so that the directory can be moved. `Dataset.open(out)` resolves them.

    A repeated call writes the same file again, so that a killed run leaves nothing half done.

    Args:
        record: Any record; one without an image comes back as it is.
        out: The directory of the run.

    Returns:
        The record with a path as its image: the row to store, `to_table([keep_image(record, out)])`.

    Raises:
        ImageError: The image cannot be read, or its bytes are no image.
        StorageError: The disk refused.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from geovlm.records import Record
        >>> with tempfile.TemporaryDirectory() as out:
        ...     kept = keep_image(Record(id="scene 1", image=Image.new("RGB", (4, 4))), Path(out))
        ...     print(kept.uri, (Path(out) / kept.uri).exists())
        images/1abf96971e3e28e3.png True
    """
    if record.image is None:
        return record
    image = resolve(record.image)
    if isinstance(image, str | os.PathLike):
        return evolve(record, image=_absolute(os.fspath(image)))
    if isinstance(image, bytes):
        data, extension = image, _extension(image)
    else:
        data, extension = _png(open_image(image)), "png"
    uri = f"{IMAGES}/{digest(record.id)}.{extension}"
    write_atomically(out / uri, lambda temporary: temporary.write_bytes(data))
    return evolve(record, image=uri)


def _absolute(path: str) -> str:
    return path if "://" in path else os.path.abspath(path)  # noqa: PTH100 - Path.absolute keeps ".." in the name


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _extension(data: bytes) -> str:
    try:
        with Image.open(io.BytesIO(data)) as image:
            name = (image.format or "").lower()
    except Exception as error:
        if data[:4] in TIFF_HEADS:  # bands and sample types that Pillow does not know
            return "tif"
        raise ImageError("the bytes are not an image, or of a format that Pillow does not know") from error
    return {"jpeg": "jpg", "tiff": "tif", "jpeg2000": "jp2"}.get(name, name)
