"""Names, plug-ins, and the libraries that are not there."""

from __future__ import annotations

import pickle
from importlib.metadata import EntryPoint

import pytest

from geovlm import registry
from geovlm._optional import require
from geovlm.errors import GeovlmError, MissingExtra, UnknownName
from geovlm.registry import Registry


@pytest.fixture
def plugins(monkeypatch):
    points = [
        EntryPoint("good", "collections:Counter", "geovlm.tests"),
        EntryPoint("broken", "no_such_module:thing", "geovlm.tests"),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == "geovlm.tests" else [])


def test_a_broken_plugin_is_a_warning_that_names_it(plugins):
    names = Registry("encoder", group="geovlm.tests", builtin={"own": "collections:OrderedDict"})
    assert names["own"].__name__ == "OrderedDict"
    with pytest.warns(RuntimeWarning, match=r"'broken' \(no_such_module:thing\)"):
        assert names["good"].__name__ == "Counter"
    assert list(names) == ["good", "own"]


def test_a_typo_offers_the_nearest_names():
    names = Registry(
        "encoder", group="none", builtin={"skyclip-vit-b-32": "a:b", "skyclip-vit-l-14": "a:b", "x": "a:b"}
    )
    with pytest.raises(UnknownName, match="Did you mean skyclip-vit-b-32 or skyclip-vit-l-14"):
        names["SkyCLIP-ViT-B32"]
    with pytest.raises(UnknownName, match="Known: skyclip-vit-b-32, skyclip-vit-l-14, x"):
        names["zzzz"]


def test_missing_library_says_how_to_install_it(monkeypatch):
    with pytest.raises(MissingExtra, match=r"not_here is needed for maps: pip install 'geovlm\[viz\]'") as caught:
        require("not_here.sub", extra="viz", purpose="maps")
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value, GeovlmError)
    assert str(pickle.loads(pickle.dumps(caught.value)))


def test_a_broken_library_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import its_own_need_is_missing")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="its_own_need_is_missing") as caught:
        require("half_installed", extra="viz")
    assert not isinstance(caught.value, MissingExtra)
