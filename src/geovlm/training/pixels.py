"""Decoded images, kept where all of them fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geovlm.errors import ImageError
from geovlm.training.pairs import decoding_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from geovlm.records import Failure, Record

    Prepare = Callable[[Image.Image], NDArray[np.uint8]]


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
        self.nbytes: int = len(records) * side * side * 3 if len(records) * side * side * 3 <= budget else 0
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
            self.failures[place] = decoding_failure(record, error)
            self._given_up.add(place)
            raise
        self.failures.pop(place, None)  # an earlier call may have failed where this one does not
        return pixels
