"""Plans that read: pages, documents by id, counts, searches. They make requests and take answers, and send nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geovlm.stores._astra_documents import ROW_FIELDS, binary, metadata_of, pack, vectors_of
from geovlm.stores._astra_send import Request, Step, raise_it
from geovlm.stores._exact import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from geovlm.errors import GeovlmError
    from geovlm.filters import Predicate
    from geovlm.protocols import Vectors
    from geovlm.stores._astra_filters import Pushed
    from geovlm.stores._astra_send import Answer

IDS_A_REQUEST = 100
MOST_FOUND = 1000

Document = dict[str, Any]
Found = list[tuple[str, float, dict[str, Any]]]
"""Rows with their scores, best first: id, cosine, metadata."""


class Pages:
    """All documents that pass a filter, a page a step; `documents` has the last page."""

    def __init__(self, where: Mapping[str, Any], projection: Mapping[str, Any]) -> None:
        self.documents: list[Document] = []
        self._command: dict[str, Any] = {"filter": where, "projection": projection}
        self._state: str | None = None

    def steps(self) -> Iterator[Step]:
        """One request a step, until there are no more pages."""
        while True:
            yield Step([Request(body={"find": self._command}, take=self._take)])
            if not self._state:
                return
            self._command = {**self._command, "options": {"pageState": self._state}}

    def _take(self, answer: Answer) -> None:
        self.documents = documents_of(answer)
        self._state = answer.body["data"].get("nextPageState")


def documents_of(answer: Answer) -> list[Document]:
    """The documents of a `find`."""
    found: list[Document] = answer.body["data"]["documents"]
    return found


def by_ids(
    keys: Sequence[str],
    projection: Mapping[str, Any],
    take: Callable[[Document], None],
    *,
    fail: Callable[[GeovlmError], None] = raise_it,
) -> Iterator[Step]:
    """Look documents up; `take` gets each one that there is."""
    waiting: list[dict[str, Any]] = [
        {"filter": {"_id": {"$in": list(keys[start : start + IDS_A_REQUEST])}}, "projection": projection}
        for start in range(0, len(keys), IDS_A_REQUEST)
    ]

    def request(command: dict[str, Any]) -> Request:
        def taken(answer: Answer) -> None:
            for found in documents_of(answer):
                take(found)
            after = answer.body["data"].get("nextPageState")
            if after:
                waiting.append({**command, "options": {"pageState": after}})

        return Request(body={"find": command}, take=taken, fail=fail)

    while waiting:
        current, waiting[:] = waiting[:], []
        yield Step([request(command) for command in current])


class Count:
    """How many rows there are: by the service up to a thousand, above by reading their hashes."""

    def __init__(self, pushed: Pushed, passes: Predicate | None) -> None:
        self.rows = 0
        self._where = pushed.among_documents()
        self._passes = passes
        self._is_more = passes is not None

    def steps(self) -> Iterator[Step]:
        """The requests."""
        if self._passes is None:
            yield Step([Request(body={"countDocuments": {"filter": self._where}}, take=self._take)])
        if self._is_more:
            yield from self._read()

    def _take(self, answer: Answer) -> None:
        status = answer.body["status"]
        self._is_more = bool(status.get("moreData"))
        self.rows = 0 if self._is_more else status["count"]

    def _read(self) -> Iterator[Step]:
        passes = self._passes
        pages = Pages(self._where, {"sha": 1} if passes is None else {"metadata": 1, "payload": 1})
        for step in pages.steps():
            yield step
            self.rows += sum(passes is None or passes(metadata_of(found)) for found in pages.documents)


class Exact:
    """The nearest rows of all that are shown to it."""

    def __init__(self, queries: Vectors, k: int) -> None:
        self._queries = queries
        self._k = k
        self._ids: list[str] = []
        self._vectors = np.empty((0, queries.shape[1]), dtype=np.float32)
        self._metadata: list[Mapping[str, Any]] = []

    def show(self, ids: list[str], vectors: Vectors, metadata: Sequence[Mapping[str, Any]]) -> None:
        """Look at more rows."""
        all_ids, all_metadata = self._ids + ids, [*self._metadata, *metadata]
        all_vectors = np.concatenate([self._vectors, vectors])
        ranked = nearest(all_vectors, all_ids, self._queries, self._k)
        kept = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *(rows for rows, _ in ranked)]))
        self._ids = [all_ids[row] for row in kept]
        self._metadata = [all_metadata[row] for row in kept]
        self._vectors = all_vectors[kept]

    def found(self) -> list[Found]:
        """The nearest for each query."""
        ranked = nearest(self._vectors, self._ids, self._queries, self._k)
        return [
            [(self._ids[row], score, dict(self._metadata[row])) for row, score in zip(*pair, strict=True)]
            for pair in ((rows, scores.tolist()) for rows, scores in ranked)
        ]


class Search:
    """The nearest rows by the index of the service, at most a thousand a query.

    Scores are computed here from the vectors that come back, in the way that every store does. If the last row found
    has the score of the one before, there may be more of them, and as many as possible are asked for, so that ties
    are settled by id.

    Attributes:
        found: For each query its rows; `None` where the thousand nearest do not answer it.
    """

    def __init__(self, queries: Vectors, k: int, pushed: Pushed, passes: Predicate | None) -> None:
        self.found: list[Found | None] = [None] * len(queries)
        self._queries = queries
        self._k = k
        self._where = pushed.among_vectors()
        self._passes = passes
        self._open: list[int] = list(range(len(queries)))

    def steps(self) -> Iterator[Step]:
        """Once for all queries, and again for those with ties."""
        limit = MOST_FOUND if self._passes else min(self._k + 1, MOST_FOUND)
        yield Step([self._request(query, limit) for query in self._open])
        if limit < MOST_FOUND:
            self._open = [query for query in self._open if self.found[query] is None]
            yield Step([self._request(query, MOST_FOUND) for query in self._open])

    def _request(self, query: int, limit: int) -> Request:
        command = {
            "filter": self._where,
            "sort": {"$vector": binary(pack(self._queries[query]))},
            "projection": ROW_FIELDS,
            "options": {"limit": limit},
        }
        return Request(body={"find": command}, take=lambda answer: self._take(query, limit, documents_of(answer)))

    def _take(self, query: int, limit: int, documents: list[Document]) -> None:
        ids = [one["_id"] for one in documents]
        rows = [metadata_of(one) for one in documents]
        exact = Exact(self._queries[query : query + 1], len(documents) or 1)
        kept = [place for place, row in enumerate(rows) if self._passes is None or self._passes(row)]
        vectors = vectors_of(documents, self._queries.shape[1])[kept]
        exact.show([ids[place] for place in kept], vectors, [rows[place] for place in kept])
        (best,) = exact.found()
        is_all = len(documents) < limit
        if is_all or self._is_settled(best, limit):
            self.found[query] = best[: self._k]

    def _is_settled(self, best: Found, limit: int) -> bool:
        if len(best) < self._k:
            return False
        return limit == MOST_FOUND or best[self._k - 1][1] > best[-1][1]
