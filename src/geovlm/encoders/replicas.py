"""One encoder on several devices, in one process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from geovlm.errors import UsageError
from geovlm.protocols import PixelEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from geovlm.protocols import Vectors

__all__ = ["ReplicatedEncoder"]


class ReplicatedEncoder:
    """Equal encoders on several devices, each of which embeds its share of every batch, in a thread of its own.

    `load_encoder(…, device=["cuda:0", "cuda:1"])` makes one. The vectors are those of a single encoder. Texts, of
    which there are few, are embedded on the first device. Patches of images it does not embed (no `encode_dense`).

    Tested with several encoders on a CPU; nobody has measured it on several GPUs yet.

    Args:
        encoders: With the same fingerprint, one for each device.

    Raises:
        UsageError: There is none, one has no `encode_pixels`, or their fingerprints differ.

    Examples:
        >>> from geovlm import new_encoder
        >>> vision = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}
        >>> text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
        >>> one = new_encoder({"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}, device="cpu", dtype="float32")
        >>> both = ReplicatedEncoder([one, one.copy()])
        >>> pixels = np.zeros((5, 32, 32, 3), np.uint8)
        >>> bool(np.allclose(both.encode_pixels(pixels), one.encode_pixels(pixels), atol=1e-6))
        True
    """

    def __init__(self, encoders: Sequence[PixelEncoder]) -> None:
        self._encoders = list(encoders)
        if not self._encoders or not all(isinstance(encoder, PixelEncoder) for encoder in self._encoders):
            raise UsageError("A ReplicatedEncoder needs at least one encoder, and each of them encode_pixels.")
        if len({encoder.fingerprint for encoder in self._encoders}) > 1:
            raise UsageError("The encoders have different fingerprints: their vectors cannot be mixed.")
        first = self._encoders[0]
        self._first = first
        self.name = first.name
        self.dim = first.dim
        self.image_size = first.image_size

    def __repr__(self) -> str:
        return f"ReplicatedEncoder({self._encoders!r})"

    @property
    def fingerprint(self) -> str:
        """That of each of the encoders."""
        return self._first.fingerprint

    @property
    def logit_scale(self) -> float:
        """That of each of the encoders."""
        return self._first.logit_scale

    @property
    def logit_bias(self) -> float | None:
        """That of each of the encoders; `None` for models of the softmax kind."""
        return getattr(self._first, "logit_bias", None)

    @property
    def batch_size_hint(self) -> int:
        """How many images to give `encode_pixels` at once: as many for each encoder as the smallest asks for."""
        return len(self._encoders) * min(getattr(encoder, "batch_size_hint", 64) for encoder in self._encoders)

    def preprocess(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize and crop one RGB image, as the encoders do."""
        return self._first.preprocess(image)

    def encode_pixels(self, pixels: NDArray[np.uint8]) -> Vectors:
        """Embed preprocessed images: uint8 `(n, image_size, image_size, 3)` to float32 `(n, dim)`, L2-normalised."""
        parts = np.array_split(pixels, min(len(self._encoders), max(1, len(pixels))))
        with ThreadPoolExecutor(len(parts), thread_name_prefix="geovlm-replica") as threads:
            jobs = [
                threads.submit(encoder.encode_pixels, part)
                for encoder, part in zip(self._encoders, parts, strict=False)
            ]
            return np.concatenate([job.result() for job in jobs])

    def encode_images(self, images: Sequence[Image.Image]) -> Vectors:
        """Embed RGB images of any size: float32 `(len(images), dim)`, L2-normalised."""
        at_once, parts = self.batch_size_hint, [np.empty((0, self.dim), dtype=np.float32)]
        for start in range(0, len(images), at_once):
            prepared = [self.preprocess(image) for image in images[start : start + at_once]]
            parts.append(self.encode_pixels(np.stack(prepared)))
        return np.concatenate(parts)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts, as the first encoder does."""
        return self._first.encode_texts(texts)
