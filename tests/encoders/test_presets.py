"""The table of published models: right against open_clip's own, and every format that it names can be loaded."""

from __future__ import annotations

import json
import re
import shutil
import zipfile

import numpy as np
import open_clip
import pytest
import torch
from attrs import evolve
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from safetensors.torch import save_file

from geovlm.encoders import load_encoder
from geovlm.encoders._preset import CLIP_MEAN, CLIP_STD, HUB
from geovlm.encoders.presets import PRESETS, presets_table
from geovlm.errors import UsageError, WeightsError
from geovlm.prompts import TEMPLATES
from tests import models
from tests.models import DIM, picture

OPEN_CLIP = {name: preset for name, preset in PRESETS.items() if preset.format != "transformers"}
TAGGED = {name: preset for name, preset in PRESETS.items() if preset.tag is not None}
FILES = {name: preset for name, preset in PRESETS.items() if preset.format == "checkpoint"}


@pytest.mark.parametrize("name", PRESETS)
def test_every_row_is_complete(name):
    preset = PRESETS[name]
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    assert preset.url.startswith("https://")
    assert preset.templates in TEMPLATES
    assert preset.licence
    assert re.fullmatch(r"\d{4}\.\d{5}|", preset.paper)
    assert bool(preset.scores) == bool(preset.scores_from)
    assert all(0 < score < 100 for score in preset.scores.values())
    assert preset.gsd is None or 0 < preset.gsd[0] < preset.gsd[1]
    assert preset.sha256 is None or re.fullmatch("[0-9a-f]{64}", preset.sha256)
    assert (preset.format == "open_clip") == (preset.tag is not None)


@pytest.mark.parametrize("name", OPEN_CLIP)
def test_open_clip_knows_the_architecture_and_its_activation(name):
    preset = OPEN_CLIP[name]
    config = open_clip.get_model_config(preset.architecture)
    assert bool(config.get("quick_gelu")) == (preset.activation == "quick_gelu")
    is_tanh = config["text_cfg"].get("act_kwargs", {}).get("approximate") == "tanh"
    assert is_tanh == (preset.activation == "gelu_tanh")
    assert config["vision_cfg"]["image_size"] == preset.image_size


@pytest.mark.parametrize("name", TAGGED)
def test_open_clip_says_the_same_of_its_tags(name):
    preset = TAGGED[name]
    assert preset.tag in list_pretrained_tags_by_model(preset.architecture)
    published = get_pretrained_cfg(preset.architecture, preset.tag)
    assert preset.url == HUB + published["hf_hub"].rstrip("/")
    assert preset.preprocess == {key: published[key] for key in preset.preprocess}
    assert bool(published.get("quick_gelu")) == (preset.activation == "quick_gelu")


def test_files_of_weights_are_told_apart_by_their_names_and_take_clips_preprocessing():
    assert len({preset.stem for preset in FILES.values()}) == len(FILES)
    for preset in FILES.values():
        assert (preset.mean, preset.std, preset.resize_mode) == (CLIP_MEAN, CLIP_STD, "shortest")
        assert not preset.stem.endswith((".pt", ".zip"))


def test_the_issue_has_its_models():
    families = {name.split("-")[0] for name in PRESETS}
    assert families >= {"skyclip", "remoteclip", "georsclip", "farslip", "git", "openai", "datacomp", "dfn", "siglip2"}


def test_a_row_that_contradicts_itself_is_refused():
    for change in ({"activation": "gelu"}, {"activation": "relu"}, {"format": "pickle"}):
        with pytest.raises(UsageError):
            evolve(PRESETS["skyclip-vit-l-14"], **change)


def test_the_table_has_a_row_for_each():
    table = presets_table()
    assert list(table.index) == list(PRESETS)
    assert table.loc["skyclip-vit-l-14-top30", "EuroSAT"] == 52.44
    assert table.loc["skyclip-vit-b-32", "GSD (m)"] == "0.1 to 30"
    assert np.isnan(table.loc["siglip2-vit-b-16", "AID"])


@pytest.mark.parametrize(
    ("name", "file"), [("openai-vit-b-32", "CLIP_ViT-B-32"), ("skyclip-vit-b-32", "SkyCLIP50_ViT-B-32")]
)
def test_probes_are_what_was_published(shared_data, name, file):
    with np.load(shared_data / f"clip_reference_embeddings/whu_rs19__{file}.npz", allow_pickle=False) as published:
        prompts, classes = published["prompts"].tolist(), published["class_names"].tolist()
        vectors = published["text_embeddings"].astype(float)
    probe = PRESETS[name].probe
    for text, known in zip(probe.texts, probe.vectors, strict=True):
        prompt, label = text.removesuffix(".").rsplit(" ", 1)
        vector = vectors[prompts.index(prompt), classes.index(label)]
        np.testing.assert_allclose(vector[::32] / np.linalg.norm(vector), known, atol=6e-5)


# --- every format, through the preset's own path ---


def load(name, weights):
    return load_encoder(name, weights=weights, device="cpu", dtype="float32")


@pytest.fixture
def shrunk(tiny, monkeypatch):
    """A preset with a tiny architecture in the place of its own, of the same activation."""

    def shrink(name, **changes):
        architecture = tiny[PRESETS[name].activation == "quick_gelu"]
        monkeypatch.setitem(PRESETS, name, evolve(PRESETS[name], architecture=architecture, probe=None, **changes))
        return name

    return shrink


def assert_works(encoder, name, dim=DIM):
    assert encoder.name == name
    assert encoder.encode_images([picture(1)]).shape == encoder.encode_texts(["a river"]).shape == (1, dim)


@pytest.mark.parametrize("name", [name for name in PRESETS if "sky" in name or "laion-rs" in name])
def test_skyclips_training_checkpoints_in_zips(tmp_path, shrunk, name):
    preset = PRESETS[shrunk(name)]
    path = models.training_zip(tmp_path / f"{preset.stem}.zip", models.openclip_model(), folder=preset.stem)
    encoder = load(name, path)
    assert_works(encoder, name)
    assert ("QuickGELU" in repr(encoder.model)) == (preset.activation == "quick_gelu")
    assert load_encoder(path, device="cpu", dtype="float32").fingerprint == encoder.fingerprint


@pytest.mark.parametrize("name", [name for name in FILES if "remoteclip-vit" in name or "georsclip" in name])
def test_bare_weights(tmp_path, shrunk, name):
    path = tmp_path / f"{PRESETS[shrunk(name)].stem}.pt"
    torch.save(models.openclip_model().state_dict(), path)
    assert_works(load(name, path), name)
    assert_works(load_encoder(path, device="cpu", dtype="float32"), str(path))


def test_a_resnet(tmp_path, monkeypatch):
    config = models.openclip_config(quick_gelu=True)
    config["vision_cfg"] = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    path = tmp_path / "Tiny-RN-quickgelu.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    torch.save(open_clip.CLIP(**config).state_dict(), tmp_path / "RemoteCLIP-RN50.pt")
    preset = evolve(PRESETS["remoteclip-rn50"], architecture="Tiny-RN-quickgelu", image_size=64)
    monkeypatch.setitem(PRESETS, "remoteclip-rn50", preset)
    assert_works(load("remoteclip-rn50", tmp_path / "RemoteCLIP-RN50.pt"), "remoteclip-rn50")


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("farslip")])
def test_farslip_with_and_without_the_text_tower_of_long_clip(tmp_path, shrunk, name):
    model = models.openclip_model()
    path = models.training_checkpoint(tmp_path / f"{PRESETS[shrunk(name)].stem}.pt", model)
    short = load(name, path)
    assert_works(short, name)
    content = torch.load(path, weights_only=True)
    table = content["state_dict"].pop("module.positional_embedding")
    first, others = torch.zeros(248, 32), torch.zeros(248, 32)
    first[:20], others[20:77] = table[:20], table[20:]
    content["state_dict"] |= {"module.positional_embedding": first, "module.positional_embedding_res": others}
    torch.save(content, path)
    long = load(name, path)
    np.testing.assert_allclose(long.encode_texts(["a quay"]), short.encode_texts(["a quay"]), atol=1e-6)
    much = "a river and " * 60
    assert np.abs(long.encode_texts([much]) - long.encode_texts([much + "a quay"])).max() > 1e-4
    np.testing.assert_array_equal(*(short.encode_texts([text]) for text in (much, much + "a quay")))


@pytest.mark.parametrize("name", ["openai-vit-b-32", "datacomp-vit-b-32", "dfn-vit-h-14", "laion-vit-l-14"])
def test_models_in_the_format_of_open_clip(tmp_path, folders, shrunk, name):
    preset = PRESETS[shrunk(name)]
    encoder = load(name, folders["open_clip"])
    assert_works(encoder, name)
    assert encoder.preprocessing.mean == preset.mean
    assert encoder.preprocessing.resize_mode == preset.resize_mode
    torch.save(models.openclip_model().state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    assert load(name, tmp_path / "open_clip_pytorch_model.bin").fingerprint == encoder.fingerprint
    assert load(name, tmp_path).fingerprint == encoder.fingerprint
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="holds no weights"):
        load(name, tmp_path / "empty")


def test_siglip_2(tmp_path, monkeypatch):
    """As open_clip has it: timm's image tower, a text tower without a mask, a tokenizer of its own, a bias."""
    config = {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": "none"},
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 400,
            "hf_tokenizer_name": str(tmp_path / "weights"),
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "width": 64,
            "heads": 2,
            "layers": 1,
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
            "act_kwargs": {"approximate": "tanh"},
        },
    }
    (tmp_path / "Tiny-SigLIP2.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "Tiny-SigLIP2.json")
    built = {key: value for key, value in config.items() if key != "custom_text"}
    models.siglip_tokenizer().save_pretrained(tmp_path / "weights")
    save_file(open_clip.CustomTextCLIP(**built).state_dict(), tmp_path / "weights/open_clip_model.safetensors")
    preset = evolve(PRESETS["siglip2-vit-b-16-256"], architecture="Tiny-SigLIP2", image_size=160)
    monkeypatch.setitem(PRESETS, "siglip2-vit-b-16-256", preset)
    encoder = load("siglip2-vit-b-16-256", tmp_path / "weights")
    assert_works(encoder, "siglip2-vit-b-16-256", dim=64)
    assert encoder.logit_bias == -10
    assert encoder.preprocessing.mean == (0.5,) * 3
    assert encoder.preprocessing.resize_mode == "squash"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("clip-rsicd-vit-b-32", "clip"), ("git-rsclip-vit-b-16", "siglip"), ("git-rsclip-vit-l-16", "siglip")],
)
def test_models_of_transformers(tmp_path, folders, name, kind):
    assert_works(load(name, folders[kind]), name)
    folder = shutil.copytree(folders[kind], tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["hidden_act"] = "gelu"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"wrong activation: its config.json says 'gelu'"):
        load(name, folder)
    with pytest.raises(UsageError, match="weights is the folder of a copy"):
        load(name, folder / "model.safetensors")


def test_old_weights_of_transformers_with_positions(tmp_path, folders):
    """As clip-rsicd has them: a pickled file of weights, with positions that models no longer keep."""
    folder = shutil.copytree(folders["clip"], tmp_path / "model")
    (folder / "model.safetensors").unlink()
    state = models.clip_model().state_dict()
    state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    state["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    torch.save(state, folder / "pytorch_model.bin")
    assert_works(load("clip-rsicd-vit-b-32", folder), "clip-rsicd-vit-b-32")


class Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


@pytest.mark.parametrize(
    ("name", "file", "words"),
    [
        ("remoteclip-vit-b-32", "RemoteCLIP-ViT-B-32.pt", "never unpickled"),
        ("skyclip-vit-b-32", "SkyCLIP_ViT_B32_top50pct.zip", "never unpickled"),
        ("laion-vit-b-32", "open_clip_pytorch_model.bin", "never unpickled"),
        ("clip-rsicd-vit-b-32", "pytorch_model.bin", "could not be loaded"),
    ],
)
def test_code_in_the_weights_of_a_preset_is_refused_and_never_run(tmp_path, folders, name, file, words):
    marker = tmp_path / "ran"
    content = {"weight": torch.zeros(1), "args": Bomb(marker)}
    place = tmp_path / file
    if name.startswith("clip-rsicd"):
        place = shutil.copytree(folders["clip"], tmp_path / "model")
        (place / "model.safetensors").unlink()
        torch.save(content, place / file)
    else:
        torch.save(content, tmp_path / "inner.pt")
        (tmp_path / "inner.pt").rename(place)
    if file.endswith("zip"):
        place.rename(tmp_path / "inner.pt")
        with zipfile.ZipFile(place, "w") as archive:
            archive.write(tmp_path / "inner.pt", "run/epoch_20.pt")
    with pytest.raises(WeightsError, match=words):
        load(name, place)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("ln_final.weight"), "missing: ln_final.weight"),
        (lambda state: state.update({"teacher.weight": torch.zeros(1)}), "left over: teacher.weight"),
        (lambda state: state.update(text_projection=torch.zeros(32, 9)), "text_projection is 32x9 in the file"),
    ],
)
def test_weights_that_do_not_fit_a_preset(tmp_path, shrunk, change, words):
    state = models.openclip_model().state_dict()
    change(state)
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=words):
        load(shrunk("georsclip-vit-b-32"), tmp_path / "model.pt")
