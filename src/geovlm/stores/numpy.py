"""`NumpyStore`: search in memory, saved to a folder when asked."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from attrs import frozen

from geovlm._markup import listing, panel
from geovlm._vectors import check_count, unit_rows
from geovlm.errors import ConfigMismatch, StoreError, UsageError
from geovlm.filters import parse_filter
from geovlm.stores._checks import check_ids, json_rows
from geovlm.stores._codes import DIMS, Codes
from geovlm.stores._columns import Columns
from geovlm.stores._exact import Ranked, gathered, nearest, rank
from geovlm.stores._numpy_files import Saved, read, write

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from geovlm.protocols import Matches, Vectors, Where

__all__ = ["NumpyMatches", "NumpyStore"]

Outcome = Literal["inserted", "replaced", "skipped"]
FIRST_CAPACITY = 1024

# Fewer rows are multiplied about as fast as their codes are compared, and are not worth coding.
ROWS_TO_CODE = 200_000

# So many queries at once share a pass over all vectors, which is then as fast as each one's own over the codes.
QUERIES_TO_MULTIPLY = 12


@frozen(kw_only=True)
class NumpyMatches:
    """The nearest rows of one query, best first."""

    ids: list[str]
    scores: list[float]
    metadata: list[dict[str, Any]]


class NumpyStore:
    """Vectors in memory: nothing to install, nothing to run, up to some million rows.

    A query costs one matrix product with all vectors, or with those that pass its filter. From 200,000 rows on, a pass
    over codes of two bits a number comes first and leaves a few to compare exactly: several times faster, at the price
    of missing one of a thousand nearest rows or so; the scores of what is found are exact. `exact=True` compares all.
    Codes take 192 MB a million rows of 512 numbers, and are made by the first query, in seconds. A filter makes columns
    of the names it asks for when it first does, about a second a million rows, and takes milliseconds from then on.

    `save` keeps everything in a folder. `open` maps it into memory: it takes a second a million rows whatever their
    vectors, which are read from disk as they are needed. From then on the folder is the store's place: `flush` and
    `close` save there if anything has changed, and what is written before that is in memory only.

    The contract is that of `geovlm.protocols.VectorStore`. Many threads may read at once, as long as none
    writes; one may write, as long as none reads.

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
        self._texts: list[str] = []  # metadata in JSON
        self._row_of: dict[str, int] = {}
        self._columns = Columns(self._texts)
        self._codes: Codes | None = None
        self._reading = Lock()  # columns and codes are brought up to date by whoever reads next
        self._place: Path | None = None
        self._generation: int | None = None
        self._changed = False

    def __len__(self) -> int:
        return len(self._ids)

    def __repr__(self) -> str:
        return f"NumpyStore(rows={len(self)}, dim={self._dim}, fingerprint={self._fingerprint!r})"

    def _repr_html_(self) -> str:
        place = "memory" if self._place is None else str(self._place)
        known = {"rows": len(self), "numbers a vector": self._dim, "encoder": self._fingerprint, "in": place}
        return panel("NumpyStore", listing(known))

    @property
    def dim(self) -> int | None:
        """Length of a vector; `None` as long as nothing was written or bound."""
        return self._dim

    @property
    def fingerprint(self) -> str | None:
        """Of the encoder that the store is tied to; `None` as long as it is to none."""
        return self._fingerprint

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
        texts = [text for _, text in json_rows(metadata, len(keys))]
        unit = unit_rows(vectors, dim=self._dim)
        if len(unit) != len(keys):
            raise UsageError(f"There are {len(keys)} ids and {len(unit)} vectors; they go in pairs.")
        if on_conflict == "error":
            self._refuse_known(keys)
        self._tie(unit.shape[1])
        self._reserve(len(self) + len(set(keys) - self._row_of.keys()))
        self._changed = True
        return [
            self._put(key, vector, text, replace=on_conflict == "replace")
            for key, vector, text in zip(keys, unit, texts, strict=True)
        ]

    def _put(self, key: str, vector: Vectors, text: str, *, replace: bool) -> Outcome:
        row = self._row_of.get(key)
        if row is None:
            row = self._row_of[key] = len(self._ids)
            self._ids.append(key)
            self._texts.append(text)
            self._vectors[row] = vector
            return "inserted"
        if not replace:
            return "skipped"
        self._texts[row] = text
        self._vectors[row] = vector
        self._touch(row)
        return "replaced"

    def _touch(self, row: int) -> None:
        self._columns.changes.touch(row)
        if self._codes is not None:
            self._codes.changes.touch(row)

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
            exact: Compare with every row, without a first pass over codes.

        Raises:
            UsageError: An argument cannot be right.
        """
        count, queries = check_count(k, name="k"), unit_rows(vectors, dim=self._dim, what="query vector")
        mask = self._mask(where)
        if self._dim is None:
            return [NumpyMatches(ids=[], scores=[], metadata=[]) for _ in queries]
        stored = self._vectors[: len(self)]
        if not exact and self._is_coded() and len(queries) < QUERIES_TO_MULTIPLY and gathered(mask) is None:
            found = [self._by_codes(stored, query, count, mask) for query in queries]
        else:
            found = nearest(stored, self._ids, queries, count, mask=mask)
        return [
            NumpyMatches(
                ids=[self._ids[row] for row in best],
                scores=scores.tolist(),
                metadata=[json.loads(self._texts[row]) for row in best],
            )
            for best, scores in found
        ]

    def _is_coded(self) -> bool:
        return len(self) >= ROWS_TO_CODE and self._dim in DIMS

    def _by_codes(self, stored: Vectors, query: Vectors, k: int, mask: NDArray[np.bool_] | None) -> Ranked:
        rows = self._current_codes(stored).nearest(stored, query, k, mask=mask)
        if rows is None:
            return nearest(stored, self._ids, query[None], k, mask=mask)[0]
        return rank(stored, self._ids, query, k, rows)

    def _current_codes(self, stored: Vectors) -> Codes:
        with self._reading:
            if self._codes is None or not self._codes.follow(stored):
                self._codes = Codes.suited_to(stored)
                self._codes.follow(stored)
            return self._codes

    def _mask(self, where: Where | None) -> NDArray[np.bool_] | None:
        """Which rows pass a filter; `None` for all."""
        tree = parse_filter(where)
        if not where:
            return None
        with self._reading:
            return self._columns.mask(tree)

    def get(self, ids: Sequence[str]) -> list[Mapping[str, Any] | None]:
        """Metadata by id, as copies; `None` where there is no such row."""
        rows = [self._row_of.get(key) for key in check_ids(ids)]
        return [None if row is None else json.loads(self._texts[row]) for row in rows]

    def get_vectors(self, ids: Sequence[str]) -> list[Vectors | None]:
        """Vectors by id, as copies of shape `(dim,)`; `None` where there is no such row."""
        rows = [self._row_of.get(key) for key in check_ids(ids)]
        return [None if row is None else np.array(self._vectors[row]) for row in rows]

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
        last_id, last_text = self._ids.pop(), self._texts.pop()
        if last_id != key:
            self._ids[row], self._texts[row] = last_id, last_text
            self._vectors[row] = self._vectors[len(self)]
            self._row_of[last_id] = row
            self._touch(row)
        self._columns.changes.shrink(len(self))
        if self._codes is not None:
            self._codes.changes.shrink(len(self))
        return True

    def _keys(self, where: Where | None) -> list[str]:
        mask = self._mask(where)
        return list(self._ids) if mask is None else [self._ids[row] for row in np.flatnonzero(mask)]

    def count(self, where: Where | None = None) -> int:
        """How many rows there are, or pass a filter."""
        mask = self._mask(where)
        return len(self) if mask is None else int(np.count_nonzero(mask))

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
                    [json.loads(self._texts[row]) for row in rows],
                )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Keep everything in a folder; an earlier save there stays whole until this one is.

        Raises:
            StoreError: The folder holds something else; or it is the store's own place, and another writer has saved
                there meanwhile.
            RunLocked: Another process is saving there.
            StorageError: The disk refused.
        """
        place = Path(path).expanduser().absolute()
        stored = self._vectors[: len(self)]
        coded = self._current_codes(stored) if self._codes is not None and self._is_coded() else None
        content = Saved(
            dim=self._dim,
            fingerprint=self._fingerprint,
            ids=self._ids,
            vectors=stored,
            texts=self._texts,
            codes=None if coded is None else coded.arrays(),
        )
        self._generation = write(place, content, after=self._generation if place == self._place else None)
        self._place, self._changed = place, False

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open what was saved, its vectors mapped into memory.

        Any number of processes may have one folder open. The first that saves there wins: another's later save is
        refused, because it knows nothing of the first.

        Raises:
            StoreError: There is no store, or it is broken; says what is wrong.
        """
        place = Path(path).expanduser().absolute()
        content = read(place)
        store = cls()
        store._dim, store._fingerprint = content.dim, content.fingerprint
        store._vectors = content.vectors
        store._ids.extend(content.ids)
        store._texts.extend(content.texts)
        store._row_of = {key: row for row, key in enumerate(content.ids)}
        store._codes = _restored(content)
        store._place, store._generation = place, content.generation
        return store

    def flush(self) -> None:
        """Save to the folder that the store was saved to or opened from, if it has one and anything has changed."""
        if self._place is not None and self._changed:
            self.save(self._place)

    def close(self) -> None:
        """Flush."""
        self.flush()


def _restored(content: Saved) -> Codes | None:
    """The codes of a saved store; `None` if there are none that fit, so that the next query makes them."""
    if content.codes is None or content.dim is None:
        return None
    try:
        return Codes.of(content.codes, rows=len(content.ids), dim=content.dim)
    except (KeyError, ValueError):
        return None
