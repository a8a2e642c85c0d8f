"""Stores by name, by path, and from other packages."""

from __future__ import annotations

import numpy as np
import pytest

import geovlm as gv
from geovlm.errors import StoreError, UnknownName, UsageError
from geovlm.stores import STORES, AstraStore, LanceStore, NumpyStore

DIM = 4

PLUGIN = """
from geovlm.stores import NumpyStore

class ShelfStore(NumpyStore):
    def __init__(self, place="somewhere"):
        super().__init__()
        self.place = place
"""


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Another package, as an installer leaves it: a module, and metadata with an entry point."""
    (tmp_path / "shelf.py").write_text(PLUGIN)
    about = tmp_path / "shelf-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[geovlm.stores]\nshelf = shelf:ShelfStore\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(STORES, "_plugins", None)


def test_a_store_of_another_package(shelf):
    assert list(STORES) == ["astra", "lance", "numpy", "shelf"]
    assert gv.load_store("shelf").place == "somewhere"
    store = gv.load_store("shelf", "here")
    assert isinstance(store, gv.VectorStore)
    assert store.place == "here"
    assert gv.copy(gv.load_store("numpy"), store).total == 0
    with pytest.raises(UnknownName, match="Did you mean shelf"):
        gv.load_store("shelff")


def test_a_store_by_its_name(tmp_path, monkeypatch):
    assert isinstance(gv.load_store("numpy"), NumpyStore)
    assert isinstance(gv.load_store("lance", tmp_path / "a.lance"), LanceStore)
    monkeypatch.setenv("ASTRA_DB_API_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("ASTRA_DB_APPLICATION_TOKEN", "AstraCS:x")
    assert isinstance(gv.load_store("astra", "scenes"), AstraStore)
    for name in ("lance", "astra"):
        with pytest.raises(UsageError, match=f"load_store\\('{name}', "):
            gv.load_store(name)
    with pytest.raises(UnknownName, match="Did you mean lance"):
        gv.load_store("lanse", "a.lance")


@pytest.mark.parametrize("kind", ["numpy", "lance"])
def test_a_store_by_its_folder(tmp_path, kind):
    place = tmp_path / ("scenes" if kind == "numpy" else "scenes.lance")
    store = gv.load_store(kind, place)
    store.upsert(["a"], np.ones((1, DIM)), [{"x": 1}])
    store.close()
    for again in (gv.load_store(place), gv.load_store(str(place)), gv.load_store(kind, place)):
        assert type(again) is type(store)
        assert again.get(["a"]) == [{"x": 1}]
    moved = tmp_path / "renamed"
    place.rename(moved)
    assert gv.load_store(moved).count() == 1


def test_a_folder_without_a_store(tmp_path):
    with pytest.raises(StoreError, match="holds no store"):
        gv.load_store(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        gv.load_store(tmp_path / "nowhere")
    (tmp_path / "manifest.json").write_text('{"kind": "embeddings"}')
    with pytest.raises(StoreError, match="embeddings"):
        gv.load_store(tmp_path)
    assert isinstance(gv.load_store(str(tmp_path / "new.lance")), LanceStore)
