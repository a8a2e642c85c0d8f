"""Rows of vectors as they come: any precision, some unusable, read as unit rows a block at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geovlm._vectors import unit_rows
from geovlm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from geovlm.protocols import Vectors

ROWS_A_BLOCK = 16_384  # 32 MiB of 512 numbers
NORM_TOLERANCE = 1e-2  # half precision and bfloat16 leave unit rows this near to one


class Rows:
    """Vectors that are never copied whole; rows that are zero or not finite are left out and counted.

    Attributes:
        good: `(n,)`, which rows can be used.
        notes: What was wrong with the rows, in sentences.

    Raises:
        UsageError: The shape is wrong, there are no rows, or none can be used.
    """

    def __init__(self, vectors: Any, *, what: str, dim: int | None = None) -> None:
        array = np.asarray(vectors)
        if array.ndim != 2 or array.shape[1] == 0 or array.dtype.kind not in "fiu":
            raise UsageError(f"A {what} array has shape (n, dim) and real numbers, not {array.shape} of {array.dtype}.")
        if len(array) == 0:
            raise UsageError(f"There is nothing to classify: the {what} array has no rows.")
        if dim is not None and array.shape[1] != dim:
            raise UsageError(
                f"An {what} vector has {array.shape[1]} numbers and a text {dim}; are both of the same encoder?"
            )
        self._array = array
        norms = self._norms()
        self.good: NDArray[np.bool_] = np.isfinite(norms) & (norms > 0)
        if not self.good.any():
            raise UsageError(f"None of the {len(array)} {what} rows can be used: they are zero or not finite.")
        self.notes = tuple(self._told(norms[self.good], what))

    def __len__(self) -> int:
        return len(self._array)

    @property
    def count(self) -> int:
        """How many rows can be used."""
        return int(self.good.sum())

    def _norms(self) -> NDArray[np.float64]:
        norms = np.empty(len(self._array))
        for start in range(0, len(norms), ROWS_A_BLOCK):
            block = self._array[start : start + ROWS_A_BLOCK].astype(np.float32, copy=False)
            norms[start : start + len(block)] = np.einsum("nd,nd->n", block, block, dtype=np.float64)
        return np.sqrt(norms)

    def _told(self, norms: NDArray[np.float64], what: str) -> Iterator[str]:
        lost = len(self.good) - len(norms)
        if lost:
            yield f"{lost} of {len(self.good)} {what} rows are zero or not finite and got no label."
        if (np.abs(norms - 1) > NORM_TOLERANCE).any():
            yield f"The {what} rows were not of unit length and were normalised."

    def blocks(self) -> Iterator[tuple[slice, Vectors]]:
        """The usable rows in order as unit float32, some thousands at a time, each with its place among them."""
        done = 0
        for start in range(0, len(self._array), ROWS_A_BLOCK):
            chosen = self.good[start : start + ROWS_A_BLOCK]
            if chosen.any():
                unit = unit_rows(self._array[start : start + ROWS_A_BLOCK][chosen], what="image")
                yield slice(done, done + len(unit)), unit
                done += len(unit)

    def all(self) -> Vectors:
        """The usable rows at once, unit float32."""
        return np.concatenate([unit for _, unit in self.blocks()])


def text_rows(texts: Any) -> Vectors:
    """One unit vector a class: the normalised mean over its templates, each normalised first.

    Args:
        texts: `(classes, dim)` or `(templates, classes, dim)`.

    Raises:
        UsageError: The shape is wrong, there are fewer than two classes, or a row is zero or not finite.
    """
    array = np.asarray(texts)
    if array.ndim not in {2, 3} or 0 in array.shape:
        raise UsageError(
            f"Texts have shape (classes, dim) or (templates, classes, dim), none of them 0, not {array.shape}."
        )
    classes, dim = array.shape[-2:]
    if classes < 2:
        raise UsageError("Classification needs at least two classes; the texts have one.")
    each = unit_rows(array.reshape(-1, dim), what="text").reshape(-1, classes, dim)
    return unit_rows(each.mean(axis=0, dtype=np.float64), what="text") if len(each) > 1 else each[0]
