"""Real BLIP and BLIP-2 models, tiny and random, against the library's own documented use."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from PIL import Image

from geovlm.captioners import CAPTIONERS, load_captioner
from geovlm.captioners.blip import BlipCaptioner, GenerationOptions
from geovlm.captioners.presets import PRESETS
from geovlm.errors import MissingExtra, UnknownName, UsageError, WeightsError
from geovlm.protocols import Captioner
from geovlm.records import Record
from tests.blip_models import one_thread, save_blip, save_blip2

KINDS = ["blip", "opt", "t5", "opt-old", "t5-old"]
GREEDY = GenerationOptions(max_new_tokens=8)
BEAMS = GenerationOptions(max_new_tokens=8, num_beams=3, num_captions=2, prompt="a picture of")
SAMPLING = GenerationOptions(max_new_tokens=8, do_sample=True, temperature=1.5, top_p=0.9, num_captions=3)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    folders = {"blip": save_blip(root / "blip")}
    for kind in KINDS[1:]:
        model, _, age = kind.partition("-")
        folders[kind] = save_blip2(root / kind, language_model=model, old_format=bool(age))
    return folders


@pytest.fixture(scope="module")
def images():
    """Noise of several sizes, down to one pixel, and of forms that confuse guesses at the channel axis."""
    random = np.random.default_rng(0)
    sizes = [(40, 50), (33, 20), (64, 64), (1, 1), (3, 2), (1, 3), (3, 3), (5, 700)]
    return [Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def records(images):
    return [Record(id=str(number)) for number in range(len(images))]


def load(folder, options=GREEDY):
    return load_captioner(folder, device="cpu", dtype="float32", options=options)


def reference(folder, images, prompt):
    """What the model cards say: the processor makes the inputs, `batch_decode` the text."""
    config = json.loads((folder / "config.json").read_text())
    kind = "BlipForConditionalGeneration" if config["model_type"] == "blip" else "Blip2ForConditionalGeneration"
    model = getattr(transformers, kind).from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    inputs = processor(images=images, text=[prompt] * len(images), return_tensors="pt")
    tokens = model.generate(**inputs, max_new_tokens=8)
    texts = processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return [" ".join(text.removeprefix(prompt).split()) for text in texts]


@pytest.mark.parametrize("prompt", ["", "a picture of"])
@pytest.mark.parametrize("kind", ["blip", "opt", "t5"])
def test_same_captions_as_the_documented_use(folders, images, kind, prompt):
    captioner = load(folders[kind], GenerationOptions(max_new_tokens=8, prompt=prompt))
    captions = captioner.caption(records(images), images)
    assert ["".join(group) for group in captions] == reference(folders[kind], images, prompt)
    assert len(set(captions)) > 2, "the model does not look at the images"


@pytest.mark.parametrize("kind", ["opt", "t5"])
def test_checkpoints_from_before_image_tokens_say_the_same(folders, images, kind):
    new, old = load(folders[kind]), load(folders[f"{kind}-old"])
    assert old.caption(records(images), images) == new.caption(records(images), images)


@pytest.mark.parametrize("options", [GREEDY, BEAMS], ids=["greedy", "beams"])
@pytest.mark.parametrize("kind", KINDS[:3])
def test_captions_do_not_depend_on_the_batch(folders, images, kind, options):
    captioner = load(folders[kind], options)
    alone = [captioner.caption([r], [i])[0] for r, i in zip(records(images), images, strict=True)]
    assert captioner.caption(records(images), images) == alone


@pytest.mark.parametrize("kind", KINDS[:3])
def test_sampling_is_seeded_by_the_first_id_and_leaves_torch_alone(folders, images, kind):
    captioner = load(folders[kind], SAMPLING)
    torch.manual_seed(1)
    first = captioner.caption(records(images), images)
    drawn = torch.rand(2)
    torch.manual_seed(2)
    assert captioner.caption(records(images), images) == first
    others = [Record(id=f"other {number}") for number in range(len(images))]
    assert captioner.caption(others, images) != first
    torch.manual_seed(1)
    assert torch.equal(torch.rand(2), drawn)
    assert any(len(group) > 1 for group in first)


def test_captions_are_clean(folders, images):
    for kind in KINDS:
        for options in (BEAMS, SAMPLING):
            for group in load(folders[kind], options).caption(records(images), images):
                assert len(set(group)) == len(group) <= options.num_captions
                for text in group:
                    assert text
                    assert text == " ".join(text.split())
                    assert not text.startswith("a picture of")
                    assert not any(mark in text for mark in ("[SEP]", "[DEC]", "</s>", "<pad>", "<image>"))


def test_an_empty_answer_is_no_caption(folders, images):
    captioner = load(folders["blip"])
    head = captioner._model.text_decoder.cls.predictions.decoder
    head.bias.data[3] = 1e6  # [SEP] at once
    assert captioner.caption(records(images), images) == [()] * len(images)
    assert captioner.caption([], []) == []


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", KINDS[:3])
def test_half_precision_runs(folders, images, kind, dtype):
    captioner = load_captioner(folders[kind], device="cpu", dtype=dtype, options=BEAMS)
    assert len(captioner.caption(records(images), images)) == len(images)
    assert dtype in repr(captioner)


def test_is_a_captioner_with_the_size_of_its_model(folders):
    captioner = load(str(folders["blip"]))
    assert isinstance(captioner, Captioner)
    assert captioner.image_size == 32


def test_fingerprint(folders, tmp_path):
    blip = load(folders["blip"])
    copy = shutil.copytree(folders["blip"], tmp_path / "copy")
    assert load(copy).fingerprint == blip.fingerprint, "the place does not matter"
    others = [
        load(folders["blip"], BEAMS),
        load(folders["blip"], GenerationOptions(max_new_tokens=8, seed=1)),
        load_captioner(folders["blip"], dtype="bfloat16", device="cpu", options=GREEDY),
        load(save_blip(tmp_path / "retrained", seed=1)),
        load(_edited(copy, "config.json", ("vision_config", "num_attention_heads"), 4)),
        load(_edited(folders["blip"], "processor_config.json", ("image_processor", "image_mean"), [0.5] * 3, tmp_path)),
    ]
    assert len({blip.fingerprint, *(other.fingerprint for other in others)}) == 1 + len(others)


def _edited(folder, file, keys, value, into=None):
    folder = shutil.copytree(folder, into / "edited") if into else folder
    path = folder / file
    content = json.loads(path.read_text())
    place = content
    for key in keys[:-1]:
        place = place[key]
    assert keys[-1] in place
    place[keys[-1]] = value
    path.write_text(json.dumps(content))
    return folder


def test_quiet(folders, images, tmp_path, capfd):
    """Old configurations say `max_length`, which transformers warns about at every call."""
    folder = shutil.copytree(folders["blip"], tmp_path / "m")
    generation = folder / "generation_config.json"
    generation.write_text(json.dumps({**json.loads(generation.read_text()), "max_length": 20}))
    bars_were_on = transformers.utils.logging.is_progress_bar_enabled()
    for options in (GREEDY, BEAMS, SAMPLING):
        load(folder, options).caption(records(images), images)
    output = capfd.readouterr()
    assert output.out == output.err == ""
    assert transformers.utils.logging.is_progress_bar_enabled() == bars_were_on


def test_missing_tensors_are_an_error(folders, tmp_path):
    folder = shutil.copytree(folders["blip"], tmp_path / "m")
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    removed = next(key for key in weights if "text_decoder" in key and "crossattention" in key)
    del weights[removed]
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=rf"lacks 1 .*{removed}"):
        load(folder)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "processor_config.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_broken_folders(folders, tmp_path, file, damage):
    folder = shutil.copytree(folders["blip"], tmp_path / "m")
    if damage == "gone":
        (folder / file).unlink()
    else:
        (folder / file).write_bytes((folder / file).read_bytes()[:100])
    with pytest.raises(WeightsError, match=r"could not be loaded as BlipForConditionalGeneration|has no vocabulary"):
        load(folder)


def test_places_that_are_no_model(folders, tmp_path):
    with pytest.raises(UsageError, match=r"Did you mean .*/blip\?"):
        load_captioner(folders["blip"].with_name("blib"))
    with pytest.raises(UsageError, match=r"no config\.json"):
        load_captioner(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    with pytest.raises(UsageError, match="type 'llava'; a captioner is of type 'blip' or 'blip-2'"):
        load_captioner(tmp_path)


def test_a_folder_called_like_a_name(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folders["blip"], "tags")
    assert load_captioner("tags").name == "tags"
    for place in ("./tags", tmp_path / "tags", type(tmp_path)("tags")):
        assert load(place).fingerprint == load(folders["blip"]).fingerprint


def test_names():
    with pytest.raises(UnknownName, match="Did you mean blip-large"):
        load_captioner("blip_large")
    with pytest.raises(UsageError, match=r"write 'hf:Salesforce/blip2-opt-2\.7b'"):
        load_captioner("Salesforce/blip2-opt-2.7b")
    assert set(CAPTIONERS) >= {*PRESETS, "tags"}


@pytest.mark.parametrize("name", ["blip-base", "blip2-flan-t5-xl", "hf:some/model"])
def test_without_network_the_message_says_how(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"hf download .* --local-dir FOLDER"):
        load_captioner(name)


def test_wrong_device_and_dtype(folders):
    with pytest.raises(UsageError, match="no device 'cuda:99'"):
        load_captioner(folders["blip"], device="cuda:99")
    with pytest.raises(UsageError, match="one of float32, bfloat16, float16"):
        load_captioner(folders["blip"], dtype="half")


def test_without_transformers(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"geovlm\[transformers\]"):
        load_captioner(folders["blip"])


def test_a_plug_in_gets_all_arguments(monkeypatch):
    def factory(name, *, device, dtype, options):
        return name, device, dtype, options

    monkeypatch.setattr(CAPTIONERS, "_plugins", {"mine": factory})
    assert load_captioner("mine", device="cpu", options=GREEDY) == ("mine", "cpu", None, GREEDY)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is a whole number"),
        ({"num_beams": 1.5}, "num_beams is a whole number"),
        ({"temperature": 0, "do_sample": True}, "temperature is more than 0"),
        ({"temperature": "hot", "do_sample": True}, "temperature is a number"),
        ({"top_p": 1.1, "do_sample": True}, "top_p is a share"),
        ({"temperature": 0.5}, "without do_sample"),
        ({"num_captions": 2}, "needs do_sample=True, or num_beams of at least 2"),
        ({"num_captions": 3, "num_beams": 2, "do_sample": True}, "num_beams of at least 3"),
        ({"prompt": ["a"]}, "prompt is text"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(UsageError, match=message):
        GenerationOptions(**options)


def test_takes_a_model_made_elsewhere(folders, images):
    model = transformers.BlipForConditionalGeneration.from_pretrained(folders["blip"])
    processor = transformers.AutoProcessor.from_pretrained(folders["blip"])
    mine = BlipCaptioner(model, processor, name="mine", options=GREEDY)
    assert mine.fingerprint == load(folders["blip"]).fingerprint


@pytest.mark.parametrize("beams", [1, 3])
def test_the_loaded_model_attends_as_that_of_transformers(folders, images, beams):
    model = transformers.BlipForConditionalGeneration.from_pretrained(folders["blip"]).eval()
    ours = load(folders["blip"])._model
    pixels = transformers.AutoProcessor.from_pretrained(folders["blip"])(
        images=images, return_tensors="pt"
    ).pixel_values
    told = {"output_scores": True, "return_dict_in_generate": True, "max_new_tokens": 8, "num_beams": beams}
    ids = torch.tensor([[2, 7, 9, 3]] * len(images))
    with torch.inference_mode():
        torch.testing.assert_close(ours.vision_model(pixels)[0], model.vision_model(pixels)[0], atol=1e-4, rtol=1e-4)
        found, expected = (
            each.generate(pixel_values=pixels, input_ids=ids.clone(), attention_mask=torch.ones_like(ids), **told)
            for each in (ours, model)
        )
    assert torch.equal(found.sequences, expected.sequences)
    for one, other in zip(found.scores, expected.scores, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
