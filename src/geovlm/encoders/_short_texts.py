"""Texts of open_clip without their filling, for text towers in which it decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch import nn

if TYPE_CHECKING:
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
        length = tokens.shape[1]
        parts = {"positional_embedding": self.positions[:length], "attn_mask": self.mask[:length, :length]}
        renamed = {f"model.{self.prefix}{name}": tensor for name, tensor in parts.items()}
        features: Tensor = torch.func.functional_call(_TextSide(model), renamed, (tokens,))
        return features


class _TextSide(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, tokens: Tensor) -> Any:
        return self.model.encode_text(tokens, normalize=False)
