"""Gradients in parts, in less memory and in other precisions against those of the whole batch; what a step keeps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from geovlm import new_encoder
from geovlm.errors import TrainingDiverged, UsageError
from geovlm.training import TrainingConfig
from geovlm.training._passes import Passes
from geovlm.training._towers import Towers, seeded
from geovlm.training.batch import Batch
from geovlm.training.layers import drift
from geovlm.training.learner import Learner, resolve_precision
from geovlm.training.losses import make_loss

KINDS = ["open_clip", "clip", "siglip"]
CAPTIONS = [
    "a red field",
    "a green field",
    "sea",
    "a red field",
    "ten planes beside a long runway",
    "roads",
    "sea",
    "a",
]


def config(**settings):
    return TrainingConfig(**{"learning_rate": 1e-3, "precision": "float32", **settings})


def batch(encoder, rows=8, seed=0):
    shape = (rows, encoder.image_size, encoder.image_size, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Batch(pixels=pixels, captions=CAPTIONS[:rows], ids=[f"scene-{number}" for number in range(rows)])


def gradients(encoder, pairs, **settings):
    """Loss and the gradient by every parameter, before anything is moved."""
    learner = Learner(encoder, config(**settings), steps=9)
    loss = learner._gradients.add(3, pairs, [len(pairs.captions)])
    return loss, {name: p.grad for name, p in learner.model.named_parameters() if p.grad is not None}


def assert_same(one, other, *, rtol=1e-5, atol=1e-6):
    assert one[0] == pytest.approx(other[0], rel=rtol)
    assert one[1].keys() == other[1].keys()
    largest = max(gradient.abs().max() for gradient in other[1].values())
    for name, gradient in one[1].items():
        torch.testing.assert_close(gradient, other[1][name], rtol=rtol, atol=atol * float(largest), msg=name)


def with_dropout(encoder, share):
    """A copy of a model of transformers that leaves out attention at random."""
    twin = encoder.copy()
    for module in twin.model.modules():
        if type(module).__name__ in {"CLIPAttention", "SiglipAttention"}:
            module.dropout = share
    return twin


# --- cached gradients ---


@pytest.mark.parametrize(
    ("kind", "loss"), [("open_clip", "multi-positive"), ("clip", "infonce"), ("siglip", "sigmoid")]
)
def test_cached_gradients_are_those_of_the_whole_batch(kind, loss, encoders):
    base = encoders[kind]
    whole = gradients(base, batch(base), loss=loss)
    for size in (1, 3, 7, 8):
        assert_same(gradients(base, batch(base), loss=loss, micro_batch_size=size), whole)


@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_frozen_tower_is_passed_once(tower, base, monkeypatch):
    whole, passes = gradients(base, batch(base), freeze=tower), []
    vectors = Towers._vectors
    monkeypatch.setattr(Towers, "_vectors", lambda *args: passes.append(args[1]) or vectors(*args))
    assert_same(gradients(base, batch(base), freeze=tower, micro_batch_size=4), whole)
    assert passes.count(tower) == 2
    assert len(passes) == 6
    assert not any((name.startswith("visual") == (tower == "image")) for name in whole[1] if name != "logit_scale")


def test_dropout_draws_the_same_numbers_in_both_passes(encoders):
    """Against the plain definition: all parts with a graph at once, each with its own draws."""
    base = with_dropout(encoders["clip"], 0.3)
    pairs, size = batch(base), 3
    cached = gradients(base, pairs, micro_batch_size=size)

    twin = base.copy()
    twin.model.train()
    parts = []
    for start in range(0, len(pairs.captions), size):
        with seeded((0, 3, 0, start), torch.device("cpu")):
            pixels = torch.from_numpy(pairs.pixels[start:][:size])
            images = twin.image_features(twin.normalize_pixels(pixels))
            texts = twin.text_features(twin.tokenize(pairs.captions[start:][:size]))
        parts.append((images, texts))
    images, texts = (torch.nn.functional.normalize(torch.cat(side), dim=-1) for side in zip(*parts, strict=True))
    loss = make_loss(config())(images, texts, twin.model.logit_scale.exp(), torch.from_numpy(pairs.groups))
    loss.backward()
    wanted = {name: p.grad for name, p in twin.model.named_parameters() if p.grad is not None}
    assert_same(cached, (loss.item(), wanted))
    without = gradients(encoders["clip"], pairs, micro_batch_size=size)
    assert without[0] != pytest.approx(cached[0], rel=1e-4)


@pytest.fixture(scope="module")
def resnet():
    """A tiny ResNet of open_clip, which has batch norms."""
    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8}
    text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    return new_encoder({"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}, device="cpu", dtype="float32")


def statistics(model):
    return {name: buffer.clone() for name, buffer in model.named_buffers() if "running" in name or "tracked" in name}


def test_batch_norms_see_each_part_once(resnet):
    pairs = batch(resnet)
    learner = Learner(resnet, config(micro_batch_size=4), steps=9)
    learner.step(0, pairs)

    twin = resnet.copy()
    twin.model.train()
    for start in (0, 4):
        twin.image_features(twin.normalize_pixels(torch.from_numpy(pairs.pixels[start:][:4])))
    wanted = statistics(twin.model)
    assert wanted
    for name, buffer in statistics(learner.model).items():
        torch.testing.assert_close(buffer, wanted[name])


# --- memory that runs out ---


def limited(monkeypatch, pairs, *, backward=False):
    """As if more than so many pairs did not fit; `seen` are the sizes that were tried."""
    forward, pull, seen = Towers.forward, Passes._pull, []

    def checked(self, part, *towers, **ready):
        seen.append(len(part.texts))
        if seen[-1] > pairs and not backward:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, part, *towers, **ready)

    def checked_pull(self, vectors, gradients):
        pull(self, vectors, gradients)
        if len(next(iter(vectors.values()))) > pairs and backward:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(Towers, "forward", checked)
    monkeypatch.setattr(Passes, "_pull", checked_pull)
    return seen


@pytest.mark.parametrize("backward", [False, True])
def test_parts_are_halved_until_they_fit(backward, resnet, monkeypatch):
    wanted = Learner(resnet, config(micro_batch_size=2), steps=9)
    losses = [wanted.step(number, batch(resnet, seed=number)) for number in range(2)]
    seen = limited(monkeypatch, 3, backward=backward)
    learner = Learner(resnet, config(), steps=9)
    assert [learner.step(number, batch(resnet, seed=number)) for number in range(2)] == losses
    assert max(seen[-16:]) == 2, "the second step does not try again"
    for name, tensor in learner.model.state_dict().items():
        assert torch.equal(tensor, wanted.model.state_dict()[name]), name
    assert learner.state()["micro_batch_size"] == 2
    other = Learner(resnet, config(), steps=9)
    other.restore(learner.state())
    assert other.state()["micro_batch_size"] == 2


def test_a_part_that_was_asked_for_and_does_not_fit_is_an_error(base, monkeypatch):
    limited(monkeypatch, 0)
    with pytest.raises(UsageError, match=r"4 pairs at once do not fit .*Set a smaller micro_batch_size"):
        Learner(base, config(micro_batch_size=4), steps=9).step(0, batch(base))
    learner = Learner(base, config(), steps=9)
    with pytest.raises(UsageError, match="1 pairs at once do not fit"):
        learner.step(0, batch(base))
    assert all(parameter.grad is None for parameter in learner.model.parameters())


# --- precision, activations, compilation, short texts ---


def test_float16_is_for_gpus():
    with pytest.raises(UsageError, match="precision='float16' is for GPUs, and 'cpu' is none; 'bfloat16' works"):
        resolve_precision("float16", "cpu")
    assert resolve_precision("float16", "cuda:0") == "float16"


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_in_parts_is_close_to_float32(kind, encoders):
    base = encoders[kind]
    exact, coarse = (gradients(base, batch(base), precision=p, micro_batch_size=4) for p in ("float32", "bfloat16"))
    assert exact[1].keys() == coarse[1].keys()
    one, other = (torch.cat([g.flatten() for g in found[1].values()]) for found in (exact, coarse))
    assert torch.cosine_similarity(one, other, dim=0) > 0.99
    assert not torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_checkpointing_computes_again_and_the_same(kind, encoders, monkeypatch):
    base = encoders[kind]
    plain, calls = gradients(base, batch(base)), []
    forward = torch.nn.Linear.forward
    monkeypatch.setattr(torch.nn.Linear, "forward", lambda *args: calls.append(1) or forward(*args))
    gradients(base, batch(base))
    usual = len(calls)
    assert_same(gradients(base, batch(base), gradient_checkpointing=True), plain)
    assert len(calls) - usual > 1.5 * usual
    assert_same(gradients(base, batch(base), gradient_checkpointing=True, micro_batch_size=3), plain)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_without_their_filling_have_the_same_features(kind, encoders):
    base = encoders[kind].copy()
    tokens = base.tokenize(CAPTIONS)
    short = base.shorten(tokens)
    if kind == "open_clip":
        assert tokens.shape == (8, 77)
        assert short.shape == (8, 8)
        assert base.shorten(base.tokenize(["word " * 200, "sea"])).shape == (2, 77)
    whole, cut = base.text_features(tokens), base.text_features(short)
    torch.testing.assert_close(cut, whole, rtol=1e-5, atol=1e-6)
    by = [torch.autograd.grad(f.square().sum(), base.model.parameters(), allow_unused=True) for f in (whole, cut)]
    assert [one is None for one in by[0]] == [other is None for other in by[1]]
    for one, other in zip(*([g for g in side if g is not None] for side in by), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(one.abs().max()))


@pytest.mark.parametrize(
    ("settings", "is_cut"),
    [
        ({}, True),
        ({"pool_type": "eos", "eos_id": 49407}, True),
        ({"pool_type": "last"}, False),
        ({"no_causal_mask": True, "pool_type": "argmax"}, False),
    ],
)
def test_only_texts_whose_filling_decides_nothing_are_cut(settings, is_cut):
    vision = {"image_size": 16, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16}
    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2, **settings}
    for custom in (False, True):
        if not custom and "no_causal_mask" in settings:
            continue  # open_clip's plain CLIP cannot be made without the mask
        described = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text, "custom_text": custom}
        encoder = new_encoder(described, device="cpu", dtype="float32")
        tokens = encoder.tokenize(CAPTIONS)
        short = encoder.shorten(tokens)
        assert (short.shape[1] < 16) == is_cut
        torch.testing.assert_close(encoder.text_features(short), encoder.text_features(tokens))


def test_compiled_towers_learn_the_same(base, monkeypatch):
    monkeypatch.setattr(torch, "compile", torch._dynamo.optimize("aot_eager"))
    assert_same(gradients(base, batch(base), compile=True, micro_batch_size=4), gradients(base, batch(base)))


# --- what is learnt, used and kept ---


def test_the_bias_is_learnt_where_it_matters(encoders):
    base = encoders["siglip"]
    for loss, learns in (("sigmoid", True), ("multi-positive", False)):
        learner = Learner(base, config(loss=loss, weight_decay=0.0), steps=9)
        learner.step(1, batch(base))
        assert (float(learner.model.logit_bias.detach()) != base.logit_bias) == learns
        other = Learner(base, config(loss=loss), steps=9)
        other.restore(learner.state())
        assert torch.equal(other.model.logit_bias, learner.model.logit_bias)


def test_a_model_without_a_bias_learns_by_the_sigmoid_loss_too(base):
    learner = Learner(base, config(loss="sigmoid"), steps=30)
    losses = [learner.step(number, batch(base)) for number in range(20)]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("settings", [{}, {"average": 0.9}, {"lora_rank": 2}, {"lora_rank": 2, "average": 0.9}])
def test_what_is_used_is_a_plain_encoder_and_what_learns_goes_on(settings, base):
    learner = Learner(base, config(**settings), steps=9)
    alone = Learner(base, config(**settings), steps=9)
    for number in range(4):
        with learner.for_use() as encoder:
            state = {name: tensor.clone() for name, tensor in encoder.model.state_dict().items()}
            assert state.keys() == base.model.state_dict().keys()
            assert not encoder.model.training
            vectors = encoder.encode_texts(["a red field"])
        assert learner.step(number, batch(base)) == alone.step(number, batch(base))
    twin = base.copy()
    twin.model.load_state_dict(state)
    np.testing.assert_array_equal(twin.encode_texts(["a red field"]), vectors)
    assert not np.allclose(base.encode_texts(["a red field"]), vectors, atol=1e-4)


def drift_of(learner, base):
    with learner.for_use() as encoder:
        return drift(base.model, encoder.model)


def test_the_drift_is_measured_from_the_base(base):
    learner = Learner(base, config(freeze="text"), steps=9)
    assert drift_of(learner, base) == {"image": 0.0, "text": 0.0}
    learner.step(1, batch(base))
    before, after = (
        torch.cat([p.detach().flatten() for p in encoder.model.visual.parameters()])
        for encoder in (base, learner.encoder)
    )
    assert drift_of(learner, base) == {
        "image": pytest.approx(float((after - before).norm() / before.norm())),
        "text": 0.0,
    }
    adapted = Learner(base, config(lora_rank=2), steps=9)
    adapted.step(1, batch(base))
    adapted.step(2, batch(base))
    assert all(0 < distance < 0.1 for distance in drift_of(adapted, base).values())


def test_the_state_holds_what_a_step_changes_and_no_more(base):
    names = set(base.model.state_dict())
    learner = Learner(base, config(), steps=9)
    assert set(learner.state()["model"]) == names
    learner = Learner(base, config(lora_rank=2), steps=9)
    kept = set(learner.state()["model"])
    assert not kept & names - {"logit_scale"}
    learner.step(0, batch(base))
    other = Learner(base, config(lora_rank=2), steps=9)
    other.restore(learner.state())
    assert learner.step(1, batch(base)) == other.step(1, batch(base))


def test_each_layer_has_its_rate(base):
    learner = Learner(base, config(layer_decay=0.5, weight_decay=0.0, warmup=0), steps=9)
    learner.step(0, batch(base))
    rates = {group["rate"]: group["lr"] for group in learner._optimizer.param_groups}
    assert rates == {0.5**depth: pytest.approx(1e-3 * 0.5**depth) for depth in range(4)}


def test_divergence_names_the_batch_and_leaves_everything_as_it_was(resnet):
    learner = Learner(resnet, config(average=0.9), steps=9)
    learner.step(0, batch(resnet))
    with torch.no_grad():
        learner.model.token_embedding.weight[320] = math.nan  # "a"
    before = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    with pytest.raises(
        TrainingDiverged, match=r"at step 7: the loss is nan.*The batch is scene-0, .*scene-7\."
    ) as caught:
        learner.step(7, batch(resnet))
    assert caught.value.step == 7
    for name, tensor in learner.model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], equal_nan=True, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in learner.model.parameters())


def test_fewer_than_two_pairs_teach_nothing(base):
    learner = Learner(base, config(), steps=9)
    for rows in (0, 1):
        assert math.isnan(learner.step(0, batch(base, rows)))
    assert drift_of(learner, base) == {"image": 0.0, "text": 0.0}
