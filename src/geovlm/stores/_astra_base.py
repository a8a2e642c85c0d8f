"""What `AstraStore` and `AsyncAstraStore` share: settings, checked, and the plans of what they do."""

from __future__ import annotations

from geovlm._markup import listing, panel
from geovlm._vectors import check_count
from geovlm.errors import UsageError
from geovlm.stores._astra_plans import Plans
from geovlm.stores._astra_send import Policy
from geovlm.stores._astra_setup import Environment, check_name, connection


class AstraBase:
    """A place in a database, and how to get there; sends nothing. `AstraStore` says what the arguments are."""

    def __init__(
        self,
        collection: str,
        *,
        endpoint: str | None,
        token: str | None,
        keyspace: str | None,
        environment: Environment,
        username: str | None,
        password: str | None,
        dim: int | None,
        workers: int,
        timeout: float,
        attempts: int,
        pause: float,
    ) -> None:
        check_name(collection)
        check_count(workers, name="workers")
        if timeout <= 0 or pause < 0:
            raise UsageError(f"timeout is more than 0 seconds and pause not less than 0, not {timeout} and {pause}.")
        self._policy = Policy(attempts=check_count(attempts, name="attempts"), seconds=timeout, pause=pause)
        self._plans = Plans(collection, dim, self._policy)
        self._connection = connection(
            endpoint=endpoint,
            token=token,
            keyspace=keyspace,
            environment=environment,
            username=username,
            password=password,
        )
        self._database = self._connection.database()

    def __repr__(self) -> str:
        place = self._connection
        keyspace = f", keyspace={place.keyspace!r}" if place.keyspace else ""
        return f"{type(self).__name__}({self._plans.name!r}, endpoint={place.endpoint!r}{keyspace})"

    def _repr_html_(self) -> str:
        """Where it is; the database is not asked."""
        place = self._connection
        known = {"collection": self._plans.name, "endpoint": place.endpoint, "keyspace": place.keyspace}
        return panel(type(self).__name__, listing(known))
