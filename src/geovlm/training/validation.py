"""How well an encoder brings held-out pairs together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from attrs import asdict, field, frozen

from geovlm._metrics import NEVER, recall_at, retrieval_ranks
from geovlm._stream import map_batches
from geovlm.records import Failure
from geovlm.training.data import Pixels
from geovlm.training.losses import caption_groups, make_loss

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from geovlm.encoders._torch import TorchEncoder
    from geovlm.protocols import Vectors
    from geovlm.records import Record
    from geovlm.training.config import TrainingConfig

KS = (1, 5, 10)

# Of the memory for decoded images, the rest of which is for training.
SHARE_OF_CACHE = 0.25


def _recalls(value: Mapping[Any, float]) -> dict[int, float]:
    return dict(sorted((int(k), float(recall)) for k, recall in value.items()))


@frozen(kw_only=True)
class Scores:
    """An encoder on held-out pairs, all of them counted: those of an image that cannot be read are missed.

    Args:
        loss: The training loss on batches of pairs, each image with its first caption.
        image_to_text: Share of the images with a caption of their own among the best `k`, by `k`.
        text_to_image: Share of the captions with their image among the best `k`, by `k`.

    Examples:
        >>> better = Scores(loss=0.5, image_to_text={1: 0.8}, text_to_image={1: 0.7})
        >>> better.is_better_than(Scores(loss=0.9, image_to_text={1: 0.2}, text_to_image={1: 0.3}))
        True
    """

    loss: float
    image_to_text: dict[int, float] = field(converter=_recalls)
    text_to_image: dict[int, float] = field(converter=_recalls)

    @property
    def mean_recall(self) -> float:
        """Mean of all recalls, both ways."""
        return float(np.mean([*self.image_to_text.values(), *self.text_to_image.values()]))

    def is_better_than(self, other: Scores | None) -> bool:
        """Whether the mean recall is higher, or as high with a lower loss."""
        return other is None or (self.mean_recall, -self.loss) > (other.mean_recall, -other.loss)

    def as_row(self) -> dict[str, float]:
        """One number a name, in reading order."""
        return {
            "loss": self.loss,
            **{f"image→text R@{k}": recall for k, recall in self.image_to_text.items()},
            **{f"text→image R@{k}": recall for k, recall in self.text_to_image.items()},
            "mean recall": self.mean_recall,
        }

    def as_metrics(self) -> dict[str, float]:
        """The same by names that programs like."""
        return {
            "loss": self.loss,
            **{f"image_to_text_recall_{k}": recall for k, recall in self.image_to_text.items()},
            **{f"text_to_image_recall_{k}": recall for k, recall in self.text_to_image.items()},
            "mean_recall": self.mean_recall,
        }

    def to_json(self) -> dict[str, Any]:
        """JSON-like; keys of mappings are text there."""
        return {name: _text_keys(value) if isinstance(value, dict) else value for name, value in asdict(self).items()}


def _text_keys(value: Mapping[int, float]) -> dict[str, float]:
    return {str(k): recall for k, recall in value.items()}


class HeldOut:
    """Held-out pairs, scored again and again.

    Args:
        records: The pairs.
        encoder: Whose preprocessing is used.
        config: The settings.
    """

    def __init__(self, records: Sequence[Record], encoder: TorchEncoder, config: TrainingConfig) -> None:
        self._records = records
        self._batch_size = config.batch_size
        self._loss = make_loss(config)
        self.pixels: Pixels = Pixels(
            records, prepare=encoder.preprocess, side=encoder.image_size, budget=config.cache_bytes // 4
        )
        self._captions = [caption for record in records for caption in record.captions]
        self._owner = np.repeat(np.arange(len(records)), [len(record.captions) for record in records])
        # Sources are often sorted by class; a batch of one class would be harder than a batch in training.
        self._order = np.random.default_rng(config.seed).permutation(len(records))

    def score(self, encoder: TorchEncoder) -> Scores:
        """Embed all pairs as users of the encoder would, and compare."""
        place, images = self._encode_images(encoder)
        texts = self._encode_captions(encoder)
        read = place[self._owner] >= 0
        image_ranks, text_ranks = retrieval_ranks(images, texts[read], place[self._owner][read])
        image_ranks = np.append(image_ranks, np.full(int((place < 0).sum()), NEVER))
        text_ranks = np.append(text_ranks, np.full(int((~read).sum()), NEVER))
        return Scores(
            loss=self._mean_loss(encoder, place, images, texts),
            image_to_text={k: recall_at(image_ranks, k) for k in KS},
            text_to_image={k: recall_at(text_ranks, k) for k in KS},
        )

    def _encode_images(self, encoder: TorchEncoder) -> tuple[NDArray[np.int64], Vectors]:
        """Vectors of the images that can be read, and for every image its row among them or −1."""
        numbers = {record.id: number for number, record in enumerate(self._records)}
        outcomes = map_batches(
            self._records,
            prepare=lambda record: self.pixels[numbers[record.id]],
            run=lambda _, pixels: list(encoder.encode_pixels(np.stack(pixels))),
            batch_size=self._batch_size,
            stage="encode",
        )
        vectors = [None if isinstance(outcome, Failure) else outcome for _, outcome in outcomes]
        good = np.array([vector is not None for vector in vectors])
        rows = [vector for vector in vectors if vector is not None]
        images = np.stack(rows) if rows else np.empty((0, encoder.dim), dtype=np.float32)
        return np.where(good, np.cumsum(good) - 1, -1), images

    def _encode_captions(self, encoder: TorchEncoder) -> Vectors:
        """Vectors of all captions; each different one is embedded once."""
        rows = {caption: row for row, caption in enumerate(dict.fromkeys(self._captions))}
        vectors = np.concatenate([encoder.encode_texts(chunk) for chunk in _chunks(list(rows), self._batch_size)])
        found: Vectors = vectors[[rows[caption] for caption in self._captions]]
        return found

    def _mean_loss(self, encoder: TorchEncoder, place: NDArray[np.int64], images: Vectors, texts: Vectors) -> float:
        first = np.searchsorted(self._owner, np.arange(len(self._records)))
        order = self._order[place[self._order] >= 0]
        if not len(order):
            return math.nan
        scale = torch.tensor(encoder.logit_scale)
        bias = None if encoder.logit_bias is None else torch.tensor(encoder.logit_bias)
        losses = []
        for chunk in np.array_split(order, math.ceil(len(order) / self._batch_size)):
            groups = caption_groups([self._captions[row] for row in first[chunk]])
            left, right = torch.from_numpy(images[place[chunk]]), torch.from_numpy(texts[first[chunk]])
            losses.append(float(self._loss(left, right, scale, groups, bias=bias)) * len(chunk))
        return sum(losses) / len(order)


def _chunks(items: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
