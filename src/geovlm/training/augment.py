"""Changes of training images that keep what a view from above means, in 8 bits and without torch.

Pillow's resampling is antialiased, lets go of the interpreter lock, and took less time on a processor than
`grid_sample` on whole batches, so it runs in the threads that decode.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from geovlm.training.config import Augmentation

# The eight ways to lay a square on itself are these four, mirrored or not.
TURNS = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)

# Rec. 601 luma, as Pillow's own conversion to grey.
LUMA = np.array([0.299, 0.587, 0.114])

# How much narrower or wider than the image a crop may be.
MAX_ASPECT = 4 / 3

# Larger copies would cost memory for detail that only the smallest crops show.
MAX_OVERSIZE = 1.5


def decoded_side(size: int, augmentation: Augmentation) -> int:
    """Side in pixels at which images are kept, so that the smallest crop still fills `size` pixels.

    Examples:
        >>> from geovlm.training.config import Augmentation
        >>> decoded_side(224, Augmentation(crop=(0.64, 1.0))), decoded_side(224, Augmentation.off())
        (280, 224)
    """
    return round(size * min(MAX_OVERSIZE, 1 / math.sqrt(augmentation.crop[0])))


def augment(pixels: NDArray[np.uint8], rng: Generator, augmentation: Augmentation, *, size: int) -> NDArray[np.uint8]:
    """Crop, resize, turn, mirror and colour one image.

    Args:
        pixels: `(side, side, 3)`.
        rng: Where the random numbers come from; the same state gives the same image.
        augmentation: What is done.
        size: Side in pixels of the result.

    Returns:
        uint8 `(size, size, 3)`.
    """
    image = Image.fromarray(pixels)
    box = _crop_box(len(pixels), rng, augmentation.crop)
    if box is not None or image.width != size:
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    if augmentation.rotate:
        turn = TURNS[rng.integers(4)]
        image = image if turn is None else image.transpose(turn)
    if augmentation.flip and rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if augmentation.color:
        image = image.convert("RGB", _color_matrix(image, rng, augmentation.color))
    return np.asarray(image)


def _crop_box(side: int, rng: Generator, span: tuple[float, float]) -> tuple[float, float, float, float] | None:
    """A random box whose share of the area lies in `span`, as in Szegedy et al. 2015; `None` for all of it."""
    if span == (1.0, 1.0):
        return None
    area = min(rng.uniform(*span), 1.0)
    # Both sides must fit, so the widest and the narrowest shape follow from the area.
    widest = min(math.log(MAX_ASPECT), abs(math.log(area)))
    aspect = math.exp(rng.uniform(-widest, widest))
    width, height = (min(side, side * math.sqrt(share)) for share in (area * aspect, area / aspect))
    left, top = rng.uniform(0, side - width), rng.uniform(0, side - height)
    return left, top, min(left + width, side), min(top + height, side)


def _color_matrix(image: Image.Image, rng: Generator, strength: float) -> tuple[float, ...]:
    """Brightness, contrast about the mean grey, and saturation, as one 3x4 matrix that Pillow applies at once."""
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3)
    grey = float(np.asarray(image, dtype=np.float32).mean(axis=(0, 1)) @ LUMA)
    mix = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * np.tile(LUMA, (3, 1)))
    offset = np.full((3, 1), brightness * (1 - contrast) * grey)
    return tuple(np.hstack([mix, offset]).ravel().tolist())
