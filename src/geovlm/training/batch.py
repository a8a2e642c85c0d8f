"""One training batch, and what a pair becomes in it."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
from attrs import Factory, field, frozen

from geovlm._stream import map_batches
from geovlm.records import Failure, Record
from geovlm.training.augment import augment, drop_words
from geovlm.training.groups import caption_numbers, image_number, value_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from geovlm.training.config import Augmentation, TrainingConfig

T = TypeVar("T")


class TrainingBatches(Protocol):
    """Epochs of batches, from wherever the pairs are.

    Attributes:
        count: Batches an epoch, the same in every process.
        nbytes: Memory that decoded images take, at most.
        failures: What could not be used so far, each pair once; a run that goes on puts back what it knew.
    """

    count: int
    nbytes: int

    @property
    def failures(self) -> dict[Any, Failure]:
        """By a key of plain data."""
        ...

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Batch]:
        """This process's share of each batch of one epoch, from the one numbered `start`; it may be empty."""
        ...


@frozen(kw_only=True)
class Batch:
    """Some pairs; there may be none where no image could be read.

    Args:
        pixels: uint8 `(n, size, size, 3)`.
        captions: The caption of each, which tells equal ones.
        texts: What is read of it.
        ids: Of the records.
        groups: int64 `(n, g)`: two pairs are positives of each other where a number that is not negative is the same in
            one of the columns, which are caption, image and, with `TrainingConfig.positives`, its value. The numbers
            agree between processes.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    captions: list[str]
    texts: list[str] = Factory(lambda batch: batch.captions, takes_self=True)
    ids: list[str] = field(factory=list)
    groups: NDArray[np.int64] = field(
        default=Factory(lambda batch: caption_numbers(batch.captions)[:, None], takes_self=True), repr=False
    )


class Example(NamedTuple):
    """A pair as one epoch sees it; `numbers` are its image and its positives' value."""

    id: str
    pixels: NDArray[np.uint8]
    caption: str
    text: str
    numbers: NDArray[np.int64]


def batch_count(pairs: int, config: TrainingConfig) -> int:
    """Batches an epoch; all are nearly of one size, so that none has much fewer negatives than the others."""
    return math.ceil(pairs / config.batch_size)


def other_numbers(record: Record, config: TrainingConfig) -> NDArray[np.int64]:
    """The numbers of a record that do not depend on the caption that is drawn."""
    numbers = [image_number(record)]
    if config.positives is not None:
        numbers.append(value_number(record, config.positives))
    return np.array(numbers, dtype=np.int64)


def make_example(
    record: Record,
    pixels: Callable[[], NDArray[np.uint8]],
    draws: NDArray[np.float64],
    *,
    augmentation: Augmentation,
    size: int,
    numbers: NDArray[np.int64],
) -> Example:
    """Draw a caption and change the image.

    Args:
        record: With captions, none of them blank.
        pixels: Decodes its image, somewhat larger than the model takes it.
        draws: `1 + DRAWS` uniform numbers.
        augmentation: How the image is changed.
        size: Side in pixels of what the model takes.
        numbers: What `other_numbers` gives.
    """
    which, *rest = draws.tolist()
    caption = record.captions[int(which * len(record.captions))]
    # A uniform number has 53 random bits, and a generator seeded with them is as good as one of its own.
    text = drop_words(caption, augmentation.words, int(which * 2**53)) if augmentation.words else caption
    return Example(record.id, augment(pixels(), rest, augmentation, size=size), caption, text, numbers)


def in_batches(
    cuts: Sequence[tuple[int, int]],
    tasks: Iterable[T],
    *,
    make: Callable[[T], Example],
    config: TrainingConfig,
    size: int,
) -> Iterator[Batch]:
    """Make examples in threads, a few batches ahead.

    Args:
        cuts: First and last place of each batch; what lies between is its number of tasks.
        tasks: One for each example, in order.
        make: Called in threads; an `ImageError` leaves a place empty.
        config: The settings.
        size: Side in pixels of what the model takes.
    """
    waiting: dict[str, T] = {}

    def inputs() -> Iterator[Record]:
        for number, task in enumerate(tasks):
            waiting[str(number)] = task
            yield Record(id=str(number))

    outcomes = map_batches(
        inputs(),
        prepare=lambda record: make(waiting.pop(record.id)),
        run=lambda _, made: made,
        batch_size=max([1, *(end - first for first, end in cuts)]),
        stage="decode",
    )
    for first, end in cuts:
        yield _collect([outcome for _, outcome in islice(outcomes, end - first)], config, size=size)


def _collect(outcomes: Sequence[Example | Failure], config: TrainingConfig, *, size: int) -> Batch:
    """The pairs that could be read, as one batch."""
    good = [outcome for outcome in outcomes if isinstance(outcome, Example)]
    captions = [example.caption for example in good]
    columns = 1 if config.positives is None else 2
    others = np.array([example.numbers for example in good], dtype=np.int64).reshape(len(good), columns)
    return Batch(
        pixels=np.stack([e.pixels for e in good]) if good else np.empty((0, size, size, 3), dtype=np.uint8),
        captions=captions,
        texts=[example.text for example in good],
        ids=[example.id for example in good],
        groups=np.column_stack([caption_numbers(captions), others]),
    )
