"""What a store found, as hits: chosen to differ, and told how sure they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from attrs import evolve

from geovlm._hits import Hits, to_hits
from geovlm._search.contrast import probabilities
from geovlm._search.diversity import spread
from geovlm._search.stored import stored_vectors

if TYPE_CHECKING:
    from geovlm._search.question import Question
    from geovlm.protocols import Matches, VectorStore


def answer(store: VectorStore, question: Question, found: Matches, *, limit: int, diversity: float) -> Hits:
    """The hits of a search.

    Args:
        store: Where vectors of the rows are looked up, if they are needed.
        question: What was asked.
        found: The nearest rows, best first; more than `limit` of them if they are to differ.
        limit: How many hits at most.
        diversity: 0 for the nearest, up to 1.
    """
    hits = to_hits(found, question.words)
    if not len(hits) or (not diversity and question.contrast is None):
        return hits
    # A row that has been removed since it was found has no vector, and is no hit any more.
    rows = zip(hits, stored_vectors(store, [hit.id for hit in hits]), strict=True)
    there = [(hit, vector) for hit, vector in rows if vector is not None]
    items, vectors = [hit for hit, _ in there], np.array([vector for _, vector in there])
    if diversity:
        chosen = spread([hit.score for hit in items], vectors, limit, diversity)
        items, vectors = [items[place] for place in chosen], vectors[chosen]
    if question.contrast is not None and items:
        shares = probabilities(vectors, question.contrast, question.scale)
        items = [evolve(hit, probability=share) for hit, share in zip(items, shares.tolist(), strict=True)]
    return Hits(tuple(items), query=question.words)
