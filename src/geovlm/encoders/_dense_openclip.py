"""The image towers of open_clip that tell where."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import frozen
from torch.nn.functional import linear, scaled_dot_product_attention

from geovlm.encoders._dense_vit import DenseVit, resized, self_self_attention, square_patches

if TYPE_CHECKING:
    from torch import Tensor

    from geovlm.encoders._dense_vit import DenseTower


def tower_of(visual: Any) -> DenseTower | None:
    """The image tower of an open_clip model, if it can tell where."""
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    if isinstance(visual, VisionTransformer):
        return _vit(visual)
    if isinstance(visual, ModifiedResNet):
        return _AttentionPooled(visual=visual)
    if isinstance(visual, TimmModel):
        from geovlm.encoders._dense_timm import tower_of as timm_tower_of

        return timm_tower_of(visual)
    return None


# --- ViT --------------------------------------------------------------------------------------------------------------


def _vit(visual: Any) -> DenseVit | None:
    from open_clip.transformer import ResidualAttentionBlock

    blocks = visual.transformer.resblocks
    if visual.attn_pool is not None or visual.pool_type == "none" or not square_patches(visual.conv1):
        return None
    if not isinstance(blocks[-1], ResidualAttentionBlock) or not visual.transformer.batch_first:
        return None
    positions = visual.positional_embedding
    return DenseVit(
        patches=visual.conv1,
        prefix=visual.class_embedding + positions[:1],
        positions=positions[1:].unflatten(0, visual.grid_size),
        norm=visual.ln_pre,
        blocks=blocks,
        pool=partial(_pool, visual),
        read=partial(_read if visual.pool_type == "tok" else _read_finished, visual),
    )


def _pool(visual: Any, tokens: Tensor) -> Tensor:
    features: Tensor = visual._pool(tokens)[0] @ visual.proj  # noqa: SLF001 - the library's own, whatever the pooling
    return features


def _read(visual: Any, tokens: Tensor, _: Tensor) -> Tensor:
    block = visual.transformer.resblocks[-1]
    attention = block.attn
    q, k, v = linear(block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias).chunk(3, dim=-1)
    mixed = attention.out_proj(self_self_attention(q, k, v, heads=attention.num_heads))
    features: Tensor = visual.ln_post(block.ls_1(mixed)) @ visual.proj
    return features


def _read_finished(visual: Any, _: Tensor, tokens: Tensor) -> Tensor:
    """Where patches are averaged, each is in the joint space already."""
    features: Tensor = visual.ln_post(tokens) @ visual.proj
    return features


# --- ResNet -----------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class _AttentionPooled:
    """CLIP's ResNet, whose attention pooling is a projection of values at each place.

    Zhou, Loy & Dai, "Extract Free Dense Labels from CLIP" (MaskCLIP), ECCV 2022.
    """

    visual: Any

    @property
    def patch_size(self) -> int:
        return 32

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised NCHW pixels to features `(n, dim)` of images and `(n, rows * columns, dim)` of places."""
        visual, pool = self.visual, self.visual.attnpool
        maps = visual.stem(pixels)
        for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            maps = layer(maps)
        places = maps.flatten(2).transpose(1, 2)
        return self._pooled(places, maps.shape[2:]), pool.c_proj(pool.v_proj(places))

    def _pooled(self, places: Tensor, size: tuple[int, int]) -> Tensor:
        """What the attention pooling gives, at any size."""
        pool = self.visual.attnpool
        side = round((len(pool.positional_embedding) - 1) ** 0.5)
        positions = resized(pool.positional_embedding[1:].unflatten(0, (side, side)), size).flatten(0, 1)
        located = places + positions.to(places.dtype)
        mean = places.mean(dim=1, keepdim=True) + pool.positional_embedding[0]
        return _attend(pool, mean, located)


def _attend(pool: Any, mean: Tensor, located: Tensor) -> Tensor:
    """The mean looks at itself and at all places."""
    import torch

    seen = torch.cat([mean, located], dim=1)
    q, k, v = (
        part.unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)
        for part in (pool.q_proj(mean), pool.k_proj(seen), pool.v_proj(seen))
    )
    features: Tensor = pool.c_proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(1))
    return features
