"""Checks that come before any search or score: vectors as unit rows, counts as whole numbers."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

from geovlm.errors import UsageError

if TYPE_CHECKING:
    from geovlm.protocols import Vectors


def unit_rows(vectors: Any, *, dim: int | None = None, what: str = "vector") -> Vectors:
    """Vectors as L2-normalised float32 rows, copied.

    Args:
        vectors: `(n, dim)` real numbers.
        dim: The length they must have, if that is known.
        what: Word for messages.

    Raises:
        UsageError: The shape is wrong, or a row is zero or not finite.
    """
    array = np.asarray(vectors)
    if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind not in "fiu":
        raise UsageError(f"A {what} array has shape (n, dim) and real numbers, not {array.shape} of {array.dtype}.")
    if dim is not None and array.shape[1] != dim:
        raise UsageError(f"A {what} needs {dim} numbers here, not {array.shape[1]}; are both of the same encoder?")
    norms = np.sqrt(np.einsum("nd,nd->n", array, array, dtype=np.float64, casting="unsafe"))
    # NaN, infinities and squares that overflow all end in a norm that is not finite.
    for wrong, reason in ((~np.isfinite(norms), "is not finite"), (norms == 0, "is zero")):
        if wrong.any():
            raise UsageError(
                f"{int(wrong.sum())} of {len(array)} {what}s cannot be used: row {int(wrong.argmax())} {reason}."
            )
    unit = np.empty(array.shape, dtype=np.float32)
    np.divide(array, norms[:, None], out=unit, casting="same_kind")
    return unit


def check_count(value: int, *, name: str) -> int:
    """A number of things that is asked for.

    Raises:
        UsageError: It is not a whole number of at least one.
    """
    try:
        number = index(value)
    except TypeError:
        number = 0
    if number < 1 or isinstance(value, bool):
        raise UsageError(f"{name} is a whole number of at least 1, not {value!r}.")
    return number
