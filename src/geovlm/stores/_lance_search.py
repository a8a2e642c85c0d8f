"""The nearest rows of a Lance table, with exact scores and ties in order of id.

Lance gives its best candidates; their cosines are computed again from their vectors, so that they are those of every
other store. A few more candidates than asked for show whether rows that did not come back could tie with the last.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from attrs import field, frozen

from geovlm.stores import _exact as exact
from geovlm.stores._lance_rows import ROWS_A_READ, vectors_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from geovlm.filters import Predicate
    from geovlm.protocols import Vectors

QUERIES_A_BLOCK = 64

# Candidates beyond the `k` asked for; by their codes more of them, for each of the first thousand.
SPARE = 16
CODE_SPARE, CODE_FACTOR = 24, 3
# If they do not settle the answer there are this many more the next time; after some rounds all rows are read.
WIDEN, ROUNDS = 8, 3

# Lance's float32 distances are wrong by less than this.
MARGIN = 1e-5


@frozen(kw_only=True)
class Probe:
    """How much of an index a query looks at.

    Args:
        partitions: How many, the nearest first.
        all_of_them: Whether there are no more.
    """

    partitions: int
    all_of_them: bool


@frozen(kw_only=True)
class Asked:
    """A filter as the table is asked it.

    Args:
        sql: What Lance answers; `None` for all rows.
        passes: Tells of the rows that come back whether they pass; `None` if all do.
    """

    sql: str | None
    passes: Predicate | None

    def rows(self, table: Any, columns: list[str]) -> Any:
        """The rows that Lance lets pass, as a query that is still to be run."""
        builder = table.search().select(columns)
        return builder if self.sql is None else builder.where(self.sql)


@frozen(kw_only=True)
class Candidate:
    """A row that Lance proposes, with its exact score; `text` is its metadata as JSON."""

    id: str
    score: float
    text: str

    def metadata(self) -> dict[str, Any]:
        """Its metadata, as fresh values."""
        fresh: dict[str, Any] = json.loads(self.text)
        return fresh


def nearest(table: Any, queries: Vectors, k: int, asked: Asked, probe: Probe | None) -> list[list[Candidate]]:
    """The `k` best rows of each query, best first.

    Args:
        table: A `lancedb` table.
        queries: `(q, dim)`, L2-normalised.
        k: How many, at least 1.
        asked: Only rows that pass this.
        probe: How to use the index; `None` compares with every vector, and leaves no tie undecided.
    """
    found: list[list[Candidate]] = []
    for start in range(0, len(queries), QUERIES_A_BLOCK):
        found += _Search(table, queries[start : start + QUERIES_A_BLOCK], k, asked, probe).run()
    return found


@frozen
class _Search:
    table: Any
    queries: Vectors
    k: int
    asked: Asked
    probe: Probe | None
    found: dict[int, list[Candidate]] = field(init=False, factory=dict)

    def run(self) -> list[list[Candidate]]:
        pending = list(range(len(self.queries)))
        limit = self.k + (SPARE if self.probe is None else CODE_SPARE + CODE_FACTOR * min(self.k, 1000))
        for _ in range(ROUNDS):
            for position, candidates in zip(pending, self._ask(pending, limit), strict=True):
                self._settle(position, candidates, limit)
            pending = [position for position in pending if position not in self.found]
            if not pending:
                break
            limit *= WIDEN
        else:
            self._read_all(pending)
        return [self.found[position] for position in range(len(self.queries))]

    def _settle(self, position: int, candidates: list[Candidate], limit: int) -> None:
        """Keep the answer to a query, if no row that did not come back could change it."""
        passes = self.asked.passes
        best = [row for row in candidates if passes is None or passes(row.metadata())][: self.k]
        if len(candidates) < limit:
            settled = self.probe is None or self.probe.all_of_them or len(best) == self.k
        else:
            last = candidates[-1].score
            settled = len(best) == self.k and (self.probe is not None or best[-1].score > last + MARGIN)
        if settled:
            self.found[position] = best

    def _read_all(self, pending: Sequence[int]) -> None:
        """Answer some queries from all rows: where few rows pass, or thousands tie."""
        self.found.update({position: [] for position in pending})
        passes = self.asked.passes
        for batch in self.asked.rows(self.table, ["id", "vector", "metadata"]).to_batches(ROWS_A_READ):
            texts, names = batch["metadata"].to_pylist(), batch["id"].to_pylist()
            chosen = [row for row, text in enumerate(texts) if passes is None or passes(json.loads(text))]
            if not chosen:
                continue
            ids = [names[row] for row in chosen]
            answers = exact.nearest(vectors_of(batch)[chosen], ids, self.queries[pending], self.k)
            for position, (rows, scores) in zip(pending, answers, strict=True):
                more = [
                    Candidate(id=ids[row], score=score, text=texts[chosen[row]])
                    for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
                ]
                self.found[position] = _in_order([*self.found[position], *more])[: self.k]

    def _ask(self, pending: Sequence[int], limit: int) -> list[list[Candidate]]:
        """Lance's `limit` best rows of some queries, sorted by exact score and id."""
        rows: list[list[Candidate]] = [[] for _ in pending]
        some = self.queries[pending]
        for batch in self._builder(some, limit).to_batches():
            owners = batch["query_index"].to_numpy() if len(pending) > 1 else np.zeros(batch.num_rows, dtype=np.int32)
            for owner in np.unique(owners).tolist():
                mine = batch.filter(pa.array(owners == owner)) if len(pending) > 1 else batch
                rows[owner] += _scored(mine, some[owner])
        return [_in_order(candidates) for candidates in rows]

    def _builder(self, queries: Vectors, limit: int) -> Any:
        # One vector goes in alone: Lance adds a plan to join the answers to several.
        builder = self.table.search(queries if len(queries) > 1 else queries[0], vector_column_name="vector")
        builder = builder.distance_type("cosine").limit(limit).select(["id", "vector", "metadata", "_distance"])
        if self.asked.sql is not None:
            builder = builder.where(self.asked.sql, prefilter=True)
        if self.probe is None:
            return builder.bypass_vector_index()
        return builder.nprobes(self.probe.partitions)


def _in_order(candidates: list[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda row: (-row.score, row.id))


def _scored(batch: Any, query: Vectors) -> Iterator[Candidate]:
    ids, texts = batch["id"].to_pylist(), batch["metadata"].to_pylist()
    order, scores = exact.rank(vectors_of(batch), ids, query, len(ids), np.arange(len(ids)))
    for row, score in zip(order.tolist(), scores.tolist(), strict=True):
        yield Candidate(id=ids[row], score=score, text=texts[row])
