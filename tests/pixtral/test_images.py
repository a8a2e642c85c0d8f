"""Images on their way to a model."""

from __future__ import annotations

import base64
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from geovlm import Record
from geovlm.errors import ImageError, UsageError
from geovlm.pixtral.images import ImageEncoding, as_list

SIDES = st.integers(1, 5000)


def opened(encoded):
    return Image.open(io.BytesIO(base64.b64decode(encoded.url.partition(",")[2])))


@given(SIDES, SIDES, st.integers(2, 4000))
def test_a_jpeg_is_never_decoded_too_small(width, height, most):
    encoding = ImageEncoding(max_tokens=most)
    assert min(encoding.grid.fit(width, height, max_tokens=most)) <= encoding._enough()


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (601, 599), (1024, 1025), (2500, 1700)])
@pytest.mark.parametrize("max_tokens", [None, 2, 50, 400])
def test_what_is_told_is_what_is_sent(tmp_path, size, max_tokens):
    Image.new("RGB", size, (90, 120, 60)).save(tmp_path / "a.jpg")
    encoding = ImageEncoding(max_tokens=max_tokens)
    encoded = encoding.encode(tmp_path / "a.jpg")
    assert opened(encoded).size == (encoded.width, encoded.height)
    assert encoded.tokens == encoding.grid.tokens(*opened(encoded).size)
    assert max_tokens is None or encoded.tokens <= max_tokens


def test_the_picture_is_the_same_picture():
    image = Image.new("RGB", (400, 200), (10, 200, 30))
    shown = opened(ImageEncoding(max_tokens=60).encode(image))
    assert all(abs(a - b) <= 3 for a, b in zip(shown.getpixel((5, 5)), (10, 200, 30), strict=True))


def test_quality_changes_size():
    noise = Image.effect_noise((200, 200), 80)
    small, large = (len(ImageEncoding(quality=quality).encode(noise).url) for quality in (20, 90))
    assert small * 2 < large


def test_repr_does_not_print_the_image():
    assert len(repr(ImageEncoding().encode(Image.new("RGB", (300, 300))))) < 200


def test_a_record_without_a_place_is_named():
    with pytest.raises(ImageError, match="the record 'x': the file is empty"):
        ImageEncoding().encode(Record(id="x", image=b""))


@pytest.mark.parametrize("wrong", [None, 7, {"a": 1}, iter([]), {"a.jpg"}])
def test_what_is_no_image(wrong):
    with pytest.raises(UsageError, match="one image or a list"):
        as_list(wrong)
