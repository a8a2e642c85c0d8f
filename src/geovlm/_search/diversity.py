"""Hits that fit and differ from each other: maximal marginal relevance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geovlm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geovlm.protocols import Vectors

# So many times the hits asked for are looked at, up to what every store finds at once.
CANDIDATES_A_HIT = 5
MOST_CANDIDATES = 1000


def check_diversity(value: Any) -> float:
    """A share from 0 to 1.

    Raises:
        UsageError: It is another number, or none.
    """
    is_number = isinstance(value, int | float | np.floating) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= 1:
        raise UsageError(f"diversity is a number from 0 (off) to 1, not {value!r}.")
    return float(value)


def candidates(limit: int, diversity: float) -> int:
    """How many rows to look at for `limit` hits."""
    return max(limit, min(CANDIDATES_A_HIT * limit, MOST_CANDIDATES)) if diversity else limit


def spread(scores: Sequence[float], vectors: Vectors, limit: int, diversity: float) -> list[int]:
    """Choose one row after the other that fits well and is unlike those chosen (Carbonell and Goldstein, 1998).

    The next row has the largest `(1 − diversity) · fit − diversity · likeness`, where `likeness` is the cosine with
    the most similar row chosen before. Both are scaled to 0 to 1 over the candidates: cosines of a text with images
    lie within a few hundredths, those of images with each other within some tenths, and as they are the second would
    always win.

    Args:
        scores: The cosine of each candidate with the query, best first.
        vectors: Their vectors `(n, dim)`, L2-normalised.
        limit: How many to choose.
        diversity: 0 keeps the order of the scores; 1 asks only that rows differ.

    Returns:
        Places of the chosen in their order; the first candidate comes first always.

    Examples:
        >>> vectors = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
        >>> spread([0.9, 0.9, 0.8], vectors, 2, 0.0), spread([0.9, 0.9, 0.8], vectors, 2, 0.6)
        ([0, 1], [0, 2])
    """
    if not len(scores):
        return []
    alike = vectors.astype(np.float64) @ vectors.T
    fit = _scaled(np.asarray(scores, dtype=np.float64), top=max(scores))
    likeness = _scaled(alike, top=1.0)
    chosen, nearest = [0], likeness[0].copy()
    while len(chosen) < min(limit, len(scores)):
        worth = (1 - diversity) * fit - diversity * nearest
        worth[chosen] = -np.inf
        best = int(worth.argmax())
        chosen.append(best)
        np.maximum(nearest, likeness[best], out=nearest)
    return chosen


def _scaled(values: NDArray[np.float64], *, top: float) -> NDArray[np.float64]:
    """Values from 0 for the lowest to 1 for `top`; of values that do not differ, zeros."""
    low = values.min()
    span = top - low
    return (values - low) / span if span > 1e-9 else np.zeros_like(values)
