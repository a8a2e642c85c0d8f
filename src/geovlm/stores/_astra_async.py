"""`AsyncAstraStore`: `AstraStore` for event loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from geovlm.stores._astra_base import AstraBase
from geovlm.stores._astra_run import Tasks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from geovlm.protocols import Matches, Vectors, Where
    from geovlm.stores._astra_send import Body, Request
    from geovlm.stores._astra_setup import Environment
    from geovlm.stores._astra_writes import Outcome


class AsyncAstraStore(AstraBase):
    """As `AstraStore`, with coroutines; documents, filters and rules are the same, so that both can share a collection.

    Args:
        collection: As for `AstraStore`, and so are all others.
        endpoint: As for `AstraStore`.
        token: As for `AstraStore`.
        keyspace: As for `AstraStore`.
        environment: As for `AstraStore`.
        username: As for `AstraStore`.
        password: As for `AstraStore`.
        dim: As for `AstraStore`.
        workers: As for `AstraStore`.
        timeout: As for `AstraStore`.
        attempts: As for `AstraStore`.
        pause: As for `AstraStore`.

    Raises:
        AuthError: There is no token.
        UsageError: A setting is missing or cannot be right; nothing was sent.
        MissingExtra: `astrapy` is not installed.

    Examples:
        >>> import asyncio
        >>> import numpy as np
        >>> from geovlm.testing.data_api import DataAPIEmulator
        >>> async def main(api):
        ...     store = AsyncAstraStore("scenes", endpoint=api.endpoint, token=api.token)
        ...     await store.upsert(["a", "b"], np.eye(2))
        ...     return await store.count()
        >>> with DataAPIEmulator() as api:
        ...     asyncio.run(main(api))
        2
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
        self._database = self._database.to_async()
        self._collection = self._database.get_collection(collection)
        self._tasks = Tasks(self._once, self._policy, workers)

    async def _once(self, request: Request, seconds: float) -> Body:
        target = self._collection if request.target == "collection" else self._database
        answer: Body = await target.command(request.body, raise_api_errors=False, timeout_ms=int(1000 * seconds))
        return answer

    async def bind(self, *, dim: int, fingerprint: str) -> None:
        """Tie the collection to an encoder; as `AstraStore.bind`."""
        await self._tasks.run(self._plans.bind(dim, fingerprint))

    async def upsert(
        self,
        ids: Sequence[str],
        vectors: NDArray[np.floating[Any]],
        metadata: Sequence[Mapping[str, Any]] | None = None,
        *,
        on_conflict: Literal["replace", "skip", "error"] = "replace",
    ) -> list[Outcome]:
        """Write rows; as `AstraStore.upsert`."""
        return await self._tasks.run(self._plans.upsert(ids, vectors, metadata, on_conflict))

    async def query(
        self, vectors: NDArray[np.floating[Any]], k: int = 10, *, where: Where | None = None, exact: bool = False
    ) -> list[Matches]:
        """The `k` nearest rows for each query; as `AstraStore.query`."""
        return list(await self._tasks.run(self._plans.query(vectors, k, where, exact=exact)))

    async def get(self, ids: Sequence[str]) -> list[Mapping[str, Any] | None]:
        """Metadata by id; as `AstraStore.get`."""
        return await self._tasks.run(self._plans.get(ids))

    async def get_vectors(self, ids: Sequence[str]) -> list[Vectors | None]:
        """Vectors by id; as `AstraStore.get_vectors`."""
        return await self._tasks.run(self._plans.get_vectors(ids))

    async def delete(self, ids: Sequence[str] | None = None, *, where: Where | None = None) -> int:
        """Remove rows; as `AstraStore.delete`."""
        return await self._tasks.run(self._plans.delete(ids, where))

    async def count(self, where: Where | None = None) -> int:
        """How many rows there are, or pass a filter; as `AstraStore.count`."""
        return await self._tasks.run(self._plans.count(where))
