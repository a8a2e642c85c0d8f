"""Trainings from a TOML file."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from geovlm.errors import UnknownName, UsageError
from geovlm.training import TrainingResult
from geovlm.training.recipe import EXAMPLE, Recipe
from tests.training.conftest import fields


@pytest.fixture
def recipe(encoders, tmp_path):
    """A recipe over a folder of images with captions in a table."""
    rows = []
    for record in fields(12):
        record.image.save(tmp_path / f"{record.id}.png")
        rows += [{"image": f"{record.id}.png", "caption": caption} for caption in record.captions]
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    return f"""
        encoder = "{encoders.folder("open_clip").as_posix()}"
        out = "{(tmp_path / "run").as_posix()}"
        [train]
        table = "{(tmp_path / "pairs.json").as_posix()}"
        [val]
        table = "{(tmp_path / "pairs.json").as_posix()}"
        [config]
        epochs = 1
        learning_rate = 1e-3
        [config.augmentation]
        crop = [0.8, 1.0]
    """


def test_the_command_trains_and_tells(recipe, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(recipe)
    command = [sys.executable, "-m", "geovlm.training", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "train: 24 done" in done.stdout
    assert "mean recall" in done.stdout
    result = TrainingResult.open(tmp_path / "run")
    assert len(result.history.rows) == 2


def test_the_command_shows_an_example_that_can_be_read():
    done = subprocess.run(
        [sys.executable, "-m", "geovlm.training", "--example"], capture_output=True, text=True, check=True
    )
    assert done.stdout == EXAMPLE
    assert Recipe.parse(done.stdout).config.augmentation.crop == (0.7, 1.0)


def test_a_wrong_recipe_ends_with_a_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "geovlm.training", str(tmp_path / "none.toml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "cannot be read" in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        ("[val]", "[vali]", UnknownName, "Did you mean val"),
        ("learning_rate", "learningrate", UnknownName, "Did you mean learning_rate"),
        ("crop", "crops", UnknownName, "Did you mean crop"),
        ("epochs = 1", "epochs = 0", UsageError, "epochs is a whole number"),
        ("[train]", "[train", UsageError, "not TOML"),
        ("encoder = ", "encodes = ", UnknownName, "Did you mean encoder"),
        ("[train]\n", "train = 3\n[other]\n", UsageError, "part of a recipe"),
    ],
)
def test_what_cannot_be_right_is_told(recipe, old, new, error, words):
    with pytest.raises(error, match=words):
        Recipe.parse(recipe.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[train]\n        table", "[train]\n        tables", "names one source"),
        ("[val]\n        table", '[val]\n        folder = "x"\n        table', "names one source"),
        ("[val]\n", '[val]\n        splt = "val"\n', "Did you mean split"),
    ],
)
def test_sources_are_checked_before_anything_starts(recipe, old, new, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        Recipe.parse(recipe.replace(old, new)).run()
    assert not (tmp_path / "run").exists()


def test_parts_that_are_missing_are_named():
    with pytest.raises(UsageError, match="nothing of encoder, out, train"):
        Recipe.parse("")
