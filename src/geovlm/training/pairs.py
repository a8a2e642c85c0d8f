"""Pairs of images and captions, read once."""

from __future__ import annotations

import hashlib
from itertools import islice
from typing import TYPE_CHECKING

from attrs import field, frozen

from geovlm.errors import ImageError, UsageError
from geovlm.records import Failure, Record
from geovlm.sources.shards import ShardSource
from geovlm.training.groups import check_positives, plain_caption

if TYPE_CHECKING:
    from collections.abc import Iterable

# Not all of millions are read to find a name.
FIRST_PAIRS = 1000


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

    def __len__(self) -> int:
        return len(self.records)

    @classmethod
    def read(cls, source: Iterable[Record], *, what: str, at_least: int, positives: str | None = None) -> Pairs:
        """Read a source once.

        Args:
            source: Records.
            what: What it is called in messages.
            at_least: How many usable records are needed; of two or more, two captions must differ.
            positives: The name of a value that some record must have.

        Raises:
            UsageError: There are not `at_least` usable records, or their captions are all the same; says what was
                found.
            UnknownName: No record has a value called `positives`.
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
            captions = usable_captions(record)
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
        if at_least > 1:
            _must_differ(what, records)
        if positives is not None:
            check_positives(records, positives)
        return cls(records=tuple(records), failures=tuple(failures), fingerprint=code.hexdigest()[:16])


@frozen(kw_only=True)
class ShardPairs:
    """Pairs in shards, which stay there: only their number is read.

    Args:
        source: The shards.
        failures: None before training; what is broken shows when it is read.
        fingerprint: Changes with the names, lengths and counts of the shards.
    """

    source: ShardSource
    failures: tuple[Failure, ...] = ()
    fingerprint: str

    def __len__(self) -> int:
        return len(self.source)

    @classmethod
    def read(cls, source: ShardSource, *, what: str, at_least: int, positives: str | None = None) -> ShardPairs:
        """Count the pairs.

        Raises:
            UsageError: There are not `at_least`.
            UnknownName: None of the first has a value called `positives`.
        """
        if len(source) < at_least:
            raise UsageError(f"{what} has {len(source)} pairs in its shards, and at least {at_least} are needed.")
        if positives is not None:
            check_positives(islice(source, FIRST_PAIRS), positives)
        return cls(source=source, fingerprint=source.fingerprint)


def read_pairs(source: Iterable[Record], *, what: str, at_least: int, positives: str | None) -> Pairs | ShardPairs:
    """Shards are counted, anything else is read into memory (images are not).

    Raises:
        UsageError: There is too little to train on.
    """
    if isinstance(source, ShardSource):
        return ShardPairs.read(source, what=what, at_least=at_least, positives=positives)
    return Pairs.read(source, what=what, at_least=at_least, positives=positives)


def usable_captions(record: Record) -> tuple[str, ...]:
    """Those that are not blank."""
    return tuple(caption for caption in record.captions if caption.strip())


def decoding_failure(record: Record, error: ImageError) -> Failure:
    """What becomes of a pair whose image cannot be read."""
    return Failure(id=record.id, uri=record.uri, stage="decode", reason=error.reason)


def _failure(record: Record, reason: str) -> Failure:
    return Failure(id=record.id, uri=record.uri, stage="read", reason=reason)


def _too_few(what: str, at_least: int, records: list[Record], failures: list[Failure]) -> str:
    found = f"{what} has {len(records)} records with a caption, and at least {at_least} are needed."
    if not records and not failures:
        return f"{found} The source is empty: is the path right, or was a generator read before?"
    if failures:
        why = f"{len(failures)} were left out, the first because {failures[0].reason} ({failures[0].id})"
        return f"{found} {why}{'' if records else '; geovlm.caption() writes captions'}."
    return found


def _must_differ(what: str, records: list[Record]) -> None:
    first = plain_caption(records[0].captions[0])
    if all(plain_caption(caption) == first for record in records for caption in record.captions):
        raise UsageError(
            f"All {len(records)} records of {what} have the same caption, {records[0].captions[0]!r:.80}. A contrastive"
            " loss learns from differences: add records with other captions."
        )
