"""The database in memory: keyspaces, collections, documents."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from geovlm.testing.data_api.errors import CommandFailure
from geovlm.testing.data_api.indexing import Indexing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geovlm.testing.data_api.documents import Stored
    from geovlm.testing.data_api.schema import CollectionOptions
    from geovlm.testing.data_api.values import Canonical


class Collection:
    """Documents in the order of their insertion, found by their key or by their place.

    A place is never given twice, so that a page state stays good whatever is written between two pages.

    Args:
        name: of the collection.
        options: of the collection, complete.
    """

    def __init__(self, name: str, options: CollectionOptions) -> None:
        self.name = name
        self.options = options
        self.indexing: Indexing = Indexing(options.indexing)
        self._places: dict[Canonical, int] = {}
        self._slots: list[Stored | None] = []
        self._first = 0

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: Canonical) -> Stored | None:
        """The document with a key."""
        place = self._places.get(key)
        return None if place is None else self._slots[place - self._first]

    def scan(self, start: int = 0) -> Iterator[tuple[int, Stored]]:
        """Documents with their places, from a place on."""
        for slot in range(max(0, start - self._first), len(self._slots)):
            stored = self._slots[slot]
            if stored is not None:
                yield slot + self._first, stored

    def insert(self, stored: Stored) -> None:
        """Add a document.

        Raises:
            CommandFailure: there is one with its key.
        """
        if stored.key in self._places:
            shown = stored.document["_id"]
            message = f"Cannot insert the document: a document already exists with given '_id' ('{shown}')."
            raise CommandFailure("DOCUMENT_ALREADY_EXISTS", f"{message} Send another `_id`, or replace the document.")
        self._places[stored.key] = self._first + len(self._slots)
        self._slots.append(stored)

    def replace(self, stored: Stored) -> None:
        """Put a document in the place of the one with its key."""
        self._slots[self._places[stored.key] - self._first] = stored

    def delete(self, stored: Stored) -> None:
        """Take a document out."""
        self._slots[self._places.pop(stored.key) - self._first] = None
        if not self._places:
            self.truncate()

    def truncate(self) -> None:
        """Take all documents out."""
        self._first += len(self._slots)
        self._places, self._slots = {}, []


class Database:
    """Keyspaces of collections, and the lock that a command holds while it runs."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.keyspaces: dict[str, dict[str, Collection]] = {}

    def keyspace(self, name: str) -> dict[str, Collection]:
        """The collections of a keyspace by name.

        Raises:
            CommandFailure: there is no such keyspace.
        """
        if name not in self.keyspaces:
            known = ", ".join(sorted(self.keyspaces)) or "none"
            message = f"The keyspace '{name}' does not exist (known: {known}). Create it first."
            raise CommandFailure("UNKNOWN_KEYSPACE", message)
        return self.keyspaces[name]

    def collection(self, keyspace: str, name: str) -> Collection:
        """A collection.

        Raises:
            CommandFailure: there is no such keyspace or collection.
        """
        collections = self.keyspace(keyspace)
        if name not in collections:
            known = ", ".join(sorted(collections)) or "none"
            message = f"The collection '{name}' does not exist in '{keyspace}' (known: {known}). Create it first."
            raise CommandFailure("UNKNOWN_COLLECTION_OR_TABLE", message)
        return collections[name]
