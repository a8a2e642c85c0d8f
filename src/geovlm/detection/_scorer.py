"""An encoder that answers: windows of pixels in, cosines of their cells with every phrase out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from attrs import asdict, field, frozen
from PIL import Image

from geovlm.detection._phrases import read_phrases
from geovlm.detection._scoring import logits
from geovlm.encoders.dense import is_dense
from geovlm.errors import ImageError, UsageError
from geovlm.prompts import resolve_templates
from geovlm.protocols import Encoder, PixelEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geovlm.detection._phrases import Phrases
    from geovlm.protocols import DenseEncoder, Vectors

# Patch vectors are not what the encoder was trained on, and their cosines are farther apart: 50 where CLIP's own
# scale is 100 (the setting of SegEarth-OV, Li et al., CVPR 2025).
DENSE_SCALE = 0.5
# With a small encoder on generated scenes, a bound of 3 had three times the precision of one of 1 at the same recall;
# the larger it is, the nearer it comes to a ceiling for small things in large windows.
GATE = 2.0


@frozen(kw_only=True)
class Scoring:
    """How windows become scores; everything that changes them, beside the encoder, the words and the raster.

    Args:
        dense: A score a patch; `False` is one a window.
        templates: Prompt templates around every phrase.
        temperature: What cosines are multiplied by.
        debias: How much of the window's own cosine is taken off those of its patches.
        gate: By how much a window that shows no sign of the query lowers the logits of its patches, at most.
    """

    dense: bool
    templates: tuple[str, ...] = field(converter=resolve_templates)
    temperature: float = field()
    debias: float = field()
    gate: float = field()

    @temperature.validator
    @debias.validator
    @gate.validator
    def _check(self, attribute: Any, value: float) -> None:
        least = "above 0" if attribute.name == "temperature" else "at least 0"
        if not np.isfinite(value) or value < 0 or (value == 0 and attribute.name == "temperature"):
            raise UsageError(f"{attribute.name} is a number {least}, not {value!r}.")


def make_scoring(
    encoder: Encoder,
    *,
    dense: bool | None,
    templates: str | Sequence[str],
    temperature: float | None,
    debias: float,
    gate: float | None,
) -> Scoring:
    """Settings with what was not given filled in for an encoder.

    Raises:
        UsageError: A setting cannot be right, or does not go with the encoder.
    """
    is_patchwise = _choose_dense(encoder, dense)
    usual = encoder.logit_scale * (DENSE_SCALE if is_patchwise and _bias(encoder) is None else 1)
    return Scoring(
        dense=is_patchwise,
        templates=templates,
        temperature=usual if temperature is None else temperature,
        debias=debias,
        gate=(GATE if is_patchwise else 0.0) if gate is None else gate,
    )


class Scorer:
    """Scores windows for all queries in one pass.

    Args:
        encoder: Any encoder; a `DenseEncoder` for scores a patch.
        query: One query or several.
        against: Contrast phrases.
        scoring: How windows become scores.
    """

    def __init__(
        self, encoder: Encoder, query: str | Sequence[str], against: Sequence[str] | None, scoring: Scoring
    ) -> None:
        self.phrases: Phrases = read_phrases(query, against, absolute=_bias(encoder) is not None)
        self._encoder, self._scoring, self._bias = encoder, scoring, _bias(encoder)
        self._texts: Vectors = self.phrases.embed(encoder, scoring.templates)

    @property
    def patches(self) -> int | None:
        """Patches a side of a window; `None` where a window has one score."""
        if not self._scoring.dense:
            return None
        encoder = cast("DenseEncoder", self._encoder)
        return encoder.image_size // encoder.patch_size

    @property
    def image_size(self) -> int:
        """Side in pixels of what the encoder looks at; 224 where it does not tell."""
        return int(getattr(self._encoder, "image_size", 224))

    @property
    def channels(self) -> int:
        """Values a cell before they are logits: a cosine a phrase, and a gate a query."""
        return len(self.phrases.texts) + (len(self.phrases.queries) if self._scoring.dense else 0)

    def settings(self, *queries: str) -> dict[str, Any]:
        """What decides the scores of queries on one raster, JSON-like."""
        words = {query: self.phrases.settings[query] for query in queries}
        scoring = {**asdict(self._scoring), "templates": list(self._scoring.templates)}
        return {"encoder": self._encoder.fingerprint, "phrases": words, **scoring}

    def prepare(self, pixels: NDArray[np.uint8]) -> Any:
        """One window as the encoder takes it; called in threads."""
        image = Image.fromarray(pixels)
        return self._encoder.preprocess(image) if isinstance(self._encoder, PixelEncoder) else image

    def score(self, windows: Sequence[Any], side: int) -> NDArray[np.float32]:
        """Channels `(windows, channels, side, side)` of prepared windows.

        Raises:
            ImageError: A vector is not finite.
        """
        if self._scoring.dense:
            return self._patches(np.stack(windows), side)
        if isinstance(self._encoder, PixelEncoder):
            vectors = self._encoder.encode_pixels(np.stack(windows))
        else:
            vectors = self._encoder.encode_images(windows)
        found = self._checked(vectors) @ self._texts.T
        return np.broadcast_to(found[:, :, None, None], (*found.shape, side, side))

    def _patches(self, pixels: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
        vectors, patches = cast("DenseEncoder", self._encoder).encode_dense(pixels)
        if patches.shape[1:3] != (side, side):
            raise UsageError(f"{self._encoder.name} gave {patches.shape[1:3]} patches a window, not {(side, side)}.")
        whole = self._checked(vectors) @ self._texts.T
        found = self._checked(patches) @ self._texts.T - self._scoring.debias * whole[:, None, None, :]
        seen = logits(whole.T, self.phrases, scale=self._encoder.logit_scale, bias=self._bias)
        gates = np.clip(seen, -self._scoring.gate, 0).T[:, :, None, None]
        gates = np.broadcast_to(gates, (*gates.shape[:2], side, side))
        return np.concatenate([found.transpose(0, 3, 1, 2), gates], axis=1, dtype=np.float32)

    def logits(self, means: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits `(queries, rows, columns)` of channels that were averaged over windows."""
        count = len(self.phrases.texts)
        found = logits(means[:count], self.phrases, scale=self._scoring.temperature, bias=self._bias)
        return found + means[count:] if self._scoring.dense else found

    def _checked(self, vectors: Any) -> NDArray[np.float32]:
        array: NDArray[np.float32] = np.asarray(vectors, dtype=np.float32)
        if array.shape[-1] != self._encoder.dim:
            raise UsageError(
                f"{self._encoder.name} gave vectors of {array.shape[-1]}, not {self._encoder.dim} numbers."
            )
        if not np.isfinite(array).all():
            raise ImageError("its vectors have NaN or infinity in them")
        return array


def _bias(encoder: Encoder) -> float | None:
    """What a sigmoid model adds to its logits; `None` for models of the softmax kind."""
    bias: float | None = getattr(encoder, "logit_bias", None)
    return bias


def _choose_dense(encoder: Encoder, dense: bool | None) -> bool:
    if isinstance(encoder, str) or not isinstance(encoder, Encoder):
        raise UsageError(
            f"An encoder has a name, a fingerprint and encode_images(images), unlike {encoder!r:.80}; for a name or a"
            " folder use load_encoder."
        )
    can = is_dense(encoder)
    if dense and not can:
        raise UsageError(
            f"{encoder.name} has one vector an image and none a patch; leave dense out, or take another encoder."
        )
    return can if dense is None else dense
