"""The page about the command line: its commands run, one after the other, on the files of the site's stage."""

from __future__ import annotations

import json

from tests.docs import stage
from tests.docs.blocks import ROOT, blocks
from tests.docs.shell import commands


def test_every_command_of_the_page_runs(geovlm, tmp_path, monkeypatch):
    stage.furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GEOVLM_ENCODER")
    page = blocks(ROOT / "docs" / "cli.md")
    wanted = [words for block in page if block.language == "bash" for words in commands(block.text)]
    run = [words[1:] for words in wanted if words[0] == "geovlm"]
    assert len(run) > 20
    with stage.stand_ins(monkeypatch):
        for words in run:
            at_once = ["--poll", "0"] if words[:2] == ["batch", "collect"] else []
            geovlm(*words, *at_once)
    made = ("hits.html", "ponds.geojson", "ponds.html", "ponds.tif", "confusion.png", "rows.csv", "tuned/encoder")
    assert [name for name in made if not (tmp_path / name).exists()] == []
    assert json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["images"] == 24
