"""From a picture of any size to the square of pixels that a model looks at, the same bytes as its own library makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from attrs import asdict, field, frozen
from PIL import Image

from geovlm.errors import UsageError
from geovlm.imaging import as_rgb

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A strip of 1 x 10,000 pixels, its short side scaled to 224, would be 224 x 2,240,000: beyond this many times the
# square, only the part that is kept is computed. Both ways differ by rounding, so the common way is the library's.
MAX_ASPECT = 32

Colour: TypeAlias = tuple[float, float, float]


def _colour(value: Any) -> Colour:
    red, green, blue = (float(part) for part in (value if hasattr(value, "__len__") else [value] * 3))
    return red, green, blue


@frozen(kw_only=True)
class Preprocessing:
    """How a model's pictures are resized, cropped and normalised.

    Args:
        size: Side in pixels of the model's input.
        mean: Of red, green and blue, on the scale 0 to 1; subtracted.
        std: Of red, green and blue, on the scale 0 to 1; divided by.
        interpolation: A filter of Pillow's, in lower case.
        resize_mode: `"shortest"` scales the shorter side to `size` and cuts the middle out; `"longest"` scales the
            longer side and fills up; `"squash"` ignores the shape.
        crop: Where an odd pixel goes when the middle is cut out: `"round"` as torchvision and open_clip do it,
            `"floor"` as transformers does.
        fill: What `"longest"` fills up with, 0 to 255.

    Examples:
        >>> half = Preprocessing(size=32, mean=0.5, std=0.5)
        >>> half(Image.new("RGB", (60, 40))).shape
        (32, 32, 3)
    """

    size: int
    mean: Colour = field(converter=_colour)
    std: Colour = field(converter=_colour)
    interpolation: str = "bicubic"
    resize_mode: Literal["shortest", "longest", "squash"] = "shortest"
    crop: Literal["round", "floor"] = "round"
    fill: int = 0

    def __attrs_post_init__(self) -> None:
        if self.size < 1:
            raise UsageError(f"The size of a model's input is at least 1 pixel, not {self.size}.")
        if not all(part > 0 for part in self.std):
            raise UsageError(f"Standard deviations are positive, not {self.std}.")
        if self.interpolation.upper() not in Image.Resampling.__members__:
            names = ", ".join(name.lower() for name in Image.Resampling.__members__)
            raise UsageError(f"interpolation is one of {names}; not {self.interpolation!r}.")
        if self.resize_mode not in ("shortest", "longest", "squash"):
            raise UsageError(f"resize_mode is 'shortest', 'longest' or 'squash', not {self.resize_mode!r}.")

    def __call__(self, image: Image.Image, *, size: int | None = None) -> NDArray[np.uint8]:
        """Resize and crop one picture: uint8 `(size, size, 3)`, not normalised yet. Thread-safe.

        Args:
            image: Of any mode and size.
            size: Another side than the model's own, as augmentation wants it before it crops.
        """
        side = self.size if size is None else size
        return np.array(self._fit(as_rgb(image), side))

    def to_json(self) -> dict[str, Any]:
        """All of it, as a mapping."""
        return asdict(self)

    def _fit(self, image: Image.Image, side: int) -> Image.Image:
        resample = Image.Resampling[self.interpolation.upper()]
        if self.resize_mode == "squash":
            return image.resize((side, side), resample)
        if self.resize_mode == "longest":
            return self._pad(image.resize(_longest_to(image.size, side), resample), side)
        width, height = _shortest_to(image.size, side)
        left, top = self._offset(width - side), self._offset(height - side)
        if max(width, height) > MAX_ASPECT * side:
            across, down = image.width / width, image.height / height
            right, bottom = min((left + side) * across, image.width), min((top + side) * down, image.height)
            return image.resize((side, side), resample, box=(left * across, top * down, right, bottom))
        return image.resize((width, height), resample).crop((left, top, left + side, top + side))

    def _offset(self, surplus: int) -> int:
        return round(surplus / 2) if self.crop == "round" else surplus // 2

    def _pad(self, image: Image.Image, side: int) -> Image.Image:
        canvas = Image.new("RGB", (side, side), (self.fill,) * 3)
        canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        return canvas


def _shortest_to(size: tuple[int, int], side: int) -> tuple[int, int]:
    width, height = size
    return (side, int(side * height / width)) if width <= height else (int(side * width / height), side)


def _longest_to(size: tuple[int, int], side: int) -> tuple[int, int]:
    ratio = max(size) / side
    width, height = (max(1, round(length / ratio)) for length in size)
    return width, height
