"""The schedule, what decays and at which rate, the moving average, and learning rates that move nothing."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geovlm.errors import UsageError
from geovlm.training import TrainingConfig
from geovlm.training.adapters import add_lora
from geovlm.training.layers import depths
from geovlm.training.optimization import (
    WeightAverage,
    learning_rate_at,
    make_optimizer,
    warmup_steps,
    warn_if_stuck,
)
from tests import models


@given(st.integers(1, 400), st.floats(0, 0.9))
def test_the_schedule_rises_to_its_peak_and_falls(steps, warmup):
    config = TrainingConfig(learning_rate=1e-3, warmup=warmup)
    rates = [learning_rate_at(step, config, steps) for step in range(steps)]
    first = warmup_steps(config, steps)
    assert all(0 < rate <= 1e-3 * (1 + 1e-12) for rate in rates)
    assert rates[:first] == sorted(rates[:first])
    assert rates[first:] == sorted(rates[first:], reverse=True)
    if first < steps:
        assert rates[first] == 1e-3


def test_a_warmup_that_does_not_end_is_an_error():
    assert warmup_steps(TrainingConfig(warmup=9), 10) == 9
    with pytest.raises(UsageError, match="does not end in a training of 10"):
        warmup_steps(TrainingConfig(warmup=10), 10)


def test_biases_and_norms_do_not_decay():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = make_optimizer(model, TrainingConfig(learning_rate=0.1, weight_decay=0.5))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["0.weight"]


def _rates(model, layer_decay):
    """The rate of each weight, and whether it decays."""
    optimizer = make_optimizer(model, TrainingConfig(learning_rate=0.1, layer_decay=layer_decay))
    names = {id(weight): name for name, weight in model.named_parameters()}
    for group in optimizer.param_groups:
        assert group["lr"] == 0.1 * group["rate"]
        assert len({weight.ndim >= 2 for weight in group["params"]}) == 1
    return {names[id(weight)]: group["rate"] for group in optimizer.param_groups for weight in group["params"]}


def test_one_rate_for_all_is_two_groups():
    optimizer = make_optimizer(models.openclip_model(), TrainingConfig(learning_rate=0.1, weight_decay=0.5))
    assert [(group["rate"], group["weight_decay"]) for group in optimizer.param_groups] == [(1, 0.5), (1, 0)]


# Of two blocks: the last is one layer away from the output, the first two, and embeddings three.
OPEN_CLIP = {
    "visual.class_embedding": 3,
    "visual.positional_embedding": 3,
    "visual.conv1.weight": 3,
    "visual.ln_pre.bias": 3,
    "visual.transformer.resblocks.0.attn.in_proj_weight": 2,
    "visual.transformer.resblocks.1.ln_1.bias": 1,
    "visual.ln_post.weight": 0,
    "visual.proj": 0,
    "token_embedding.weight": 3,
    "positional_embedding": 3,
    "transformer.resblocks.0.mlp.c_fc.weight": 2,
    "transformer.resblocks.1.mlp.c_fc.weight": 1,
    "ln_final.weight": 0,
    "text_projection": 0,
    "logit_scale": 0,
}
TRANSFORMERS = {
    "vision_model.embeddings.patch_embedding.weight": 3,
    "vision_model.encoder.layers.0.self_attn.q_proj.weight": 2,
    "vision_model.encoder.layers.1.layer_norm1.bias": 1,
    "vision_model.post_layernorm.weight": 0,
    "text_model.embeddings.position_embedding.weight": 3,
    "text_model.encoder.layers.0.mlp.fc1.weight": 2,
    "text_model.encoder.layers.1.mlp.fc1.weight": 1,
    "text_model.final_layer_norm.weight": 0,
    "logit_scale": 0,
}
CLIP = {
    **TRANSFORMERS,
    "vision_model.pre_layrnorm.weight": 3,
    "visual_projection.weight": 0,
    "text_projection.weight": 0,
}
SIGLIP = {
    **TRANSFORMERS,
    "vision_model.head.probe": 0,
    "vision_model.head.attention.in_proj_weight": 0,
    "text_model.head.weight": 0,
    "logit_bias": 0,
}


@pytest.mark.parametrize(
    ("build", "layers"),
    [(models.openclip_model, OPEN_CLIP), (models.clip_model, CLIP), (models.siglip_model, SIGLIP)],
    ids=["open_clip", "clip", "siglip"],
)
def test_the_rate_falls_layer_by_layer(build, layers):
    model = build()
    rates = _rates(model, 0.5)
    assert rates.keys() == dict(model.named_parameters()).keys()
    assert {name: rates[name] for name in layers} == {name: 0.5**depth for name, depth in layers.items()}


def test_depths_of_towers_that_open_clip_borrows():
    """A ResNet, a ViT and a ConvNeXt of timm, a BERT, and the decoder of CoCa, which is in neither tower."""
    stages = [f"visual.layer{stage}.0.conv1.weight" for stage in (1, 2, 3, 4)]
    resnet = ["visual.conv1.weight", "visual.bn2.bias", *stages, "visual.attnpool.positional_embedding"]
    assert list(depths(resnet).values()) == [5, 5, 4, 3, 2, 1, 0]
    vit = ["cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "norm.weight"]
    names = [f"visual.trunk.{name}" for name in vit] + ["visual.head.proj.weight"]
    assert list(depths(names).values()) == [2, 2, 2, 1, 0, 0]
    convnext = ["stem.0.weight", "stages.0.blocks.0.conv_dw.weight", "stages.1.downsample.0.bias", "head.norm.weight"]
    assert list(depths(f"visual.trunk.{name}" for name in convnext).values()) == [3, 2, 1, 0]
    bert = ["embeddings.LayerNorm.weight", "encoder.layer.0.attention.self.query.weight", "encoder.layer.1.output.bias"]
    names = [f"text.transformer.{name}" for name in bert] + ["text.proj.weight", "text_decoder.resblocks.7.ln_1.bias"]
    assert list(depths(names).values()) == [3, 2, 1, 0, 0]
    text = [
        "text.token_embedding.weight",
        "text.cls_emb",
        "text.transformer.resblocks.0.ln_1.bias",
        "text.ln_final.bias",
    ]
    assert list(depths(text).values()) == [2, 2, 1, 0]


def test_frozen_layers_count_but_are_not_given_to_the_optimiser():
    model = models.openclip_model()
    model.visual.transformer.resblocks[1].requires_grad_(False)
    rates = _rates(model, 0.5)
    assert rates["visual.transformer.resblocks.0.ln_1.bias"] == 0.25
    assert not any("visual.transformer.resblocks.1" in name for name in rates)


def test_adapters_learn_at_the_rate_of_their_layer():
    model = models.openclip_model()
    add_lora(model, rank=2)
    rates = _rates(model, 0.5)
    assert rates["transformer.resblocks.0.attn.in_proj.lora_B.default.weight"] == 0.25
    assert rates["logit_scale"] == 1
    assert set(rates.values()) == {0.25, 0.5, 1}


def test_groups_survive_saving():
    """A run that goes on keeps its rates, and the optimiser's memory stays with the right weights."""
    config = TrainingConfig(learning_rate=0.1, layer_decay=0.5)
    one, two = models.openclip_model(), models.openclip_model()
    optimizers = [make_optimizer(model, config) for model in (one, two)]
    for weight in one.parameters():
        weight.grad = torch.full_like(weight, 0.01)
    optimizers[0].step()
    two.load_state_dict(one.state_dict())
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    assert [group["rate"] for group in optimizers[1].param_groups] == [
        group["rate"] for group in optimizers[0].param_groups
    ]
    for model, optimizer in zip((one, two), optimizers, strict=True):
        for weight in model.parameters():
            weight.grad = torch.full_like(weight, -0.02)
        optimizer.step()
    assert all(torch.equal(weight, two.state_dict()[name]) for name, weight in one.state_dict().items())


def test_the_average_follows_weights_and_statistics():
    model = torch.nn.BatchNorm1d(2)
    average = WeightAverage(model, 0.5)
    with torch.no_grad():
        model.weight.fill_(3.0)
    model.num_batches_tracked += 7
    average.update(model, 0)
    assert average.state["weight"].tolist() == pytest.approx([2.8, 2.8])  # 0.1 of 1 and 0.9 of 3
    assert average.state["num_batches_tracked"] == 7
    average.update(model, 1000)
    assert average.state["weight"].tolist() == pytest.approx([2.9, 2.9])


def test_the_average_leaves_out_what_is_frozen():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    model[0].requires_grad_(False)
    statistics = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert WeightAverage(model, 0.5).state.keys() == {"1.weight", "1.bias"} | statistics


def test_a_rate_below_the_spacing_of_floats_is_a_warning_with_numbers():
    model = torch.nn.Linear(64, 64)
    with torch.no_grad():
        model.weight.fill_(1.0)
    with pytest.warns(RuntimeWarning, match=r"learning_rate=3e-09 cannot move 99% .* Above 6e-08"):
        warn_if_stuck(model, 3e-9)
    assert torch.equal(model.weight + 3e-9, model.weight)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_stuck(model, 1e-6)
        warn_if_stuck(torch.nn.Identity(), 1e-6)
