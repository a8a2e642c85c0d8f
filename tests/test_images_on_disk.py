"""Images without a path get one that outlives the program."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geovlm import Record
from geovlm._images_on_disk import keep_image
from geovlm.errors import ImageError

SCENE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (4, 6, 3), dtype=np.uint8))


def _encoded(file_format: str) -> bytes:
    buffer = io.BytesIO()
    SCENE.save(buffer, format=file_format)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("image", "ending"),
    [
        (SCENE, ".png"),
        (np.asarray(SCENE), ".png"),
        (lambda: SCENE, ".png"),
        (_encoded("JPEG"), ".jpg"),
        (_encoded("TIFF"), ".tif"),
        (_encoded("WEBP"), ".webp"),
        (lambda: _encoded("JPEG2000"), ".jp2"),
    ],
)
def test_images_are_saved_by_id(tmp_path, image, ending):
    record = Record(id="a/b ü.tif", image=image, captions="a field", label="Field", meta={"year": 1})
    kept = keep_image(record, tmp_path)
    assert kept == record  # all but the image
    assert Path(kept.uri).parent == Path("images")
    assert Path(kept.uri).suffix == ending
    saved = tmp_path / kept.uri
    encoded = image() if callable(image) else image
    if isinstance(encoded, bytes):
        assert saved.read_bytes() == encoded
    else:
        assert Image.open(saved).tobytes() == SCENE.tobytes()
    again = keep_image(record, tmp_path)
    assert again.uri == kept.uri
    assert list((tmp_path / "images").iterdir()) == [saved]


def test_two_ids_are_two_files(tmp_path):
    assert (
        keep_image(Record(id="a", image=SCENE), tmp_path).uri != keep_image(Record(id="b", image=SCENE), tmp_path).uri
    )


def test_files_stay_where_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for image in ("x/a.png", Path("x/a.png"), lambda: "x/../x/a.png"):
        assert keep_image(Record(id="a", image=image), tmp_path / "out").uri == str(tmp_path / "x" / "a.png")
    assert keep_image(Record(id="a", image="s3://x/a.png"), tmp_path / "out").uri == "s3://x/a.png"
    assert not (tmp_path / "out").exists()


def test_a_record_of_text_has_nothing_to_keep(tmp_path):
    record = Record(id="a", captions="words")
    assert keep_image(record, tmp_path) is record


@pytest.mark.parametrize("image", [b"no image", lambda: None, lambda: 1 / 0, np.zeros((2, 2, 7))])
def test_what_is_no_image(tmp_path, image):
    with pytest.raises(ImageError):
        keep_image(Record(id="a", image=image), tmp_path)
    assert not (tmp_path / "images").exists()


FULL_DISK = """
import resource, sys
from pathlib import Path
from geovlm import Record
from geovlm._images_on_disk import keep_image
from geovlm.errors import StorageError
from PIL import Image
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # files of more than 100 bytes are refused
try:
    keep_image(Record(id="a", image=Image.effect_noise((64, 64), 50)), Path(sys.argv[1]))
except StorageError as error:
    print(error)
"""


def test_a_disk_that_refuses(tmp_path):
    run = subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, check=True)
    assert "could not be written (File too large)" in run.stdout
    assert list((tmp_path / "images").iterdir()) == []
