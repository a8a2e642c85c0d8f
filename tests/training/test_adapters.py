"""Adapters: where they are, that they train, and that merging them gives the plain model again."""

from __future__ import annotations

import copy

import pytest
import torch

from geovlm import new_encoder
from geovlm.errors import MissingExtra, UsageError
from geovlm.training.adapters import add_lora, merged_state
from geovlm.training.layers import tower_of
from geovlm.training.optimization import WeightAverage
from tests import models

TEXT = {"context_length": 77, "vocab_size": 600, "width": 32, "heads": 2, "layers": 2}
VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}


def _custom(vision=None, text=None, **settings):
    import open_clip

    torch.manual_seed(0)
    towers = {"vision_cfg": VISION | (vision or {}), "text_cfg": TEXT | (text or {})}
    return open_clip.CustomTextCLIP(embed_dim=24, **towers, **settings).eval()


def _resnet():
    import open_clip

    torch.manual_seed(0)
    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None}
    model = open_clip.CLIP(embed_dim=24, vision_cfg=vision, text_cfg=TEXT).eval()
    for name, weight in model.visual.named_parameters():
        if name.endswith("bn3.weight"):  # zero in a fresh model, so that nothing would flow
            torch.nn.init.ones_(weight)
    return model


def _timm():
    vision = {"timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": "linear", "image_size": 160}
    return _custom(vision=vision)


def _with_bert(folder):
    from transformers import BertConfig

    layers = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    BertConfig(**layers, vocab_size=600).save_pretrained(folder)
    text = {"hf_model_name": str(folder), "hf_model_pretrained": False, "hf_pooler_type": "mean_pooler"}
    return _custom(text=text | {"hf_proj_type": "linear"})


BUILDERS = {
    "open_clip": lambda _: models.openclip_model(),
    # Its text tower gives each head of each text a mask of its own.
    "custom text": lambda _: _custom(text={"embed_cls": True, "pad_id": 0}, init_logit_bias=-10.0),
    "bert text": _with_bert,
    "resnet": lambda _: _resnet(),
    "timm": lambda _: _timm(),
    "clip": lambda _: models.clip_model(),
    "siglip": lambda _: models.siglip_model(),
}


@pytest.fixture(params=BUILDERS)
def model(request, tmp_path):
    return BUILDERS[request.param](tmp_path)


def _features(model):
    """Of three pictures and three texts of different lengths."""
    random = torch.Generator().manual_seed(1)
    side = getattr(getattr(model, "visual", None), "image_size", models.IMAGE_SIZE)
    side = side if isinstance(side, int) else side[0]
    pixels = torch.randn(3, 3, side, side, generator=random)
    if hasattr(model, "get_image_features"):
        tokens = torch.randint(3, 300, (3, 12), generator=random)
        return model.get_image_features(pixels).pooler_output, model.get_text_features(tokens).pooler_output
    tokens = torch.randint(1, 600, (3, 76), generator=random)
    tokens = torch.nn.functional.pad(tokens, (0, 77 - tokens.shape[1]))
    tokens[1, 20:] = 0
    if hasattr(model, "text") and getattr(model.text, "cls_emb", None) is not None:
        tokens = tokens[:, :76]
    return model.encode_image(pixels), model.encode_text(tokens)


def _shake(model, *, seed=2):
    """As if the adapters had been trained, and the logit scale."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                size = 0.1 if "lora_" in name else 0.3
                weight.add_(torch.randn(weight.shape, generator=random) * size)


def test_fresh_adapters_change_nothing_and_merged_ones_give_the_plain_model(model):
    plain = copy.deepcopy(model)
    with torch.no_grad():
        before = _features(model)
        add_lora(model, rank=4, freeze="none")
        fresh = _features(model)
        _shake(model)
        tuned = _features(model)
        state = merged_state(model)
        own = plain.state_dict()
        assert {name: value.shape for name, value in state.items()} == {n: v.shape for n, v in own.items()}
        plain.load_state_dict(state)
        merged = _features(plain)
        again = _features(model)
    for base, unchanged, adapted, of_plain, still in zip(before, fresh, tuned, merged, again, strict=True):
        scale = base.abs().max()
        assert (base - unchanged).abs().max() < 1e-5 * scale
        assert (adapted - base).abs().max() > 1e-2 * scale
        assert (of_plain - adapted).abs().max() < 1e-5 * adapted.abs().max()
        assert torch.equal(adapted, still)
    assert torch.equal(plain.logit_scale, model.logit_scale)


def test_only_adapters_and_temperature_learn_and_all_of_them(model):
    frozen = {name: value.clone() for name, value in model.state_dict().items() if "logit" not in name}
    add_lora(model, rank=2)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {name for name in trained if "lora_" not in name} == {
        name for name in ("logit_scale", "logit_bias") if getattr(model, name, None) is not None
    }
    assert {tower_of(name) for name in trained} == {"image", "text", None}
    _shake(model)
    for features in _features(model):
        features.square().sum().backward()
    without = [name for name in trained if "lora_" in name and not model.get_parameter(name).grad.abs().sum() > 0]
    assert not without
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.1)
    optimizer.step()
    plain_names = {name.replace(".base_layer", "").replace("in_proj.", "in_proj_") for name in model.state_dict()}
    assert frozen.keys() <= plain_names
    for name, value in model.state_dict().items():
        plain = name.replace(".base_layer", "").replace("in_proj.", "in_proj_")
        if plain in frozen:
            assert torch.equal(value, frozen[plain]), name


@pytest.mark.parametrize("kind", ["open_clip", "clip", "siglip"])
@pytest.mark.parametrize("freeze", ["image", "text"])
def test_a_frozen_tower_gets_no_adapters(kind, freeze):
    model = BUILDERS[kind](None)
    add_lora(model, rank=2, freeze=freeze)
    other = {"image": "text", "text": "image"}[freeze]
    assert {tower_of(name) for name in model.state_dict() if "lora_" in name} == {other}


def test_every_layer_of_both_transformers_of_open_clip_is_adapted():
    model = models.openclip_model()
    add_lora(model, rank=2)
    adapted = {name.removesuffix(".lora_A.default") for name, _ in model.named_modules() if name.endswith("A.default")}
    assert adapted == {
        f"{tower}transformer.resblocks.{number}.{layer}"
        for tower in ("", "visual.")
        for number in (0, 1)
        for layer in ("attn.in_proj", "attn.out_proj", "mlp.c_fc", "mlp.c_proj")
    }


# transformers renames the switch in its version 6.
@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable:FutureWarning")
@pytest.mark.parametrize("kind", ["open_clip", "clip", "siglip"])
def test_gradients_through_an_encoder_under_checkpointing_and_autocast(encoders, kind):
    """The same gradients with activations computed again, and nearly the same in bfloat16."""
    encoder = encoders[kind].copy()
    add_lora(encoder.model, rank=4, dropout=0.1)
    _shake(encoder.model)
    encoder.model.train()
    plain = _gradients(encoder)
    assert {tower_of(name) for name in plain} == {"image", "text"}
    again = encoder.copy()
    if kind == "open_clip":
        again.model.set_grad_checkpointing()
    else:
        again.model.gradient_checkpointing_enable({"use_reentrant": False})
    again.model.train()
    checkpointed = _gradients(again)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = _gradients(encoder)
    for name, gradient in plain.items():
        assert torch.allclose(checkpointed[name], gradient, rtol=1e-4, atol=1e-5 * gradient.abs().max()), name
    flat, rough_flat = (torch.cat([part.flatten() for part in parts.values()]) for parts in (plain, rough))
    assert torch.cosine_similarity(flat, rough_flat, dim=0) > 0.99


def _gradients(encoder):
    encoder.model.zero_grad()
    pictures = torch.stack([torch.from_numpy(encoder.preprocess(models.picture(seed))) for seed in range(3)])
    torch.manual_seed(5)  # the same dropout
    images = encoder.image_features(encoder.normalize_pixels(pictures))
    texts = encoder.text_features(encoder.tokenize(["a vineyard", "two bridges over a river", "bare soil"]))
    normalize = torch.nn.functional.normalize
    (normalize(images.float(), dim=-1) * normalize(texts.float(), dim=-1)).sum(1).square().sum().backward()
    return {name: w.grad.clone() for name, w in encoder.model.named_parameters() if w.grad is not None}


def test_dropout_is_random_in_training_only():
    model = models.openclip_model()
    add_lora(model, rank=4, dropout=0.5)
    _shake(model)
    assert torch.equal(_features(model)[0], _features(model)[0])
    model.train()
    assert not torch.equal(_features(model)[0], _features(model)[0])


def test_a_deep_copy_has_adapters_of_its_own(encoders):
    encoder = encoders["open_clip"].copy()
    add_lora(encoder.model, rank=2)
    _shake(encoder.model)
    twin = encoder.copy()
    assert torch.equal(twin.model.logit_scale, encoder.model.logit_scale)
    before = [features.detach() for features in _features(twin.model)]
    _shake(encoder.model, seed=3)
    for old, new, other in zip(before, _features(twin.model), _features(encoder.model), strict=True):
        assert torch.equal(old, new)
        assert not torch.allclose(old, other)


def test_seeds_decide_the_first_matrices_and_nothing_else_is_drawn():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    states = []
    for seed in (1, 1, 2):
        model = models.openclip_model()
        torch.manual_seed(7)
        add_lora(model, rank=2, seed=seed)
        states.append(model.state_dict())
    assert torch.equal(torch.rand(3), expected)
    name = "visual.transformer.resblocks.0.attn.in_proj.lora_A.default.weight"
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])


def test_alpha_is_twice_the_rank_where_it_is_not_given():
    built = [models.openclip_model() for _ in range(3)]
    for model, alpha in zip(built, (None, 8, 4), strict=True):
        add_lora(model, rank=4, alpha=alpha)
        _shake(model)
    merged = [merged_state(model)["visual.transformer.resblocks.0.mlp.c_fc.weight"] for model in built]
    base = models.openclip_model().state_dict()["visual.transformer.resblocks.0.mlp.c_fc.weight"]
    assert torch.equal(merged[0], merged[1])
    assert torch.allclose((merged[0] - base) / 2, merged[2] - base, atol=1e-6)


def test_the_state_of_a_plain_model_is_its_own():
    model = models.openclip_model()
    state = merged_state(model)
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_averages_of_adapters_are_small_and_can_be_merged():
    model = models.openclip_model()
    add_lora(model, rank=2)
    average = WeightAverage(model, 0.5)
    _shake(model)
    average.update(model, 100)
    assert all("lora_" in name or name == "logit_scale" for name in average.state)
    expected = copy.deepcopy(model)
    expected.load_state_dict(average.state, strict=False)
    state, wanted = merged_state(model, average.state), merged_state(expected)
    assert all(torch.equal(value, wanted[name]) for name, value in state.items())
    name = "visual.transformer.resblocks.0.mlp.c_fc.weight"
    assert not torch.equal(state[name], merged_state(model)[name])


def test_a_tower_with_nothing_to_adapt_is_refused_in_words():
    model = torch.nn.Module()
    model.visual = torch.nn.Sequential(torch.nn.Linear(4, 4))
    model.transformer = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(8, 2, batch_first=True), 1)
    model.logit_scale = torch.nn.Parameter(torch.zeros(()))
    with pytest.raises(UsageError, match=r"The image tower of this Module has no linear layers.*set freeze='image'"):
        add_lora(model, rank=2)
    add_lora(model, rank=2, freeze="image")
    assert {tower_of(name) for name in model.state_dict() if "lora_" in name} == {"text"}


def test_layers_that_are_never_called_get_no_adapters():
    """An adapter that nothing trains would also stop several processes, which wait for its gradient."""
    from timm.models.eva import Eva

    model = torch.nn.Module()
    model.visual = torch.nn.Module()
    model.visual.trunk = Eva(img_size=32, patch_size=16, embed_dim=32, depth=1, num_heads=2, num_classes=0)
    add_lora(model, rank=2, freeze="text")
    _shake(model)
    model.visual.trunk(torch.randn(1, 3, 32, 32)).square().sum().backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if "lora_B" in name}
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients.values())
    assert [name.split(".")[4:-3] for name in gradients] == [["attn", "proj"], ["mlp", "fc1"], ["mlp", "fc2"]]


def test_without_peft_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(MissingExtra, match=r"pip install 'geovlm\[train\]'"):
        add_lora(models.openclip_model(), rank=2)


def test_an_adapted_encoder_still_encodes():
    """In several threads at once too, as on many cores; nothing is merged and taken back on the way."""
    encoder = new_encoder(models.openclip_config(), dtype="float32", device="cpu")
    plain = encoder.encode_images([models.picture(seed) for seed in range(4)])
    add_lora(encoder.model, rank=2)
    assert abs(encoder.encode_images([models.picture(seed) for seed in range(4)]) - plain).max() < 1e-6
