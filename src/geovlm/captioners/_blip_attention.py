"""Attention of BLIP without the copies that transformers makes for this model.

The image tower writes out a matrix of 577 × 577 weights a head and image and passes over it four times; torch's fused
kernel (Dao et al. 2022, arXiv 2205.14135) does not. The decoder copies the keys and values of the image at every token,
because of the order in which they lie in memory; here they are laid out once. Results are the same but for rounding.
"""

from __future__ import annotations

from math import sqrt
from types import MethodType
from typing import TYPE_CHECKING, Any

from torch.nn.functional import scaled_dot_product_attention
from transformers.cache_utils import EncoderDecoderCache
from transformers.models.blip.modeling_blip import BlipAttention
from transformers.models.blip.modeling_blip_text import BlipTextSelfAttention

if TYPE_CHECKING:
    from torch import Tensor


def quicken(model: Any) -> None:
    """Let the parts of a BLIP model attend faster; for generating, not for training."""
    for part in model.modules():
        if type(part) is BlipAttention:
            part.forward = MethodType(_see, part)
        elif type(part) is BlipTextSelfAttention:
            part.forward = MethodType(_read, part)


def _see(part: Any, hidden_states: Tensor, **_: Any) -> tuple[Tensor, None]:
    """What the image tower's attention gives, in place of `BlipAttention.forward`."""
    images, length, width = hidden_states.shape
    heads = part.qkv(hidden_states).view(images, length, 3, part.num_heads, -1).permute(2, 0, 3, 1, 4)
    seen = scaled_dot_product_attention(heads[0], heads[1], heads[2], scale=part.scale)
    return part.projection(seen.transpose(1, 2).reshape(images, length, width)), None


def _read(
    part: Any,
    hidden_states: Tensor,
    *,
    attention_mask: Tensor | None = None,
    encoder_hidden_states: Tensor | None = None,
    encoder_attention_mask: Tensor | None = None,
    past_key_values: Any = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What the decoder's attention gives, to text or to the image, in place of `BlipTextSelfAttention.forward`."""
    of_image = encoder_hidden_states is not None
    query = _heads(part, part.query(hidden_states))
    key, value = _keys_and_values(part, encoder_hidden_states if of_image else hidden_states, of_image, past_key_values)
    scores = query @ key.transpose(-1, -2) / sqrt(part.attention_head_size)  # for one token faster than the kernel
    mask = encoder_attention_mask if of_image else attention_mask
    if mask is not None:
        scores += mask
    found = scores.softmax(dim=-1) @ value
    return found.transpose(1, 2).reshape(*hidden_states.shape[:-1], part.all_head_size), None


def _keys_and_values(part: Any, states: Tensor | None, of_image: bool, past: Any) -> tuple[Tensor, Tensor]:
    """Those of the tokens so far; those of the image are made once."""
    joint = isinstance(past, EncoderDecoderCache)
    cache = past if not joint else past.cross_attention_cache if of_image else past.self_attention_cache
    if of_image and joint and past.is_updated.get(part.layer_idx):
        return cache.layers[part.layer_idx].keys, cache.layers[part.layer_idx].values
    key, value = (_heads(part, project(states)).contiguous() for project in (part.key, part.value))
    if cache is not None:
        key, value = cache.update(key, value, part.layer_idx)
        if of_image and joint:
            past.is_updated[part.layer_idx] = True
    return key, value


def _heads(part: Any, states: Tensor) -> Tensor:
    return states.view(*states.shape[:-1], -1, part.attention_head_size).transpose(1, 2)
