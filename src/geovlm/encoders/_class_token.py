"""Vision transformers that are read at their class token, in fewer steps than the libraries take.

The vectors are the library's own, for CLIP's image towers in open_clip and transformers. In the last block only the
class token is computed, which is all that is read: a twelfth of the work less for ViT-B. Attention is torch's
`scaled_dot_product_attention` for both libraries, so that other back ends can convert it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import frozen
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention

from geovlm.encoders import _dense_huggingface, _dense_openclip
from geovlm.encoders._dense_vit import DenseVit

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


@frozen(kw_only=True)
class ClassTokenVit:
    """A vision transformer that is read at its first token.

    Args:
        vit: Its parts before and after the blocks.
        blocks: The blocks.
    """

    vit: DenseVit
    blocks: tuple[Block, ...]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalised NCHW pixels of the model's own size to features `(n, dim)`."""
        tokens = self.vit.norm(self.vit.embed(pixels))
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        return self.vit.pool(self.blocks[-1](tokens, first_only=True))


@frozen(kw_only=True)
class Block:
    """A block of a vision transformer, its parts under the same names for every library.

    Args:
        norm: What comes before the attention.
        projections: To queries, keys and values.
        heads: Of the attention.
        out: What comes after it.
        feed: The second half, its norm included.
    """

    norm: Callable[[Tensor], Tensor]
    projections: tuple[Callable[[Tensor], Tensor], ...]
    heads: int
    out: Callable[[Tensor], Tensor]
    feed: Callable[[Tensor], Tensor]

    def __call__(self, tokens: Tensor, *, first_only: bool = False) -> Tensor:
        """Tokens `(n, tokens, width)` to the same, or to the first of each: `(n, 1, width)`."""
        seen = self.norm(tokens)
        asking = seen
        if first_only:
            tokens, asking = tokens[:, :1], seen[:, :1]
        q, k, v = (
            project(part).reshape(*part.shape[:2], self.heads, -1).transpose(1, 2)
            for project, part in zip(self.projections, (asking, seen, seen), strict=True)
        )
        tokens = tokens + self.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return tokens + self.feed(tokens)


def of_clip(model: Any) -> ClassTokenVit | None:
    """The image tower of a `CLIPModel` of transformers."""
    vit = _dense_huggingface.tower_of(model)
    if model.config.model_type != "clip" or not isinstance(vit, DenseVit):
        return None
    return ClassTokenVit(vit=vit, blocks=tuple(_clip_block(layer) for layer in model.vision_model.encoder.layers))


def _clip_block(layer: Any) -> Block:
    attention = layer.self_attn
    return Block(
        norm=layer.layer_norm1,
        projections=(attention.q_proj, attention.k_proj, attention.v_proj),
        heads=attention.num_heads,
        out=attention.out_proj,
        feed=lambda tokens: layer.mlp(layer.layer_norm2(tokens)),
    )


def of_openclip(visual: Any) -> ClassTokenVit | None:
    """The image tower of a model of open_clip, if it is a ViT with nothing but the usual parts."""
    vit = _dense_openclip.tower_of(visual)
    if not isinstance(vit, DenseVit) or getattr(visual, "pool_type", None) != "tok":
        return None
    blocks = visual.transformer.resblocks
    if not all(_is_plain(block) for block in blocks):
        return None
    return ClassTokenVit(vit=vit, blocks=tuple(_openclip_block(block) for block in blocks))


def _is_plain(block: Any) -> bool:
    """Whether its attention is torch's own: adapters such as LoRA put theirs in its place."""
    from open_clip.transformer import ResidualAttentionBlock

    return type(block) is ResidualAttentionBlock and type(block.attn) is nn.MultiheadAttention


def _openclip_block(block: Any) -> Block:
    attention = block.attn
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    return Block(
        norm=block.ln_1,
        projections=tuple(partial(linear, weight=w, bias=b) for w, b in zip(weights, biases, strict=True)),
        heads=attention.num_heads,
        out=lambda mixed: block.ls_1(attention.out_proj(mixed)),
        feed=lambda tokens: block.ls_2(block.mlp(block.ln_2(tokens))),
    )
