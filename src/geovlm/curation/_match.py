"""How well captions fit their images, and each other."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from attrs import evolve, frozen

from geovlm import _progress
from geovlm.embedding import embed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image

    from geovlm.dataset import Dataset
    from geovlm.protocols import Encoder, Vectors
    from geovlm.records import Record

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
    row_of = {key: row for row, key in enumerate(images.table["id"].to_pylist())}
    views = []
    failures: dict[str, str] = {}
    for turns in range(4 if rotations else 1):
        place = out and out / (f"images-{90 * turns}" if turns else "images")
        made = embed(_turned(images, turns), encoder, out=place, batch_size=batch_size, progress=progress)
        ids, vectors = made.to_numpy()
        seen = np.full((len(images), encoder.dim), np.nan, dtype=np.float32)
        seen[[row_of[key] for key in ids]] = vectors
        views.append(seen)
        failures |= {failure.id: failure.reason for failure in made.report.failures}
    return Match(scores=scores(np.stack(views), _encode(encoder, texts, progress), owner), failures=failures)


def _turned(images: Dataset, turns: int) -> Iterable[Record]:
    """The images, each turned by so many quarters when it is opened."""
    if turns == 0:
        return images
    return [evolve(record, image=partial(_open_turned, record, turns)) for record in images]


def _open_turned(record: Record, turns: int) -> Image.Image:
    return record.open().rotate(90 * turns, expand=True)


def scores(views: NDArray[np.float32], texts: Vectors, owner: NDArray[np.integer]) -> NDArray[np.float32]:
    """How well each caption fits: what its image says of it, of all captions of the image, and what these say of it.

    The sum of its cosine with the image; the mean of that over the image's captions, which finds images whose captions
    are all wrong; and, twice, by how much it agrees with the image's other captions (their mean cosine) more than these
    do among each other, which finds a wrong one among right ones. For a caption that is alone the last is zero. The
    weights were found on the data of the benchmark.

    Where there are several views of an image, the cosine is the mean over them less the standard deviation: a caption
    that is true of a scene from above is true whichever way it is turned.

    Args:
        views: `(views, images, dim)`, the vectors of the images in each rotation.
        texts: `(captions, dim)`.
        owner: `(captions,)`, the image of each caption.
    """
    images = views.shape[1]
    count = np.maximum(np.bincount(owner, minlength=images), 1)
    cosines = np.stack([np.einsum("md,md->m", view[owner], texts) for view in views])
    with_image = cosines.mean(axis=0) - cosines.std(axis=0)
    together = np.zeros(views.shape[1:], dtype=np.float32)
    np.add.at(together, owner, texts)
    agreement = (np.einsum("md,md->m", together[owner], texts) - 1) / np.maximum(count[owner] - 1, 1)
    of_image = np.bincount(owner, with_image, minlength=images) / count
    usual = np.bincount(owner, agreement, minlength=images) / count
    total: NDArray[np.float32] = (with_image + of_image[owner] + 2 * (agreement - usual[owner])).astype(np.float32)
    return total


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
