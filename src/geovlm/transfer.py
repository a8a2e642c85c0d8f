"""`copy`: the rows of one store into another, that goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from geovlm import _progress
from geovlm._parts import IdSet, Parts
from geovlm._tables import plain
from geovlm._vectors import check_count
from geovlm.errors import ConfigMismatch, IncompleteUpsert, UsageError
from geovlm.filters import parse_filter
from geovlm.protocols import VectorStore
from geovlm.records import Failure, Footprint, Report

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from geovlm.protocols import Vectors, Where

__all__ = ["copy"]

# What is written is noted each time it has grown by an eighth: a kill costs little, and so do the flushes before.
GROWTH = 8


def copy(
    source: VectorStore,
    target: VectorStore,
    *,
    where: Where | None = None,
    batch_size: int = 1024,
    on_conflict: Literal["replace", "skip", "error"] = "replace",
    out: str | os.PathLike[str] | None = None,
    on_error: Literal["skip", "raise"] = "skip",
    progress: bool | None = None,
) -> Report:
    """Copy the rows of one store into another, such as from a folder to Astra DB.

    The target is tied to the source's encoder. Rows are read and written a batch at a time. With `out`, the ids that
    are written are noted in that directory, and a copy that was stopped goes on when it is repeated, whatever the
    order in which the source then tells its rows. A row counts as written only if it is noted *and* still in the
    target. The directory belongs to one copy: to bring rows over that have changed since, use another one, or none.
    After a kill, up to an eighth of what was written may not have been noted; these rows are written again.

    Args:
        source: What is read.
        target: What is written to.
        where: A filter on metadata, for a part of the rows; see `geovlm.filters`.
        batch_size: Rows that are written together.
        on_conflict: What the target does about ids that it has: replace the row, keep it, or raise an error, which
            leaves the batches before in the target.
        out: A directory for the ids that are written.
        on_error: `"raise"` stops at the first row that the target refuses.
        progress: Show a bar; `None` decides by where the output goes.

    Returns:
        What became of every row; *skipped* are those that an earlier call has written, or the target has kept.

    Raises:
        ConfigMismatch: The target holds another encoder's vectors, or `out` belongs to another copy.
        RunLocked: Another process is copying with the same `out`.
        StoreError: A store cannot be read or written; what was written stays, and the call can be repeated.
        UsageError: An argument cannot be right.

    Examples:
        >>> import numpy as np
        >>> from geovlm.stores import NumpyStore
        >>> here, there = NumpyStore(), NumpyStore()
        >>> here.bind(dim=2, fingerprint="some encoder")
        >>> here.upsert(["a", "b"], np.eye(2), [{"year": 2020}, {"year": 2024}])
        ['inserted', 'inserted']
        >>> print(copy(here, there, where={"year": {"$gt": 2021}}))
        copy: 1 done, 0 skipped, 0 failed of 1
        >>> there.get(["b"]), there.fingerprint
        ([{'year': 2024}], 'some encoder')
    """
    started = monotonic()
    size = check_count(batch_size, name="batch_size")
    _check(source, target, on_conflict, on_error)
    parse_filter(where)
    parts = _parts(out, source, target, where, on_conflict)
    total = source.count(where) if _progress.is_on(progress) else None
    with parts.writing(), _progress.bar(progress, total=total, desc="copy", unit="row") as bar:
        _bind(source, target)
        run = _Copy(target, parts, on_conflict, on_error, bar.update)
        try:
            for ids, vectors, metadata in source.scan(where, batch_size=size):
                run.take(ids, vectors, metadata)
        finally:
            run.note()
        report = Report(
            stage="copy",
            done=run.done,
            skipped=run.skipped,
            failures=tuple(run.failures),
            seconds=monotonic() - started,
        )
        parts.finish(done=report.done + report.skipped, failed=report.failed)
    return report


def _check(source: VectorStore, target: VectorStore, on_conflict: str, on_error: str) -> None:
    for store in (source, target):
        if not isinstance(store, VectorStore):
            raise UsageError(f"copy takes two stores, such as NumpyStore(), not {store!r:.80}.")
    if source is target:
        raise UsageError("The source and the target are the same store.")
    if on_conflict not in ("replace", "skip", "error"):
        raise UsageError(f"on_conflict is 'replace', 'skip' or 'error', not {on_conflict!r}.")
    if on_error not in ("skip", "raise"):
        raise UsageError(f"on_error is 'skip' or 'raise', not {on_error!r}.")


def _bind(source: VectorStore, target: VectorStore) -> None:
    dim, fingerprint = source.dim, source.fingerprint
    if dim is not None and fingerprint is not None:
        target.bind(dim=dim, fingerprint=fingerprint)
    elif dim is not None and (target.fingerprint is not None or target.dim not in (None, dim)):
        raise ConfigMismatch(
            f"The target holds vectors of {target.dim} numbers of the encoder {target.fingerprint or '(not named)'};"
            f" the source has some of {dim} and does not say whose. Tell it with source.bind(dim=…, fingerprint=…)."
        )


def _parts(
    out: str | os.PathLike[str] | None, source: VectorStore, target: VectorStore, where: Where | None, rule: str
) -> Parts:
    asked = json.loads(json.dumps(where or {}, default=_plain, sort_keys=True))
    config = {"encoder": source.fingerprint, "dim": source.dim, "where": asked, "on_conflict": rule}
    about = {"source": type(source).__name__, "target": type(target).__name__}
    return Parts(None if out is None else Path(out).expanduser(), kind="copy", config=config, about=about)


def _plain(value: Any) -> Any:
    """Areas, times and NumPy values of a filter as JSON."""
    if isinstance(value, Footprint):
        return value.bounds
    shape = getattr(value, "__geo_interface__", None)
    return plain(value) if shape is None else shape


class _Copy:
    """Writes batches, counts every row in one state, and notes what is written."""

    def __init__(
        self,
        target: VectorStore,
        parts: Parts,
        rule: Literal["replace", "skip", "error"],
        on_error: str,
        advance: Callable[[int], object],
    ) -> None:
        self.done = self.skipped = 0
        self.failures: list[Failure] = []
        self._target, self._parts, self._rule, self._on_error = target, parts, rule, on_error
        self._advance = advance
        self._before = IdSet()
        self._fresh: list[str] = []
        for table in parts.tables(["id"]):
            for key in table["id"].to_pylist():
                if key not in self._before:
                    self._before.add(key)
        self._noted = len(self._before)

    def take(self, ids: list[str], vectors: Vectors, metadata: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of a batch that are not written yet."""
        todo = self._unwritten(ids)
        self.skipped += len(ids) - len(todo)
        if todo:
            self._write([ids[row] for row in todo], vectors[todo], [metadata[row] for row in todo])
        self._advance(len(ids))
        if len(self._fresh) * GROWTH >= self._noted:
            self.note()

    def _unwritten(self, ids: list[str]) -> list[int]:
        """The rows that are not noted, or not in the target any more."""
        noted = [row for row, key in enumerate(ids) if key in self._before]
        found = self._target.get([ids[row] for row in noted]) if noted else []
        there = {row for row, metadata in zip(noted, found, strict=True) if metadata is not None}
        return [row for row in range(len(ids)) if row not in there]

    def _write(self, ids: list[str], vectors: Vectors, metadata: list[Mapping[str, Any]]) -> None:
        """Write rows; if they are refused, in halves, until those are alone that cannot be written."""
        try:
            self._settle(ids, metadata, self._target.upsert(ids, vectors, metadata, on_conflict=self._rule), {})
        except IncompleteUpsert as error:
            self._settle(ids, metadata, error.outcomes, error.reasons)
            # It has a cause if the store failed, and none if it has refused these rows only.
            if self._on_error == "raise" or error.__cause__ is not None:
                raise
        except UsageError as error:
            if self._on_error == "raise":
                raise
            if len(ids) == 1:
                self._settle(ids, metadata, [None], {ids[0]: str(error)})
                return
            half = len(ids) // 2
            self._write(ids[:half], vectors[:half], metadata[:half])
            self._write(ids[half:], vectors[half:], metadata[half:])

    def _settle(
        self,
        ids: Sequence[str],
        metadata: Sequence[Mapping[str, Any]],
        outcomes: Sequence[str | None],
        reasons: Mapping[str, str],
    ) -> None:
        for key, row, outcome in zip(ids, metadata, outcomes, strict=True):
            if outcome is None:
                uri = row.get("uri")
                reason = reasons.get(key, "it was not written")
                self.failures.append(
                    Failure(id=key, stage="copy", reason=reason, uri=uri if isinstance(uri, str) else None)
                )
                continue
            self.done += outcome != "skipped"
            self.skipped += outcome == "skipped"
            self._fresh.append(key)

    def note(self) -> None:
        """Have the target keep what it has, then note it."""
        self._target.flush()
        if self._parts.out is not None and self._fresh:
            self._parts.append(pa.table({"id": pa.array(self._fresh, type=pa.string())}))
        self._noted += len(self._fresh)
        self._fresh = []
