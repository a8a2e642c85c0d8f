"""`benchmark` from images to tables: the papers' protocol, stopping and going on, figures that others compute too."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score, top_k_accuracy_score

from geovlm.errors import ConfigMismatch, UnknownName, UsageError
from geovlm.evaluation import BenchmarkData, BenchmarkResult, benchmark
from geovlm.evaluation.benchmark_run import tower
from geovlm.records import Record
from geovlm.sources import FolderSource
from geovlm.testing import HashEncoder
from geovlm.testing.scenes import write_scenes
from tests.evaluation.bench_layouts import NAMES, class_folders, karpathy, paint, scenes
from tests.light import Light
from tests.models import picture, save_pictures

ROOT = Path(__file__).resolve().parents[2]


class Vectors:
    """Random vectors for pictures and texts; it keeps what it was asked."""

    name, dim, logit_scale, fingerprint = "vectors", 16, 100.0, "vectors"

    def __init__(self):
        self.texts, self.images = [], 0

    def encode_images(self, images):
        self.images += len(images)
        return np.stack([self._one(np.asarray(image).tobytes()) for image in images])

    def encode_texts(self, texts):
        self.texts += texts
        return np.stack([self._one(text.encode()) for text in texts])

    def _one(self, key):
        vector = np.random.default_rng(list(key[:64])).normal(size=self.dim)
        return (vector / np.linalg.norm(vector)).astype(np.float32)


@pytest.fixture
def root(tmp_path):
    """Three sets as SkyScript's archives unpack, each in a layout of its own."""
    scenes(tmp_path / "sets", per_class=4, wrong=1)
    class_folders(tmp_path / "sets" / "eurosat" / "2750", classes=NAMES[3:6], colours=NAMES[3:6])
    colours = ("red", "blue", "green", "yellow")
    karpathy(
        tmp_path / "sets" / "rsicd", [(f"{c}.png", "test", [f"a {c} field", "there is something"]) for c in colours]
    )
    return tmp_path / "sets"


def test_a_folder_of_sets(root):
    result = benchmark(HashEncoder(), root)
    assert [score.name for score in result.scores] == ["AID", "EuroSAT", "RSICD"]
    assert result["AID"].value == 0.75  # one of four pictures a class has another's colour
    assert result["AID"].images == 16
    assert not result["AID"].comparable  # 16 images, the paper has 2,000
    assert result["RSICD"].details["captions"] == 5  # the shared one is one
    assert result["RSICD"].value == 1
    assert "fmow.zip" in result.missing["fMoW"]
    assert result["aid"] is result["AID"]
    with pytest.raises(UnknownName, match="AID, EuroSAT, RSICD"):
        result["farms"]


def test_prompts_are_the_papers_letter_by_letter(root):
    (root / "aid" / "classnames.txt").write_text("red\ngray\nwhite\nBlack")
    encoder = Vectors()
    benchmark(encoder, {"AID": root / "aid", "roof_shape": FolderSource(root / "eurosat" / "2750")})
    assert encoder.texts[6:10] == [
        "a satellite photo of Black.",
        "a satellite image of Black",
        "a satellite photo of building, blue.",
        "a satellite image of building, blue",
    ]


def test_every_image_of_the_table_counts(root):
    (root / "aid" / "images" / "red" / "red_3.png").unlink()
    (root / "aid" / "images" / "red" / "red_2.png").write_bytes(b"no image")
    score = benchmark(HashEncoder(), root)["AID"]
    assert (score.images, score.coverage) == (16, 14 / 16)
    assert score.value == 10 / 16
    assert len(score.failures) == 2


def test_an_image_that_cannot_be_read_is_missed_in_retrieval(root):
    (root / "rsicd" / "RSICD_images" / "blue.png").write_bytes(b"no image")
    score = benchmark(HashEncoder(), root)["RSICD"]
    assert score.coverage == 0.75
    assert score.details["image to text R@1"] == 0.75
    assert score.details["text to image R@10"] == 0.8  # the shared caption has three other images


def test_figures_are_scikit_learns(tmp_path):
    table = write_scenes(tmp_path / "scenes", 120, side=32)
    result = benchmark(Vectors(), {"scenes": table}, out=tmp_path / "out")
    score = result["scenes"]
    rows = pd.read_parquet(tmp_path / "out" / "scenes" / "inductive.parquet")
    assert abs(score.value - accuracy_score(rows["label"], rows["predicted"])) < 1e-9
    macro = recall_score(rows["label"], rows["predicted"], average="macro", zero_division=np.nan)
    assert abs(score.details["macro accuracy"] - macro) < 1e-9
    assert confusion_matrix(rows["label"], rows["predicted"]).trace() == round(score.value * score.images)

    encoder, classes = Vectors(), list(score.classes)
    words = [[template.replace("{}", name) for template in score.prompts] for name in classes]
    texts = np.stack([encoder.encode_texts(pair).astype(float).mean(axis=0) for pair in words])
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    pictures = encoder.encode_images([Record(id="x", image=tmp_path / "scenes" / key).open() for key in rows["id"]])
    cosines = pictures.astype(float) @ texts.T
    truth = [classes.index(label) for label in rows["label"]]
    for k, mine in ((1, score.value), (5, score.details["top-5"])):
        assert abs(mine - top_k_accuracy_score(truth, cosines, k=k, labels=range(len(classes)))) < 1e-9


def test_a_finished_set_is_not_computed_again(root, tmp_path):
    first = benchmark(Vectors(), {"AID": root / "aid"}, out=tmp_path / "out")
    encoder = Vectors()
    again = benchmark(encoder, root, out=tmp_path / "out")
    assert again["AID"] == first["AID"]
    asked = encoder.images, len(encoder.texts)
    assert asked == (9 + 4, 6 + 5)
    third = benchmark(encoder, root, out=tmp_path / "out")
    assert third == again
    assert (encoder.images, len(encoder.texts)) == asked
    assert BenchmarkResult.load(tmp_path / "out") == third


def test_a_set_that_has_changed_is_computed_again(root, tmp_path):
    own = {"colours": root / "eurosat" / "2750"}
    assert benchmark(Vectors(), own, out=tmp_path / "out")["colours"].images == 9
    paint(root / "eurosat" / "2750" / "red" / "new.png", "red", spot=77)
    (root / "eurosat" / "2750" / "blue" / "0.png").unlink()
    encoder = Vectors()
    changed = benchmark(encoder, own, out=tmp_path / "out")
    assert encoder.images == 1
    assert changed == benchmark(Vectors(), own)


def test_what_failed_is_tried_again(root, tmp_path):
    path = root / "aid" / "images" / "red" / "red_1.png"
    whole = path.read_bytes()
    path.write_bytes(b"broken")
    assert benchmark(HashEncoder(), {"AID": root / "aid"}, out=tmp_path / "out")["AID"].coverage < 1
    path.write_bytes(whole)
    mended = benchmark(HashEncoder(), {"AID": root / "aid"}, out=tmp_path / "out")
    assert mended == benchmark(HashEncoder(), {"AID": root / "aid"})


def test_images_that_are_gone_are_no_candidates(root, tmp_path):
    benchmark(HashEncoder(), root, out=tmp_path / "out")
    colours = ("red", "green")
    karpathy(root / "rsicd", [(f"{c}.png", "test", [f"a {c} field", "there is something"]) for c in colours])
    assert benchmark(HashEncoder(), root, out=tmp_path / "out") == benchmark(HashEncoder(), root)


def test_all_images_at_once_on_the_same_vectors(tmp_path):
    """The other method has its own figures, beside those of the first, and embeds nothing anew."""
    source = [Record(id=str(n), image=picture(n), label=NAMES[n % 3]) for n in range(60)]
    one = benchmark(Vectors(), {"own": source}, out=tmp_path / "out")
    encoder = Vectors()
    other = benchmark(encoder, {"own": source}, out=tmp_path / "out", method="transductive")
    assert encoder.images == len(encoder.texts) == 0
    assert other.method == "transductive"
    assert other["own"].images == 60
    assert sorted(path.name for path in (tmp_path / "out").glob("result-*")) == [
        "result-inductive.json",
        "result-transductive.json",
    ]
    assert BenchmarkResult.load(tmp_path / "out" / "result-inductive.json") == one
    with pytest.raises(UsageError, match="Give the file"):
        BenchmarkResult.load(tmp_path / "out")
    few = benchmark(Vectors(), {"own": source[:6]}, method="transductive")["own"]
    assert few.value == benchmark(Vectors(), {"own": source[:6]})["own"].value
    assert few.notes  # too few images for it, and it says so


def test_another_encoder_or_other_prompts_are_refused(root, tmp_path):
    benchmark(HashEncoder(), root, out=tmp_path / "out")
    with pytest.raises(ConfigMismatch, match="encoder"):
        benchmark(HashEncoder(seed=1), root, out=tmp_path / "out")
    with pytest.raises(ConfigMismatch, match="prompts"):
        benchmark(HashEncoder(), root, out=tmp_path / "out", templates="clip")
    own = {"own": BenchmarkData(source=[Record(id=c, image=picture(0), label=c) for c in NAMES[:2]])}
    benchmark(HashEncoder(), own, out=tmp_path / "own")
    other = {"own": BenchmarkData(source=own["own"].source, templates=["{} from above"])}
    with pytest.raises(ConfigMismatch, match="prompts"):
        benchmark(HashEncoder(), other, out=tmp_path / "own")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "inductiv"}, "Did you mean inductive"),
        ({"templates": "skyscrypt"}, "Did you mean skyscript"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_settings_that_cannot_be_right(root, settings, said):
    with pytest.raises(UsageError, match=said):
        benchmark(HashEncoder(), root, **settings)


def test_wrong_labels_stop_it_before_any_image_is_read(root):
    (root / "eurosat" / "classnames.txt").write_text("sea\nland\n")
    encoder = Vectors()
    with pytest.raises(UsageError, match="3 of 3 labels"):
        benchmark(encoder, root)
    assert not encoder.images


def test_an_encoder_by_its_name_is_refused(root):
    with pytest.raises(UsageError, match="load_encoder"):
        benchmark("skyclip-vit-b-32", root)


def test_classes_that_read_the_same_and_classes_too_few():
    for labels, said in ((("BareLand", "bare land"), "read the same"), (("one", "one"), "1 classes")):
        source = [Record(id=str(place), image=picture(place), label=label) for place, label in enumerate(labels)]
        with pytest.raises(UsageError, match=said):
            benchmark(HashEncoder(), {"own": source})


def test_means_say_what_they_are_over(root):
    result = benchmark(HashEncoder(), root)
    mean = result.mean_of_seven
    assert mean.over == ("AID", "EuroSAT")
    assert len(mean.missing) == 5
    assert mean.value == pytest.approx((0.75 + result["EuroSAT"].value) / 2)
    assert mean.low < mean.value <= mean.high
    assert result.mean_of_eight.missing[0] == "SkyScript_cls"
    assert result.mean(["fMoW"]) is None
    text = result.to_markdown()
    assert "mean of 2 of the 7" in text
    assert "missing: SkyScript_cls, fMoW" in text


class Named(HashEncoder):
    """An encoder that calls itself like a preset."""

    name = "skyclip-vit-b-32"


def test_published_rows_stand_beside(root):
    result = benchmark(Named(), root)
    assert result.architecture == "ViT-B-32"
    table = result.beside_published()
    assert table.iloc[0]["AID"] == 75
    assert table.loc["SkyCLIP-50, ViT-B-32 [SkyScript, AAAI 2024, table 2]", "AID"] == 70.90
    assert not table.index.str.contains("ViT-L-14").any()
    assert result.beside_published(["ViT-L-14"]).index[1:].str.contains("ViT-L-14").all()
    # A mean of published figures is over the measured sets, not the printed one over all.
    assert table.loc["SkyCLIP-50, ViT-B-32 [SkyScript, AAAI 2024, table 2]", "mean of 2 of the 7"] == pytest.approx(
        (70.90 + 33.30) / 2
    )
    differences = result.differences()
    assert set(differences["data set"]) == {"AID", "EuroSAT", "RSICD"}
    assert differences.set_index(["data set", "paper"])["outside"].to_dict()[("RSICD", "FarSLIP, 2025")]
    assert not differences["comparable"].any()


def test_marks_stand_only_where_the_images_are_the_same(root):
    from attrs import evolve

    result = benchmark(Named(), root)
    assert "↑ |" not in result.to_markdown().split("↑ and ↓")[0]
    assert "| AID* |" in result.to_markdown()
    same = evolve(result, scores=[evolve(score, comparable=True) for score in result.scores])
    assert "33.30 ↓" in same.to_markdown()
    assert "| AID |" in same.to_markdown()


def test_a_result_is_written_and_read(root, tmp_path):
    result = benchmark(HashEncoder(), root)
    result.to_json(tmp_path / "result.json")
    assert BenchmarkResult.load(tmp_path / "result.json") == result
    assert "<table" in result._repr_html_()
    assert list(result.to_pandas().index) == ["AID", "EuroSAT", "RSICD"]
    (tmp_path / "result.json").write_text('{"kind": "else"}')
    with pytest.raises(UsageError, match="no result"):
        BenchmarkResult.load(tmp_path / "result.json")
    with pytest.raises(UsageError, match="holds no result"):
        BenchmarkResult.load(root)


def test_names_with_marks_do_not_break_the_tables(tmp_path):
    own = [Record(id=c, image=picture(0), label=c) for c in ("<b>a</b>", "c|d")]
    result = benchmark(HashEncoder(), {"x & y": own})
    assert "x &amp; y" in result._repr_html_()


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("skyclip-vit-l-14", "ViT-L-14"),
        ("ViT-B-16-SigLIP2-256", "ViT-B-16"),
        ("google/siglip2-base-patch16-224", None),
        ("openai/clip-vit-base-patch32", "ViT-B-32"),
        ("light", None),
    ],
)
def test_the_tower_is_told_by_the_name(name, architecture):
    assert tower(name) == architecture


RUN = """
import os, signal, sys, threading
from geovlm.evaluation import benchmark
from tests.light import Light

sets, out, log, deadline = sys.argv[1:]
if float(deadline):
    threading.Timer(float(deadline), os.kill, (os.getpid(), signal.SIGKILL)).start()
encoder = Light(log=log, pause=0.02)
benchmark(encoder, {name: sets + "/" + name for name in ("one", "two", "pairs.csv")}, out=out, batch_size=4)
os._exit(0)
"""


def run(sets, out, log, deadline):
    command = [sys.executable, "-c", RUN, *map(str, (sets, out, log, deadline))]
    return subprocess.run(command, cwd=ROOT, timeout=120, check=False).returncode


def files(folder):
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_killed_at_any_moment_it_ends_with_the_same_bytes(tmp_path):
    sets = tmp_path / "sets"
    for place, name in enumerate(("one", "two")):
        for label in ("a", "b"):
            for number, path in enumerate(save_pictures(sets / name / label, 12)):
                picture(100 * place + 50 * (label == "b") + number).save(path)
    (sets / "one" / "a" / "scene-003.jpg").write_bytes(b"broken")
    paths = save_pictures(sets / "pairs", 12)
    rows = [f"pairs/{path.name},caption {number % 9}" for number, path in enumerate(paths)]
    (sets / "pairs.csv").write_text("\n".join(["filepath,caption", *rows]))
    assert run(sets, tmp_path / "whole", tmp_path / "whole.log", 0) == 0

    chance, kills = random.Random(3), 0
    log, out, finished = tmp_path / "log", tmp_path / "killed", set()
    while True:
        before = len(log.read_text().splitlines()) if log.exists() else 0
        code = run(sets, out, log, chance.uniform(0.02, 0.25) if kills < 5 else 0)
        lines = log.read_text().splitlines()[before:] if log.exists() else []
        encoded = Counter(one for line in lines for one in line.split())
        assert not finished & set(encoded)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
        if list(out.glob("one/inductive.json")):
            whole = (tmp_path / "whole.log").read_text().split()
            finished |= set(whole[:23])
    assert kills >= 3
    assert files(out) == files(tmp_path / "whole")


def test_on_real_scenes(shared_data, tmp_path):
    """The AID scenes with RSICD's captions: found as both sets, counted whole, no better than chance."""
    aid = shared_data / "aid"
    result = benchmark(Light(), {"AID": aid, "RSICD": aid}, out=tmp_path / "out")
    assert (result["AID"].images, len(result["AID"].classes)) == (2395, 30)
    assert result["RSICD"].images == 235
    assert result["RSICD"].details["captions"] < 5 * 235  # many captions come more than once
    assert result["AID"].value < 0.1
    assert result["RSICD"].details["image to text"] == 0  # all texts are one point, and ties count against the model
    assert not result["RSICD"].comparable
