"""One vector for a scene whichever way it is turned: images from above have no up."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from geovlm._vectors import unit_rows
from geovlm.errors import UsageError
from geovlm.protocols import PixelEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from geovlm.protocols import Encoder, Vectors

__all__ = ["RotationEncoder"]


class RotationEncoder:
    """An encoder that looks at every image in four rotations, and averages the vectors.

    Test-time augmentation with the symmetry that overhead imagery has: it takes four times the time per image, no
    training, and gives a scene the same vector in all four orientations. Texts cost what they did. How much it gives on
    held-out scenes is in the benchmarks.

    Args:
        encoder: What embeds each rotation.

    Raises:
        UsageError: The encoder has no `encode_pixels`.

    Examples:
        >>> from PIL import Image
        >>> from geovlm import new_encoder
        >>> vision = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}
        >>> text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
        >>> plain = new_encoder({"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}, dtype="float32")
        >>> scene = Image.linear_gradient("L")
        >>> turned = [scene, scene.transpose(Image.Transpose.ROTATE_90)]
        >>> for encoder in (plain, RotationEncoder(plain)):
        ...     one, other = encoder.encode_images(turned)
        ...     print(bool(np.allclose(one, other, atol=1e-4)))
        False
        True
    """

    name: str
    dim: int
    image_size: int

    def __init__(self, encoder: Encoder) -> None:
        if not isinstance(encoder, PixelEncoder):
            raise UsageError(f"A RotationEncoder turns pixels, and {encoder!r:.80} takes none (no encode_pixels).")
        self._encoder = encoder
        self.name = f"{encoder.name} in four rotations"
        self.dim = encoder.dim
        self.image_size = encoder.image_size

    def __repr__(self) -> str:
        return f"RotationEncoder({self._encoder!r})"

    @property
    def fingerprint(self) -> str:
        """Another than the encoder's own: the vectors of images differ."""
        return hashlib.sha256(f"rotations of {self._encoder.fingerprint}".encode()).hexdigest()[:16]

    @property
    def logit_scale(self) -> float:
        """The encoder's own."""
        return self._encoder.logit_scale

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts, as the encoder does."""
        return self._encoder.encode_texts(texts)

    def encode_images(self, images: Sequence[Image.Image]) -> Vectors:
        """Embed RGB images of any size: float32 `(len(images), dim)`, L2-normalised."""
        if not images:
            return np.empty((0, self.dim), dtype=np.float32)
        return self.encode_pixels(np.stack([self.preprocess(image) for image in images]))

    def preprocess(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize and crop one RGB image, as the encoder does."""
        return self._encoder.preprocess(image)

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> Vectors:
        """Embed preprocessed images: uint8 `(n, image_size, image_size, 3)` to float32 `(n, dim)`, L2-normalised."""
        total = np.zeros((len(pixels), self.dim), dtype=np.float32)
        for turns in range(4):
            total += self._encoder.encode_pixels(np.ascontiguousarray(np.rot90(pixels, turns, axes=(1, 2))))
        return unit_rows(total, what="image")
