"""Where vectors are kept. Each is a `geovlm.protocols.VectorStore` and imports its library when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geovlm.registry import Registry

if TYPE_CHECKING:
    from geovlm.stores.astra import AstraStore
    from geovlm.stores.lance import LanceStore
    from geovlm.stores.numpy import NumpyStore

__all__ = ["STORES", "AstraStore", "LanceStore", "NumpyStore"]

_BUILTIN = {
    "astra": "geovlm.stores.astra:AstraStore",
    "lance": "geovlm.stores.lance:LanceStore",
    "numpy": "geovlm.stores.numpy:NumpyStore",
}

STORES = Registry("store", group="geovlm.stores", builtin=_BUILTIN)
"""Stores by name; other packages add theirs through the entry points `geovlm.stores`."""


def __getattr__(name: str) -> Any:
    for target in _BUILTIN.values():
        module, _, attribute = target.partition(":")
        if name == attribute:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'geovlm.stores' has no attribute {name!r}")
