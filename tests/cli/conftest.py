"""A tiny encoder, a folder of scenes with a broken file in it, and a way to call the command line in this process."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import geovlm as gv
from geovlm.cli.app import make_app

COLOURS = {"beach": (220, 200, 120), "forest": (20, 90, 30), "port": (60, 80, 160)}


class Command:
    """`geovlm`, called in this process; `expect` is the exit status."""

    def __init__(self, runner: CliRunner) -> None:
        self.runner, self.app = runner, make_app()

    def __call__(self, *arguments, expect=0, **options):
        result = self.runner.invoke(self.app, [str(one) for one in arguments], prog_name="geovlm", **options)
        assert result.exit_code == expect, f"{result.stderr}\n{result.stdout}\n{result.exception!r}"
        return result

    def json(self, *arguments, **options):
        return json.loads(self(*arguments, "--format", "json", **options).stdout)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory):
    """A folder with an untrained open_clip model."""
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    vision = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16}
    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    gv.new_encoder({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}).save(folder)
    return folder


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """Three classes with three scenes each, and a file that is no image, whose name is markup."""
    root = tmp_path_factory.mktemp("data") / "scenes"
    for number, (label, colour) in enumerate(COLOURS.items()):
        (root / label).mkdir(parents=True)
        for index in range(3):
            noise = np.random.default_rng(10 * number + index).integers(0, 40, (6, 6, 3))
            Image.fromarray((noise + colour).clip(0, 255).astype(np.uint8)).resize((48, 48)).save(
                root / label / f"{index}.png"
            )
    (root / "port" / "<b>broken.jpg").write_bytes(b"no image")
    return root


@pytest.fixture
def geovlm(monkeypatch, tiny_encoder):
    monkeypatch.setenv("GEOVLM_ENCODER", str(tiny_encoder))
    monkeypatch.setenv("COLUMNS", "100")
    return Command(CliRunner())


@pytest.fixture(scope="session")
def index(tmp_path_factory, tiny_encoder, scenes):
    """An index of the scenes."""
    folder = tmp_path_factory.mktemp("index") / "scenes.index"
    Command(CliRunner())("index", scenes, folder, "--encoder", tiny_encoder)
    return folder
