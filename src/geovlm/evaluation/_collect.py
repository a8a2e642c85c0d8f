"""Vectors of a source beside what is known of each input, failed ones included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from attrs import frozen

from geovlm.embedding import embed
from geovlm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from geovlm.protocols import Encoder, Vectors
    from geovlm.records import Record, Report

K = TypeVar("K")

TEXTS_A_BATCH = 256


@frozen(kw_only=True)
class Collected(Generic[K]):
    """Every input in order, and the vectors of those that could be read.

    Args:
        ids: The id of each input.
        known: What was kept of each input's record.
        place: For each input its row in `vectors`, or −1 if it failed.
        vectors: `(read, dim)`.
        report: What became of every input.
    """

    ids: tuple[str, ...]
    known: tuple[K, ...]
    place: NDArray[np.int64]
    vectors: Vectors
    report: Report


def collect(
    encoder: Encoder,
    source: Iterable[Record],
    keep: Callable[[Record], K],
    *,
    batch_size: int,
    progress: bool | None,
    out: Path | None = None,
) -> Collected[K]:
    """Embed a source, and keep something of every record on its way; with `out`, as `embed` does, with parts on disk.

    Raises:
        UsageError: The source is empty, or what `keep` or `embed` raises.
    """
    ids: list[str] = []
    known: list[K] = []

    def watched() -> Iterator[Record]:
        for record in source:
            known.append(keep(record))
            ids.append(record.id)
            yield record

    made = embed(watched(), encoder, out=out, batch_size=batch_size, progress=progress)
    if not ids:
        raise UsageError("There is nothing to measure: the source yields no records.")
    batches = list(made.batches())
    rows = {key: row for row, key in enumerate(key for keys, _, _ in batches for key in keys)}
    # Where an id comes twice, the first is embedded and the others are failures.
    place = np.array([rows.pop(key, -1) for key in ids], dtype=np.int64)
    vectors = np.concatenate([np.empty((0, encoder.dim), dtype=np.float32), *(part for _, part, _ in batches)])
    return Collected(ids=tuple(ids), known=tuple(known), place=place, vectors=vectors, report=made.report)


def encode_texts(encoder: Encoder, texts: list[str]) -> Vectors:
    """Embed any number of texts, some at a time."""
    parts = [
        encoder.encode_texts(texts[start : start + TEXTS_A_BATCH]) for start in range(0, len(texts), TEXTS_A_BATCH)
    ]
    return np.concatenate([np.empty((0, encoder.dim), dtype=np.float32), *parts])
