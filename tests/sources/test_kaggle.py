"""What kagglehub downloads, read by its class folders; kagglehub itself is a stand-in that knows one folder."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from PIL import Image

from geovlm import download_kaggle
from geovlm.errors import MissingExtra, ServiceError, UsageError


@pytest.fixture
def hub(monkeypatch):
    """Sets what `kagglehub.dataset_download` does."""

    def set_download(function):
        monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace(dataset_download=function))

    return set_download


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)


@pytest.mark.parametrize("above", ["", "AID", "versions/3/AID"])
def test_class_folders_are_found(tmp_path, hub, above):
    for name in ("Beach/1.png", "Port/1.png"):
        save(tmp_path / above / name)
    asked = []
    hub(lambda handle: asked.append(handle) or str(tmp_path))
    source = download_kaggle("someone/aid")
    assert asked == ["someone/aid"]
    assert source.labels == ["Beach", "Port"]
    assert [record.id for record in source] == ["Beach/1.png", "Port/1.png"]


def test_a_flat_folder_has_no_labels(tmp_path, hub):
    save(tmp_path / "only.png")
    hub(lambda handle: str(tmp_path))
    assert [record.label for record in download_kaggle("a/b")] == [None]


@pytest.mark.parametrize(
    ("raised", "error", "says"),
    [(ValueError("bad handle"), UsageError, "'nonsense' is not"), (ConnectionError("gone"), ServiceError, "gone")],
)
def test_failures(hub, raised, error, says):
    def fail(handle):
        raise raised

    hub(fail)
    with pytest.raises(error, match=says):
        download_kaggle("nonsense")


def test_without_kagglehub(monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(MissingExtra, match=r"geovlm\[kaggle\]"):
        download_kaggle("a/b")
