"""`LanceStore`: vectors on disk in LanceDB, inside the program: the default for more than fits in memory."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from attrs import frozen

from geovlm._markup import guarded, listing, panel
from geovlm._together import Together
from geovlm._vectors import check_count, unit_rows
from geovlm.errors import ConfigMismatch, UsageError
from geovlm.filters import compile_filter, parse_filter
from geovlm.stores import _lance_index
from geovlm.stores._checks import check_ids, check_metadata
from geovlm.stores._lance_columns import is_utf8
from geovlm.stores._lance_rows import Rows, find, outcomes, refuse_known, to_write, vectors_of, writable
from geovlm.stores._lance_search import Asked, nearest
from geovlm.stores._lance_sql import in_list, to_sql
from geovlm.stores._lance_table import FINGERPRINT_KEY, About, LanceTable

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from geovlm.protocols import Matches, Vectors, Where
    from geovlm.stores._lance_rows import Outcome

__all__ = ["LanceMatches", "LanceStore"]

Answer = TypeVar("Answer")
Batch = tuple[list[str], "Vectors", "list[Mapping[str, Any]]"]

IDS_A_REMOVAL = 10_000


@frozen(kw_only=True)
class LanceMatches:
    """The nearest rows of one query, best first."""

    ids: list[str]
    scores: list[float]
    metadata: list[dict[str, Any]]


class LanceStore:
    """Vectors in a directory, searched by an index where there are many; nothing to run beside the program.

    Every call that writes is one step: its rows are in the table when it returns, and a process that is killed in the
    middle leaves the table as it was before. Any number of processes may read while one writes; writers wait for each
    other.

    Up to 20,000 rows a query compares with every vector. Above, `flush` (or `build_index`) makes an index of short
    codes, and the best candidates by their codes are compared by their vectors. Rows written since are compared with
    directly until the next `flush`. Scores are exact cosines either way; `exact=True` compares with every vector.
    Threads may ask at the same time: those that wait with the same filter are answered by one look at the table.

    The contract is that of `geovlm.protocols.VectorStore`. Filters are answered by Lance from columns that are made of
    the metadata. What these cannot tell (an element of a list by number, an integer beyond 2⁵³, the 257th name) is
    answered from the metadata itself, more slowly.

    Args:
        path: A directory of its own; the first write makes it.
        table: The table in that directory; several stores can share one.

    Raises:
        MissingExtra: `lancedb` is not installed.
        UsageError: The path or the name of the table cannot be right.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     store = LanceStore(Path(folder) / "scenes.lance")
        ...     store.upsert(["a", "b"], np.eye(2), [{"year": 2020}, {"year": 2024}])
        ...     store.query(np.array([[1.0, 1.0]]), 1, where={"year": {"$gt": 2021}})[0]
        ['inserted', 'inserted']
        LanceMatches(ids=['b'], scores=[0.7071068], metadata=[{'year': 2024}])
    """

    def __init__(self, path: str | os.PathLike[str], *, table: str = "vectors") -> None:
        if "://" in str(path):
            raise UsageError(f"A LanceStore is a directory on this machine, not {str(path)!r:.80}.")
        self._table = LanceTable(Path(path).absolute(), table)
        self._changed, self._stale = False, 0
        self._together = Together()

    def __len__(self) -> int:
        return self.count()

    def __repr__(self) -> str:
        return f"LanceStore({str(self._table.path)!r}, table={self._table.name!r})"

    @guarded
    def _repr_html_(self) -> str:
        known = {"rows": len(self), "numbers a vector": self.dim, "encoder": self.fingerprint}
        place = {"in": str(self._table.path), "table": self._table.name}
        return panel("LanceStore", listing({**known, **place}))

    @property
    def dim(self) -> int | None:
        """Length of a vector; `None` as long as nothing was written or bound."""
        about = self._about()
        return about.dim if about else None

    @property
    def fingerprint(self) -> str | None:
        """Of the encoder that the store is tied to; `None` as long as it is to none."""
        about = self._about()
        return about.fingerprint if about else None

    def bind(self, *, dim: int, fingerprint: str) -> None:
        """Tie the store to an encoder; again with the same values is fine.

        Raises:
            ConfigMismatch: It holds another encoder's vectors.
        """
        check_count(dim, name="dim")
        about = self._about()
        if about is None or about.fingerprint is None:
            with self._table.writing():
                table = self._table.open_or_create(dim)
                about = self._table.about(table)
                if (about.dim, about.fingerprint) == (dim, None):
                    self._changed = True
                    self._table.describe(table, {FINGERPRINT_KEY: fingerprint})
                    return
        if (about.dim, about.fingerprint) != (dim, fingerprint):
            raise ConfigMismatch(
                f"This store holds vectors of {about.dim} numbers of the encoder {about.fingerprint or '(not named)'},"
                f" and vectors of {fingerprint} with {dim} cannot be compared with them. Use that encoder, or a new"
                " store."
            )

    def _about(self) -> About | None:
        table = self._table.open()
        return None if table is None else self._table.about(table)

    def upsert(
        self,
        ids: Sequence[str],
        vectors: NDArray[np.floating[Any]],
        metadata: Sequence[Mapping[str, Any]] | None = None,
        *,
        on_conflict: Literal["replace", "skip", "error"] = "replace",
    ) -> list[Outcome]:
        """Write rows in one step, as if one after the other; an id that comes twice meets itself.

        Each call makes new files: some thousand rows a call are best.

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
            StorageError: The disk refused; nothing was written.
            RunLocked: Another process went on writing for ten minutes.
        """
        if on_conflict not in ("replace", "skip", "error"):
            raise UsageError(f"on_conflict is 'replace', 'skip' or 'error', not {on_conflict!r}.")
        keys = writable(check_ids(ids))
        if not keys and np.size(vectors) == 0:
            return []
        checked, about = check_metadata(metadata, len(keys)), self._about()
        unit = unit_rows(vectors, dim=about.dim if about else None)
        if len(unit) != len(keys):
            raise UsageError(f"There are {len(keys)} ids and {len(unit)} vectors; they go in pairs.")
        with self._table.writing():
            return self._put(Rows(ids=keys, vectors=unit, metadata=checked), on_conflict)

    def _put(self, rows: Rows, on_conflict: str) -> list[Outcome]:
        """Write checked rows; only inside `writing`."""
        dim = rows.vectors.shape[1]
        table = self._table.open_or_create(dim)
        about = self._table.about(table)
        if about.dim != dim:  # another process has made the table since the vectors were checked
            raise UsageError(f"A vector needs {about.dim} numbers here, not {dim}; are both of the same encoder?")
        with self._table.translated():
            known = {key for batch in find(table, rows.ids, ["id"]) for key in batch["id"].to_pylist()}
        if on_conflict == "error":
            refuse_known(rows.ids, known)
        results = outcomes(rows.ids, known, replace=on_conflict == "replace")
        chosen = rows.at(to_write(rows.ids, results))
        if chosen.ids:
            data = chosen.to_arrow(about.layout)
            self._table.add_columns(table, [name for name in data.column_names if name not in about.columns])
            self._changed = True
            self._stale += len(known.intersection(chosen.ids))
            with self._table.translated():
                if known.isdisjoint(chosen.ids):
                    table.add(data)
                else:
                    table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(data)
        return results

    def query(
        self, vectors: NDArray[np.floating[Any]], k: int = 10, *, where: Where | None = None, exact: bool = False
    ) -> list[Matches]:
        """The `k` nearest rows for each of many query vectors `(q, dim)`.

        Args:
            vectors: They are normalised.
            k: How many at most; fewer come back if fewer pass the filter.
            where: A filter on metadata; see `geovlm.filters`.
            exact: Compare with every vector, even if there is an index.

        Raises:
            UsageError: An argument cannot be right.
            StoreError: The table cannot be read; says why.
        """
        about, count = self._about(), check_count(k, name="k")
        queries = unit_rows(vectors, dim=about.dim if about else None, what="query vector")
        run = partial(self._nearest, count=count, where=where, exact=exact)
        filtered = _as_text(where)
        if len(queries) != 1 or filtered is None:
            return run(queries)
        return [self._together.ask((count, exact, filtered), queries[0], lambda several: run(np.stack(several)))]

    def _nearest(self, queries: Vectors, count: int, where: Where | None, *, exact: bool) -> list[Matches]:
        def ask(table: Any, asked: Asked, about: About) -> list[Matches]:
            probe = None if exact else _lance_index.probe_of(about)
            return [
                LanceMatches(
                    ids=[row.id for row in best],
                    scores=[row.score for row in best],
                    metadata=[row.metadata() for row in best],
                )
                for best in nearest(table, queries, count, asked, probe)
            ]

        # The table is looked at now: some of those who ask have come after others had written.
        found = self._answered(where, ask, self._about())
        return [LanceMatches(ids=[], scores=[], metadata=[]) for _ in queries] if found is None else found

    def _answered(
        self, where: Where | None, ask: Callable[[Any, Asked, About], Answer], about: About | None
    ) -> Answer | None:
        """What `ask(table, filter, about)` finds; `None` if nothing has been written.

        A filter is put into SQL for the columns that there are. If another process has added one meanwhile, the rows
        that it wrote may have been read by a condition that does not know them, and the question is put again.
        """
        tree = parse_filter(where)
        while about is not None:
            sql, whole = to_sql(tree, about.layout)
            asked = Asked(sql=sql, passes=None if whole else compile_filter(where))
            with self._table.translated():
                answer = ask(self._table.open(), asked, about)
            now = None if sql is None else self._about()
            if now is None or now.layout == about.layout:
                return answer
            about = now
        return None

    def get(self, ids: Sequence[str]) -> list[Mapping[str, Any] | None]:
        """Metadata by id; `None` where there is no such row."""
        keys, table = check_ids(ids), self._table.open()
        if table is None:
            return [None] * len(keys)
        text_of: dict[str, str] = {}
        with self._table.translated():
            for batch in find(table, keys, ["id", "metadata"]):
                text_of.update(zip(batch["id"].to_pylist(), batch["metadata"].to_pylist(), strict=True))
        return [json.loads(text_of[key]) if key in text_of else None for key in keys]

    def get_vectors(self, ids: Sequence[str]) -> list[Vectors | None]:
        """Vectors by id, as copies of shape `(dim,)`; `None` where there is no such row."""
        keys, table = check_ids(ids), self._table.open()
        if table is None:
            return [None] * len(keys)
        found: dict[str, Vectors] = {}
        with self._table.translated():
            for batch in find(table, keys, ["id", "vector"]):
                found.update(zip(batch["id"].to_pylist(), vectors_of(batch), strict=True))
        return [found[key].copy() if key in found else None for key in keys]

    def delete(self, ids: Sequence[str] | None = None, *, where: Where | None = None) -> int:
        """Remove rows by id or by filter; `where={}` removes all.

        Rows go in one step, or in steps of ten thousand if they are many and given by id, or by a filter that needs
        the metadata itself.

        Returns:
            How many rows there were to remove; an id that is not in the store counts nothing.

        Raises:
            UsageError: Not exactly one of the two is given.
        """
        if (ids is None) == (where is None):
            raise UsageError("delete takes ids or where, one of the two; where={} removes every row.")
        keys = None if ids is None else [key for key in dict.fromkeys(check_ids(ids)) if is_utf8(key)]
        parse_filter(where)
        if self._table.open() is None:
            return 0
        with self._table.writing():
            return self._remove(self._conditions(keys, where))

    def _conditions(self, keys: list[str] | None, where: Where | None) -> list[str]:
        """The conditions in SQL that find the rows to remove; only inside `writing`."""
        if keys is None:
            about = self._about()
            sql, whole = to_sql(parse_filter(where), about.layout) if about else (None, True)
            if whole:
                return [sql or "true"]
            keys = [key for some, _, _ in self.scan(where) for key in some]
        return [in_list("id", keys[start : start + IDS_A_REMOVAL]) for start in range(0, len(keys), IDS_A_REMOVAL)]

    def _remove(self, conditions: list[str]) -> int:
        table, removed = self._table.open(), 0
        for condition in conditions:
            with self._table.translated():
                removed += table.delete(condition).num_deleted_rows
        self._changed, self._stale = True, self._stale + removed
        return removed

    def count(self, where: Where | None = None) -> int:
        """How many rows there are, or pass a filter."""

        def ask(table: Any, asked: Asked, _: About) -> int:
            if asked.passes is None:
                return int(table.count_rows(asked.sql))
            return sum(
                asked.passes(json.loads(text))
                for batch in asked.rows(table, ["metadata"]).to_batches()
                for text in batch["metadata"].to_pylist()
            )

        return self._answered(where, ask, self._about()) or 0

    def scan(self, where: Where | None = None, *, batch_size: int = 1024) -> Iterator[Batch]:
        """Read all rows, or those that pass a filter: the rows of the moment of the call, whatever is written since.

        Raises:
            StoreError: While reading, if a `flush` of more than an hour later has removed what was being read.
        """
        size = check_count(batch_size, name="batch_size")

        def ask(table: Any, asked: Asked, _: About) -> tuple[Asked, Any]:
            return asked, asked.rows(table, ["id", "vector", "metadata"]).to_batches(size)

        started = self._answered(where, ask, self._about())
        return iter(()) if started is None else self._batches(*started)

    def _batches(self, asked: Asked, reader: Any) -> Iterator[Batch]:
        while True:
            with self._table.translated():
                batch = next(reader, None)
            if batch is None:
                return
            rows = [json.loads(text) for text in batch["metadata"].to_pylist()]
            chosen = [i for i, row in enumerate(rows) if asked.passes is None or asked.passes(row)]
            if chosen:
                ids = batch["id"].to_pylist()
                # Chosen by a list, so that the vectors are a copy.
                yield [ids[i] for i in chosen], vectors_of(batch)[chosen], [rows[i] for i in chosen]

    def build_index(self) -> None:
        """Make the index now, whatever the number of rows, and again if there is one.

        It takes minutes for a million rows, and others cannot write meanwhile; they can read. `flush` does the same
        when it pays.
        """
        table = self._table.open()
        if table is not None:
            with self._table.writing(), self._table.translated():
                self._changed = True
                _lance_index.build(self._table, table)

    def flush(self) -> None:
        """Have the disk keep what this store has written, and tidy up where it pays.

        That is to make the index, to let it know new rows, and to join small files; nothing if nothing was written.
        """
        table = self._table.open() if self._changed else None
        if table is not None:
            with self._table.writing(), self._table.translated():
                _lance_index.tidy(self._table, table, stale=self._stale)
                self._table.sync()
                self._changed, self._stale = False, 0

    def close(self) -> None:
        """Flush and let go of files; a later call opens them again."""
        self.flush()
        self._table.close()


def _as_text(where: Where | None) -> str | None:
    """A filter as text, by which equal ones are known; `None` if it holds what JSON cannot, such as a polygon."""
    try:
        return json.dumps(where, sort_keys=True)
    except (TypeError, ValueError):
        return None
