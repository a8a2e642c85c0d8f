"""Folders of transformers: what they say of themselves, what is missing from them, and their tokenizers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from geovlm.encoders import load_encoder
from geovlm.errors import UsageError, WeightsError
from tests import models
from tests.models import DIM, IMAGE_SIZE, picture


def load(place):
    return load_encoder(place, device="cpu", dtype="float32")


@pytest.fixture
def copy_of(folders, tmp_path):
    def copy(kind):
        shutil.copytree(folders[kind], tmp_path / "model")
        return tmp_path / "model"

    return copy


def rewrite(path, **changes):
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps(content))


def test_what_a_clip_folder_says_of_itself(folders):
    encoder = load(folders["clip"])
    assert (encoder.dim, encoder.image_size, encoder.logit_bias) == (DIM, IMAGE_SIZE, None)
    assert encoder.logit_scale == pytest.approx(models.clip_model().logit_scale.exp().item(), rel=1e-6)
    assert (encoder.preprocessing.resize_mode, encoder.preprocessing.crop) == ("shortest", "floor")


def test_what_a_siglip_folder_says_of_itself(folders):
    encoder = load(folders["siglip"])
    assert (encoder.dim, encoder.logit_bias) == (DIM, -10)
    assert encoder.logit_scale == pytest.approx(10, rel=1e-6)
    assert (encoder.preprocessing.resize_mode, encoder.preprocessing.mean) == ("squash", (0.5, 0.5, 0.5))


def test_siglip_texts_fill_the_context_and_clip_texts_do_not(folders):
    texts = ["a harbour", "b"]
    assert load(folders["siglip"]).tokenize(texts)["input_ids"].shape == (2, 16)
    assert load(folders["clip"]).tokenize(texts)["input_ids"].shape == (2, 4)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("size", [(48, 40), (33, 90), (70, 70), (20, 15)])
def test_pixels_are_almost_those_of_the_usual_processor(folders, kind, size):
    from transformers import AutoProcessor

    encoder = load(folders[kind])
    processor = AutoProcessor.from_pretrained(folders[kind])
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    theirs = processor(images=image, return_tensors="pt")["pixel_values"][0]
    mine = encoder.normalize_pixels(torch.from_numpy(encoder.preprocess(image)[None]))[0]
    levels = (theirs - mine).abs() * torch.tensor(encoder.preprocessing.std)[:, None, None] * 255
    # It resizes in torch, which weighs a few pixels otherwise; test_preprocessing meets the one on Pillow exactly.
    assert levels.mean() < 0.6
    assert (levels > 1.01).float().mean() < 0.05


def test_a_model_of_another_kind_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "blip"}')
    with pytest.raises(UsageError, match="type 'blip'; clip and siglip are supported"):
        load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "siglip2"}')
    with pytest.raises(UsageError, match="google/siglip2-base-patch16-224"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="not valid JSON"):
        load(tmp_path)


def test_missing_weights_are_not_filled_with_random_numbers(copy_of):
    folder = copy_of("clip")
    state = load_file(folder / "model.safetensors")
    del state["visual_projection.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"missing: visual_projection.weight"):
        load(folder)


def test_weights_left_over_are_an_error(copy_of):
    folder = copy_of("siglip")
    state = load_file(folder / "model.safetensors")
    save_file({**state, "adapter.weight": torch.zeros(1)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"left over: adapter.weight"):
        load(folder)


def test_weights_of_another_shape_are_an_error(copy_of):
    folder = copy_of("clip")
    state = load_file(folder / "model.safetensors")
    state["visual_projection.weight"] = torch.zeros(3, 3)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"visual_projection|mismatch"):
        load(folder)


def test_a_folder_without_weights_or_without_a_processor(copy_of):
    folder = copy_of("clip")
    (folder / "processor_config.json").rename(folder / "aside.json")
    with pytest.raises(WeightsError, match="no processor"):
        load(folder)
    (folder / "aside.json").rename(folder / "processor_config.json")
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="could not be loaded"):
        load(folder)


def test_pictures_prepared_in_an_unusual_way_are_refused(tmp_path):
    from transformers import CLIPImageProcessor, CLIPProcessor

    models.clip_model().save_pretrained(tmp_path)
    images = CLIPImageProcessor(size={"shortest_edge": 40}, crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    CLIPProcessor(image_processor=images, tokenizer=models.clip_tokenizer()).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="not supported"):
        load(tmp_path)


def test_the_activation_is_part_of_the_fingerprint(copy_of, folders):
    folder = copy_of("clip")
    config = json.loads((folder / "config.json").read_text())
    rewrite(folder / "config.json", vision_config={**config["vision_config"], "hidden_act": "gelu"})
    assert load(folder).fingerprint != load(folders["clip"]).fingerprint


def test_loading_is_quiet(folders, capfd, monkeypatch):
    monkeypatch.setenv("GEOVLM_PROGRESS", "0")
    load(folders["clip"]).encode_images([picture(0)])
    assert capfd.readouterr().out == ""


def test_offline_the_message_says_how_to_go_on():
    with pytest.raises(WeightsError, match="give the folder"):
        load("hf:openai/clip-vit-base-patch32")


def test_a_hub_model_in_the_cache(tmp_path, folders, monkeypatch):
    """The layout of huggingface_hub's cache, as a download leaves it."""
    from huggingface_hub import constants

    cache = tmp_path / "models--org--tiny"
    shutil.copytree(folders["clip"], cache / "snapshots" / "abc")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    encoder = load("hf:org/tiny")
    assert encoder.name == "hf:org/tiny"
    assert encoder.fingerprint == load(folders["clip"]).fingerprint


# --- SigLIP's first tokenizer, which needs sentencepiece ---


@pytest.fixture
def first_siglip(copy_of):
    """A folder as google/siglip-base-patch16-224 is: a sentencepiece model, and a tokenizer that cleans the text."""
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = copy_of("siglip")
    text = folder.parent / "text"
    text.write_text("\n".join(f"a scene of a {word} by the sea" for word in ("harbour", "vineyard", "river", "roof")))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "spiece"),
        vocab_size=60,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "spiece.vocab").unlink()
    (folder / "tokenizer.json").unlink()
    settings = {"tokenizer_class": "SiglipTokenizer", "model_max_length": 16, "model_input_names": ["input_ids"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def test_the_first_siglip_reads_text_without_case_and_punctuation(first_siglip, tmp_path):
    encoder = load(first_siglip)
    left, right = encoder.encode_texts(["A harbour, by the sea!", "a harbour by the sea"])
    np.testing.assert_array_equal(left, right)
    encoder.save(tmp_path / "saved")
    again = load(tmp_path / "saved").encode_texts(["a harbour by the sea"])[0]
    np.testing.assert_allclose(again, right, atol=1e-6)


WITHOUT = """
import sys
sys.modules["sentencepiece"] = None
from geovlm.encoders import load_encoder
from geovlm.errors import MissingExtra
for folder in sys.argv[1:]:
    try:
        load_encoder(folder)
    except MissingExtra as error:
        assert "sentencepiece is needed" in str(error), error
    else:
        raise AssertionError(folder)
"""


def test_without_sentencepiece_no_other_tokenizer_takes_its_place(folders, tmp_path):
    for kept in ("tokenizer.json", "spiece.model"):
        shutil.copytree(folders["siglip"], tmp_path / kept)
        rewrite(tmp_path / kept / "tokenizer_config.json", tokenizer_class="SiglipTokenizer")
    (tmp_path / "spiece.model" / "tokenizer.json").rename(tmp_path / "spiece.model" / "spiece.model")
    command = [sys.executable, "-c", WITHOUT, *map(str, tmp_path.iterdir())]
    subprocess.run(command, check=True, timeout=200)
