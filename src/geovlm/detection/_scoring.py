"""Cosines to logits: a query against its contrast phrases, at the scale of the encoder. Pure functions on arrays.

The logit of a query is `s q - log(sum(exp(s c)))`, with the cosines `q` of the query and `c` of its contrast phrases
and the scale `s`; its sigmoid is the softmax probability of the query among them. Logits, not probabilities, are what
is kept, interpolated and calibrated: they do not saturate.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from geovlm.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geovlm.detection._phrases import Phrases


def logits(
    cosines: NDArray[np.float32], phrases: Phrases, *, scale: float, bias: float | None = None
) -> NDArray[np.float32]:
    """Logits `(queries, …)` of cosines `(phrases, …)`.

    Args:
        cosines: Of an image, a patch or a cell with every phrase.
        phrases: Which phrases belong to which query; the best of its synonyms counts.
        scale: What cosines are multiplied by.
        bias: Of a sigmoid model; used where a query has no contrast phrases.
    """
    found = np.empty((len(phrases.queries), *cosines.shape[1:]), dtype=np.float32)
    for place, (own, others) in enumerate(zip(phrases.own, phrases.others, strict=True)):
        best = scale * cosines[own].max(axis=0)
        found[place] = best - _log_sum_exp(scale * cosines[others]) if len(others) else best + (bias or 0.0)
    return found


def _log_sum_exp(values: NDArray[np.float32]) -> NDArray[np.float32]:
    top = values.max(axis=0)
    total: NDArray[np.float32] = top + np.log(np.exp(values - top).sum(axis=0))
    return total


def probability(logit: NDArray[np.float32] | np.float32) -> NDArray[np.float32]:
    """The sigmoid, without overflow; NaN stays NaN."""
    half = np.tanh(np.asarray(logit, dtype=np.float32) / np.float32(2))
    return np.asarray((half + np.float32(1)) / np.float32(2), dtype=np.float32)


def logit_of(threshold: float) -> float:
    """The logit of a probability.

    Raises:
        UsageError: It is not between 0 and 1.
    """
    if not isinstance(threshold, int | float) or not 0 < threshold < 1:
        raise UsageError(f"A threshold is a probability between 0 and 1, not {threshold!r}.")
    return math.log(threshold / (1 - threshold))
