"""Pairs of images and captions: read once, decoded in threads, drawn as a function of seed, epoch and place."""

from __future__ import annotations

import hashlib
import math
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from attrs import Factory, field, frozen

from geovlm._stream import map_batches
from geovlm.errors import ImageError, UsageError
from geovlm.records import Failure, Record
from geovlm.training.augment import DRAWS, augment, drop_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from geovlm.training.config import TrainingConfig

    Prepare = Callable[[Image.Image], NDArray[np.uint8]]


@frozen(kw_only=True)
class Pairs:
    """Records that have captions, and those that do not.

    Args:
        records: The usable ones, each with at least one caption that is not blank.
        failures: The others, and why.
        fingerprint: Changes with ids, captions and their order.
    """

    records: tuple[Record, ...] = field(repr=lambda records: f"{len(records)} records")
    failures: tuple[Failure, ...]
    fingerprint: str

    @classmethod
    def read(cls, source: Iterable[Record], *, what: str, at_least: int) -> Pairs:
        """Read a source once.

        Raises:
            UsageError: There are not `at_least` usable records; says what was found.
        """
        if isinstance(source, str) or not hasattr(source, "__iter__"):
            raise UsageError(f"{what} must be an image source or records, not {type(source).__name__}.")
        records: list[Record] = []
        failures: list[Failure] = []
        seen: set[str] = set()
        code = hashlib.sha256()
        for record in source:
            if not isinstance(record, Record):
                raise UsageError(f"{what} must yield geovlm.Record, not {type(record).__name__}: {record!r:.80}")
            captions = tuple(caption for caption in record.captions if caption.strip())
            code.update(repr((record.id, captions)).encode())
            if record.id in seen:
                failures.append(_failure(record, "another input has the same id"))
            elif not captions:
                failures.append(_failure(record, "it has no caption"))
            else:
                records.append(record if captions == record.captions else record.with_captions(captions))
            seen.add(record.id)
        if len(records) < at_least:
            raise UsageError(_too_few(what, at_least, records, failures))
        return cls(records=tuple(records), failures=tuple(failures), fingerprint=code.hexdigest()[:16])


def _failure(record: Record, reason: str) -> Failure:
    return Failure(id=record.id, uri=record.uri, stage="read", reason=reason)


def _too_few(what: str, at_least: int, records: list[Record], failures: list[Failure]) -> str:
    found = f"{what} has {len(records)} records with a caption, and at least {at_least} are needed."
    if not records and not failures:
        return f"{found} The source is empty: is the path right, or was a generator read before?"
    if failures:
        return f"{found} {len(failures)} were left out, the first because {failures[0].reason} ({failures[0].id})."
    return found


class Pixels:
    """Decoded images by place, kept in memory where all of them fit.

    Args:
        records: Whose images.
        prepare: One RGB image to uint8 `(side, side, 3)`.
        side: Side in pixels.
        budget: Bytes that may be kept.
    """

    def __init__(self, records: Sequence[Record], *, prepare: Prepare, side: int, budget: int) -> None:
        self._records, self._prepare, self._side = records, prepare, side
        self.nbytes = len(records) * side * side * 3 if len(records) * side * side * 3 <= budget else 0
        # Pages of an empty array take no memory before they are written.
        self._kept = np.empty((len(records), side, side, 3), dtype=np.uint8) if self.nbytes else None
        self._ready = np.zeros(len(records), dtype=bool)
        self.failures: dict[int, Failure] = {}
        self._given_up: set[int] = set()

    def __getitem__(self, place: int) -> NDArray[np.uint8]:
        """Decode, or take what was kept; may be called from several threads.

        Raises:
            ImageError: It cannot be read; it is not tried again by this call.
        """
        if place in self._given_up:
            raise ImageError(self.failures[place].reason)
        if self._kept is None:
            return self._decode(place)
        if not self._ready[place]:
            self._kept[place] = self._decode(place)
            self._ready[place] = True
        pixels: NDArray[np.uint8] = self._kept[place]
        return pixels

    def _decode(self, place: int) -> NDArray[np.uint8]:
        record = self._records[place]
        try:
            pixels = self._prepare(record.open(size_hint=self._side))
        except ImageError as error:
            self.failures[place] = Failure(id=record.id, uri=record.uri, stage="decode", reason=error.reason)
            self._given_up.add(place)
            raise
        self.failures.pop(place, None)  # an earlier call may have failed where this one does not
        return pixels


def batch_count(records: int, config: TrainingConfig) -> int:
    """Batches an epoch; all are nearly of one size, so that none has much fewer negatives than the others."""
    return math.ceil(records / config.batch_size)


@frozen(kw_only=True)
class Batch:
    """Some pairs; there may be none where no image could be read.

    Args:
        pixels: uint8 `(n, size, size, 3)`.
        captions: The caption of each, which tells equal ones.
        texts: What is read of it.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    captions: list[str]
    texts: list[str] = field(default=Factory(lambda batch: batch.captions, takes_self=True))


class Batches:
    """The training pairs, epoch after epoch.

    Everything random follows from the seed, the epoch and the place of a record, so that an epoch can be entered at
    any batch, and a broken image changes nothing for the others.

    Args:
        records: The pairs.
        pixels: Their images, somewhat larger than the model takes them.
        size: Side in pixels of what the model takes.
        config: The settings.
    """

    def __init__(self, records: Sequence[Record], pixels: Pixels, *, size: int, config: TrainingConfig) -> None:
        self._records, self._pixels, self._size, self._config = records, pixels, size, config
        self._place = {record.id: place for place, record in enumerate(records)}
        self.count = batch_count(len(records), config)

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from the one numbered `start`."""
        rng = np.random.default_rng([self._config.seed, number])
        order = rng.permutation(len(self._records))
        draws = rng.random((len(self._records), 1 + DRAWS))
        cuts = np.array_split(order, self.count)[start:]
        upcoming = (self._records[place] for cut in cuts for place in cut)
        outcomes = map_batches(
            upcoming,
            prepare=lambda record: self._make(self._place[record.id], draws),
            run=lambda _, drawn: drawn,
            batch_size=len(cuts[0]),
            stage="decode",
        )
        for cut in cuts:
            yield self._collect([outcome for _, outcome in islice(outcomes, len(cut))])

    def _make(self, place: int, draws: NDArray[np.float64]) -> tuple[NDArray[np.uint8], str, str]:
        which, *rest = draws[place].tolist()
        captions = self._records[place].captions
        caption, augmentation = captions[int(which * len(captions))], self._config.augmentation
        # A uniform number has 53 random bits, and a generator seeded with them is as good as one of its own.
        text = drop_words(caption, augmentation.words, int(which * 2**53)) if augmentation.words else caption
        return augment(self._pixels[place], rest, augmentation, size=self._size), caption, text

    def _collect(self, outcomes: list[tuple[NDArray[np.uint8], str, str] | Failure]) -> Batch:
        good = [outcome for outcome in outcomes if not isinstance(outcome, Failure)]
        shape = (0, self._size, self._size, 3)
        pixels = np.stack([pixels for pixels, _, _ in good]) if good else np.empty(shape, dtype=np.uint8)
        return Batch(pixels=pixels, captions=[caption for _, caption, _ in good], texts=[text for _, _, text in good])
