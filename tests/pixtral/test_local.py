"""A model in a folder behind the same client: its inputs, its answers, and folders that hold something else."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys

import pytest

from geovlm import AsyncPixtralClient, PixtralClient, Record
from geovlm.captioning import caption
from geovlm.errors import ImageError, RequestRefused, UsageError, WeightsError
from geovlm.pixtral._local_folder import find_folder
from geovlm.pixtral.local import LocalModel
from geovlm.pixtral.messages import system, user
from tests.mistral import scene
from tests.pixtral.test_chat_data import data_url, image_part
from tests.pixtral.test_chat_data import user as said

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

LABELS = ["Beach", "Forest"]


def connect(folder, **settings):
    return PixtralClient(str(folder), dtype="float32", max_tokens=6, **settings)


@pytest.fixture(scope="module")
def local(model_folder):
    return LocalModel(model_folder, dtype="float32")


def test_tokens_are_those_that_the_processor_makes(local):
    """The offline formula, the fast count of the preparation and the real processor agree on many sizes."""
    side = local.grid.patch * local.grid.merge
    for width, height in [(1, 1), (side, side), (side + 1, side), (30, 200), (200, 30), (64, 64), (63, 61), (500, 499)]:
        messages = [said(image_part(data_url(1, (width, height))))]
        sample = local.renderer.sample(messages, "Beach")
        assert local.renderer.length(messages, "Beach") == sample.length
        processor = local.renderer.processor
        images = sum(sample.prompt.count(token) for token in processor.image_token_ids)
        assert images == local.grid.tokens(width, height)


def test_a_prompt_is_what_the_chat_template_makes_of_it(local):
    messages = [system("Be brief."), said(image_part(), {"type": "text", "text": "What is it?"})]
    plain = [messages[0], {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]
    plain[1]["content"][1]["content"] = "What is it?"
    text = local.renderer.processor.apply_chat_template(plain, tokenize=False, add_generation_prompt=True)
    ids, _ = local.renderer.prompt(messages)
    assert "Be brief." in text
    assert local.renderer.processor.tokenizer.decode(ids).replace("[IMG_END]", "").count("Be brief.") == 1
    assert ids.count(local.renderer.tokenizer.bos_token_id) == 1
    assert ids[0] == local.renderer.tokenizer.bos_token_id


def test_answers_are_those_of_transformers(model_folder):
    client = connect(model_folder)
    record = Record(id="a", image=scene(1))
    answer = client.ask("What is it?", record)
    request = client.requests.ask("What is it?", record)
    renderer = LocalModel(model_folder, dtype="float32").renderer
    ids, pixels = renderer.prompt(request.messages)
    model = find_folder(model_folder).weights(device=torch.device("cpu"), dtype=torch.float32)
    whole = model.generate(input_ids=torch.tensor([ids]), **pixels, max_new_tokens=6, do_sample=False)
    assert answer.text == renderer.decode(whole[0, len(ids) :].tolist())
    assert answer.usage.prompt_tokens == len(ids)
    assert answer.usage.completion_tokens <= 6
    assert answer.is_cut_off == (answer.usage.completion_tokens == 6 and whole[0, -1] != 2)
    assert client.ask("What is it?", Record(id="b", image=scene(2, (64, 20)))).usage.prompt_tokens != len(ids)


def test_all_questions_of_a_client_are_answered(pixtral_folder, tmp_path):
    client = connect(pixtral_folder)
    images = [scene(1), scene(2)]
    assert [result.model for result in client.classify(images, LABELS)] == [str(pixtral_folder)] * 2
    assert client.caption(images[0]).text
    assert client.ask("Compare.", images).usage.prompt_tokens > client.ask("Compare.", images[0]).usage.prompt_tokens
    assert client.ask("Hello").text
    made = caption([Record(id="a", image=images[0])], client, out=tmp_path / "captions")
    assert made.report.done + made.report.failed == 1
    asked = asyncio.run(AsyncPixtralClient(str(pixtral_folder), dtype="float32", max_tokens=6).ask("Hello"))
    assert asked.text == client.ask("Hello").text
    client.close()


def test_a_folder_is_a_local_model_unless_it_is_said_otherwise(pixtral_folder):
    assert connect(pixtral_folder).backend == "local"
    assert connect(pixtral_folder, backend="local").image_size == 64
    server = PixtralClient(str(pixtral_folder), base_url="http://127.0.0.1:1")
    assert server.backend == "server"
    server.close()
    with pytest.raises(UsageError, match="has no base_url"):
        PixtralClient(str(pixtral_folder), backend="local", base_url="http://127.0.0.1:1")
    with pytest.raises(UsageError, match="for local models"):
        PixtralClient("pixtral", base_url="http://127.0.0.1:1", device="cpu")
    with pytest.raises(UsageError, match="'server', 'local'"):
        PixtralClient(str(pixtral_folder), backend="hosted")
    with pytest.raises(UsageError, match="does not exist"):
        PixtralClient("pixtrol", backend="local")


def test_weights_are_loaded_late_and_let_go(pixtral_folder):
    model = LocalModel(pixtral_folder, dtype="float32")
    assert model._model is None
    first = model.model
    assert model.model is first
    model.release()
    assert model._model is None


def test_what_cannot_be_answered_is_told(pixtral_folder):
    client = connect(pixtral_folder, structured=True)
    with pytest.raises(UsageError, match="JSON schema"):
        client.classify(scene(1), LABELS)
    with pytest.raises(RequestRefused, match="takes 4096 together"):
        PixtralClient(str(pixtral_folder), dtype="float32", max_tokens=4096).ask("Hello")
    with pytest.raises(UsageError, match=r"perhaps the text holds '\[IMG\]'"):
        client.ask("What is [IMG] here?", scene(1))
    with pytest.raises(ImageError):
        LocalModel(pixtral_folder).renderer.prompt([said(image_part("data:image/png;base64,QQ=="))])


def test_the_fingerprint_changes_with_weights_and_precision(pixtral_folder, tmp_path):
    from tests.pixtral.models import save_pixtral

    same = shutil.copytree(pixtral_folder, tmp_path / "same")
    other = save_pixtral(tmp_path / "other", seed=1)
    print_of = {folder: LocalModel(folder, dtype="float32").fingerprint for folder in (pixtral_folder, same, other)}
    assert print_of[pixtral_folder] == print_of[same] != print_of[other]
    assert LocalModel(same, dtype="bfloat16").fingerprint != print_of[same]
    assert connect(same).fingerprint != connect(other).fingerprint


def edited(folder, target, **changes):
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, **changes}))
    return target


def test_folders_that_hold_something_else_are_told(pixtral_folder, tmp_path):
    with pytest.raises(UsageError, match=r"sees by 'clip_vision_model'.*'llava' or 'mistral3'"):
        LocalModel(edited(pixtral_folder, tmp_path / "llava", vision_config={"model_type": "clip_vision_model"}))
    with pytest.raises(UsageError, match="of the type 'bert'"):
        LocalModel(edited(pixtral_folder, tmp_path / "bert", model_type="bert"))
    (tmp_path / "mistral").mkdir()
    (tmp_path / "mistral" / "params.json").write_text("{}")
    with pytest.raises(UsageError, match=r"Mistral's own form.*mistral-community/pixtral-12b"):
        LocalModel(tmp_path / "mistral")
    silent = edited(pixtral_folder, tmp_path / "silent")
    (silent / "chat_template.jinja").unlink()
    with pytest.raises(UsageError, match="has no chat template"):
        LocalModel(silent)
    odd = edited(pixtral_folder, tmp_path / "odd")
    (odd / "chat_template.jinja").write_text("{{ messages | length }}")
    with pytest.raises(UsageError, match="does not put an answer after its prompt"):
        LocalModel(odd)
    cut = edited(pixtral_folder, tmp_path / "cut")
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(WeightsError, match="cannot be loaded"):
        connect(cut).ask("Hello")
    from safetensors.torch import load_file, save_file

    tensors = load_file(pixtral_folder / "model.safetensors")
    del tensors[next(name for name in tensors if "multi_modal_projector" in name)]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"lacks 1 weights.*multi_modal_projector"):
        connect(cut).ask("Hello")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "/nowhere"}')
    with pytest.raises(UsageError, match="as base_model_name_or_path into"):
        LocalModel(adapter)


def test_torch_is_imported_only_for_a_local_model():
    program = """
import sys
import geovlm.pixtral, geovlm.pixtral.tuning, geovlm.pixtral.chat_data, geovlm.pixtral.local
import geovlm.pixtral.tuning.start
heavy = {"torch", "transformers", "peft"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_two_turns_and_bare_text_are_rendered(local):
    chat = [user("One?"), {"role": "assistant", "content": "1"}, user("Two?")]
    assert "One?[/INST]1</s>[INST]Two?[/INST]" in local.renderer.tokenizer.decode(local.renderer.prompt(chat)[0])
