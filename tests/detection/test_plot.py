"""Figures: drawn without a display, with a scale bar of true metres."""

from __future__ import annotations

import io
import re
import sys

import numpy as np
import pytest
from attrs import evolve
from PIL import Image

import geovlm as gv
from geovlm.errors import UnknownName
from tests.detection.scene import PLACES, make

pytestmark = pytest.mark.filterwarnings("ignore::geovlm.errors.NotGeoreferenced")


def _line(figure, gid):
    return next((line for line in figure.axes[0].lines if line.get_gid() == gid), None)


def _metres(text):
    number, unit = text.split()
    return float(number) * {"m": 1, "km": 1000}[unit]


@pytest.mark.parametrize("place", PLACES)
def test_every_kind_of_place_is_drawn_as_its_file_lies(tmp_path, place):
    figure = make(tmp_path, place).plot()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert Image.open(buffer).size[0] > 300
    assert figure.axes[0].get_xlim() == (0, 400)
    assert figure.axes[0].get_ylim() == (300, 0)
    corners = [line.get_xydata() for line in figure.axes[0].lines if len(line.get_xydata()) == 5]
    assert any(np.allclose([c.min(axis=0), c.max(axis=0)], [[240, 60], [320, 140]], atol=0.01) for c in corners)
    assert (_line(figure, "scale") is None) == (place == "pixels")


@pytest.mark.parametrize(("place", "pixel"), [("north-up", 10.0), ("rotated", np.hypot(8, 3)), ("degrees", 55.8)])
def test_the_scale_bar_is_as_long_as_it_says(tmp_path, place, pixel):
    figure = make(tmp_path, place).plot()
    [text] = [text.get_text() for text in figure.axes[0].texts if text.get_gid() == "scale-text"]
    start, end = _line(figure, "scale").get_xdata()
    assert (end - start) * pixel == pytest.approx(_metres(text), rel=0.01)
    assert re.fullmatch(r"[125]0* k?m", text)
    assert 30 <= end - start <= 100


def test_one_query_shows_its_heat_map(tmp_path):
    found = make(tmp_path)
    assert len(found.plot(query="a red square").axes[0].images) == 2
    two = evolve(found, heat_maps={**found.heat_maps, "x": evolve(found.heat_maps["a red square"], query="x")})
    assert len(two.plot().axes[0].images) == 1
    with pytest.raises(UnknownName):
        found.plot(query="a blue square")


def test_without_a_raster_a_heat_map_or_anything(tmp_path):
    found = evolve(make(tmp_path), raster="gone.tif")
    assert len(found.plot().axes[0].images) == 1
    bare = evolve(found, heat_maps={})
    assert not bare.plot().axes[0].images
    flat = evolve(bare, crs=None)
    assert len(flat.plot().axes[0].lines) >= 6
    assert gv.Detections().plot().axes


def test_texts_are_no_formulas(tmp_path):
    found = evolve(make(tmp_path), items=[evolve(make(tmp_path)[0], query="_costs $x^$ or $5")])
    figure = found.plot()
    figure.savefig(io.BytesIO(), format="png")
    assert any("costs" in text.get_text() for text in figure.axes[0].get_legend().get_texts())


def test_a_notebook_gets_a_table_where_there_is_no_matplotlib(tmp_path, monkeypatch):
    found = make(tmp_path)
    assert "<img" in found._repr_html_()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    page = found._repr_html_()
    assert "<img" not in page
    assert '<td class="gv-words">0.900</td>' in page


def test_drawing_leaves_pyplot_alone(tmp_path):
    before = set(sys.modules)
    make(tmp_path).plot()
    assert "matplotlib.pyplot" not in set(sys.modules) - before
