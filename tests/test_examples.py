"""The examples run as a person would run them, on little data."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]


def run(name, *arguments):
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)


def test_quickstart_on_synthetic_scenes(tmp_path):
    result = run("quickstart.py", "--out", tmp_path, "--scenes", 48, "--epochs", 1, "--query", "a pond")
    assert result.returncode == 0, result.stderr
    assert "on 10 held-out pairs" in result.stdout
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "<h2>a pond</h2>" in page
    assert page.count("data:image/jpeg") == 12


def test_quickstart_on_own_images(tmp_path):
    """A folder of classes with one broken file among them."""
    for number in range(12):
        place = tmp_path / "mine" / ("port" if number % 2 else "forest") / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((64, 64), 20 + 5 * number).save(place)
    (tmp_path / "mine" / "port" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    result = run("quickstart.py", "--out", tmp_path, "--data", tmp_path / "mine", "--epochs", 1)
    assert result.returncode == 0, result.stderr
    assert "12 done       0 skipped      1 lost" in result.stdout
    assert "broken.jpg" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "no/such/folder"], "no/such/folder"),
        (["--encoder", "skyclip-vit-b32"], "Did you mean skyclip-vit-b-32"),
        (["--data", "IMAGES", "--captioner", "blip-bse"], "Did you mean blip-base"),
        (["--scenes", "0"], "at least 1"),
    ],
)
def test_typos_are_told_in_one_line(tmp_path, arguments, message):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    result = run("quickstart.py", "--out", tmp_path, *(tmp_path if a == "IMAGES" else a for a in arguments))
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_stores_answer_alike(tmp_path, monkeypatch, capsys):
    """One program, three stores, and the same answers; in this process, where torch is imported once."""
    for name in ("ASTRA_DB_API_ENDPOINT", "ASTRA_DB_APPLICATION_TOKEN"):
        monkeypatch.setenv(name, "")  # so that what the program sets is taken back
        monkeypatch.delenv(name)
    answers = []
    for store in ("numpy", "lance", "astra"):
        monkeypatch.setattr(sys, "argv", ["stores.py", "--store", store, "--out", str(tmp_path), "--scenes", "30"])
        runpy.run_path(str(ROOT / "examples" / "stores.py"), run_name="__main__")
        answers.append(capsys.readouterr().out)
        monkeypatch.delenv("ASTRA_DB_API_ENDPOINT", raising=False)
    assert answers[0] == answers[1] == answers[2]
    assert "index: 30 done" in answers[0]
    years = [int(line.split()[-1]) for line in answers[0].splitlines()[1:]]
    assert len(years) == 5
    assert all(2020 <= year < 2025 for year in years)


def test_train_aid(tmp_path, shared_data):
    result = run("train_aid.py", shared_data / "aid", "--out", tmp_path, "--epochs", 1)
    assert result.returncode == 0, result.stderr
    assert "over 475 held-out scenes" in result.stdout
