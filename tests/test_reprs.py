"""What notebooks show of public values: what matters is there, markup from outside is not, and nothing raises."""

from __future__ import annotations

import ast
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import geovlm as gv
from geovlm import _markup, _progress
from tests.reprs import BAD, gallery

VOID = {"img", "br", "meta", "input", "hr"}


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    return gallery(tmp_path_factory.mktemp("gallery"))


class Balanced(HTMLParser):
    """Fails on a tag that is not closed, on scripts, and on anything that is fetched."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        assert tag != "script"
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag == "img":
            assert dict(attrs)["src"].startswith("data:image/")
            assert "alt" in dict(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_each_shows_what_matters_and_escapes_the_rest(values):
    for name, (value, needed) in values.items():
        shown = value._repr_html_()
        assert needed in shown, name
        assert BAD not in shown, name
        assert "<script" not in shown, name
        assert len(shown) < 600_000, name
        parser = Balanced()
        parser.feed(shown)
        assert not parser.open, name


def test_each_is_plain_text_elsewhere(values):
    for name, (value, _) in values.items():
        text = repr(value)
        assert "<div" not in text, name
        assert " object at 0x" not in text, name


def test_every_class_that_shows_itself_is_in_the_gallery(values):
    package = Path(gv.__file__).parent
    texts = [path.read_text(encoding="utf-8") for path in package.rglob("*.py")]
    bodies = [ast.parse(text).body for text in texts if "_repr_html_" in text]
    classes = [node for body in bodies for node in body if isinstance(node, ast.ClassDef)]
    shown = {one.name for one in classes for part in one.body if getattr(part, "name", "") == "_repr_html_"}
    assert shown == {*values, "AstraBase"} - {"AstraStore"}


def test_no_secret_is_shown(values):
    store, _ = values["AstraStore"]
    assert "secret" not in store._repr_html_() + repr(store)


def test_what_is_gone_is_told_and_not_raised(tmp_path):
    vectors = gv.embed([gv.Record(id="a", image=np.zeros((8, 8, 3), np.uint8))], _encoder(), out=tmp_path / "run")
    for part in (tmp_path / "run").glob("part-*"):
        part.write_bytes(b"broken")
    assert "cannot be shown" in vectors._repr_html_()


def test_an_image_that_raises_is_a_placeholder():
    def explode():
        raise KeyError(BAD)

    record = gv.Record(id="a", image=explode)
    for value in (record, gv.Dataset.from_records([record])):
        assert "no picture" in value._repr_html_()
        assert BAD not in value._repr_html_()


def test_large_values_stay_small():
    failures = [gv.Failure(id=str(n), stage="decode", reason="x" * 10_000) for n in range(5000)]
    assert len(gv.Report(failures=failures)._repr_html_()) < 40_000
    names = [f"class {n}" for n in range(200)]
    many = gv.score_labels(names, names)._repr_html_()
    assert len(many) < 60_000
    assert "confusion_to_pandas" in many


def test_large_pictures_become_thumbnails(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (1500, 1500, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    assert len(gv.Record(id="a", image=tmp_path / "large.png")._repr_html_()) < 300_000


def test_cells():
    shown = _markup.table(("name", "n", "share"), [("a<b", 12345, 0.5), ("c", None, float("nan"))], total=9)
    assert "a&lt;b" in shown
    assert "12,345" in shown
    assert "0.5000" in shown
    assert shown.endswith("… and 7 more</p>")
    assert "nan" not in shown.lower()
    assert _markup.table(("name",), []) == ""


def test_progress_in_a_notebook_without_widgets_is_a_line():
    """There is no warning, and nothing goes to standard output."""
    code = """
import sys, types, warnings
warnings.simplefilter("error")
sys.modules["ipykernel"] = types.ModuleType("ipykernel")
ipython = types.ModuleType("IPython")
shell = types.SimpleNamespace(config={"IPKernelApp": {}})
ipython.get_ipython = lambda: shell
sys.modules["IPython"] = ipython
from geovlm import _progress
with _progress.bar(None, total=3, desc="embed", unit="img") as bar:
    bar.update(3)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env={"PATH": ""})
    assert result.returncode == 0, result.stderr
    assert "embed" in result.stderr
    assert "Warning" not in result.stderr
    assert result.stdout == ""


def test_progress_is_off_where_nobody_looks(monkeypatch, capsys):
    monkeypatch.delenv("GEOVLM_PROGRESS", raising=False)
    with _progress.bar(None, total=3, desc="embed", unit="img") as bar:
        bar.update(3)
    assert capsys.readouterr() == ("", "")


def _encoder():
    from geovlm.testing import HashEncoder

    return HashEncoder(dim=8)
