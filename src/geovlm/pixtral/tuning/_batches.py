"""The order of examples, and samples put together as the inputs of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import pad

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geovlm.pixtral._rendering import Sample

IGNORED = -100


def order(count: int, *, seed: int, epoch: int) -> list[int]:
    """The places of the examples of an epoch; epochs count from 0."""
    places: list[int] = np.random.default_rng([seed, epoch]).permutation(count).tolist()
    return places


def collate(samples: Sequence[Sample], *, filler: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Samples as one input, shorter ones filled up at their ends.

    Args:
        samples: At least one.
        filler: The id of the token that fills up.

    Returns:
        What the model takes, and targets of the shape of `input_ids`: the ids of the answers, elsewhere `IGNORED`.
    """
    longest = max(sample.length for sample in samples)
    ids = torch.full((len(samples), longest), filler)
    mask = torch.zeros(len(samples), longest, dtype=torch.long)
    targets = torch.full((len(samples), longest), IGNORED)
    for row, sample in enumerate(samples):
        ids[row, : sample.length] = torch.tensor(sample.prompt + sample.answer)
        mask[row, : sample.length] = 1
        targets[row, len(sample.prompt) : sample.length] = torch.tensor(sample.answer)
    return {"input_ids": ids, "attention_mask": mask, **_pixels(samples)}, targets


def _pixels(samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
    """All images, filled up to the size of the largest; their own sizes tell the model what to look at."""
    given = [sample.pixels for sample in samples if sample.pixels]
    if not given:
        return {}
    images: list[Any] = [pixels["pixel_values"] for pixels in given]
    height, width = (max(image.shape[side] for image in images) for side in (-2, -1))
    filled = [pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2])) for image in images]
    return {"pixel_values": torch.cat(filled), "image_sizes": torch.cat([pixels["image_sizes"] for pixels in given])}
