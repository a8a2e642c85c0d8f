"""Images as a vision-language model takes them: small JPEGs in data URLs."""

from __future__ import annotations

import os
from math import isqrt
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from attrs import field, frozen
from PIL import Image

from geovlm.errors import ImageError, UsageError
from geovlm.imaging import ImageLike, open_image, to_data_url
from geovlm.pixtral._checks import whole
from geovlm.pixtral.tokens import FEWEST_TOKENS, PIXTRAL_GRID, VisionGrid
from geovlm.records import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["EncodedImage", "ImageEncoding", "ImageInput", "as_list"]

ImageInput: TypeAlias = "Record | ImageLike"
"""A record, or what `geovlm.open_image` takes: a path, encoded bytes, a PIL image, an array, a function."""


@frozen(kw_only=True)
class EncodedImage:
    """An image ready to be sent.

    Args:
        url: A `data:image/jpeg;base64,…` URL.
        width: In pixels, as sent.
        height: In pixels, as sent.
        tokens: What it costs.
    """

    url: str = field(repr=lambda value: f"<{len(value)} characters>")
    width: int
    height: int
    tokens: int


@frozen(kw_only=True)
class ImageEncoding:
    """How images are made small and encoded.

    Args:
        grid: How the model cuts images into tokens; nothing larger than it looks at is sent.
        max_tokens: The most that one image may cost; `None` for what the model can look at.
        quality: Of the JPEG, 1 to 95.

    Examples:
        >>> image = ImageEncoding(max_tokens=100).encode(Image.new("RGB", (600, 600)))
        >>> image.width, image.height, image.tokens, image.url[:23]
        (144, 144, 90, 'data:image/jpeg;base64,')
    """

    grid: VisionGrid = PIXTRAL_GRID
    max_tokens: int | None = field(default=None, validator=whole(FEWEST_TOKENS, optional=True))
    quality: int = field(default=85, validator=whole(1, 95))

    def encode(self, source: ImageInput) -> EncodedImage:
        """Read an image in whatever form and encode it; of an animation the first frame is sent.

        Raises:
            ImageError: It cannot be read.
        """
        image = _open(source, size_hint=self._enough())
        size = self.grid.fit(*image.size, max_tokens=self.max_tokens)
        if size != image.size:
            # As Pillow's own `thumbnail`: whole blocks are averaged first where the image is much too large.
            image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
        url = to_data_url(image, quality=self.quality)
        return EncodedImage(url=url, width=size[0], height=size[1], tokens=self.grid.tokens(*size))

    def _enough(self) -> int:
        """The smaller side in pixels that is surely enough: of all shapes in a budget, the square has the longest."""
        if self.max_tokens is None:
            return self.grid.max_side
        return min(self.grid.max_side, self.grid.patch * self.grid.merge * isqrt(self.max_tokens))


def _open(source: ImageInput, *, size_hint: int) -> Image.Image:
    try:
        return (
            source.open(size_hint=size_hint) if isinstance(source, Record) else open_image(source, size_hint=size_hint)
        )
    except ImageError as error:
        if error.uri is None and isinstance(source, Record):
            raise ImageError(f"the record {source.id!r}: {error.reason}") from error
        raise


def as_list(images: ImageInput | Sequence[ImageInput]) -> list[ImageInput]:
    """One or many images as a list.

    Raises:
        UsageError: There are none, or it is something else.

    Examples:
        >>> as_list("a.jpg"), as_list(["a.jpg", "b.jpg"])
        (['a.jpg'], ['a.jpg', 'b.jpg'])
    """
    if isinstance(images, list | tuple):
        if not images:
            raise UsageError("There is no image; give one or a list of them.")
        return list(images)
    if not isinstance(images, Record | str | os.PathLike | bytes | Image.Image | np.ndarray) and not callable(images):
        raise UsageError(f"images is one image or a list of them, not a {type(images).__name__}; make a list of it.")
    return [images]
