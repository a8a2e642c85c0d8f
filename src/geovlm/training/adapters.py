"""Low-rank adapters (LoRA, Hu et al. 2022, arXiv:2106.09685), by peft, beside the frozen weights of both towers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from geovlm._optional import require
from geovlm.errors import UsageError
from geovlm.training.layers import block_of, tower_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# peft's name for the only adapter of a layer.
ADAPTER = "default"

# Parameters of a whole model, not of a tower; they are too small to need an adapter.
TEMPERATURE = ("logit_scale", "logit_bias")


def add_lora(
    model: nn.Module,
    *,
    rank: int,
    alpha: float | None = None,
    dropout: float = 0.0,
    freeze: str = "none",
    seed: int = 0,
) -> None:
    """Freeze a model and put a low-rank adapter beside every linear layer in the blocks of its towers.

    The adapters add nothing yet: their second matrix is zero. The convolutions in the stages of a ResNet get adapters
    too; embeddings, norms, pooling and projections get none. Logit scale and bias are trained as they are.

    Args:
        model: A model of open_clip or transformers; it is changed.
        rank: Rank of the adapters.
        alpha: They are scaled by `alpha / rank`; `None` is twice the rank.
        dropout: Share of their inputs that is left out at random in training.
        freeze: The tower that gets none: `"image"`, `"text"` or `"none"`.
        seed: Of the first matrices; the program's own random numbers stay as they are.

    Raises:
        UsageError: A tower that is to be trained has no layer of a known kind.
        MissingExtra: peft is not installed.

    Examples:
        >>> from geovlm import new_encoder
        >>> vision = {"image_size": 16, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16}
        >>> text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
        >>> model = new_encoder({"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}).model
        >>> add_lora(model, rank=2, freeze="text")
        >>> sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        1025
    """
    peft = require("peft", extra="train", purpose="training adapters (lora_rank)")
    towers = [tower for tower in ("image", "text") if tower != freeze]
    _open_attention(model, towers)
    names = _adaptable(model, towers)
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,
        lora_dropout=dropout,
        # A list would match the ends of names, and so the image tower of open_clip along with its text tower.
        target_modules="|".join(map(re.escape, names)),
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        peft.inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    for _, layer in _adapted(model):
        layer.train(layer.base_layer.training)  # new dropout would be at work in a model that is in use
    for name in TEMPERATURE:
        weight = getattr(model, name, None)
        if isinstance(weight, nn.Parameter):
            weight.requires_grad = True


@torch.no_grad()
def merged_state(model: nn.Module, weights: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The state of the plain model that computes what this one does with its adapters, which stays as it is.

    Args:
        model: With adapters of `add_lora`, or without any: then its own state.
        weights: Taken instead of the model's own where they have the same name, such as moving averages.

    Returns:
        Names and shapes as in the model before `add_lora`. As in `state_dict()`, what was not merged is not copied.
    """
    state = {**model.state_dict(), **(weights or {})}
    merged = {}
    for name, layer in _adapted(model):
        down, up = (state.pop(f"{name}.lora_{matrix}.{ADAPTER}.weight") for matrix in "AB")
        # One product for linear layers and convolutions, whose kernels lie in the first matrix.
        change = torch.tensordot(up.flatten(1).float(), down.float(), dims=1) * layer.scaling[ADAPTER]
        weight = state[f"{name}.base_layer.weight"]
        merged[f"{name}.base_layer.weight"] = (weight + change).to(weight.dtype)
    plain_names = _plain_names(model)
    return {plain_names.get(key, key): merged.get(key, tensor) for key, tensor in state.items()}


class _OpenAttention(nn.Module):
    """The self-attention of `nn.MultiheadAttention`, by two linear layers that can be adapted.

    The original hands its matrices to a function instead of calling layers. peft's own way around that merges the
    adapters before every forward pass and subtracts them after it, which changes the frozen weights by rounding,
    leaves out dropout, and puts new parameters in the place of the old ones.
    """

    def __init__(self, original: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads, self.dropout = original.num_heads, original.dropout
        self.in_proj = _linear(original.in_proj_weight, original.in_proj_bias)
        self.out_proj = _linear(original.out_proj.weight, original.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """Attend as the original does; `(n, length, width)`, and a mask of numbers that are added to the logits."""
        assert key is query
        assert value is query
        assert not need_weights
        count, length, width = query.shape
        parts = self.in_proj(query).view(count, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        queries, keys, values = parts.unbind(0)
        if attn_mask is not None:
            attn_mask = attn_mask.to(queries.dtype)
            if attn_mask.ndim == 3:  # one mask for each head of each text
                attn_mask = attn_mask.view(count, self.heads, length, length)
        dropout = self.dropout if self.training else 0.0
        mixed = scaled_dot_product_attention(queries, keys, values, attn_mask=attn_mask, dropout_p=dropout)
        return self.out_proj(mixed.transpose(1, 2).reshape(count, length, width)), None


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A layer around parameters that exist."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    assert isinstance(weight, nn.Parameter)
    assert isinstance(bias, nn.Parameter)
    layer.weight, layer.bias = weight, bias
    return layer


def _open_attention(model: nn.Module, towers: list[str]) -> None:
    for name, module in list(model.named_modules()):
        if tower_of(name) in towers and block_of(f"{name}.") is not None and _can_be_opened(module):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, _OpenAttention(module).train(module.training))


def _can_be_opened(module: Any) -> bool:
    return (
        type(module) is nn.MultiheadAttention
        and module.batch_first
        and module.in_proj_weight is not None
        and module.in_proj_bias is not None
        and module.bias_k is None
        and not module.add_zero_attn
    )


def _adaptable(model: nn.Module, towers: list[str]) -> list[str]:
    """Names of the layers to be adapted."""
    names = [
        name
        for name, module in model.named_modules()
        if tower_of(name) in towers and block_of(f"{name}.") is not None
        if _is_adaptable(module) and _is_called(model, name)
    ]
    reached = {tower_of(name) for name in names}
    for tower in towers:
        if tower not in reached:
            raise UsageError(
                f"The {tower} tower of this {type(model).__name__} has no linear layers in numbered blocks, so there is"
                f" nothing to put adapters beside; leave lora_rank out, or set freeze={tower!r}."
            )
    return names


def _is_adaptable(module: nn.Module) -> bool:
    """Of these two classes only: what is derived from them does something else with its weights."""
    if type(module) is nn.Conv2d:
        return module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == "zeros"
    return type(module) is nn.Linear


def _is_called(model: nn.Module, name: str) -> bool:
    """BEiT and EVA of timm keep biases beside `qkv`, and then take its matrix without calling it."""
    block, _, own = name.rpartition(".")
    return own != "qkv" or getattr(model.get_submodule(block), "q_bias", None) is None


def _adapted(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The layers with an adapter; known by what peft gives them, so that peft is not needed where there are none."""
    for name, module in model.named_modules():
        if hasattr(module, "base_layer") and hasattr(module, "lora_A"):
            yield name, module


def _plain_names(model: nn.Module) -> dict[str, str]:
    """From names in the model with adapters to those without, where they differ."""
    opened = {f"{name}.in_proj" for name, module in model.named_modules() if isinstance(module, _OpenAttention)}
    return {
        f"{name}.base_layer.{kind}": f"{name}{'_' if name in opened else '.'}{kind}"
        for name, _ in _adapted(model)
        for kind in ("weight", "bias")
    }
