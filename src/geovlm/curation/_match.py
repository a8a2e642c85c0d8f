"""How well captions fit their images, and each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen

from geovlm import _progress
from geovlm.embedding import embed
from geovlm.encoders.rotations import RotationEncoder
from geovlm.errors import UsageError
from geovlm.protocols import PixelEncoder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from geovlm.dataset import Dataset
    from geovlm.protocols import Encoder, Vectors

TEXTS_AT_ONCE = 1024


@frozen(kw_only=True)
class Match:
    """The score of each caption, and the images that could not be read.

    Args:
        scores: `(captions,)`; NaN where there is no image.
        failures: Why, by the id of the image.
    """

    scores: NDArray[np.float32]
    failures: Mapping[str, str]


def match(
    images: Dataset,
    texts: Sequence[str],
    owner: NDArray[np.integer],
    encoder: Encoder,
    *,
    rotations: bool,
    out: Path | None,
    batch_size: int,
    progress: bool | None,
) -> Match:
    """Score captions; `owner` is the row in `images` of each text's image."""
    looking = _in_rotations(encoder) if rotations else encoder
    made = embed(images, looking, out=out and out / "images", batch_size=batch_size, progress=progress)
    ids, vectors = made.to_numpy()
    row_of = {key: row for row, key in enumerate(images.table["id"].to_pylist())}
    seen = np.full((len(images), encoder.dim), np.nan, dtype=np.float32)
    seen[[row_of[key] for key in ids]] = vectors
    reasons = {failure.id: failure.reason for failure in made.report.failures}
    return Match(scores=scores(seen, _encode(encoder, texts, progress), owner), failures=reasons)


def scores(images: Vectors, texts: Vectors, owner: NDArray[np.integer]) -> NDArray[np.float32]:
    """How well each caption fits: what its image says of it, of all captions of the image, and what these say of it.

    The sum of its cosine with the image; the mean of that over the image's captions, which finds images whose captions
    are all wrong; and, twice, by how much it agrees with the image's other captions (their mean cosine) more than these
    do among each other, which finds a wrong one among right ones. For a caption that is alone the last is zero. The
    weights were found on the data of the benchmark.
    """
    count = np.maximum(np.bincount(owner, minlength=len(images)), 1)
    with_image = np.einsum("md,md->m", images[owner], texts)
    together = np.zeros(images.shape, dtype=np.float32)
    np.add.at(together, owner, texts)
    agreement = (np.einsum("md,md->m", together[owner], texts) - 1) / np.maximum(count[owner] - 1, 1)
    of_image = np.bincount(owner, with_image, minlength=len(images)) / count
    usual = np.bincount(owner, agreement, minlength=len(images)) / count
    total: NDArray[np.float32] = (with_image + of_image[owner] + 2 * (agreement - usual[owner])).astype(np.float32)
    return total


def _in_rotations(encoder: Encoder) -> RotationEncoder:
    if not isinstance(encoder, PixelEncoder):
        raise UsageError(f"rotations needs an encoder that takes pixels, and {encoder.name} takes images only.")
    return RotationEncoder(encoder)


def _encode(encoder: Encoder, texts: Sequence[str], progress: bool | None) -> Vectors:
    """Vectors of texts, each different one computed once."""
    different = list(dict.fromkeys(texts))
    parts = [np.empty((0, encoder.dim), dtype=np.float32)]
    with _progress.bar(progress, total=len(different), desc="captions", unit="text") as bar:
        for start in range(0, len(different), TEXTS_AT_ONCE):
            parts.append(encoder.encode_texts(different[start : start + TEXTS_AT_ONCE]))
            bar.update(len(parts[-1]))
    row_of = {text: row for row, text in enumerate(different)}
    vectors: Vectors = np.concatenate(parts)[[row_of[text] for text in texts]]
    return vectors
