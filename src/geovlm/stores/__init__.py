"""Where vectors are kept. Each is a `geovlm.protocols.VectorStore` and imports its library when it is first used."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geovlm._files import must_exist
from geovlm.errors import StoreError, UsageError
from geovlm.registry import Registry

if TYPE_CHECKING:
    from geovlm.protocols import VectorStore
    from geovlm.stores.astra import AstraStore
    from geovlm.stores.lance import LanceStore
    from geovlm.stores.numpy import NumpyStore

__all__ = ["STORES", "AstraStore", "LanceStore", "NumpyStore", "load_store"]

# Stores that are nowhere without a place, and what one looks like.
_PLACED = {"astra": "scenes", "lance": "scenes.lance"}
_HOMES = {"AstraStore": "astra", "LanceStore": "lance", "NumpyStore": "numpy"}

STORES = Registry(
    "store",
    group="geovlm.stores",
    builtin={
        "astra": "geovlm.stores.astra:AstraStore",
        "lance": "geovlm.stores.lance:LanceStore",
        "numpy": "geovlm.stores:open_numpy",
    },
)
"""Name → factory. A factory is called as `factory(place)`, or `factory()`, and returns a `VectorStore`; other packages
add theirs through the entry points `geovlm.stores`."""


def load_store(name_or_path: str | os.PathLike[str], place: str | os.PathLike[str] | None = None) -> VectorStore:
    """Open a store by its name and place, or the one that lies in a folder.

    Args:
        name_or_path: `"numpy"`, `"lance"`, `"astra"`, or a name that another package has added; or a folder with a
            `NumpyStore` or a `LanceStore`. A path that ends in `.lance` need not exist yet.
        place: With a name: the folder, or for `"astra"` the collection; its other settings come from the process's
            environment. Without it `"numpy"` keeps everything in memory.

    Raises:
        UnknownName: No store is called so; the message offers the nearest names.
        UsageError: The path does not exist, or the store needs a place.
        StoreError: The folder holds no store.
        MissingExtra: The library of the store is not installed.

    Examples:
        >>> load_store("numpy").count()
        0
        >>> load_store("lanse")
        Traceback (most recent call last):
        ...
        geovlm.errors.UnknownName: No store is called 'lanse'. Did you mean lance...?
    """
    name = os.fspath(name_or_path)
    if place is None and not (isinstance(name_or_path, str) and _is_name(name)):
        return _load_folder(Path(name).expanduser())
    factory = STORES[name]
    if place is None and name in _PLACED:
        raise UsageError(f"A store of the kind {name!r} needs a place: load_store({name!r}, {_PLACED[name]!r}).")
    store: VectorStore = factory() if place is None else factory(place)
    return store


def _is_name(text: str) -> bool:
    """Whether it is a known name, or can only be a misspelt one."""
    is_place = os.sep in text or "/" in text or text.endswith(".lance") or Path(text).expanduser().exists()
    return text in STORES or not is_place


def _load_folder(path: Path) -> VectorStore:
    if path.suffix == ".lance" or any(path.glob("*.lance")):
        from geovlm.stores.lance import LanceStore

        return LanceStore(path)
    must_exist(path)
    if not (path / "manifest.json").exists():
        raise StoreError(f"{path} holds no store; a new one needs a name, such as load_store('lance', {str(path)!r}).")
    return open_numpy(path)


def open_numpy(place: str | os.PathLike[str] | None = None) -> NumpyStore:
    """A `NumpyStore` in memory, or one that keeps its rows in a folder when it is flushed."""
    from geovlm.stores.numpy import NumpyStore

    if place is None:
        return NumpyStore()
    if (Path(place).expanduser() / "manifest.json").exists():
        return NumpyStore.open(place)
    store = NumpyStore()
    store.save(place)
    return store


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'geovlm.stores' has no attribute {name!r}")
    return getattr(import_module(f"geovlm.stores.{home}"), name)
