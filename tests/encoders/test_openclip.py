"""Every form in which open_clip's weights come, through the public function, and every way to be wrong."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from geovlm.encoders import load_encoder
from geovlm.encoders._architectures import fitting
from geovlm.encoders.presets import PRESETS, Preset
from geovlm.errors import UnknownName, UsageError, WeightsError
from tests import models
from tests.models import picture

PICTURES = [picture(seed) for seed in range(3)]
TEXTS = ["a harbour", "a vineyard"]


@pytest.fixture(scope="module")
def model():
    return models.openclip_model()


@pytest.fixture(scope="module")
def expected(folders):
    """Vectors of the same weights, loaded from a folder; `test_torch` holds them against open_clip itself."""
    encoder = load_encoder(folders["open_clip"], device="cpu", dtype="float32")
    return encoder.encode_images(PICTURES), encoder.encode_texts(TEXTS)


def load(place, **arguments):
    return load_encoder(place, device="cpu", dtype="float32", **arguments)


def assert_same(encoder, expected):
    np.testing.assert_array_equal(encoder.encode_images(PICTURES), expected[0])
    np.testing.assert_array_equal(encoder.encode_texts(TEXTS), expected[1])


# --- files ---


def bare(path, model):
    torch.save(model.state_dict(), path)


def legacy(path, model):
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)


def compiled(path, model):
    torch.save({"state_dict": {f"_orig_mod.module.{k}": v for k, v in model.state_dict().items()}}, path)


def half(path, model):
    save_file({key: value.half() for key, value in model.state_dict().items()}, path)


@pytest.mark.parametrize(
    "written",
    [
        ("epoch_20.pt", models.training_checkpoint),
        ("model.pth", bare),
        ("model.bin", legacy),
        ("model.pt", compiled),
        ("model.safetensors", lambda path, model: save_file(model.state_dict(), path)),
        ("published.zip", partial(models.training_zip, folder="run")),
    ],
)
def test_a_checkpoint_in_every_form(tmp_path, tiny, model, expected, written):
    name, write = written
    write(tmp_path / name, model)
    assert_same(load(tmp_path / name, architecture=tiny[0]), expected)
    assert_same(load(f"openclip:{tiny[0]}", weights=tmp_path / name), expected)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_weights_in_half_precision_are_computed_in_the_precision_asked_for(tmp_path, tiny, model, expected):
    half(tmp_path / "half.safetensors", model)
    vectors = load(tmp_path / "half.safetensors", architecture=tiny[0]).encode_images(PICTURES)
    np.testing.assert_allclose(vectors, expected[0], atol=2e-3)


def test_open_clip_itself_loads_what_is_saved(tmp_path, tiny, model, expected):
    import open_clip

    models.training_checkpoint(tmp_path / "epoch_20.pt", model)
    load(tmp_path / "epoch_20.pt", architecture=tiny[1]).save(tmp_path / "saved")
    theirs, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'saved'}")
    assert "QuickGELU" in repr(theirs)
    again = load(tmp_path / "saved")
    with torch.no_grad():
        vectors = theirs.eval().encode_image(torch.stack([preprocess(one) for one in PICTURES]), normalize=True)
    np.testing.assert_allclose(again.encode_images(PICTURES), vectors.numpy(), atol=1e-5)
    assert np.abs(again.encode_images(PICTURES) - expected[0]).max() > 1e-3


def test_a_folder_carries_its_preprocessing_and_its_bias(tmp_path):
    cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.5, 0.5), "interpolation": "bilinear", "resize_mode": "longest"}
    encoder = load(models.openclip_folder(tmp_path / "model", preprocess=cfg, logit_bias=-10.0))
    assert encoder.logit_bias == -10
    encoder.save(tmp_path / "saved")
    for one in (encoder, load(tmp_path / "saved")):
        assert one.preprocessing.std == (0.25, 0.5, 0.5)
        assert (one.preprocessing.interpolation, one.preprocessing.resize_mode) == ("bilinear", "longest")


# --- the activation ---


def test_a_checkpoint_that_does_not_say_its_activation_is_not_guessed(tmp_path, tiny, model):
    models.training_checkpoint(tmp_path / "epoch_20.pt", model)
    with pytest.raises(WeightsError, match=r"Tiny-8 and Tiny-8-quickgelu.*started from OpenAI's weights need it"):
        load(tmp_path / "epoch_20.pt")
    assert fitting(model.state_dict()) == list(tiny)


def test_the_two_activations_give_other_vectors_and_other_fingerprints(tmp_path, tiny, model, expected):
    path = models.training_checkpoint(tmp_path / "epoch_20.pt", model)
    plain, quick = (load(path, architecture=name) for name in tiny)
    assert_same(plain, expected)
    assert np.abs(quick.encode_images(PICTURES) - expected[0]).max() > 1e-3
    assert plain.fingerprint != quick.fingerprint


def test_weights_of_no_plain_architecture_are_asked_for_without_names(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"open_clip.list_models"):
        load(tmp_path / "model.safetensors")


@pytest.fixture
def tiny_presets(tiny, monkeypatch):
    """Two presets as tables have them, for tiny models."""
    for name, architecture, activation, file in (
        ("tiny", tiny[0], "gelu", "Tiny_Published.zip"),
        ("tiny-quick", tiny[1], "quick_gelu", "Tiny_Quick.zip"),
    ):
        preset = Preset(
            architecture=architecture,
            activation=activation,
            url=f"http://localhost/{file}",
            licence="MIT",
            paper="0",
            trained_on="nothing",
        )
        monkeypatch.setitem(PRESETS, name, preset)


@pytest.mark.parametrize("place", ["Tiny_Quick.pt", "Tiny_Quick/epoch_20.pt", "Tiny_Quick.zip", "my.zip", "named.pt"])
def test_a_published_file_is_known_by_its_name(tmp_path, tiny_presets, model, place):
    path = tmp_path / place
    if place.endswith("zip"):
        models.training_zip(path, model, folder="Tiny_Quick" if place == "my.zip" else "run")
    else:
        models.training_checkpoint(path, model, name="Tiny_Quick" if place == "named.pt" else "run")
    encoder = load(path)
    assert "QuickGELU" in repr(encoder.model)
    assert load(path, architecture="Tiny-8-quickgelu").fingerprint == encoder.fingerprint
    with pytest.raises(WeightsError, match=r"weights of 'tiny-quick'.*'Tiny-8-quickgelu'"):
        load(path, architecture="Tiny-8")


def test_a_preset_knows_its_activation(tmp_path, tiny_presets, model, monkeypatch):
    from geovlm.encoders import openclip

    path = models.training_checkpoint(tmp_path / "epoch_20.pt", model)
    encoder = openclip.load_preset("tiny-quick", weights=path, device="cpu", dtype="float32")
    assert "QuickGELU" in repr(encoder.model)
    assert encoder.name == "tiny-quick"


# --- open_clip's own table ---


@pytest.fixture
def tags(tmp_path, tiny, model, monkeypatch):
    """Tags for the tiny architectures, as open_clip's table has them, with files instead of addresses."""
    from open_clip import pretrained

    path = tmp_path / "published.safetensors"
    save_file(model.state_dict(), path)
    usual = {
        "file": str(path),
        "mean": (0.4,) * 3,
        "std": (0.2,) * 3,
        "interpolation": "bilinear",
        "resize_mode": "squash",
    }
    quick = {**usual, "quick_gelu": True}
    monkeypatch.setitem(pretrained._PRETRAINED, "Tiny-8", {"openai": quick, "laion": usual})
    monkeypatch.setitem(pretrained._PRETRAINED, "Tiny-8-quickgelu", {"openai": quick})
    return path


def test_a_tag_brings_weights_and_preprocessing(tags):
    encoder = load("openclip:Tiny-8/laion")
    assert encoder.name == "openclip:Tiny-8/laion"
    assert encoder.preprocessing.mean == (0.4,) * 3
    assert encoder.preprocessing.resize_mode == "squash"


def test_a_tag_under_the_wrong_activation_is_refused(tags):
    with pytest.raises(WeightsError, match=r"QuickGELU.*'openclip:Tiny-8-quickgelu/openai'"):
        load("openclip:Tiny-8/openai")
    assert "QuickGELU" in repr(load("openclip:Tiny-8-quickgelu/openai").model)
    with pytest.raises(WeightsError, match=r"'openclip:ViT-B-32-quickgelu/openai'"):
        load("openclip:ViT-B-32/openai")


def test_local_weights_take_the_preprocessing_that_all_published_ones_share(tags, tiny):
    assert load(tags, architecture="Tiny-8").preprocessing.mean == (0.4,) * 3


def test_names_that_open_clip_does_not_know(tags):
    with pytest.raises(UnknownName, match="Did you mean laion"):
        load("openclip:Tiny-8/lain")
    with pytest.raises(UnknownName, match="Tiny-8"):
        load("openclip:Tiny8/laion")
    with pytest.raises(UsageError, match="as in 'openclip:Tiny-8/laion'"):
        load("openclip:Tiny-8")
    with pytest.raises(UsageError, match="not both"):
        load("openclip:Tiny-8/laion", weights=tags)
    with pytest.raises(UnknownName, match="ViT-L-14"):
        load(tags, architecture="ViT-L14")


def test_offline_the_message_says_how_to_go_on():
    with pytest.raises(WeightsError, match=r"load_encoder\('openclip:ViT-B-32', weights="):
        load("openclip:ViT-B-32/laion2b_s34b_b79k")
    with pytest.raises(WeightsError, match="give the folder"):
        load("hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K")


def test_a_hub_model_in_the_cache(tmp_path, folders, expected, monkeypatch):
    """The layout of huggingface_hub's cache, as a download leaves it."""
    from huggingface_hub import constants

    cache = tmp_path / "models--org--tiny"
    shutil.copytree(folders["open_clip"], cache / "snapshots" / "abc")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    encoder = load("hf-hub:org/tiny")
    assert_same(encoder, expected)
    assert encoder.name == "hf-hub:org/tiny"


# --- files that are wrong ---


def damaged(state, change):
    state = dict(state)
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("text_projection"), "missing: text_projection"),
        (lambda state: state.update(extra=torch.zeros(1)), "left over: extra"),
        (lambda state: state.update(logit_scale=torch.zeros(2)), "logit_scale is 2 in the file and a single number in"),
        (lambda state: [state.pop(key) for key in list(state)[:9]], "and 6 more"),
    ],
)
def test_weights_that_do_not_fit_are_listed(tmp_path, tiny, model, change, words):
    torch.save(damaged(model.state_dict(), change), tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=words):
        load(tmp_path / "model.pt", architecture=tiny[0])


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def test_code_in_a_checkpoint_is_not_run(tmp_path, tiny):
    marker = tmp_path / "ran"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "args": Bomb(marker)}, tmp_path / "model.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb(marker)))
    for name in ("model.pt", "plain.pt"):
        with pytest.raises(WeightsError, match="never unpickled"):
            load(tmp_path / name, architecture=tiny[0])
    assert not marker.exists()


def test_torchscript_is_not_run(tmp_path, tiny):
    torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1)).save(tmp_path / "ViT-B-32.pt")
    with pytest.raises(WeightsError, match="TorchScript"):
        load(tmp_path / "ViT-B-32.pt", architecture=tiny[0])


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".zip", ".bin"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 half a zip"])
def test_damaged_files_are_weights_errors(tmp_path, tiny, suffix, content):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="model"):
        load(path, architecture=tiny[0])


def test_a_truncated_checkpoint_is_a_weights_error(tmp_path, tiny, model):
    path = models.training_checkpoint(tmp_path / "epoch_20.pt", model)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(WeightsError, match="damaged"):
        load(path, architecture=tiny[0])


@pytest.mark.parametrize(
    "content", [{}, {"state_dict": {}}, {"epoch": 3, "name": "x"}, [torch.zeros(1)], torch.zeros(1)]
)
def test_files_without_weights_by_name(tmp_path, tiny, content):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match="weights by name"):
        load(tmp_path / "model.pt", architecture=tiny[0])


def test_a_zip_cannot_write_outside_its_place(tmp_path, tiny, model, expected):
    checkpoint = models.training_checkpoint(tmp_path / "epoch_20.pt", model)
    inside = tmp_path / "inside"
    inside.mkdir()
    for name in ("../../evil.pt", str(tmp_path / "evil.pt")):
        with zipfile.ZipFile(inside / "model.zip", "w") as archive:
            archive.writestr(zipfile.ZipInfo(name), checkpoint.read_bytes())
        assert_same(load(inside / "model.zip", architecture=tiny[0]), expected)
    assert not list(tmp_path.rglob("evil.pt"))
    assert not list(tmp_path.parent.glob("evil.pt"))


def test_a_zip_with_several_files_of_weights_is_asked_to_be_unpacked(tmp_path, tiny):
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        for name in ("a/epoch_19.pt", "a/epoch_20.pt"):
            archive.writestr(name, b"")
    with pytest.raises(WeightsError, match=r"epoch_19.pt, a/epoch_20.pt"):
        load(tmp_path / "model.zip", architecture=tiny[0])


def test_folders_that_are_incomplete(tmp_path, folders):
    folder = tmp_path / "model"
    shutil.copytree(folders["open_clip"], folder)
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(WeightsError, match="no weights"):
        load(folder)
    (folder / "open_clip_config.json").write_text('{"model": 3}')
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match="not a configuration of open_clip"):
        load(folder)
