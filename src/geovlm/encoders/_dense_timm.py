"""The image towers of timm that tell where, as open_clip wraps them: SigLIP's ViT, ResNets and ConvNeXts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import frozen
from torch.nn.functional import avg_pool2d, pad

from geovlm.encoders._dense_vit import DenseVit, square_patches

if TYPE_CHECKING:
    from torch import Tensor

    from geovlm.encoders._dense_vit import DenseTower


def tower_of(visual: Any) -> DenseTower | None:
    """The tower in an `open_clip` `TimmModel`, if it can tell where."""
    from timm.models.convnext import ConvNeXt
    from timm.models.resnet import ResNet
    from timm.models.vision_transformer import VisionTransformer

    trunk = visual.trunk
    if isinstance(trunk, VisionTransformer):
        return _vit(visual)
    if isinstance(trunk, ResNet | ConvNeXt) and not hasattr(visual.head, "pool"):
        return _Averaged(visual=visual, is_centred=isinstance(trunk, ConvNeXt))
    return None


# --- ViT --------------------------------------------------------------------------------------------------------------


def _vit(visual: Any) -> DenseVit | None:
    """A ViT without class token and with an attention-pooling head: SigLIP's."""
    trunk = visual.trunk
    has_prefix = trunk.num_prefix_tokens > 0
    if trunk.attn_pool is None or has_prefix or trunk.pos_embed is None or not square_patches(trunk.patch_embed.proj):
        return None
    return DenseVit(
        patches=trunk.patch_embed.proj,
        prefix=trunk.pos_embed.new_empty(0, trunk.embed_dim),
        positions=trunk.pos_embed[0].unflatten(0, trunk.patch_embed.grid_size),
        norm=trunk.norm_pre,
        blocks=trunk.blocks,
        pool=partial(_pool, visual),
        read=partial(_read, visual),
    )


def _pool(visual: Any, tokens: Tensor) -> Tensor:
    features: Tensor = visual.head(visual.trunk.forward_head(visual.trunk.norm(tokens)))
    return features


def _read(visual: Any, _: Tensor, tokens: Tensor) -> Tensor:
    """The attention-pooling head on each token alone."""
    return _pool(visual, tokens.flatten(0, 1).unsqueeze(1)).reshape(*tokens.shape[:2], -1)


# --- convolutions -----------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class _Averaged:
    """A convolutional tower that averages over places before it projects: projected without averaging.

    Zhou et al., "Learning Deep Features for Discriminative Localization" (class activation maps), CVPR 2016.

    Args:
        visual: The tower.
        is_centred: Whether places lie in the middle of their pixels, as where convolutions cut an image into patches. A
            ResNet's strided convolutions have odd kernels and look at the first pixel of a place.
    """

    visual: Any
    is_centred: bool

    @property
    def patch_size(self) -> int:
        return int(self.visual.trunk.feature_info[-1]["reduction"])

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised NCHW pixels to features `(n, dim)` of images and `(n, rows * columns, dim)` of places."""
        maps = self.visual.trunk.forward_features(pixels)
        places = (maps if self.is_centred else _moved_to_middles(maps)).flatten(2).transpose(1, 2)
        alone = self._project(places.flatten(0, 1)[:, :, None, None])
        return self._project(maps), alone.reshape(*places.shape[:2], -1)

    def _project(self, maps: Tensor) -> Tensor:
        features: Tensor = self.visual.head(self.visual.trunk.forward_head(maps))
        return features


def _moved_to_middles(maps: Tensor) -> Tensor:
    """Features between each place and the next, half a place to the right and down."""
    return avg_pool2d(pad(maps, (0, 1, 0, 1), mode="replicate"), 2, stride=1)
