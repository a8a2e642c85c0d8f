"""What a name or a path can mean, and what is said when it means nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
import torch
from safetensors.torch import save_file

from geovlm import registry
from geovlm.encoders import ENCODERS, load_encoder
from geovlm.encoders.presets import PRESETS
from geovlm.errors import UnknownName, UsageError, WeightsError
from geovlm.testing import HashEncoder


def test_a_misspelt_preset_is_met_with_the_nearest():
    with pytest.raises(UnknownName, match="skyclip-vit-l-14"):
        load_encoder("skyclip-vit-l14")


def test_every_preset_is_a_name():
    assert set(PRESETS) <= set(ENCODERS)


@pytest.mark.parametrize("place", ["folder/that/is/not/here", "missing.pt", "./skyclip-vit-b-32", "~/nothing.zip"])
def test_a_path_that_does_not_exist_is_said_to(place):
    with pytest.raises(UsageError, match="There is no file or folder"):
        load_encoder(place)


def test_what_looks_like_a_hub_id_is_explained():
    with pytest.raises(UsageError, match="'hf:openai/clip-vit-base-patch32'"):
        load_encoder("openai/clip-vit-base-patch32")


def test_a_folder_of_something_else_says_what_is_in_it(tmp_path):
    with pytest.raises(UsageError, match="only nothing"):
        load_encoder(tmp_path)
    (tmp_path / "scene.jpg").touch()
    with pytest.raises(UsageError, match=r"only scene.jpg"):
        load_encoder(str(tmp_path))


def test_a_folder_in_the_working_directory(folders, monkeypatch):
    monkeypatch.chdir(folders["siglip"].parent)
    assert load_encoder("siglip").fingerprint == load_encoder(folders["siglip"]).fingerprint


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("skyclip-vit-b-32", {"architecture": "ViT-B-32"}),
        ("hf:org/name", {"weights": "model.pt"}),
        ("hf-hub:org/name", {"architecture": "ViT-B-32"}),
        ("openclip:ViT-B-32/openai", {"architecture": "ViT-B-32"}),
    ],
)
def test_arguments_that_do_not_go_with_the_name_are_not_ignored(name, arguments):
    with pytest.raises(UsageError, match="does not go with this name"):
        load_encoder(name, **arguments)


def test_a_folder_takes_neither_weights_nor_architecture(folders):
    for arguments in ({"weights": "model.pt"}, {"architecture": "ViT-B-32"}):
        with pytest.raises(UsageError, match="does not go with this name"):
            load_encoder(folders["clip"], **arguments)


def test_weights_that_are_not_there():
    with pytest.raises(UsageError, match="no file"):
        load_encoder("skyclip-vit-b-32", weights="epoch_20.pt")


def make_encoder(name, *, weights, device, dtype):
    return HashEncoder(dim=8)


def test_another_package_can_add_names(monkeypatch):
    point = EntryPoint("their-encoder", f"{__name__}:make_encoder", "geovlm.encoders")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == point.group else [])
    monkeypatch.setattr(ENCODERS, "_plugins", None)
    assert load_encoder("their-encoder").dim == 8


def test_naming_an_encoder_imports_no_torch():
    code = "import sys, geovlm.encoders; assert not {'torch', 'open_clip', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_torch_the_message_names_the_extra(folders):
    code = """
import sys
sys.modules["torch"] = None
from geovlm.encoders import load_encoder
from geovlm.errors import MissingExtra
for place, extra in (("skyclip-vit-b-32", "openclip"), (sys.argv[1], "transformers"), ("hf-hub:a/b", "openclip")):
    try:
        load_encoder(place)
    except MissingExtra as error:
        assert f"geovlm[{extra}]" in str(error), error
    else:
        raise AssertionError(place)
"""
    subprocess.run([sys.executable, "-c", code, str(folders["clip"])], check=True)


def test_a_saved_folder_with_an_image_tower_that_timm_does_not_know(tmp_path):
    vision = {"timm_model_name": "resnet_of_tomorrow", "image_size": 32}
    text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    config = {"model_cfg": {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file({"logit_scale": torch.zeros(1)}, tmp_path / "open_clip_model.safetensors")
    with pytest.raises(WeightsError, match="resnet_of_tomorrow"):
        load_encoder(tmp_path)
