"""Vision transformers that tell where: one pass, the vector of the image and one of each patch, in the joint space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from attrs import frozen
from torch.nn.functional import interpolate, scaled_dot_product_attention

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn


class DenseTower(Protocol):
    """An image tower that gives features of places beside those of the image.

    Attributes:
        patch_size: Side in pixels of a place.
    """

    @property
    def patch_size(self) -> int: ...

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised NCHW pixels to features `(n, dim)` of images and `(n, rows * columns, dim)` of places."""
        ...


@frozen(kw_only=True)
class DenseVit:
    """A vision transformer, its parts under the same names for every library.

    Args:
        patches: The convolution that makes tokens of patches.
        prefix: What stands before them, positions included: the class token `(1, width)`, or nothing `(0, width)`.
        positions: Of the patches, `(rows, columns, width)`.
        norm: What comes between these and the blocks.
        blocks: The blocks, each a function of tokens.
        pool: Finished tokens to the feature of the image.
        read: Tokens before the last block and finished ones to features of both prefix and patches.
    """

    patches: nn.Conv2d
    prefix: Tensor
    positions: Tensor
    norm: Callable[[Tensor], Tensor]
    blocks: Sequence[Callable[[Tensor], Tensor]]
    pool: Callable[[Tensor], Tensor]
    read: Callable[[Tensor, Tensor], Tensor]

    @property
    def patch_size(self) -> int:
        """Side in pixels of a patch."""
        return int(self.patches.kernel_size[0])

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised NCHW pixels to features `(n, dim)` of images and `(n, rows * columns, dim)` of patches."""
        tokens = self.norm(self.embed(pixels))
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        finished = self.blocks[-1](tokens)
        return self.pool(finished), self.read(tokens, finished)[:, len(self.prefix) :]

    def embed(self, pixels: Tensor) -> Tensor:
        """Normalised NCHW pixels to tokens `(n, tokens, width)`, the prefix before the patches."""
        patches = self.patches(pixels)
        positions = resized(self.positions, patches.shape[2:]).flatten(0, 1)
        tokens = patches.flatten(2).transpose(1, 2) + positions.to(patches.dtype)
        return torch.cat([self.prefix.to(tokens.dtype).expand(tokens.shape[0], -1, -1), tokens], dim=1)


def resized(positions: Tensor, size: Sequence[int]) -> Tensor:
    """Position embeddings `(rows, columns, width)` for another grid; for their own they come back as they are.

    Bicubic with antialiasing, as open_clip and timm adapt checkpoints to other resolutions.
    """
    if positions.shape[:2] == tuple(size):
        return positions
    planes = positions.permute(2, 0, 1).unsqueeze(0).float()
    return interpolate(planes, size=tuple(size), mode="bicubic", antialias=True)[0].permute(1, 2, 0)


def self_self_attention(q: Tensor, k: Tensor, v: Tensor, *, heads: int) -> Tensor:
    """Attention of like to like: softmax(qq) v + softmax(kk) v + softmax(vv) v, of tensors `(n, tokens, width)`.

    A token so looks first at itself and at those that resemble it, where the learned attention looks wherever helps
    the class token.
    """
    q, k, v = (part.reshape(*part.shape[:2], heads, -1).transpose(1, 2) for part in (q, k, v))
    mixed = sum(scaled_dot_product_attention(part, part, v) for part in (q, k, v))
    assert not isinstance(mixed, int)
    return mixed.transpose(1, 2).flatten(2)


def square_patches(convolution: Any) -> bool:
    """Whether patches are squares that lie side by side."""
    return len({*convolution.kernel_size, *convolution.stride}) == 1
