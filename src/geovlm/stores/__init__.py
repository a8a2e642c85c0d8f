"""Where vectors are kept. Each is a `geovlm.protocols.VectorStore` and imports its library when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geovlm.registry import Registry

if TYPE_CHECKING:
    from geovlm.stores.numpy import NumpyStore

__all__ = ["STORES", "NumpyStore"]

STORES = Registry("store", group="geovlm.stores", builtin={"numpy": "geovlm.stores.numpy:NumpyStore"})
"""Stores by name; other packages add theirs through the entry points `geovlm.stores`."""


def __getattr__(name: str) -> Any:
    if name == "NumpyStore":
        return import_module("geovlm.stores.numpy").NumpyStore
    raise AttributeError(f"module 'geovlm.stores' has no attribute {name!r}")
