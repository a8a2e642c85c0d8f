"""Published weights fetched over HTTP from a server on this machine, kept, and used again without it."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from attrs import evolve

from geovlm.encoders import openclip
from geovlm.encoders.presets import PRESETS
from geovlm.errors import StorageError, WeightsError
from tests import models
from tests.models import picture


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder quietly; `broken…` ends halfway."""

    def log_message(self, *args):
        pass

    def copyfile(self, source, outputfile):
        content = source.read()
        outputfile.write(content[: len(content) // 2] if "broken" in self.path else content)


@pytest.fixture
def server(tmp_path):
    root = tmp_path / "server"
    root.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root))) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", root
        http.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    return tmp_path / "cache" / "geovlm"


@pytest.fixture
def publish(server, tiny, monkeypatch):
    address, root = server

    def under(name):
        preset = evolve(PRESETS["skyclip-vit-b-32"], architecture=tiny[0], url=f"{address}/{name}")
        monkeypatch.setitem(PRESETS, "tiny", preset)
        return root / name

    return under


load = partial(openclip.load_preset, "tiny", weights=None, device="cpu", dtype="float32")


@pytest.mark.parametrize("name", ["Tiny_Model.zip", "Tiny_Model.pt"])
def test_weights_are_fetched_once(cache, publish, name):
    published = publish(name)
    write = models.training_zip if name.endswith("zip") else models.training_checkpoint
    write(published, models.openclip_model())
    first = load()
    published.unlink()
    again = load()
    assert first.fingerprint == again.fingerprint
    np.testing.assert_array_equal(first.encode_images([picture(1)]), again.encode_images([picture(1)]))
    assert [path.name for path in (cache / "Tiny_Model").iterdir()] == ["weights.safetensors"]


def test_a_transfer_that_broke_off_is_not_kept(cache, publish):
    models.training_zip(publish("broken.zip"), models.openclip_model())
    with pytest.raises(WeightsError, match=r"broke off after .* bytes.*load_encoder\('tiny', weights='broken.zip'\)"):
        load()
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_an_address_that_is_gone(cache, publish):
    publish("gone.zip")
    with pytest.raises(WeightsError, match="404"):
        load()
    PRESETS["tiny"] = evolve(PRESETS["tiny"], url="http://127.0.0.1:9/closed.zip")
    with pytest.raises(WeightsError, match="could not be fetched"):
        load()


def test_something_else_than_weights_is_not_kept(cache, publish):
    publish("page.zip").write_text("<html>moved</html>")
    with pytest.raises(WeightsError, match="not a whole zip"):
        load()
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_offline_nothing_is_asked_for(cache, publish, monkeypatch):
    publish("never.zip")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"HF_HUB_OFFLINE is set.*weights='never.zip'"):
        load()


def test_a_cache_that_cannot_be_written(cache, publish):
    models.training_zip(publish("Tiny_Model.zip"), models.openclip_model())
    cache.parent.mkdir()
    cache.write_text("in the way")
    with pytest.raises(StorageError, match="could not be written"):
        load()
