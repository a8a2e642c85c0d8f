"""Each command on tiny models, in this process."""

from __future__ import annotations

import csv
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import geovlm as gv


def test_an_index_is_made_searched_and_made_again(geovlm, scenes, tmp_path):
    folder = tmp_path / "scenes.index"
    made = geovlm.json("index", scenes, folder)
    assert (made["done"], made["skipped"], made["failed"]) == (9, 0, 1)
    assert made["failures"][0]["id"] == "port/<b>broken.jpg"
    again = geovlm.json("index", scenes, folder)
    assert (again["done"], again["skipped"]) == (0, 9)
    hits = geovlm.json("search", folder, "a harbour", "--limit", 3, "--where", "label=port")["hits"]
    assert [hit["label"] for hit in hits] == ["port"] * 3


def test_a_lance_index_finds_the_same(geovlm, scenes, index, tmp_path):
    geovlm("index", scenes, tmp_path / "lance.index", "--store", "lance")
    answers = [geovlm("search", place, "a beach", "-n", 4).stdout for place in (index, tmp_path / "lance.index")]
    assert answers[0] == answers[1]


def test_search_by_a_picture_finds_it(geovlm, scenes, index):
    hits = geovlm.json("search", index, "--image", scenes / "forest" / "1.png", "-n", 1)["hits"]
    assert hits[0]["id"] == "forest/1.png"
    assert hits[0]["score"] == pytest.approx(1, abs=1e-5)


def test_search_results_in_all_forms(geovlm, index, tmp_path):
    table = geovlm("search", index, "sand", "-n", 2, "--against", "wood").stdout.splitlines()
    assert table[0] == "2 hits for “sand”"
    assert "%" in table[1]
    geovlm("search", index, "<i>sand</i>", "--out", tmp_path / "hits.html")
    page = (tmp_path / "hits.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 9
    assert "<i>sand" not in page
    geovlm("search", index, "sand", "--out", tmp_path / "hits.geojson")
    assert len(json.loads((tmp_path / "hits.geojson").read_text(encoding="utf-8"))["features"]) == 9


def test_filters_and_areas(geovlm, tiny_encoder, scenes, tmp_path):
    """A table with a year and a place on the Earth for each scene."""
    rows = [
        {"filepath": f"{label}/0.png", "year": 2020 + number, "lon": 8.0 + number, "lat": 47.0}
        for number, label in enumerate(("beach", "forest", "port"))
    ]
    table, folder = tmp_path / "scenes.csv", tmp_path / "places.index"
    pd.DataFrame(rows).to_csv(table, index=False)
    geovlm("index", table, folder, "--root", scenes)
    found = lambda *options: {hit["id"] for hit in geovlm.json("search", folder, "sand", *options)["hits"]}  # noqa: E731
    assert found("--where", "year>=2021") == {"forest/0.png", "port/0.png"}
    assert found("--where", "year>=2021", "--where", '{"year": {"$lt": 2022}}') == {"forest/0.png"}
    assert found("--within", "8.5,46,9.5,48") == {"forest/0.png"}
    square = {"type": "Polygon", "coordinates": [[[9.5, 46], [10.5, 46], [10.5, 48], [9.5, 48], [9.5, 46]]]}
    (tmp_path / "area.geojson").write_text(json.dumps({"type": "Feature", "geometry": square, "properties": {}}))
    assert found("--within", tmp_path / "area.geojson") == {"port/0.png"}


def test_a_scan_in_all_forms_goes_on(geovlm, tmp_path):
    queries = ("a pond", "a road", "--against", "sea", "--window", 64, "--threshold", 0.01)
    options = ("scan", _raster(tmp_path), *queries, "--run", tmp_path / "scan")
    found = geovlm.json(*options, "--heatmap", tmp_path / "heat.tif")
    assert found["crs"] == "EPSG:32632"
    assert found["places"][0]["geometry"]["type"] in {"Polygon", "MultiPolygon"}
    assert (tmp_path / "heat.tif").stat().st_size > 0
    again = geovlm.json(*options)
    assert again["places"] == found["places"]
    assert again["report"]["done"] == 0
    table = geovlm(*options).stdout.splitlines()
    assert table[0].startswith("Detections(")
    assert len(table) == 1 + len(found["places"])
    places = json.loads(geovlm(*options, "--format", "geojson").stdout)
    assert len(places["features"]) == len(found["places"])
    assert "showPlaces" in geovlm(*options, "--format", "html").stdout


def _raster(folder):
    import rasterio

    path = folder / "land.tif"
    pixels = np.random.default_rng(0).integers(0, 255, (3, 96, 96), dtype=np.uint8)
    profile = {"driver": "GTiff", "width": 96, "height": 96, "count": 3, "dtype": "uint8", "crs": "EPSG:32632"}
    with rasterio.open(path, "w", transform=rasterio.Affine(1, 0, 5e5, 0, -1, 5.4e6), **profile) as file:
        file.write(pixels)
    return path


def test_caption_train_and_evaluate(geovlm, scenes, tmp_path):
    pairs, tuned = tmp_path / "pairs", tmp_path / "tuned"
    assert geovlm.json("caption", scenes, pairs, "--captioner", "tags")["done"] == 9
    options = ("--val", 0.3, "--epochs", 1, "--learning-rate", 1e-3, "--set", "warmup=0", "--set", "loss=infonce")
    made = geovlm.json("train", pairs, tuned, *options)
    assert made["report"]["pairs"] == 3
    assert "before" in geovlm("train", pairs, tuned, *options).stdout
    result = geovlm.json("evaluate", "retrieval", pairs, "--encoder", made["encoder"], "--k", 1, "--k", 3)
    assert list(result["recall"][0]) == ["direction", "queries", "R@1", "R@3", "median rank"]


def test_zero_shot_counts_the_broken_file(geovlm, scenes, tmp_path):
    options = ("--predictions", tmp_path / "rows.csv", "--confusion", tmp_path / "matrix.png")
    result = geovlm.json("evaluate", "zero-shot", scenes, *options)
    assert result["coverage"] == pytest.approx(0.9)
    assert result["images"] == 10
    assert result["per_class"][0]["precision"] is None or result["per_class"][0]["precision"] <= 1
    with (tmp_path / "rows.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 10
    assert Image.open(tmp_path / "matrix.png").width > 100
    assert "Confusion" in geovlm("evaluate", "zero-shot", scenes, "--format", "html").stdout


def test_models_and_doctor(geovlm, monkeypatch):
    assert "skyclip-vit-b-32" in {row["preset"] for row in geovlm.json("models")}
    assert "blip-base" in geovlm("models", "captioners").stdout
    assert "pixtral-12b-2409" in geovlm("models", "pixtral", "--format", "html").stdout
    monkeypatch.setenv("MISTRAL_API_KEY", "very-secret")
    told = geovlm("doctor").stdout
    assert gv.__version__ in told
    assert "MISTRAL_API_KEY" in told
    assert "very-secret" not in told
