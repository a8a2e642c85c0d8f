"""Relevance feedback: a query moved towards what was marked as right, and away from what was marked as wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geovlm._vectors import unit_rows

if TYPE_CHECKING:
    from geovlm.protocols import Vectors

# Weights of the right and of the wrong examples beside 1 for the query, "reasonable values" in Manning, Raghavan and
# Schütze, Introduction to Information Retrieval (2008), section 9.1.1.
MORE_WEIGHT = 0.75
LESS_WEIGHT = 0.15

# About as many hits as a person has seen when marking some of them.
NEAR = 20


def rocchio(query: Vectors | None, more: Vectors, less: Vectors) -> Vectors:
    """The query of the next round (Rocchio, 1971): `query + 0.75 · mean(more) − 0.15 · mean(less)`, at length 1.

    Towards one example its cosine never falls, and away from one it never rises.

    Args:
        query: `(dim,)`, L2-normalised; `None` to go by the examples alone.
        more: Right examples `(m, dim)`, L2-normalised; none is fine.
        less: Wrong examples `(l, dim)`, in the same way.

    Raises:
        UsageError: All cancel each other.

    Examples:
        >>> none = np.empty((0, 2), dtype=np.float32)
        >>> rocchio(np.array([1, 0], dtype=np.float32), np.array([[0, 1]], dtype=np.float32), none).tolist()
        [0.800000011920929, 0.6000000238418579]
    """
    start = np.zeros(more.shape[1], dtype=np.float32) if query is None else query
    return _moved(start, (more, MORE_WEIGHT), (less, -LESS_WEIGHT))


def away(query: Vectors, less: Vectors, near: Vectors) -> Vectors:
    """A query moved away from wrong examples where there are no right ones: from what sets them apart from their peers.

    The vectors of all images have a part in common, which texts do not have (Liang et al., Mind the Gap, 2022), and
    wrong examples are often close to right scenes. Rocchio's formula pushes the query away from all of that as well.
    Here the mean of the nearest other rows is put back with the same weight, as if they were right (pseudo-relevance).

    Args:
        query: `(dim,)`, L2-normalised.
        less: Wrong examples `(l, dim)`, L2-normalised.
        near: The nearest rows beside them `(n, dim)`; if there is none it is Rocchio's formula.

    Raises:
        UsageError: All cancel each other.
    """
    return _moved(query, (near, LESS_WEIGHT), (less, -LESS_WEIGHT))


def _moved(query: Vectors, *steps: tuple[Vectors, float]) -> Vectors:
    moved = query.astype(np.float64)
    for examples, weight in steps:
        if len(examples):
            moved += weight * examples.mean(axis=0, dtype=np.float64)
    unit: Vectors = unit_rows(moved[None], what="query vector")[0]
    return unit
