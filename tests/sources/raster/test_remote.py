"""Rasters over HTTP: a real server on loopback that answers range requests, and one that fails."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from geovlm.errors import ImageError
from geovlm.sources.raster import Raster, RasterSource, Window
from geovlm.sources.raster._gdal import environment
from geovlm.sources.raster._paths import locate
from tests.sources.raster.rasters import noise, write

pytestmark = pytest.mark.filterwarnings("ignore:.*matmul")


class Server(ThreadingHTTPServer):
    """One file under any path; `failures` requests are answered with 503 first."""

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.failures, self.sent, self.requests = content, 0, 0, 0
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, *, with_body):
        server = self.server
        server.requests += 1
        if server.failures > 0 or "missing" in self.path:
            server.failures -= 1
            self.send_response(404 if "missing" in self.path else 503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content, found = server.content, re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, last = 0, len(content) - 1
        if found:
            first, last = int(found[1]), min(last, int(found[2] or last))
        self.send_response(206 if found else 200)
        self.send_header("Accept-Ranges", "bytes")
        if found:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        if with_body:
            server.sent += last + 1 - first
            self.wfile.write(content[first : last + 1])

    def log_message(self, *args):
        pass


@pytest.fixture
def samples():
    return noise(3, 1024, 1024)


@pytest.fixture
def server(tmp_path, samples, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.02")
    write(tmp_path / "a.tif", samples, tiled=True, blockxsize=128, blockysize=128)
    server = Server((tmp_path / "a.tif").read_bytes())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
    (tmp_path / "a.tif").unlink()


def test_a_window_takes_a_part_of_the_file(server, samples):
    raster = Raster(f"{server.url}/scene.tif")
    assert raster.path == f"{server.url}/scene.tif"
    rgb, _ = raster.read(Window(col=300, row=500, width=100, height=80))
    assert (rgb == np.moveaxis(samples[:, 500:580, 300:400], 0, -1)).all()
    assert server.sent < len(server.content) / 3
    again, _ = Raster(f"/vsicurl/{server.url}/other.tif").read(Window(col=0, row=0, width=10, height=10))
    assert (again == np.moveaxis(samples[:, :10, :10], 0, -1)).all()


def test_failures_that_pass_are_tried_again(server, samples):
    server.failures = 2
    raster = Raster(f"{server.url}/retried.tif")
    server.failures = 2
    rgb, _ = raster.read(Window(col=900, row=900, width=50, height=50))
    assert (rgb == np.moveaxis(samples[:, 900:950, 900:950], 0, -1)).all()


def test_failures_that_stay_are_told(server):
    server.failures = 10**6
    with pytest.raises(ImageError, match="503") as caught:
        Raster(f"{server.url}/down.tif")
    assert caught.value.uri == f"{server.url}/down.tif"
    assert server.requests < 20
    with pytest.raises(ImageError, match=r"404|does not exist"):
        Raster(f"{server.url}/missing.tif")


def test_nobody_there():
    with pytest.raises(ImageError):
        Raster("http://127.0.0.1:9/a.tif")


def test_a_source_of_urls(server):
    source = RasterSource([f"{server.url}/a.tif?key=1", f"{server.url}/missing.tif"], window=512)
    records = list(source)
    assert [record.id for record in records[:2]] == ["a.tif/0_0_512x512", "a.tif/0_512_512x512"]
    assert records[0].open().size == (512, 512)
    assert records[-1].id == "missing.tif"
    with pytest.raises(ImageError):
        records[-1].open()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://a.org/x.tif", "/vsicurl/https://a.org/x.tif"),
        ("s3://bucket/x.tif", "/vsis3/bucket/x.tif"),
        ("gs://bucket/x.tif", "/vsigs/bucket/x.tif"),
        ("az://container/x.tif", "/vsiaz/container/x.tif"),
        ("/vsis3/bucket/x.tif", "/vsis3/bucket/x.tif"),
    ],
)
def test_urls_become_paths_of_gdal(given, expected):
    place = locate(given)
    assert (place.path, place.name, place.is_remote) == (expected, given, True)


def test_an_archive_is_local(tmp_path):
    assert not locate(f"/vsizip/{tmp_path}/a.zip/a.tif").is_remote


def test_settings_of_the_environment_go_first(monkeypatch):
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "5")
    assert "GDAL_HTTP_TIMEOUT" not in environment(is_remote=True).options
    assert environment(is_remote=True).options["GDAL_HTTP_MAX_RETRY"]
    assert "GDAL_HTTP_MAX_RETRY" not in environment(is_remote=False).options
