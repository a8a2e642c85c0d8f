"""Published weights fetched over HTTP from a server on this machine, kept, and used again without it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from attrs import evolve

from geovlm.encoders import load_preset, openclip
from geovlm.encoders._preset import HALF
from geovlm.encoders.presets import PRESETS
from geovlm.errors import StorageError, WeightsError
from tests import models
from tests.models import picture


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder quietly; `broken…` ends halfway, `slow…` never goes on from there."""

    began: ClassVar[threading.Event] = threading.Event()
    answered: ClassVar[list[str]] = []

    def log_message(self, *args):
        pass

    def copyfile(self, source, outputfile):
        content = source.read()
        self.answered.append(self.path)
        halved = "broken" in self.path or "slow" in self.path
        outputfile.write(content[: len(content) // 2] if halved else content)
        if "slow" in self.path:
            outputfile.flush()
            self.began.set()
            time.sleep(5)


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
        preset = evolve(PRESETS["skyclip-vit-b-32"], architecture=tiny[0], url=f"{address}/{name}", probe=None)
        monkeypatch.setitem(PRESETS, "tiny", preset)
        return root / name

    return under


def kept_in(folder):
    return [path.name for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]


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
    assert kept_in(cache) == ["weights.safetensors"]


def test_a_transfer_that_broke_off_is_not_kept(cache, publish):
    models.training_zip(publish("broken.zip"), models.openclip_model())
    with pytest.raises(WeightsError, match=r"broke off after .* bytes.*load_encoder\('tiny', weights='broken.zip'\)"):
        load()
    assert not kept_in(cache)


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
    assert not kept_in(cache)


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


def test_another_file_than_was_published_is_not_kept(cache, publish):
    published = publish("Tiny_Model.zip")
    models.training_zip(published, models.openclip_model())
    right = hashlib.sha256(published.read_bytes()).hexdigest()
    PRESETS["tiny"] = evolve(PRESETS["tiny"], sha256="0" * 64)
    with pytest.raises(WeightsError, match=f"SHA-256 is {right}, and should be 000"):
        load()
    assert not kept_in(cache)
    PRESETS["tiny"] = evolve(PRESETS["tiny"], sha256=right)
    assert load().name == "tiny"


DOWNLOAD = """
import sys
from attrs import evolve
from geovlm.encoders._download import preset_weights
from geovlm.encoders.presets import PRESETS
preset = evolve(PRESETS["skyclip-vit-b-32"], url=sys.argv[1])
print(preset_weights("tiny", preset))
"""


def start(url, home):
    command = [sys.executable, "-c", DOWNLOAD, url]
    surroundings = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    return subprocess.Popen(command, env=surroundings, stdout=subprocess.PIPE, text=True)


def test_a_killed_download_leaves_nothing_under_the_final_name_and_processes_wait_for_each_other(tmp_path, server):
    address, root = server
    models.training_zip(root / "slow.zip", models.openclip_model())
    home = tmp_path / "home"
    killed = start(f"{address}/slow.zip", home)
    assert Handler.began.wait(60)
    killed.kill()
    killed.communicate()
    assert not {"weights.safetensors", "slow.zip"} & set(kept_in(home))
    models.training_zip(root / "Tiny_Model.zip", models.openclip_model())
    Handler.answered.clear()
    both = [start(f"{address}/Tiny_Model.zip", home) for _ in range(2)]
    assert len({process.communicate(timeout=100)[0] for process in both}) == 1
    assert Handler.answered == ["/Tiny_Model.zip"]


# --- the hub ---


class Hub(Handler):
    """Answers as the Hugging Face hub does: files under `org/name/resolve/main/`, with their hashes as entity tags."""

    asked: ClassVar[list[str]] = []

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, *, with_body):
        self.asked.append(self.path)
        file = Path(self.directory) / self.path.replace("/resolve/main/", "/").replace(f"/resolve/{COMMIT}/", "/")[1:]
        content = file.read_bytes() if file.is_file() else b""
        self.send_response(200 if file.is_file() else 404)
        if not file.is_file():
            self.send_header("X-Error-Code", "EntryNotFound")
        hashed = hashlib.sha256(content).hexdigest()
        self.send_header("ETag", f'"{"0" * 64 if "wrong" in self.path else hashed}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content[: len(content) // 2] if "broken" in self.path else content)


COMMIT = "1" * 40


@pytest.fixture
def hub(tmp_path, monkeypatch):
    from huggingface_hub import constants

    root = tmp_path / "hub"
    root.mkdir()
    monkeypatch.setattr(Hub, "asked", [])
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, directory=str(root))) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{http.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield root
        http.shutdown()
        thread.join()


def put(monkeypatch, name, like, **changes):
    monkeypatch.setitem(PRESETS, name, evolve(PRESETS[like], probe=None, **changes))
    return partial(load_preset, name, device="cpu", dtype="float32")


def test_a_file_of_the_hub_is_fetched_once_into_its_cache(hub, tiny, monkeypatch):
    (hub / "org/Tiny/ckpt").mkdir(parents=True)
    torch.save(models.openclip_model().state_dict(), hub / "org/Tiny/ckpt/RS5M_Tiny.pt")
    url = "https://huggingface.co/org/Tiny/resolve/main/ckpt/RS5M_Tiny.pt"
    load = put(monkeypatch, "tiny-hub", "georsclip-vit-h-14", architecture=tiny[0], url=url)
    first = load()
    asked = len(Hub.asked)
    assert load().fingerprint == first.fingerprint
    assert len(Hub.asked) == asked


def test_a_model_of_open_clip_on_the_hub(hub, folders, tiny, monkeypatch):
    (hub / "org/Tiny").mkdir(parents=True)
    weights = folders["open_clip"] / "open_clip_model.safetensors"
    shutil.copy(weights, hub / "org/Tiny/open_clip_pytorch_model.safetensors")
    load = put(
        monkeypatch,
        "tiny-hub",
        "laion-vit-b-32",
        architecture=tiny[0],
        url="https://huggingface.co/org/Tiny",
        mean=HALF,
    )
    encoder = load()
    assert encoder.name == "tiny-hub"
    assert encoder.preprocessing.mean == HALF
    shutil.rmtree(hub / "org")
    assert load().fingerprint == encoder.fingerprint


@pytest.mark.parametrize(("kind", "like"), [("clip", "clip-rsicd-vit-b-32"), ("siglip", "git-rsclip-vit-b-16")])
def test_a_model_of_transformers_on_the_hub(hub, folders, monkeypatch, kind, like):
    shutil.copytree(folders[kind], hub / "org/Tiny")
    load = put(monkeypatch, "tiny-hub", like, url="https://huggingface.co/org/Tiny")
    encoder = load()
    shutil.rmtree(hub / "org")
    assert load().fingerprint == encoder.fingerprint == load(weights=folders[kind]).fingerprint
    assert encoder.name == "tiny-hub"


@pytest.mark.parametrize(
    ("repo", "words"), [("org/wrong", "SHA-256"), ("org/broken", "could not be fetched"), ("org/gone", "has no")]
)
def test_what_the_hub_gives_is_checked(hub, tiny, monkeypatch, repo, words):
    (hub / repo).mkdir(parents=True)
    if repo != "org/gone":
        torch.save(models.openclip_model().state_dict(), hub / repo / "Tiny.pt")
    url = f"https://huggingface.co/{repo}/resolve/main/Tiny.pt"
    load = put(monkeypatch, "tiny-hub", "remoteclip-vit-b-32", architecture=tiny[1], url=url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 1)
    with pytest.raises(WeightsError, match=words):
        load()
    assert not [path for path in hub.parent.glob("cache/*/snapshots/*/Tiny.pt") if path.exists()]


@pytest.mark.parametrize(
    ("name", "what", "copy"),
    [
        ("remoteclip-vit-b-32", "resolve/main/RemoteCLIP-ViT-B-32.pt", "'RemoteCLIP-ViT-B-32.pt'"),
        ("openai-vit-b-32", "the files of https://huggingface.co/timm/vit_base", "'vit_base_patch32_clip_224.openai'"),
        ("git-rsclip-vit-b-16", "the files of https://huggingface.co/lcybuaa/Git-RSCLIP-base", "'Git-RSCLIP-base'"),
    ],
)
def test_offline_the_message_says_what_to_fetch_and_what_to_give(name, what, copy, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        load_preset(name, device="cpu")
    assert what in str(caught.value)
    assert f"load_encoder({name!r}, weights={copy}" in str(caught.value)
