"""Vectors: reading them from documents and sort clauses, and their similarities."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from geovlm.testing.data_api.errors import CommandFailure, json_type
from geovlm.testing.data_api.values import is_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

METRICS = ("cosine", "dot_product", "euclidean")

# Rows turned to float64 at a time; bounds the memory of a search.
_ROWS = 4096
# The squared length below which a vector has no direction in float32.
_NO_LENGTH = float(np.finfo(np.float32).tiny)


def document_vector(value: Any, largest: int) -> Vector:
    """The vector of a document's ``$vector``: an array of numbers or ``{"$binary": ...}``.

    Args:
        value: as it was sent.
        largest: how many numbers an array may have.

    Raises:
        CommandFailure: it is neither, or empty.
    """
    if isinstance(value, list):
        if len(value) > largest:
            message = f"number of elements an array field '$vector' has ({len(value)}) exceeds maximum ({largest})"
            raise CommandFailure("SHRED_DOC_LIMIT_VIOLATION", f"Document size limitation violated: {message}.")
        return _from_array(value)
    if isinstance(value, dict) and list(value) == ["$binary"]:
        try:
            return _from_binary(value["$binary"])
        except ValueError as error:
            message = f"Bad $binary vector value: {error}. Send base64 of big-endian float32."
            raise CommandFailure("SHRED_BAD_BINARY_VECTOR_VALUE", message) from error
    message = f"Bad $vector: an Array of numbers or an Object with '$binary' is needed, not {json_type(value)}."
    raise CommandFailure("SHRED_BAD_DOCUMENT_VECTOR_TYPE", message)


def sort_vector(value: Any) -> Vector:
    """The vector of a sort clause's ``$vector``.

    Raises:
        CommandFailure: it is neither an array of numbers nor ``{"$binary": ...}``, or it is empty.
    """
    if isinstance(value, list):
        return _from_array(value)
    if isinstance(value, dict) and list(value) == ["$binary"]:
        try:
            return _from_binary(value["$binary"])
        except ValueError as error:
            message = f"Bad $binary value in the sort clause: {error}. Send base64 of big-endian float32."
            raise CommandFailure("SORT_CLAUSE_VALUE_INVALID", message) from error
    message = f"$vector in a sort clause must be an Array of numbers or a $binary, not {json_type(value)}."
    raise CommandFailure("SHRED_BAD_VECTOR_VALUE", message)


def check_vector(vector: Vector, dimension: int, metric: str) -> None:
    """Refuse a vector of another length, one that is not finite, and one without direction under cosine.

    Raises:
        CommandFailure: as it says.
    """
    if len(vector) != dimension:
        message = f"The collection's vectors have {dimension} elements, this one has {len(vector)}."
        raise CommandFailure("INVALID_VECTOR_LENGTH", f"{message} Send a vector of {dimension} elements.")
    if not np.isfinite(vector).all():
        raise CommandFailure("INVALID_DATABASE_QUERY", "The vector holds NaN or infinite values. Send finite ones.")
    if metric == "cosine" and float(np.vdot(vector, vector)) < _NO_LENGTH:
        message = "Zero and near-zero vectors cannot be indexed or searched with cosine similarity."
        raise CommandFailure("INVALID_DATABASE_QUERY", f"{message} Send a vector with a direction.")


def similarities(vectors: Sequence[Vector], query: Vector, metric: str) -> Vector:
    """The ``$similarity`` of each vector to a query, float32 of shape (n,).

    Cosine is ``(1 + cos) / 2``, dot product ``(1 + dot) / 2``, Euclidean ``1 / (1 + distance ** 2)``.

    Examples:
        >>> vectors = [np.float32([1, 0]), np.float32([0, 2]), np.float32([-3, 0])]
        >>> similarities(vectors, np.float32([1, 0]), "cosine").tolist()
        [1.0, 0.5, 0.0]
        >>> similarities(vectors, np.float32([1, 0]), "dot_product").tolist()
        [1.0, 0.5, -1.0]
    """
    wanted = query.astype(np.float64)
    parts = [
        _similarity(np.stack(vectors[start : start + _ROWS]).astype(np.float64), wanted, metric)
        for start in range(0, len(vectors), _ROWS)
    ]
    return np.concatenate(parts).astype(np.float32) if parts else np.empty(0, np.float32)


def short_float(value: np.floating[Any]) -> float:
    """A float32 as the shortest number that reads back as it: 0.98, not 0.9800000190734863."""
    return float(str(value))


def _similarity(rows: NDArray[np.float64], query: NDArray[np.float64], metric: str) -> NDArray[np.float64]:
    if metric == "euclidean":
        return np.asarray(1 / (1 + np.square(rows - query).sum(axis=1)))
    products = rows @ query
    if metric == "cosine":
        products = np.clip(products / (np.linalg.norm(rows, axis=1) * np.linalg.norm(query)), -1, 1)
    return np.asarray((1 + products) / 2)


def _from_array(values: list[Any]) -> Vector:
    if not values:
        raise CommandFailure("SHRED_BAD_VECTOR_SIZE", "$vector field can't be empty. Send numbers, or leave it out.")
    for value in values:
        if not is_number(value):
            message = f"$vector search needs to be array of numbers, not of {json_type(value)}."
            raise CommandFailure("SHRED_BAD_VECTOR_VALUE", message)
    with np.errstate(over="ignore"):
        return np.asarray([float(value) for value in values], np.float64).astype(np.float32)


def _from_binary(text: Any) -> Vector:
    try:
        packed = base64.b64decode(text if isinstance(text, str) else "?", validate=True)
    except ValueError as error:
        raise ValueError(f"{json_type(text)} is not base64 ({error})") from error
    if len(packed) % 4:
        raise ValueError(f"{len(packed)} bytes are not a multiple of 4")
    if not packed:
        raise CommandFailure("SHRED_BAD_VECTOR_SIZE", "$vector field can't be empty. Send numbers, or leave it out.")
    return np.frombuffer(packed, ">f4").astype(np.float32)
