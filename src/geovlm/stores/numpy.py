"""`NumpyStore`: exact search in memory, saved to a folder when asked."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from attrs import frozen

from geovlm._vectors import check_count, unit_rows
from geovlm.errors import ConfigMismatch, StoreError, UsageError
from geovlm.filters import compile_filter
from geovlm.stores._checks import check_ids, check_metadata
from geovlm.stores._exact import nearest
from geovlm.stores._numpy_files import Saved, read, write

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from geovlm.protocols import Matches, Vectors, Where

__all__ = ["NumpyMatches", "NumpyStore"]

Outcome = Literal["inserted", "replaced", "skipped"]
FIRST_CAPACITY = 1024


@frozen(kw_only=True)
class NumpyMatches:
    """The nearest rows of one query, best first."""

    ids: list[str]
    scores: list[float]
    metadata: list[dict[str, Any]]


class NumpyStore:
    """Vectors in memory, searched exactly: nothing to install, nothing to run, up to about a million rows.

    A query costs one pass over all vectors, about as long as the matrix product `vectors @ query`, or one over those
    that pass its filter. `save` keeps everything in a folder, `load` brings it back. From then on the folder is the
    store's place: `flush` and `close` save there if anything has changed.

    The contract is that of `geovlm.protocols.VectorStore`. One thread may write at a time, and none may read meanwhile.

    Examples:
        >>> store = NumpyStore()
        >>> store.upsert(["a", "b"], np.eye(2), [{"year": 2020}, {"year": 2024}])
        ['inserted', 'inserted']
        >>> store.query(np.array([[1.0, 1.0]]), 1, where={"year": {"$gt": 2021}})[0]
        NumpyMatches(ids=['b'], scores=[0.7071068], metadata=[{'year': 2024}])
    """

    def __init__(self) -> None:
        self._dim: int | None = None
        self._fingerprint: str | None = None
        self._vectors: Vectors = np.empty((0, 0), dtype=np.float32)
        self._ids: list[str] = []
        self._metadata: list[dict[str, Any]] = []
        self._row_of: dict[str, int] = {}
        self._place: Path | None = None
        self._changed = False

    def __len__(self) -> int:
        return len(self._ids)

    def __repr__(self) -> str:
        return f"NumpyStore(rows={len(self)}, dim={self._dim}, fingerprint={self._fingerprint!r})"

    def bind(self, *, dim: int, fingerprint: str) -> None:
        """Tie the store to an encoder; again with the same values is fine.

        Raises:
            ConfigMismatch: It holds another encoder's vectors.
        """
        check_count(dim, name="dim")
        known = self._dim if self._dim is not None else dim, self._fingerprint or fingerprint
        if known != (dim, fingerprint):
            raise ConfigMismatch(
                f"This store holds vectors of the encoder {known[1]} with {known[0]} numbers, and vectors of"
                f" {fingerprint} with {dim} cannot be compared with them. Use that encoder, or a new store."
            )
        if self._fingerprint is None:
            self._tie(dim)
            self._fingerprint = fingerprint
            self._changed = True

    def _tie(self, dim: int) -> None:
        if self._dim is None:
            self._dim = dim
            self._vectors = np.empty((0, dim), dtype=np.float32)

    def upsert(
        self,
        ids: Sequence[str],
        vectors: NDArray[np.floating[Any]],
        metadata: Sequence[Mapping[str, Any]] | None = None,
        *,
        on_conflict: Literal["replace", "skip", "error"] = "replace",
    ) -> list[Outcome]:
        """Write rows, as if one after the other; an id that comes twice meets itself.

        Args:
            ids: Non-empty text.
            vectors: `(n, dim)`; they are normalised.
            metadata: A mapping a row, JSON-like.
            on_conflict: What to do about an id that is in the store: replace its row, keep it, or write nothing at
                all and raise.

        Returns:
            What became of each row, in order.

        Raises:
            UsageError: An argument cannot be right; nothing was written.
            StoreError: With `on_conflict="error"`, an id is in the store already; nothing was written.
        """
        if on_conflict not in ("replace", "skip", "error"):
            raise UsageError(f"on_conflict is 'replace', 'skip' or 'error', not {on_conflict!r}.")
        keys = check_ids(ids)
        if not keys and np.size(vectors) == 0:
            return []
        rows = check_metadata(metadata, len(keys))
        unit = unit_rows(vectors, dim=self._dim)
        if len(unit) != len(keys):
            raise UsageError(f"There are {len(keys)} ids and {len(unit)} vectors; they go in pairs.")
        if on_conflict == "error":
            self._refuse_known(keys)
        self._tie(unit.shape[1])
        self._reserve(len(self) + len(set(keys) - self._row_of.keys()))
        self._changed = True
        return [
            self._put(key, vector, row, replace=on_conflict == "replace")
            for key, vector, row in zip(keys, unit, rows, strict=True)
        ]

    def _put(self, key: str, vector: Vectors, metadata: dict[str, Any], *, replace: bool) -> Outcome:
        row = self._row_of.get(key)
        if row is None:
            row = self._row_of[key] = len(self._ids)
            self._ids.append(key)
            self._metadata.append(metadata)
            self._vectors[row] = vector
            return "inserted"
        if not replace:
            return "skipped"
        self._metadata[row] = metadata
        self._vectors[row] = vector
        return "replaced"

    def _refuse_known(self, keys: list[str]) -> None:
        known = [key for key, times in Counter(keys).items() if times > 1 or key in self._row_of]
        if known:
            raise StoreError(
                f"{len(known)} ids are in the store already or come twice, the first is {known[0]!r};"
                " nothing was written. on_conflict='replace' or 'skip' says what to do with them."
            )

    def _reserve(self, rows: int) -> None:
        capacity = len(self._vectors)
        if rows > capacity:
            larger = np.empty((max(rows, 2 * capacity, FIRST_CAPACITY), self._vectors.shape[1]), dtype=np.float32)
            larger[: len(self)] = self._vectors[: len(self)]
            self._vectors = larger

    def query(
        self, vectors: NDArray[np.floating[Any]], k: int = 10, *, where: Where | None = None, exact: bool = False
    ) -> list[Matches]:
        """The `k` nearest rows for each of many query vectors `(q, dim)`.

        Args:
            vectors: They are normalised.
            k: How many at most; fewer come back if fewer pass the filter.
            where: A filter on metadata; see `geovlm.filters`.
            exact: Every answer of this store is exact.

        Raises:
            UsageError: An argument cannot be right.
        """
        del exact
        count, queries = check_count(k, name="k"), unit_rows(vectors, dim=self._dim, what="query vector")
        rows = self._rows(where)
        if self._dim is None:
            return [NumpyMatches(ids=[], scores=[], metadata=[]) for _ in queries]
        found = nearest(self._vectors[: len(self)], self._ids, queries, count, rows=rows)
        return [
            NumpyMatches(
                ids=[self._ids[row] for row in best],
                scores=scores.tolist(),
                metadata=[_copy(self._metadata[row]) for row in best],
            )
            for best, scores in found
        ]

    def _rows(self, where: Where | None) -> NDArray[np.int64] | None:
        """The rows that pass a filter; `None` for all."""
        passes = compile_filter(where)
        if not where:
            return None
        mask = np.fromiter((passes(metadata) for metadata in self._metadata), dtype=np.bool_, count=len(self))
        return np.flatnonzero(mask)

    def get(self, ids: Sequence[str]) -> list[Mapping[str, Any] | None]:
        """Metadata by id, as copies; `None` where there is no such row."""
        rows = [self._row_of.get(key) for key in check_ids(ids)]
        return [None if row is None else _copy(self._metadata[row]) for row in rows]

    def delete(self, ids: Sequence[str] | None = None, *, where: Where | None = None) -> int:
        """Remove rows by id or by filter; `where={}` removes all.

        Returns:
            How many rows there were to remove; an id that is not in the store counts nothing.

        Raises:
            UsageError: Not exactly one of the two is given.
        """
        if (ids is None) == (where is None):
            raise UsageError("delete takes ids or where, one of the two; where={} removes every row.")
        keys = check_ids(ids) if ids is not None else self._keys(where)
        removed = sum(self._remove(key) for key in keys)
        self._changed = self._changed or removed > 0
        return removed

    def _remove(self, key: str) -> bool:
        """Take a row out by moving the last one into its place, so that the cost does not grow with the store."""
        row = self._row_of.pop(key, None)
        if row is None:
            return False
        last_id, last_metadata = self._ids.pop(), self._metadata.pop()
        if last_id != key:
            self._ids[row], self._metadata[row] = last_id, last_metadata
            self._vectors[row] = self._vectors[len(self._ids)]
            self._row_of[last_id] = row
        return True

    def _keys(self, where: Where | None) -> list[str]:
        rows = self._rows(where)
        return list(self._ids) if rows is None else [self._ids[row] for row in rows]

    def count(self, where: Where | None = None) -> int:
        """How many rows there are, or pass a filter."""
        rows = self._rows(where)
        return len(self) if rows is None else len(rows)

    def scan(
        self, where: Where | None = None, *, batch_size: int = 1024
    ) -> Iterator[tuple[list[str], Vectors, list[Mapping[str, Any]]]]:
        """Read all rows, or those that pass a filter, as copies.

        The rows are those of the moment of the call; one that is removed before its batch is read is left out.
        """
        size = check_count(batch_size, name="batch_size")
        return self._batches(self._keys(where), size)

    def _batches(self, keys: list[str], size: int) -> Iterator[tuple[list[str], Vectors, list[Mapping[str, Any]]]]:
        for start in range(0, len(keys), size):
            rows = [self._row_of[key] for key in keys[start : start + size] if key in self._row_of]
            if rows:
                yield (
                    [self._ids[row] for row in rows],
                    self._vectors[rows],
                    [_copy(self._metadata[row]) for row in rows],
                )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Keep everything in a folder; an earlier save there stays whole until this one is.

        Raises:
            StoreError: The folder holds something else.
            RunLocked: Another process is saving there.
            StorageError: The disk refused.
        """
        vectors = self._vectors[: len(self)]
        content = Saved(
            dim=self._dim, fingerprint=self._fingerprint, ids=self._ids, vectors=vectors, metadata=self._metadata
        )
        place = Path(path).expanduser()
        write(place, content)
        self._place, self._changed = place, False

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Bring back what was saved.

        Raises:
            StoreError: There is no store, or it is broken; says what is wrong.
        """
        place = Path(path).expanduser()
        content = read(place)
        store = cls()
        store._dim, store._fingerprint = content.dim, content.fingerprint
        store._vectors = content.vectors
        store._ids, store._metadata = list(content.ids), list(content.metadata)
        store._row_of = {key: row for row, key in enumerate(content.ids)}
        store._place = place
        return store

    def flush(self) -> None:
        """Save to the folder that the store was saved to or loaded from, if it has one and anything has changed."""
        if self._place is not None and self._changed:
            self.save(self._place)

    def close(self) -> None:
        """Flush."""
        self.flush()


def _copy(value: Any) -> Any:
    """A copy of a JSON-like value, all the way down; several times faster than `copy.deepcopy`."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value
