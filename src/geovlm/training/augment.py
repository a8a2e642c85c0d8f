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
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geovlm.training.config import Augmentation

# How many random numbers one image takes.
DRAWS = 9

# The eight ways to lay a square on itself are these four, mirrored or not.
TURNS = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)

# Rec. 601 luma, as in Pillow's own conversion to grey.
LUMA = (0.299, 0.587, 0.114)

# How much wider than high a crop may be, or the other way round.
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


def augment(
    pixels: NDArray[np.uint8], draws: Sequence[float], augmentation: Augmentation, *, size: int
) -> NDArray[np.uint8]:
    """Crop, resize, turn, mirror and colour one image.

    Args:
        pixels: `(side, side, 3)`.
        draws: `DRAWS` random numbers from 0 to below 1; the same ones give the same image.
        augmentation: What is done.
        size: Side in pixels of the result.

    Returns:
        uint8 `(size, size, 3)`.
    """
    *place, turn, flip, one, two, three = draws
    image = Image.fromarray(pixels)
    box = _crop_box(image.width, augmentation.crop, place)
    if box is not None or image.width != size:
        image = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
    way = TURNS[int(turn * 4)]
    if augmentation.rotate and way is not None:
        image = image.transpose(way)
    if augmentation.flip and flip < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if augmentation.color:
        factors = [1 + augmentation.color * (2 * draw - 1) for draw in (one, two, three)]
        image = image.convert("RGB", _color_matrix(_mean_grey(image), *factors))
    return np.asarray(image)


def drop_words(caption: str, share: float, seed: int) -> str:
    """Leave out each word with the probability `share`; one word at least stays.

    Examples:
        >>> drop_words("many planes are parked near a terminal", 0.4, seed=1)
        'many planes parked a terminal'
    """
    words = caption.split()
    chances = np.random.default_rng(seed).random(len(words))
    kept = [word for word, chance in zip(words, chances, strict=True) if chance >= share]
    return " ".join(kept or [words[int(chances.argmax())]])


def _crop_box(side: int, span: tuple[float, float], draws: Sequence[float]) -> tuple[float, float, float, float] | None:
    """A random box whose share of the area lies in `span`, as in Szegedy et al. 2015; `None` for all of it."""
    if span == (1.0, 1.0):
        return None
    area, aspect, left, top = draws
    share = min(1.0, span[0] + area * (span[1] - span[0]))
    # Both sides must fit, so the widest and the narrowest shape follow from the area.
    widest = min(math.log(MAX_ASPECT), -math.log(share))
    ratio = math.exp(widest * (2 * aspect - 1))
    width, height = min(side, side * math.sqrt(share * ratio)), min(side, side * math.sqrt(share / ratio))
    x, y = left * (side - width), top * (side - height)
    return x, y, min(x + width, side), min(y + height, side)


def _mean_grey(image: Image.Image) -> float:
    """Of a sixteenth of the pixels, which is enough."""
    red, green, blue = np.asarray(image)[::4, ::4].mean(axis=(0, 1)).tolist()
    return float(LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)


def _color_matrix(grey: float, brightness: float, contrast: float, saturation: float) -> tuple[float, ...]:
    """Brightness, contrast about the mean grey, and saturation, as one 3x4 matrix that Pillow applies at once."""
    gain, offset = brightness * contrast, brightness * (1 - contrast) * grey
    rows = []
    for channel in range(3):
        row = [gain * (1 - saturation) * weight for weight in LUMA]
        row[channel] += gain * saturation
        rows += [*row, offset]
    return tuple(rows)
