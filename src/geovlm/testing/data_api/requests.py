"""What a command gets to work on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geovlm.testing.data_api.limits import Limits
    from geovlm.testing.data_api.store import Collection, Database

Answer = dict[str, Any]


@dataclass(frozen=True)
class DocumentFault:
    """Documents of an insertMany, by their places, that fail with a code, written or not."""

    places: frozenset[int]
    code: str
    written: bool


@dataclass(frozen=True, kw_only=True)
class Request:
    """One command on its way: where it is sent, what it says.

    Args:
        database: everything there is.
        limits: what is refused.
        name: of the command.
        keyspace: named in the path, or None.
        collection: named in the path, or None.
        fields: of the command, without its options.
        options: of the command.
        size: bytes of the request's body.
        fault: documents that are to fail.
    """

    database: Database
    limits: Limits
    name: str
    keyspace: str | None = None
    collection: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    size: int = 0
    fault: DocumentFault | None = None

    def target(self) -> Collection:
        """The collection that the path names.

        Raises:
            CommandFailure: it does not exist.
        """
        return self.database.collection(self.keyspace or "", self.collection or "")

    @property
    def may_be_long(self) -> bool:
        """Whether a document in the request can have more characters than a document may."""
        return self.size > self.limits.document_chars
