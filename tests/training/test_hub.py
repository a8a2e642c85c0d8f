"""Uploading, by the real client over HTTP to a stand-in that speaks the part of the hub that it needs."""

from __future__ import annotations

import base64
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import huggingface_hub
import pytest

from geovlm.errors import StorageError
from geovlm.training.hub import push_folder


class Hub(BaseHTTPRequestHandler):
    """Takes every file as small enough to be part of the commit."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server = self.server
        if server.refuses:
            return self._answer({"error": "Invalid token"}, 401)
        if self.path == "/api/repos/create":
            server.created.append(json.loads(body))
            return self._answer({"url": "https://huggingface.co/me/model", "id": "me/model"})
        if self.path.endswith("/preupload/main"):
            files = [file["path"] for file in json.loads(body)["files"]]
            return self._answer(
                {"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in files]}
            )
        if self.path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        lines = [json.loads(line) for line in body.splitlines()]
        server.files |= {
            line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
        }
        return self._answer({"commitUrl": "https://huggingface.co/me/model/commit/1", "commitOid": "1"})

    def do_GET(self):
        self._answer({"id": "me/model", "modelId": "me/model", "siblings": [], "tags": [], "private": True})

    def _answer(self, value, status=200):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.created, server.files, server.refuses = [], {}, False
    Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    real = huggingface_hub.HfApi
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda token: real(endpoint=endpoint, token=token))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    yield server
    server.shutdown()
    server.server_close()


def test_everything_in_the_folder_is_uploaded(hub, tmp_path):
    (tmp_path / "README.md").write_text("# a model\n")
    (tmp_path / "open_clip_config.json").write_text("{}")
    address = push_folder(tmp_path, "me/model", private=True, token="hf_secret")
    assert "me/model" in address
    assert hub.created[0].get("visibility") == "private" or hub.created[0].get("private") is True
    assert hub.files == {"README.md": b"# a model\n", "open_clip_config.json": b"{}"}


def test_a_refusal_is_a_sentence_without_the_token(hub, tmp_path):
    hub.refuses = True
    (tmp_path / "README.md").write_text("# a model\n")
    with pytest.raises(StorageError, match=r"could not be uploaded to me/model.*may write") as caught:
        push_folder(tmp_path, "me/model", private=True, token="hf_secret")
    assert "hf_secret" not in str(caught.value)
