"""The image towers of transformers that tell where: those of CLIP and SigLIP."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from geovlm.encoders._dense_vit import DenseVit, self_self_attention, square_patches

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from geovlm.encoders._dense_vit import DenseTower


def tower_of(model: Any) -> DenseTower | None:
    """The image tower of a `CLIPModel` or `SiglipModel`, if it can tell where."""
    if not square_patches(model.vision_model.embeddings.patch_embedding):
        return None
    return _clip(model) if model.config.model_type == "clip" else _siglip(model.vision_model)


# --- CLIP -------------------------------------------------------------------------------------------------------------


def _clip(model: Any) -> DenseVit:
    vision = model.vision_model
    positions = vision.embeddings.position_embedding.weight
    return DenseVit(
        patches=vision.embeddings.patch_embedding,
        prefix=vision.embeddings.class_embedding + positions[:1],
        positions=_grid(positions[1:]),
        norm=vision.pre_layrnorm,
        blocks=_blocks(vision),
        pool=lambda tokens: model.visual_projection(vision.post_layernorm(tokens[:, 0])),
        read=partial(_read, model),
    )


def _read(model: Any, tokens: Tensor, _: Tensor) -> Tensor:
    vision = model.vision_model
    layer = vision.encoder.layers[-1]
    attention, seen = layer.self_attn, layer.layer_norm1(tokens)
    q, k, v = attention.q_proj(seen), attention.k_proj(seen), attention.v_proj(seen)
    mixed = attention.out_proj(self_self_attention(q, k, v, heads=attention.num_heads))
    features: Tensor = model.visual_projection(vision.post_layernorm(mixed))
    return features


# --- SigLIP -----------------------------------------------------------------------------------------------------------


def _siglip(vision: Any) -> DenseVit | None:
    if not vision.use_head:
        return None
    positions = vision.embeddings.position_embedding.weight
    return DenseVit(
        patches=vision.embeddings.patch_embedding,
        prefix=positions.new_empty(0, positions.shape[1]),
        positions=_grid(positions),
        norm=lambda tokens: tokens,
        blocks=_blocks(vision),
        pool=lambda tokens: vision.head(vision.post_layernorm(tokens)),
        read=partial(_read_alone, vision),
    )


def _read_alone(vision: Any, _: Tensor, tokens: Tensor) -> Tensor:
    """The attention-pooling head on each token alone."""
    alone = vision.post_layernorm(tokens).flatten(0, 1).unsqueeze(1)
    features: Tensor = vision.head(alone)
    return features.reshape(*tokens.shape[:2], -1)


def _blocks(vision: Any) -> list[Callable[[Tensor], Tensor]]:
    return [partial(layer, attention_mask=None) for layer in vision.encoder.layers]


def _grid(positions: Tensor) -> Tensor:
    side = round(len(positions) ** 0.5)
    return positions.reshape(side, side, -1)
