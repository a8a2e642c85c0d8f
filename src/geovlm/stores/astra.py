"""`AstraStore`: vectors in Astra DB, or in another database that speaks the Data API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from geovlm._vectors import check_count
from geovlm.errors import IncompleteUpsert, RateLimitedUpsert
from geovlm.stores._astra_async import AsyncAstraStore
from geovlm.stores._astra_base import AstraBase
from geovlm.stores._astra_documents import ROW_FIELDS, rows_of
from geovlm.stores._astra_plans import AstraMatches, compiled, passing
from geovlm.stores._astra_reads import Pages
from geovlm.stores._astra_run import Threads

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from geovlm.filters import Predicate
    from geovlm.protocols import Matches, Vectors, Where
    from geovlm.stores._astra_filters import Pushed
    from geovlm.stores._astra_send import Body, Request
    from geovlm.stores._astra_setup import Environment
    from geovlm.stores._astra_writes import Outcome

__all__ = ["AstraMatches", "AstraStore", "AsyncAstraStore", "IncompleteUpsert", "RateLimitedUpsert"]

Batch = tuple[list[str], "Vectors", "list[Mapping[str, Any]]"]


class AstraStore(AstraBase):
    """Vectors in a collection of Astra DB, HCD, DSE or any other Data API, shared by many machines.

    The contract is that of `geovlm.protocols.VectorStore`. What is particular here:

    - A write is many requests, some at the same time. Each is repeated when it fails in a way that may pass (too many
      requests, a gateway, a timeout, a broken connection), and rows of which nobody knows whether they were written
      are looked up. If rows remain unwritten, `IncompleteUpsert` says what became of each; the same call can be
      repeated, and rows that are there with the same content are not sent again.
    - A search uses the index of the service, which is approximate, and finds at most 1,000 rows. `exact=True` reads
      all rows (that pass the filter) and compares them here: right, and slow.
    - Filters are answered by the service. The few things that it sees otherwise than `geovlm.filters` (`$not` of a
      range, mappings of several names, texts and numbers beyond its limits) are tested here, on what a wider filter
      lets through.
    - `count` costs one request up to 1,000 rows, and above that reads through the ids of all that it counts.
    - A search may miss rows that were written in the last moments, as Astra DB searches one replica.
    - Lists have at most 1,000 items, and mappings 1,000 names; `upsert` refuses larger ones before it writes.

    The first write, or `bind`, makes the collection. Any number of threads may use one store.

    Args:
        collection: Its name: letters, digits and underscores.
        endpoint: Address of the Data API; `ASTRA_DB_API_ENDPOINT` if it is not given.
        token: `ASTRA_DB_APPLICATION_TOKEN` if it is not given. It never shows in a repr, a log or an error.
        keyspace: `default_keyspace` if it is not given, which only Astra DB has.
        environment: What speaks the Data API: `"astra"`, `"hcd"`, `"dse"` or `"other"`.
        username: In place of a token, with the password, for all but Astra DB.
        password: Of the user.
        dim: Length of the vectors, to be checked against a collection that exists.
        workers: How many requests are on their way at most.
        timeout: Seconds that one attempt of a request may take.
        attempts: How often a request is sent at most.
        pause: About the seconds before the second attempt; doubled before each further one. What the service asks
            for in `Retry-After` comes on top.

    Raises:
        AuthError: There is no token.
        UsageError: A setting is missing or cannot be right; nothing was sent.
        MissingExtra: `astrapy` is not installed.

    Examples:
        >>> import numpy as np
        >>> from geovlm.testing.data_api import DataAPIEmulator
        >>> with DataAPIEmulator() as api, AstraStore("scenes", endpoint=api.endpoint, token=api.token) as store:
        ...     store.upsert(["a", "b"], np.eye(2), [{"year": 2020}, {"year": 2024}])
        ...     store.query(np.array([[1.0, 1.0]]), 1, where={"year": {"$gt": 2021}})[0]
        ['inserted', 'inserted']
        AstraMatches(ids=['b'], scores=[0.7071068], metadata=[{'year': 2024}])
    """

    def __init__(
        self,
        collection: str,
        *,
        endpoint: str | None = None,
        token: str | None = None,
        keyspace: str | None = None,
        environment: Environment = "astra",
        username: str | None = None,
        password: str | None = None,
        dim: int | None = None,
        workers: int = 8,
        timeout: float = 30.0,
        attempts: int = 8,
        pause: float = 0.25,
    ) -> None:
        super().__init__(
            collection,
            endpoint=endpoint,
            token=token,
            keyspace=keyspace,
            environment=environment,
            username=username,
            password=password,
            dim=dim,
            workers=workers,
            timeout=timeout,
            attempts=attempts,
            pause=pause,
        )
        self._collection = self._database.get_collection(collection)
        self._threads = Threads(self._once, self._policy, workers)

    def _once(self, request: Request, seconds: float) -> Body:
        target = self._collection if request.target == "collection" else self._database
        answer: Body = target.command(request.body, raise_api_errors=False, timeout_ms=int(1000 * seconds))
        return answer

    def __len__(self) -> int:
        return self.count()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def dim(self) -> int | None:
        """Length of a vector; `None` as long as nothing was written or bound."""
        about = self._threads.run(self._plans.known())
        return about.dim if about else None

    @property
    def fingerprint(self) -> str | None:
        """Of the encoder that the store is tied to; `None` as long as it is to none."""
        about = self._threads.run(self._plans.known())
        return about.fingerprint if about else None

    def bind(self, *, dim: int, fingerprint: str) -> None:
        """Tie the collection to an encoder, and make it if it is not there; again with the same values is fine.

        Raises:
            ConfigMismatch: It holds another encoder's vectors, or was made with other options.
        """
        self._threads.run(self._plans.bind(dim, fingerprint))

    def upsert(
        self,
        ids: Sequence[str],
        vectors: NDArray[np.floating[Any]],
        metadata: Sequence[Mapping[str, Any]] | None = None,
        *,
        on_conflict: Literal["replace", "skip", "error"] = "replace",
    ) -> list[Outcome]:
        """Write rows; an id that comes twice meets itself.

        Some thousand rows a call are best. A row that is there already with the same content counts as replaced, and
        is not sent again.

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
            IncompleteUpsert: Some rows were not written; its `outcomes` say which were. It is a `RateLimitedUpsert`,
                also a `RateLimited`, if there were too many requests.
            AuthError: The token was not accepted; nothing was written.
        """
        return self._threads.run(self._plans.upsert(ids, vectors, metadata, on_conflict))

    def query(
        self, vectors: NDArray[np.floating[Any]], k: int = 10, *, where: Where | None = None, exact: bool = False
    ) -> list[Matches]:
        """The `k` nearest rows for each of many query vectors `(q, dim)`.

        Args:
            vectors: They are normalised.
            k: How many at most; fewer come back if fewer pass the filter.
            where: A filter on metadata; see `geovlm.filters`.
            exact: Read all rows that pass the filter and compare them here.

        Raises:
            UsageError: An argument cannot be right, or `k` is more than the service finds.
            StoreError: The service refused, or did not answer.
        """
        return list(self._threads.run(self._plans.query(vectors, k, where, exact=exact)))

    def get(self, ids: Sequence[str]) -> list[Mapping[str, Any] | None]:
        """Metadata by id; `None` where there is no such row."""
        return self._threads.run(self._plans.get(ids))

    def get_vectors(self, ids: Sequence[str]) -> list[Vectors | None]:
        """Vectors by id, each of shape `(dim,)`; `None` where there is no such row."""
        return self._threads.run(self._plans.get_vectors(ids))

    def delete(self, ids: Sequence[str] | None = None, *, where: Where | None = None) -> int:
        """Remove rows by id or by filter; `where={}` removes all.

        Rows are found first and then removed by id, twenty a request.

        Returns:
            How many rows there were to remove; an id that is not in the store counts nothing.

        Raises:
            UsageError: Not exactly one of the two is given.
            StoreError: The service refused, or did not answer; some rows may be gone.
        """
        return self._threads.run(self._plans.delete(ids, where))

    def count(self, where: Where | None = None) -> int:
        """How many rows there are, or pass a filter; exact."""
        return self._threads.run(self._plans.count(where))

    def scan(self, where: Where | None = None, *, batch_size: int = 1024) -> Iterator[Batch]:
        """Read all rows, or those that pass a filter, a page after the other.

        A row that is written or removed meanwhile may be among them or not.
        """
        size = check_count(batch_size, name="batch_size")
        return self._batches(*compiled(where), size)

    def _batches(self, pushed: Pushed, passes: Predicate | None, size: int) -> Iterator[Batch]:
        about = self._threads.run(self._plans.look())
        if about is None:
            return
        pages, waiting = Pages(pushed.among_documents(), ROW_FIELDS), list[Any]()
        for step in pages.steps():
            self._threads.send(step)
            waiting += passing(pages.documents, passes)
            while len(waiting) >= size:
                yield rows_of(waiting[:size], about.dim)
                waiting = waiting[size:]
        if waiting:
            yield rows_of(waiting, about.dim)

    def flush(self) -> None:
        """Nothing: what `upsert` has written is durable when it returns."""

    def close(self) -> None:
        """Let go of the threads; the store can be used again."""
        self._threads.close()
        self._plans.forget()
