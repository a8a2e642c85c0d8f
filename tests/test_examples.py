"""The examples run as a person would run them, on little data."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import geovlm as gv

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


def test_pixtral_aid(tmp_path):
    """The whole walk-through offline, with a file that cannot be read."""
    for library in ("mistralai", "matplotlib", "peft", "sklearn", "torchvision", "transformers"):
        pytest.importorskip(library)
    for number in range(20):
        place = tmp_path / "scenes" / ("Port" if number % 2 else "Forest") / f"{number:02}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), "navy" if number % 2 else "green").save(place)
    (tmp_path / "scenes" / "Port" / "19.jpg").write_bytes(b"\xff\xd8\xff")
    first = run("pixtral_aid.py", tmp_path / "scenes", "--limit", 20, "--out", tmp_path / "out")
    assert first.returncode == 0, first.stderr
    assert "16 scenes to learn from, 4 to measure on, 2 classes" in first.stdout
    assert "4 requests in 1 job" in first.stdout
    assert "15 examples, 1 failed" in first.stdout
    assert "over all 4 inputs" in first.stdout
    for name in ("before.png", "after.png", "comparison.csv"):
        assert (tmp_path / "out" / name).stat().st_size


def test_fine_tuning_without_anything(tmp_path):
    result = run("fine_tune.py", "--out", tmp_path, "--epochs", 1)
    assert result.returncode == 0, result.stderr
    assert "on 30 held-out pairs" in result.stdout
    assert gv.load_encoder(tmp_path / "run" / "encoder").dim == 64


def test_every_example_is_in_their_readme():
    readme = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    for example in (ROOT / "examples").glob("*.py"):
        assert f"## `{example.name}`" in readme


def test_zero_shot_on_a_folder(tmp_path):
    from tests.models import openclip_config

    gv.new_encoder(openclip_config()).save(tmp_path / "encoder")
    for number in range(40):
        place = tmp_path / "scenes" / ("Port" if number % 2 else "BareLand") / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((40, 40), 20 + 5 * number).save(place)
    result = run("zero_shot.py", tmp_path / "scenes", "--encoder", tmp_path / "encoder", "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "inductive" in result.stdout
    rows = (tmp_path / "out" / "classes.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 41


def test_scan_geotiff_without_anything(tmp_path):
    """Trains, scans land that it draws, and uses what it trained again on a raster of one's own."""
    from geovlm.testing.rasters import planted_raster

    small = ("--train-size", 1100, "--epochs", 1, "--out", tmp_path / "out")
    first = run("scan_geotiff.py", *small, "--threshold", 0.1)
    assert first.returncode == 0, first.stderr
    assert "Training a small encoder" in first.stdout
    assert {"places.geojson", "places.parquet", "scores.tif", "map.html"} <= {
        p.name for p in (tmp_path / "out").iterdir()
    }
    planted_raster(tmp_path / "mine.tif", size=300, seed=5)
    again = run(
        "scan_geotiff.py", tmp_path / "mine.tif", *small, "--query", "pond", "--against", "bare ground", "--gsd", 1
    )
    assert again.returncode == 0, again.stderr
    assert "Training" not in again.stdout
    assert "in EPSG:32632)" in again.stdout
    wrong = run("scan_geotiff.py", tmp_path / "mine.tif", *small, "--gsd", -1)
    assert wrong.returncode == 1
    assert "Traceback" not in wrong.stderr
