"""Stand-ins for models: without weights, without torch, the same on every machine."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
from attrs import field, frozen
from PIL import Image

from geovlm._files import digest
from geovlm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from geovlm.protocols import Vectors
    from geovlm.records import Record

__all__ = ["COLOURS", "EchoCaptioner", "HashEncoder"]

COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "gray": (128, 128, 128),
    "red": (220, 30, 30),
    "green": (40, 160, 60),
    "blue": (40, 80, 200),
    "yellow": (240, 220, 60),
    "brown": (130, 90, 50),
}
"""The words that `HashEncoder` has for what it sees."""

# Keeps two pictures of the same colours apart, and their vectors close.
TEXTURE_WEIGHT = 0.05


@frozen(kw_only=True)
class HashEncoder:
    """An `Encoder` that knows words by their hashes, and pictures by the words for their colours.

    Texts that share words are close, and so are a picture and a text that names its colours. It is for tests and for
    trying things out; it understands nothing.

    Args:
        dim: Length of a vector.
        seed: Another seed is another space, and another fingerprint.
        logit_scale: What cosines are multiplied by before a softmax.

    Examples:
        >>> encoder = HashEncoder()
        >>> pictures = encoder.encode_images([Image.new("RGB", (8, 8), name) for name in ("red", "blue")])
        >>> (encoder.encode_texts(["something blue"]) @ pictures.T).argmax()
        np.int64(1)
    """

    dim: int = field(default=64)
    seed: int = 0
    logit_scale: float = 100.0

    @dim.validator
    def _check_dim(self, _: object, value: int) -> None:
        if value < 1:
            raise UsageError(f"dim is at least 1, not {value}.")

    @property
    def name(self) -> str:
        """For reading."""
        return f"hash-{self.dim}"

    @property
    def fingerprint(self) -> str:
        """Changes with `dim` and `seed`."""
        return digest({"encoder": "hash", "dim": self.dim, "seed": self.seed})

    def encode_images(self, images: Sequence[Image.Image]) -> Vectors:
        """Embed RGB images by their colours: float32 `(len(images), dim)`, L2-normalised."""
        return self._unit(self._see(image) for image in images)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts by their words: float32 `(len(texts), dim)`, L2-normalised."""
        return self._unit(self._read(text) for text in texts)

    def _see(self, image: Image.Image) -> NDArray[np.float64]:
        small = np.asarray(image.convert("RGB").resize((8, 8), Image.Resampling.BOX))
        palette = np.array(list(COLOURS.values()))
        nearest = np.square(small[:, :, None].astype(int) - palette).sum(axis=-1).argmin(axis=-1)
        shares = np.bincount(nearest.ravel(), minlength=len(palette)) / nearest.size
        seen = sum(share * self._word(name) for name, share in zip(COLOURS, shares, strict=True))
        return np.asarray(seen + TEXTURE_WEIGHT * self._word(small.tobytes().hex()))

    def _read(self, text: str) -> NDArray[np.float64]:
        words = re.findall(r"\w+", text.lower()) or [""]
        return np.asarray(sum(self._word(word) for word in words))

    def _word(self, word: str) -> NDArray[np.float64]:
        return _word_vector(word, self.dim, self.seed)

    def _unit(self, rows: Iterable[NDArray[np.float64]]) -> Vectors:
        matrix = np.array(list(rows)).reshape(-1, self.dim)
        return np.asarray(matrix / np.linalg.norm(matrix, axis=1, keepdims=True), dtype=np.float32)


@lru_cache(maxsize=4096)
def _word_vector(word: str, dim: int, seed: int) -> NDArray[np.float64]:
    code = int.from_bytes(blake2b(f"{seed}:{word}".encode(), digest_size=8).digest(), "big")
    return np.random.default_rng(code).standard_normal(dim)


@frozen(kw_only=True)
class EchoCaptioner:
    """A `Captioner` that says what the record is called.

    Args:
        name: For reading.
        fingerprint: Another one is another captioner to a run.

    Examples:
        >>> from geovlm import Record
        >>> EchoCaptioner().caption([Record(id="a.jpg", label="Beach")], [Image.new("RGB", (1, 1))])
        [('a scene of Beach called a.jpg',)]
    """

    name: str = "echo"
    fingerprint: str = "echo-1"

    def caption(self, records: Sequence[Record], images: Sequence[Image.Image]) -> list[Sequence[str]]:
        """One caption a record: its label, if it has one, and its id."""
        del images
        return [(f"a scene{f' of {record.label}' if record.label else ''} called {record.id}",) for record in records]
