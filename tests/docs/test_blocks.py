"""Every block of code on the site and in the README runs, or is at least read by what would run it."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.docs import stage
from tests.docs.blocks import PAGES, ROOT, blocks, run
from tests.docs.pages import EXPECTED, PREPARE
from tests.docs.shell import EXTRAS, check, commands

LANGUAGES = {"python", "bash", "text", "toml", "json", "yaml"}
NAMES = {str(page.relative_to(ROOT)): page for page in PAGES}
WITH_PYTHON = [name for name, page in NAMES.items() if any(block.language == "python" for block in blocks(page))]


@pytest.fixture(scope="session")
def furnished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stage")
    stage.furnish(folder)
    return folder


@pytest.mark.parametrize("name", WITH_PYTHON)
def test_python(name, furnished, tmp_path, monkeypatch):
    folder = tmp_path / "here"
    shutil.copytree(furnished, folder)
    monkeypatch.chdir(folder)
    names = {"__name__": "page", **PREPARE.get(name, lambda _: {})(folder)}
    programs = [block for block in blocks(NAMES[name]) if block.language == "python"]
    assert len(programs) == NAMES[name].read_text(encoding="utf-8").count("```python")
    with stage.stand_ins(monkeypatch):
        for block in programs:
            run(block, names)
    missing = [file for file in EXPECTED.get(name, ()) if not (folder / file).exists()]
    assert not missing


def test_the_detection_guide_is_whole():
    programs = [block.text for block in blocks(NAMES["docs/guides/detection.md"]) if block.language == "python"]
    assert len(programs) > 6
    assert "\n".join(programs).count('"farslip-vit-b-16-s1"') == 1


@pytest.mark.parametrize("name", NAMES)
def test_shell(name, monkeypatch):
    for block in blocks(NAMES[name]):
        if block.language == "bash":
            for command in commands(block.text):
                check(command, monkeypatch)


@pytest.mark.parametrize("name", NAMES)
def test_a_block_says_its_language(name):
    text = NAMES[name].read_text(encoding="utf-8")
    found = blocks(NAMES[name])
    assert len(re.findall(r"^ *```", text, flags=re.MULTILINE)) == 2 * len(found), "a fence is not closed"
    assert {block.language for block in found} <= LANGUAGES


@pytest.mark.parametrize("name", NAMES)
def test_a_program_that_is_named_is_there(name):
    text = NAMES[name].read_text(encoding="utf-8")
    named = set(re.findall(r"\b((?:examples|benchmarks)/\w+\.py)\b", text))
    assert not {path for path in named if not (ROOT / path).is_file()}


def test_the_install_page_tells_every_extra():
    rows = re.findall(r"^\| `([a-z-]+)` \|", NAMES["docs/install.md"].read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(rows) == sorted(EXTRAS)


@pytest.mark.parametrize(
    "line",
    [
        "pip install 'geovlm[opnclip]'",
        "make quikstart",
        "geovlm serch photos.index harbour",
        "geovlm search photos.index harbour --lmit 3",
        "python examples/nothing.py",
        "python examples/fine_tune.py captions.csv --encodr clip",
        "torchrun --nproc-per-node 8 -m geovlm.training --exmple",
    ],
)
def test_what_cannot_be_meant_is_found(line, monkeypatch):
    [command] = commands(line)
    with pytest.raises(Exception):  # noqa: B017, PT011 - an assertion here, or the error of the program
        check(command, monkeypatch)


def test_an_error_names_the_page_and_its_line(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A page\n\n- a list\n\n    ```python\n    1 + 1\n    1 / 0\n    ```\n")
    [block] = blocks(page)
    with pytest.raises(ZeroDivisionError) as error:
        run(block, {})
    assert (error.traceback[-1].path, error.traceback[-1].lineno + 1) == (page, 7)
