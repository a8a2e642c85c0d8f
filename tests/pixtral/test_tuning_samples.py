"""What is learned, token by token: the answers and nothing else, and the same loss however a step is divided."""

from __future__ import annotations

import json

import pytest

from geovlm.pixtral.messages import system
from tests.pixtral.test_chat_data import assistant, data_url, image_part, save, user

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from geovlm.pixtral._local_folder import find_folder  # noqa: E402
from geovlm.pixtral._rendering import Renderer  # noqa: E402
from geovlm.pixtral.tuning import FineTuningConfig  # noqa: E402
from geovlm.pixtral.tuning._batches import IGNORED, collate, order  # noqa: E402
from geovlm.pixtral.tuning._examples import find_examples  # noqa: E402
from geovlm.pixtral.tuning._training import Training, learning_rate_at  # noqa: E402


@pytest.fixture(scope="module")
def renderer(model_folder):
    return Renderer(find_folder(model_folder).processor())


def chat(seed=0, answer='{"label": "Beach"}', size=(32, 24)):
    return [system("Choose."), user(image_part(data_url(seed, size))), assistant(answer)]


def test_the_mask_is_exact(renderer):
    """Each token by itself: prompt, system text, every token of the image, answer, end of the turn, filling."""
    short, long = chat(0, "Beach"), chat(1, "A large beach with many umbrellas", size=(64, 48))
    samples = [renderer.sample(messages[:-1], messages[-1]["content"]) for messages in (short, long)]
    inputs, targets = collate(samples, filler=renderer.filler)
    tokenizer = renderer.tokenizer
    for row, messages in enumerate((short, long)):
        learned = [*tokenizer(messages[-1]["content"], add_special_tokens=False).input_ids, tokenizer.eos_token_id]
        prompt, _ = renderer.prompt(messages[:-1])
        assert tokenizer.decode(prompt).endswith("[/INST]")
        length = len(prompt) + len(learned)
        for place in range(inputs["input_ids"].shape[1]):
            told = targets[row, place].item()
            if place < len(prompt):
                assert (inputs["input_ids"][row, place].item(), told) == (prompt[place], IGNORED)
            elif place < length:
                assert told == inputs["input_ids"][row, place].item() == learned[place - len(prompt)]
            else:
                assert (inputs["input_ids"][row, place].item(), told) == (renderer.filler, IGNORED)
            assert inputs["attention_mask"][row, place].item() == (place < length)
    assert inputs["pixel_values"].shape[0] == 2


def test_the_system_prompt_is_learned_from_as_it_is_asked(renderer):
    """Rendered whole, Pixtral's template would drop it where an answer comes last."""
    messages = chat()
    sample = renderer.sample(messages[:-1], messages[-1]["content"])
    assert "Choose." in renderer.tokenizer.decode(sample.prompt)
    assert sample.prompt == renderer.prompt(messages[:-1])[0]


def test_every_answer_with_weight_is_an_example(renderer, tmp_path):
    turns = [
        user(image_part()),
        assistant("One"),
        user({"type": "text", "text": "And?"}),
        assistant("Two", weight=0),
        user({"type": "text", "text": "So?"}),
        assistant("3"),
    ]
    path = save(tmp_path / "a.jsonl", chat(), {"messages": turns})
    found = find_examples([path], renderer, max_length=500, progress=False, desc="x")
    assert [example.turn for example in found.items] == [2, 1, 5]
    assert found.conversations == 2
    samples = [example.sample(renderer) for example in found.items]
    assert found.tokens == sum(sample.length for sample in samples)
    assert renderer.tokenizer.decode(samples[2].answer) == "3</s>"
    assert "Two</s>" in renderer.tokenizer.decode(samples[2].prompt)


def test_what_cannot_be_learned_is_counted_and_never_cut(renderer, tmp_path):
    values = [
        chat(),
        chat(1, "word " * 100),
        [user(image_part("data:image/jpeg;base64,QQ==")), assistant()],
        [user(image_part(), {"type": "text", "text": "[IMG]"}), assistant()],
        [user(image_part()), assistant("[IMG]")],
        {"no": 1},
    ]
    path = save(tmp_path / "a.jsonl", *values)
    (tmp_path / "a.ids").write_text("".join(json.dumps(f"r{n}") + "\n" for n in range(6)))
    found = find_examples([path], renderer, max_length=100, progress=False, desc="x")
    assert [example.offset for example in found.items] == [0]
    reasons = {failure.id: failure.reason for failure in found.failures}
    assert list(reasons) == ["r1", "r2", "r3", "r4", "r5"]
    assert "more than max_length=100" in reasons["r1"]
    assert "places for images" in reasons["r3"]
    assert "places for images" in reasons["r4"]
    assert found.failures[0].uri == f"{path}:2"


@pytest.mark.parametrize("micro", [1, 2, 4])
def test_a_step_is_the_same_however_it_is_divided(model_folder, renderer, micro):
    """Loss and gradients of micro batches add up to those of one batch, by the model's own loss over all logits."""
    model = find_folder(model_folder).weights(device=torch.device("cpu"), dtype=torch.float32)
    for name, weight in model.named_parameters():
        weight.requires_grad = "q_proj" in name
    samples = [
        renderer.sample(messages[:-1], messages[-1]["content"])
        for messages in (chat(n, "Beach " * (n + 1), size=(20 + 10 * n, 30)) for n in range(4))
    ]
    inputs, targets = collate(samples, filler=renderer.filler)
    expected = model(**inputs, labels=targets).loss
    expected.backward()
    grads = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.requires_grad}
    config = FineTuningConfig(micro_batch_size=micro, max_grad_norm=None, learning_rate=1e-6)
    training = Training(model, renderer, train=[0] * 4, val=(), config=config, checkpoints=None, metrics=None)
    assert training._step(0, samples, 1e-6) == pytest.approx(expected.item(), rel=1e-5)
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            torch.testing.assert_close(weight.grad, grads[name], rtol=1e-3, atol=1e-6)


def test_every_epoch_sees_each_example_once_in_another_order():
    first, second = order(20, seed=3, epoch=0), order(20, seed=3, epoch=1)
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    assert first == order(20, seed=3, epoch=0)


@pytest.mark.parametrize("steps", [1, 2, 3, 100])
@pytest.mark.parametrize("warmup", [0, 0.05, 0.5, 1])
def test_the_rate_rises_and_falls(steps, warmup):
    config = FineTuningConfig(learning_rate=0.25, warmup=warmup)
    rates = [learning_rate_at(step, config, steps) for step in range(steps)]
    assert all(0 < rate <= 0.25 for rate in rates)
    assert max(rates) == 0.25
