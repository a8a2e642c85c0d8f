"""What holds for all commands: help, exit states, streams, interrupts, and a missing typer."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import geovlm as gv
from geovlm.cli.questions import read_filters

COMMANDS = [
    *(["index"], ["search"], ["scan"], ["caption"], ["train"], ["models"], ["doctor"]),
    *(["evaluate", "zero-shot"], ["evaluate", "retrieval"]),
    *(["batch", step] for step in ("prepare", "submit", "status", "collect", "cancel")),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_help_has_an_example_that_names_its_command(geovlm, command):
    text = geovlm(*command, "--help").stdout
    assert f"  geovlm {' '.join(command)}" in text.partition("Examples:")[2]


def test_the_first_help_names_all_commands_and_first_steps(geovlm):
    text = geovlm("--help").stdout
    assert all(f"  {command[0]} " in text for command in COMMANDS)
    assert 'geovlm search photos.index "a harbour' in text
    assert text == geovlm("-h").stdout
    assert geovlm("--version").stdout == f"geovlm {gv.__version__}\n"


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from geovlm.cli.app import make_app; make_app();"
        "print(sorted({'torch', 'numpy', 'pandas', 'pyarrow', 'PIL', 'rasterio', 'rich'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([2, "serch"], "Did you mean 'search'?"),
        ([2, "search"], "Missing argument"),
        ([2, "search", "INDEX"], "words, or --image"),
        ([2, "search", "INDEX", "x", "--where", "year"], "year>=2024"),
        ([2, "search", "INDEX", "x", "--within", "1,2,3"], "west,south,east,north"),
        ([1, "search", "INDEX", "x", "--where", '{"$or": 1}'], "$or"),
        ([1, "search", "INDEX", "x", "--weights", "w.pt"], "knows its encoder"),
        ([1, "search", "no.index", "x"], "no.index does not exist"),
        ([1, "index", "SCENE", "OUT"], "is a file, not a folder"),
        ([1, "index", "SCENES", "OUT", "--split", "test"], "--split does not go with"),
        ([2, "index", "SCENES", "OUT", "--column", "picture=a"], "ROLE=NAME"),
        ([1, "index", "SCENES", "OUT", "--encoder", "skyclip-vit-b32"], "Did you mean skyclip-vit-b-32"),
        ([1, "index", "SCENES", "INDEX", "--store", "lance"], "store: 'numpy' then, 'lance' now"),
        ([1, "scan", "no.tif", "a pond"], "no.tif"),
        ([1, "caption", "SCENES", "OUT", "--captioner", "blip-bse"], "Did you mean blip-base"),
        ([1, "train", "SCENES", "OUT", "--set", "epohcs=3"], "Did you mean epochs"),
        ([2, "train", "SCENES", "OUT", "--set", "epochs"], "NAME=VALUE"),
        ([2, "models", "--format", "geojson"], "geojson"),
    ],
)
def test_mistakes_are_told(geovlm, scenes, index, arguments, told):
    """One sentence for what cannot be done; the usage for what cannot be read."""
    places = {"SCENES": scenes, "INDEX": index, "SCENE": scenes / "port" / "0.png", "OUT": scenes.parent / "out"}
    state, *words = arguments
    result = geovlm(*(places.get(one, one) for one in words), expect=state)
    assert told in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    if state == 1:
        assert result.stderr.startswith("geovlm: ")
        assert result.stderr.count("\n") == 1


def test_debug_shows_where_an_error_comes_from(geovlm):
    text = geovlm("--debug", "search", "no.index", "x", expect=1).stderr
    assert "Traceback" in text
    assert text.endswith("no.index does not exist.\n")


def test_an_index_that_holds_nothing_is_an_error(geovlm, tmp_path):
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "a.jpg").write_bytes(b"no image")
    result = geovlm("index", tmp_path / "scenes", tmp_path / "OUT", expect=1)
    assert "None of the 1 inputs" in result.stderr
    assert "not finished" in geovlm("search", tmp_path / "OUT", "x", expect=1).stderr


def test_quiet_gives_no_hints(geovlm, scenes, tmp_path):
    assert "geovlm search" in geovlm("index", scenes, tmp_path / "a").stderr
    assert geovlm("--quiet", "index", scenes, tmp_path / "b").stderr == ""


def test_comparisons():
    assert read_filters(None) is None
    assert read_filters(["a b != x=y"]) == {"a b": {"$ne": "x=y"}}
    assert read_filters(["n<=2", 't="3"']) == {"$and": [{"n": {"$lte": 2}}, {"t": {"$eq": "3"}}]}


def test_data_goes_to_one_stream_and_progress_to_the_other(geovlm, scenes, tmp_path, monkeypatch):
    monkeypatch.setenv("GEOVLM_PROGRESS", "1")
    result = geovlm("index", scenes, tmp_path / "index", "--format", "json")
    assert json.loads(result.stdout)["done"] == 9
    assert "embed:" in result.stderr


def test_an_interrupt_keeps_what_is_finished_and_says_how_to_go_on(geovlm, scenes, tmp_path, monkeypatch):
    embed = gv.embed

    def interrupted(source, encoder, **options):
        embed(list(source)[:4], encoder, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(gv, "embed", interrupted)
    stopped = geovlm("index", scenes, tmp_path / "index", expect=130)
    assert f"kept in {tmp_path / 'index'}; the same command goes on" in stopped.stderr
    assert stopped.stdout == ""
    assert "not finished" in geovlm("search", tmp_path / "index", "x", expect=1).stderr
    monkeypatch.setattr(gv, "embed", embed)
    made = geovlm.json("index", scenes, tmp_path / "index")
    assert (made["done"], made["skipped"]) == (5, 4)


def test_an_interrupt_before_anything_is_written(geovlm, scenes, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(gv, "load_captioner", interrupted)
    assert "Nothing was written" in geovlm("caption", scenes, tmp_path / "pairs", expect=130).stderr


def test_as_a_program_of_its_own():
    command = [sys.executable, "-m", "geovlm"]
    done = subprocess.run([*command, "models", "captioners"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(" ")
    failed = subprocess.run([*command, "search", "no.index", "x"], capture_output=True, text=True, check=False)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "no.index" in failed.stderr


def test_without_typer_the_extra_is_named():
    code = "import sys; sys.modules['typer'] = None; from geovlm.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "pip install 'geovlm[cli]'" in result.stderr
    assert result.stderr.count("\n") == 1
