"""Texts of open_clip without their filling, for text towers in which it decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


@frozen(kw_only=True)
class CausalTower:
    """A text tower in which no token sees those after it, read at the token that ends a text.

    Args:
        prefix: Of the names of its parts in the model.
        positions: Its positional embeddings `(context, width)`.
        mask: Its attention mask `(context, context)`.
        end: The token that ends a text; `None` is the one with the highest number.
    """

    prefix: str
    positions: Tensor
    mask: Tensor
    end: int | None

    @classmethod
    def of(cls, model: Any) -> CausalTower | None:
        """The text tower of a model of open_clip, if it is of this kind."""
        from open_clip import CLIP, CustomTextCLIP
        from open_clip.transformer import TextTransformer

        if isinstance(model, CLIP):
            prefix, tower, pool, end = "", model, model.text_pool_type, model.text_eos_id
        elif isinstance(model, CustomTextCLIP) and isinstance(model.text, TextTransformer):
            prefix, tower, pool, end = "text.", model.text, model.text.pool_type, model.text.eos_id
        else:
            return None
        if tower.attn_mask is None or pool not in ("argmax", "eos") or getattr(tower, "cls_emb", None) is not None:
            return None
        end = end if pool == "eos" else None
        return cls(prefix=prefix, positions=tower.positional_embedding, mask=tower.attn_mask, end=end)

    def shorten(self, tokens: Tensor) -> Tensor:
        """Cut all texts `(n, context)` after the last token that any of them is read at."""
        ends = tokens if self.end is None else (tokens == self.end).int()
        return tokens[:, : int(ends.argmax(dim=-1).max()) + 1]

    def encode(self, model: nn.Module, tokens: Tensor) -> Tensor:
        """Features of shortened texts; open_clip itself takes only those of the full context."""
        read = None if torch.is_grad_enabled() else self.reader(model)
        if read is not None:
            return read(tokens)
        length = tokens.shape[1]
        parts = {"positional_embedding": self.positions[:length], "attn_mask": self.mask[:length, :length]}
        renamed = {f"model.{self.prefix}{name}": tensor for name, tensor in parts.items()}
        features: Tensor = torch.func.functional_call(_TextSide(model), renamed, (tokens,))
        return features

    def reader(self, model: nn.Module) -> Callable[[Tensor], Tensor] | None:
        """What does the same in fewer steps, without gradients, if nothing but the usual parts is in the way.

        Torch's own attention copies weights once a token for batches in bfloat16.
        """
        tower = model.get_submodule(self.prefix.removesuffix("."))
        return (lambda tokens: self._read(tower, tokens)) if _is_plain(tower) else None  # torch traces no partial

    def _read(self, tower: Any, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        x = tower.token_embedding(tokens) + self.positions[:length]
        mask = self.mask[:length, :length].to(x.dtype)
        for block in tower.transformer.resblocks:
            x = x + block.ls_1(_attend(block.attn, block.ln_1(x), mask))
            x = x + block.ls_2(block.mlp(block.ln_2(x)))
        ends = tokens if self.end is None else (tokens == self.end).int()
        # Sizes are asked of the tensors, so that what is converted of this takes any number of texts.
        pooled: Tensor = tower.ln_final(x[torch.arange(x.shape[0], device=x.device), ends.argmax(dim=-1)])
        features: Tensor = pooled @ tower.text_projection
        return features


def _is_plain(tower: Any) -> bool:
    """Whether nothing but the usual parts comes between tokens and features."""
    from open_clip.transformer import ResidualAttentionBlock, Transformer

    return (
        type(tower.transformer) is Transformer
        and all(
            type(block) is ResidualAttentionBlock and type(block.attn) is nn.MultiheadAttention
            for block in tower.transformer.resblocks
        )
        and isinstance(tower.text_projection, nn.Parameter)
    )


def _attend(attention: nn.MultiheadAttention, x: Tensor, mask: Tensor) -> Tensor:
    texts, length, width = x.shape
    projected = linear(x, attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = projected.view(texts, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    seen = scaled_dot_product_attention(query, key, value, attn_mask=mask)
    found: Tensor = attention.out_proj(seen.transpose(1, 2).reshape(texts, length, width))
    return found


class _TextSide(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, tokens: Tensor) -> Any:
        return self.model.encode_text(tokens, normalize=False)
