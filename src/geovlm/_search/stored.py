"""Vectors of a store's rows by id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geovlm.protocols import VectorReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geovlm.protocols import Vectors, VectorStore


def stored_vectors(store: VectorStore, ids: Sequence[str]) -> list[Vectors | None]:
    """Vectors by id, each `(dim,)`; `None` where there is no such row. A store that cannot tell is read through."""
    if not ids:
        return []
    if isinstance(store, VectorReader):
        return store.get_vectors(ids)
    wanted, found = set(ids), dict[str, "Vectors"]()
    for keys, vectors, _ in store.scan():
        found.update((key, vector) for key, vector in zip(keys, vectors, strict=True) if key in wanted)
        if len(found) == len(wanted):
            break
    return [found.get(key) for key in ids]
