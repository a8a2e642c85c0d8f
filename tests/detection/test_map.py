"""Maps that open without a network, looked at in a real browser."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from attrs import evolve
from PIL import Image

import geovlm as gv
from geovlm.detection._map import coloured
from geovlm.errors import ImageError, StorageError, UsageError
from tests.detection.scene import NASTY, PLACES, SQUARE, make

pytestmark = pytest.mark.filterwarnings("ignore::geovlm.errors.NotGeoreferenced")


def _browse(folder, address, *options):
    """Open a page in a browser that reaches nothing; what it logs and what it prints."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("Chromium is not installed, and a map is checked by opening it")
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--window-size=900,700",
        "--virtual-time-budget=4000",
        "--enable-logging=stderr",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={folder / 'profile'}",
        *options,
        address,
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "CONSOLE" not in result.stderr, [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    return result.stdout


@pytest.mark.timeout(600)
def test_a_browser_shows_imagery_and_places_where_they_belong(tmp_path):
    """The red square of the imagery lies inside the frame that is drawn around the detection of it."""
    page = make(tmp_path, "rotated").save_map(tmp_path / "map.html")
    shot = tmp_path / "map.png"
    _browse(tmp_path, page.as_uri(), f"--screenshot={shot}")
    pixels = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    red, green, blue = np.moveaxis(pixels, -1, 0)
    land = (green > 90) & (red < 60) & (blue < 60)
    square = (red > 220) & (green < 45) & (blue < 15)
    frame = (abs(red - 0xE6) < 20) & (abs(green - 0x9F) < 20) & (blue < 40)
    assert land.mean() > 0.2
    assert square.sum() > 3000
    frame[: np.nonzero(square)[0].min() - 40] = False  # the legend's key, which has the colour of the frames
    rows, columns = np.nonzero(frame)
    right = columns > columns.max() - 200  # the other frame of this colour is in the west
    ends = [np.array([some.min(), some.max()]) for some in (rows[right], columns[right])]
    for own, drawn in zip(np.nonzero(square), ends, strict=True):
        assert np.abs(np.array([own.min(), own.max()]) - drawn).max() <= 5


PROBE = """<script>
const log = [], slider = document.getElementById("gv-score");
const shapes = () => document.querySelectorAll("path.leaflet-interactive");
function note() { log.push([document.getElementById("gv-count").textContent, shapes().length]); }
function set(value) { slider.value = value; slider.dispatchEvent(new Event("input")); note(); }
note(); set(0.5); set(0.8); set(1); set(0);
addEventListener("hashchange", () => {
  note();
  set(0);
  shapes()[1].dispatchEvent(new MouseEvent("click", { bubbles: true }));
  log.push(document.querySelector(".gv-popup").textContent);
  log.push(document.querySelectorAll("b b").length);
  document.body.dataset.log = JSON.stringify(log);
});
location.hash = "#min=0.6";
</script></html>"""


@pytest.mark.timeout(600)
def test_the_slider_filters_and_a_popup_tells(tmp_path):
    page = make(tmp_path).save_map(tmp_path / "map.html")
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text(encoding="utf-8").replace("</html>", PROBE), encoding="utf-8")
    seen = _browse(tmp_path, probed.as_uri(), "--dump-dom")
    log = json.loads(html.unescape(re.search(r'data-log="([^"]*)"', seen)[1]))
    assert log[:6] == [
        ["3 of 3 places", 3],
        ["2 of 3 places", 2],
        ["1 of 3 places", 1],
        ["0 of 3 places", 0],
        ["3 of 3 places", 3],
        ["2 of 3 places", 2],
    ]
    assert log[7].startswith(NASTY + "score 0.7001,234 m²")
    assert log[8] == 0  # nothing of the query became an element


@pytest.mark.parametrize("place", PLACES)
def test_every_kind_of_place_makes_a_page_that_fetches_nothing(tmp_path, place):
    text = make(tmp_path, place).save_map(tmp_path / "map.html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", text)
    assert not re.search(r"url\((?!data:)", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text).replace("url(#default", ""))
    assert ("L.CRS.Simple" in text) == (place in {"pixels", "mars", "pole"})
    assert "a red square (2)" in text
    assert text.count("gv-swatch style=background:#e69f00") == 1
    assert "{{7*7}}" not in text
    assert "<b>pond" not in text


def test_a_map_across_the_antimeridian_is_in_one_piece(tmp_path):
    text = make(tmp_path, "dateline").save_map(tmp_path / "map.html").read_text(encoding="utf-8")
    [(south, west, north, east)] = re.findall(
        r"fitBounds\(\s*\[\[([-\d.]+), ([-\d.]+)\], \[([-\d.]+), ([-\d.]+)\]\]", text
    )
    assert 0 < float(east) - float(west) < 1
    assert 64 < float(south) < float(north) < 66


def test_a_map_without_its_raster_shows_the_places(tmp_path):
    found = evolve(make(tmp_path), raster="gone.tif")
    text = found.save_map(tmp_path / "map.html").read_text(encoding="utf-8")
    assert '"imagery"' not in text
    assert "fitBounds" in text
    with_it = found.save_map(tmp_path / "with.html", raster=tmp_path / "north-up.tif").read_text(encoding="utf-8")
    assert '"imagery"' in with_it
    with pytest.raises((ImageError, UsageError), match=r"gone\.tif"):
        found.save_map(tmp_path / "map.html", raster="gone.tif")


def test_imagery_of_another_crs_is_never_laid_under_places(tmp_path):
    found = make(tmp_path)
    make(tmp_path, "degrees")
    with pytest.raises(UsageError, match=r"lies in EPSG:4326 and the places in EPSG:32633"):
        found.save_map(tmp_path / "map.html", raster=tmp_path / "degrees.tif")
    text = found.to_wgs84().save_map(tmp_path / "map.html").read_text(encoding="utf-8")
    assert '"imagery"' not in text
    assert "a red square (2)" in text


def test_nothing_found_is_a_page_too(tmp_path):
    gv.Detections().save_map(tmp_path / "empty.html")
    evolve(make(tmp_path), items=()).save_map(tmp_path / "map.html")


def test_pictures_are_as_small_as_asked(tmp_path):
    text = make(tmp_path).save_map(tmp_path / "map.html", max_side=64).read_text(encoding="utf-8")
    for kind in ("webp", "png"):
        [data] = re.findall(rf"data:image/{kind};base64,([A-Za-z0-9+/=]+)", text)
        assert max(Image.open(io.BytesIO(base64.b64decode(data))).size) == 64
    with pytest.raises(UsageError, match="max_side"):
        make(tmp_path).save_map(tmp_path / "map.html", max_side=0)


def test_many_places_are_drawn_on_one_canvas(tmp_path):
    found = make(tmp_path)
    many = evolve(found, items=[found[0]] * 2001)
    assert '"preferCanvas": true' in many.save_map(tmp_path / "map.html").read_text(encoding="utf-8")


def test_a_base_map_is_asked_for(tmp_path):
    found = make(tmp_path)
    assert "tile.openstreetmap.org" in found.save_map(tmp_path / "a.html", tiles="OpenStreetMap").read_text("utf-8")
    assert "tileLayer(" not in found.save_map(tmp_path / "b.html").read_text("utf-8").partition("</head>")[2]


def test_a_disk_that_refuses(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="could not be written"):
        make(tmp_path).save_map(tmp_path / "file" / "map.html")


def test_colours_of_scores():
    image = coloured(np.array([[0.0, 1.0, np.nan]], dtype=np.float32))
    assert image[0, 0, 3] == image[0, 2, 3] == 0
    assert image[0, 1].tolist() == [128, 0, 38, 150]


def test_the_red_square_is_where_the_scene_says(tmp_path):
    """A check of the scene itself, on which the others stand."""
    import rasterio

    with rasterio.open(make(tmp_path).raster) as file:
        left, top, right, bottom = SQUARE
        assert file.read(1)[top:bottom, left:right].min() == 255
