"""How mistakes are written down, and what they are made with."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest import mock

import attrs
import numpy as np
from PIL import Image

import geovlm as gv
from geovlm.testing import HashEncoder

TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
if TYPE_CHECKING:
    from pathlib import Path

NO_ERROR = "What no error tells"
MISTAKES: list[Mistake] = []
QUIET: list[Mistake] = []


@attrs.frozen
class Mistake:
    """One row of the table: `says` is the message, with … for what differs from time to time."""

    part: str
    title: str
    says: str
    remedy: str
    make: object


def mistake(part, title, says, remedy):
    def keep(make):
        MISTAKES.append(Mistake(part, title, says, remedy, make))
        return make

    return keep


def quiet(title, says, remedy):
    def keep(make):
        QUIET.append(Mistake(NO_ERROR, title, says, remedy, make))
        return make

    return keep


def lay_out(folder: Path) -> None:
    """What the mistakes are made with; they run in `folder`, so that messages have short paths."""
    for name, colour in (("beach-1", "yellow"), ("beach-2", "blue"), ("forest-1", "green"), ("forest-2", "black")):
        path = folder / "scenes" / name.partition("-")[0] / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), colour).save(path)
    for name in ("empty", "texts", "weights", "sites"):
        (folder / name).mkdir()
    (folder / "texts" / "notes.txt").write_text("no pictures here")
    (folder / "broken.jpg").write_bytes(b"<html>Not found</html>")
    (folder / "captions.csv").write_text("filepath,title\nscenes/beach/beach-1.png,a beach\n")
    (folder / "places.csv").write_text("site,note\n1,a beach\n")
    (folder / "weights" / "model.pt").write_bytes(b"PK\x03\x04 half an archive")
    write_raster(folder / "region.tif", crs="EPSG:32632")
    write_raster(folder / "flat.tif", crs=None)


def write_raster(path: Path, *, crs: str | None) -> None:
    import rasterio

    place = rasterio.Affine(1, 0, 500_000, 0, -1, 5_200_000) if crs else rasterio.Affine.identity()
    pixels = np.zeros((3, 64, 64), np.uint8)
    pixels[0, :, :32], pixels[1, :, 32:] = 220, 160
    with (
        warnings.catch_warnings(action="ignore"),
        rasterio.open(
            path, "w", driver="GTiff", width=64, height=64, count=3, dtype="uint8", crs=crs, transform=place
        ) as file,
    ):
        file.write(pixels)


def scenes():
    return gv.FolderSource("scenes")


def filled(encoder=None):
    index = gv.Index(encoder or HashEncoder())
    index.add(scenes())
    return index


def pairs(*captions):
    image = np.zeros((32, 32, 3), np.uint8)
    return [gv.Record(id=str(at), image=image, captions=text) for at, text in enumerate(captions)]


def tiny_clip():
    return gv.new_encoder(TINY_CLIP, name="tiny", device="cpu")


@contextmanager
def without(library):
    """As if `library` was not installed."""
    # Not patch.dict: that would also forget what is imported meanwhile, and its classes would be there twice.
    there = sys.modules.pop(library, None)
    sys.modules[library] = None
    try:
        yield
    finally:
        del sys.modules[library]
        if there is not None:
            sys.modules[library] = there


@contextmanager
def no_environment(*names):
    with mock.patch.dict(os.environ):
        for name in names:
            os.environ.pop(name, None)
        yield
