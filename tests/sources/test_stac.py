"""STAC items: from JSON, from pystac, and from an API on loopback."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pystac
import pytest

import geovlm as gv
from geovlm.errors import ImageError, ServiceError, ServiceUnavailable, UsageError
from tests.sources.raster.rasters import noise, write

pytestmark = pytest.mark.filterwarnings("ignore:.*matmul")

TIFF = "image/tiff; application=geotiff; profile=cloud-optimized"


def item(key, assets, **properties):
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": key,
        "collection": "scenes",
        "geometry": {"type": "Point", "coordinates": [-99, 47]},
        "bbox": [-99.1, 46.9, -98.9, 47.1],
        "properties": {"datetime": "2024-05-01T10:00:00Z", **properties},
        "assets": {name: {"href": href, "type": TIFF, **extra} for name, (href, extra) in assets.items()},
        "links": [],
    }


@pytest.fixture
def scene(tmp_path):
    write(tmp_path / "a.tif", noise(3, 300, 300))
    return item("scene-1", {"visual": (str(tmp_path / "a.tif"), {})}, **{"eo:cloud_cover": 7})


def test_windows_of_items(scene):
    source = gv.StacSource([scene], window=150)
    assert isinstance(source, gv.ImageSource)
    records = list(source)
    assert [r.id for r in records][:2] == ["scene-1/0_0_150x150", "scene-1/0_150_150x150"]
    assert len(records) == 4
    meta = records[0].meta
    assert (meta["item"], meta["collection"], meta["cloud_cover"]) == ("scene-1", "scenes", 7)
    assert (meta["datetime"], meta["assets"]) == ("2024-05-01T10:00:00Z", ["visual"])
    assert meta == json.loads(json.dumps(meta))
    assert records[0].footprint.west < -98
    assert records[0].open().size == (150, 150)


def test_items_in_every_form(scene, tmp_path):
    parsed = pystac.Item.from_dict(scene)
    scene["assets"]["visual"]["href"] = "./a.tif"
    (tmp_path / "item.json").write_text(json.dumps(scene))
    collection = {"type": "FeatureCollection", "features": [scene]}
    (tmp_path / "items.json").write_text(json.dumps(collection))
    forms = [parsed, [parsed], pystac.ItemCollection([parsed]), tmp_path / "item.json", str(tmp_path / "items.json")]
    for form in forms:
        assert [r.open().size for r in gv.StacSource(form, window=300)] == [(300, 300)], form


def test_three_assets_are_the_colours(tmp_path):
    samples = noise(3, 60, 60, dtype="uint16", low=1, high=4000)
    paths = [write(tmp_path / f"{i}.tif", samples[i : i + 1], nodata=0) for i in range(3)]
    named = {"B04": (paths[0], {}), "B03": (paths[1], {}), "B02": (paths[2], {})}
    [record] = gv.StacSource([item("s", named)], assets=("B04", "B03", "B02"))
    stretch = gv.Stretch.fit(np.moveaxis(samples, 0, -1))
    assert np.abs(np.asarray(record.open()).astype(int) - stretch.apply(np.moveaxis(samples, 0, -1))).max() <= 1
    told = {
        key: (place, {"eo:bands": [{"name": key, "common_name": colour}]})
        for (key, (place, _)), colour in zip(named.items(), ("red", "green", "blue"), strict=True)
    }
    [again] = gv.StacSource([item("s", {"thumbnail": (paths[0], {}), **told})])
    assert again.meta["assets"] == ["B04", "B03", "B02"]
    assert (np.asarray(again.open()) == np.asarray(record.open())).all()


def test_bands_of_several_resolutions_are_stacked(tmp_path):
    fine = noise(1, 60, 60)
    paths = [
        write(tmp_path / "fine.tif", fine),
        write(tmp_path / "coarse.tif", np.full((1, 30, 30), 9, np.uint8), pixel=4),
    ]
    [record] = gv.StacSource([item("s", {"f": (paths[0], {}), "c": (paths[1], {})})], assets=("f", "c", "c"))
    pixels = np.asarray(record.open())
    assert (pixels[..., 0] == fine[0]).all()
    assert (pixels[..., 1:] == 9).all()


def test_items_that_fail_are_records_that_fail(scene, tmp_path):
    missing = item("gone", {"visual": (str(tmp_path / "gone.tif"), {})})
    unclear = item("unclear", {"x": ("x.tif", {}), "y": ("y.tif", {})})
    records = list(gv.StacSource([missing, unclear, {"id": "no item"}, scene], window=300))
    assert [r.id for r in records] == ["gone", "unclear", "no item", "scene-1/0_0_300x300"]
    for record, reason in zip(records[:3], ("does not exist", "assets=", "no STAC item"), strict=True):
        with pytest.raises(ImageError, match=reason):
            record.open()
    with pytest.raises(ImageError, match="did you mean visual"):
        next(iter(gv.StacSource([scene], assets="visal"))).open()


def test_signed_items(scene):
    place = scene["assets"]["visual"]["href"]
    scene["assets"]["visual"]["href"] = "signed later"

    def sign(one):
        one.assets["visual"].href = place
        return one

    assert len(list(gv.StacSource([scene], sign=sign, window=300))) == 1


def test_empty_windows_are_counted(tmp_path):
    samples = noise(3, 200, 200)
    samples[:, :100] = 0
    path = write(tmp_path / "a.tif", samples, nodata=0)
    source = gv.StacSource([item("s", {"data": (path, {})})], window=100)
    assert [len(list(source)), source.skipped] == [2, 2]


def test_wrong_arguments(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    (tmp_path / "y.json").write_text("no JSON")
    for wrong in ("https://catalogue.org/v1", tmp_path / "x.json", tmp_path / "y.json", tmp_path / "z.json"):
        with pytest.raises(UsageError):
            gv.StacSource(wrong)
    with pytest.raises(UsageError, match="three"):
        gv.StacSource([], assets=("a", "b"))


class Api(BaseHTTPRequestHandler):
    """A STAC API with two pages of items, in the words of its specification."""

    def do_GET(self):
        url = self.server.url
        search = {"rel": "search", "href": f"{url}/search", "method": "POST", "type": "application/geo+json"}
        links = [{"rel": "self", "href": url}, search]
        conforms = ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"]
        query = "https://api.stacspec.org/v1.0.0/item-search#query"
        self.send({"type": "Catalog", "id": "c", "description": "c", "stac_version": "1.0.0", "links": links,
                   "conformsTo": [*conforms, query]})  # fmt: skip

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked)
        if self.server.status != 200:
            self.send({"description": "no"}, self.server.status)
            return
        place = asked.get("token", 0)
        links = []
        if place + 1 < len(self.server.items):
            body = {**asked, "token": place + 1}
            links = [{"rel": "next", "href": f"{self.server.url}/search", "method": "POST", "body": body}]
        self.send({"type": "FeatureCollection", "features": [self.server.items[place]], "links": links})

    def send(self, document, status=200):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def api(scene, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.url, server.asked, server.status = f"http://127.0.0.1:{server.server_port}", [], 200
    server.items = [scene, {**scene, "id": "scene-2"}]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_search_is_asked_page_by_page_and_again(api):
    source = gv.StacSource.search(
        api.url, collections=["scenes"], bbox=(-100, 46, -98, 48), datetime="2024-05-01/2024-06-01",
        query={"eo:cloud_cover": {"lt": 10}}, window=300,
    )  # fmt: skip
    assert api.asked == []
    for _ in range(2):
        assert [r.id for r in source] == ["scene-1/0_0_300x300", "scene-2/0_0_300x300"]
    assert len(api.asked) == 4
    asked = api.asked[0]
    assert (asked["collections"], asked["bbox"]) == (["scenes"], [-100, 46, -98, 48])
    assert asked["query"] == {"eo:cloud_cover": {"lt": 10}}
    assert len(list(gv.StacSource.search(api.url, max_items=1, window=300))) == 1


def test_a_search_that_is_refused(api):
    api.status = 403
    with pytest.raises(ServiceError, match="403") as caught:
        list(gv.StacSource.search(api.url))
    assert caught.value.status == 403
    assert not isinstance(caught.value, ServiceUnavailable)


def test_nobody_there():
    with pytest.raises(ServiceUnavailable, match=r"did not answer|error"):
        list(gv.StacSource.search("http://127.0.0.1:9"))
