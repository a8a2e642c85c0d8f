"""The versions of mistralai that are taken, and those that are not."""

from __future__ import annotations

import sys

import pytest

from geovlm.errors import MissingExtra, UsageError
from geovlm.pixtral import _compat


@pytest.fixture(autouse=True)
def fresh():
    _compat.library.cache_clear()
    yield
    _compat.library.cache_clear()


def test_the_installed_version_is_taken_whole():
    found = _compat.library()
    numbers = _compat._numbers(found.version)
    assert found.client.__name__ == "Mistral"
    assert found.answered.__name__ == "MistralError"
    assert [kind.__name__ for kind in found.no_answer] == ["TransportError", "NoResponseError"]
    assert found.has_fine_tuning == (numbers < (2, 5, 2))
    client = found.open(api_key="k", server_url="http://127.0.0.1:1", timeout=1)
    assert hasattr(client, "fine_tuning") == found.has_fine_tuning
    for part in ("chat", "files", "batch", "models"):
        assert hasattr(client, part)


def test_the_withdrawn_version_is_not_even_imported(monkeypatch):
    monkeypatch.setattr(_compat, "version", lambda name: "2.4.6")
    for name in [name for name in sys.modules if name.split(".")[0] == "mistralai"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UsageError, match="malicious"):
        _compat.library()
    assert "mistralai" not in sys.modules


def test_an_old_version_is_refused(monkeypatch):
    monkeypatch.setattr(_compat, "version", lambda name: "1.3.0")
    with pytest.raises(UsageError, match=r"too old: pip install --upgrade 'geovlm\[mistral\]'"):
        _compat.library()


def test_absence_names_the_extra(monkeypatch):
    def absent(name):
        raise _compat.PackageNotFoundError(name)

    monkeypatch.setattr(_compat, "version", absent)
    with pytest.raises(MissingExtra, match=r"pip install 'geovlm\[mistral\]'"):
        _compat.library()
