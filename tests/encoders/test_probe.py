"""A model that does not compute what was trained is found by a few known numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from attrs import evolve
from safetensors.torch import load_file, save_file

from geovlm.encoders import Probe, check_probe, load_encoder, record_probe
from geovlm.encoders._probe import FILE, probe_picture
from geovlm.encoders.presets import PRESETS
from geovlm.errors import UsageError, WeightsError
from tests import models
from tests.models import picture


def load(place, **arguments):
    return load_encoder(place, device="cpu", dtype=arguments.pop("dtype", "float32"), **arguments)


@pytest.fixture
def saved(tmp_path, folders):
    """Encoders of each kind, saved by geovlm."""

    def save(kind):
        load(folders[kind]).save(tmp_path / kind)
        return tmp_path / kind

    return save


def rewrite(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_a_probe_survives_its_file(folders):
    probe = record_probe(load(folders["clip"]))
    assert Probe.from_json(json.loads(json.dumps(probe.to_json()))) == probe


@pytest.mark.parametrize("kind", ["open_clip", "clip", "siglip"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_right_passes_in_every_precision(saved, kind, dtype):
    folder = saved(kind)
    assert (folder / FILE).exists()
    load(folder, dtype=dtype)


def test_recording_leaves_the_encoder_as_it_was(folders):
    encoder = load(folders["open_clip"]).copy()
    encoder.model.train()
    before = encoder.fingerprint
    check_probe(encoder, evolve(record_probe(encoder), image=()))
    assert encoder.model.training
    assert encoder.fingerprint == before
    assert not any(module._forward_hooks for module in encoder.model.modules())


@pytest.mark.parametrize(("kind", "right"), [("open_clip", "GELU"), ("clip", "QuickGELU")])
def test_the_wrong_activation_is_named(saved, kind, right):
    folder = saved(kind)
    if kind == "open_clip":
        rewrite(folder / "open_clip_config.json", lambda config: config["model_cfg"].update(quick_gelu=True))
    else:

        def change(config):
            for tower in ("text_config", "vision_config"):
                config[tower]["hidden_act"] = "gelu"

        rewrite(folder / "config.json", change)
    with pytest.raises(WeightsError, match=rf"wrong activation.*0\.\d% with {right}\..*remove .*probe.json"):
        load(folder)
    (folder / FILE).unlink()
    load(folder)


def test_a_preset_with_a_probe_is_checked(tmp_path, tiny, monkeypatch):
    path = models.training_checkpoint(tmp_path / "epoch_20.pt", models.openclip_model())
    probe = record_probe(load(path, architecture=tiny[1]))
    row = evolve(PRESETS["skyclip-vit-b-32"], probe=probe)
    monkeypatch.setitem(PRESETS, "skyclip-vit-b-32", evolve(row, architecture=tiny[0]))
    with pytest.raises(WeightsError, match=r"skyclip-vit-b-32 computes the wrong activation.*0\.\d% with QuickGELU"):
        load("skyclip-vit-b-32", weights=path)
    monkeypatch.setitem(PRESETS, "skyclip-vit-b-32", evolve(row, architecture=tiny[1], activation="quick_gelu"))
    load("skyclip-vit-b-32", weights=path)
    other = models.training_checkpoint(tmp_path / "other.pt", models.openclip_model(seed=1))
    with pytest.raises(WeightsError, match=r"other text vectors.*of another model"):
        load("skyclip-vit-b-32", weights=other)


def test_other_weights_are_found(saved):
    folder = saved("open_clip")
    file = folder / "open_clip_model.safetensors"
    state = load_file(file)
    save_file({**state, "visual.proj": torch.randn(state["visual.proj"].shape)}, file)
    with pytest.raises(WeightsError, match=r"another image vector.*text vectors are right"):
        load(folder)
    save_file({**state, "text_projection": torch.randn(state["text_projection"].shape)}, file)
    with pytest.raises(WeightsError, match="other text vectors"):
        load(folder)


def test_another_preprocessing_is_found(saved):
    folder = saved("open_clip")
    rewrite(folder / "open_clip_config.json", lambda config: config["preprocess_cfg"].update(mean=[0, 0, 1]))
    with pytest.raises(WeightsError, match="the preprocessing"):
        load(folder)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"texts": ["a"], "vectors": []}', '{"texts": ["a"], "vectors": [["x"]]}', "3"]
)
def test_a_file_that_is_no_probe(saved, content):
    folder = saved("open_clip")
    (folder / FILE).write_text(content)
    with pytest.raises(WeightsError, match=r"remove .*probe.json"):
        load(folder)


@pytest.mark.parametrize("change", [{"texts": ()}, {"vectors": ()}, {"vectors": ((), (), ())}])
def test_a_probe_without_numbers_is_refused(folders, change):
    with pytest.raises(UsageError):
        evolve(record_probe(load(folders["clip"])), **change)


def test_a_probe_of_another_length_of_vector(folders):
    probe = evolve(record_probe(load(folders["clip"])), vectors=[[0.1] * 100] * 3)
    with pytest.raises(WeightsError, match=r"24 numbers, and 100"):
        check_probe(load(folders["clip"]), probe)


def test_the_picture_of_a_probe_is_not_flat():
    pixels = np.asarray(probe_picture(64))
    assert pixels.shape == (64, 80, 3)
    assert pixels.std(axis=(0, 1)).min() > 30
    assert np.abs(pixels.astype(int) - np.asarray(picture(1, (80, 64)))).max() > 30
