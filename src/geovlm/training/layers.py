"""Where in a model a weight stands, by its name: in which tower, and how far from that tower's output."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

Tower: TypeAlias = Literal["image", "text"]

# By the first part of a name. What is missing belongs to no tower: logit scale and bias, a decoder of captions.
_TOWERS: dict[str, Tower] = {
    **dict.fromkeys(("visual", "vision_model", "visual_projection"), "image"),
    **dict.fromkeys(("text", "text_model", "text_projection"), "text"),
    **dict.fromkeys(("transformer", "token_embedding", "positional_embedding", "ln_final"), "text"),
}

# What comes before the first block: patches or tokens to vectors. Read at the tower's own level only, as attention
# pools at the other end have positional embeddings too.
_STEM = re.compile(
    r"(?:visual\.(?:trunk\.)?|vision_model\.|text_model\.|text\.(?:transformer\.)?)?"
    r"(?:\w*emb\w*|\w+_token|conv\d|bn\d|stem\w*|ln_pre|pre_layrnorm|norm_pre)(?:\.|$)"
)
_BLOCK = re.compile(r"(?:^|\.)(?:resblocks|blocks?|layers?|stages)\.?(\d+)\.")


def tower_of(name: str) -> Tower | None:
    """The tower that a weight of open_clip or transformers belongs to.

    Examples:
        >>> tower_of("visual.conv1.weight"), tower_of("transformer.resblocks.0.ln_1.bias"), tower_of("logit_scale")
        ('image', 'text', None)
    """
    return _TOWERS.get(name.partition(".")[0])


def block_of(name: str) -> int | None:
    """The number of the transformer block, or of the stage of a convolutional network, that a weight belongs to.

    Examples:
        >>> block_of("visual.transformer.resblocks.11.mlp.c_fc.weight"), block_of("visual.layer4.2.conv1.weight")
        (11, 4)
        >>> block_of("visual.conv1.weight") is None
        True
    """
    found = None if tower_of(name) is None or _STEM.match(name) else _BLOCK.search(name)
    return None if found is None else int(found[1])


def depths(names: Iterable[str]) -> dict[str, int]:
    """How many layers each weight is away from its tower's output.

    Projections, final norms and the logit scale are at 0, the last block at 1, the first of `n` blocks at `n`, and
    embeddings at `n + 1`.

    Args:
        names: Of all weights of a model.

    Examples:
        >>> blocks = [f"transformer.resblocks.{number}.ln_1.weight" for number in (0, 1)]
        >>> list(depths(["token_embedding.weight", *blocks, "text_projection", "logit_scale"]).values())
        [3, 2, 1, 0, 0]
    """
    names = list(names)
    blocks: dict[Tower | None, set[int]] = defaultdict(set)
    for name in names:
        if (number := block_of(name)) is not None:
            blocks[tower_of(name)].add(number)
    return {name: _depth(name, sorted(blocks[tower_of(name)])) for name in names}


def _depth(name: str, blocks: list[int]) -> int:
    number = block_of(name)
    if number is not None:
        return len(blocks) - blocks.index(number)
    return len(blocks) + 1 if tower_of(name) and _STEM.match(name) else 0


@torch.no_grad()
def drift(base: nn.Module, tuned: nn.Module) -> dict[str, float]:
    """How far each tower has come: the distance of its weights, relative to their length (L2)."""
    weights = dict(base.named_parameters())
    moved: dict[str, float] = {}
    length: dict[str, float] = {}
    for name, after in tuned.named_parameters():
        tower, before = tower_of(name), weights[name].to(after)
        if tower is not None:
            moved[tower] = moved.get(tower, 0.0) + float((after - before).double().square().sum())
            length[tower] = length.get(tower, 0.0) + float(before.double().square().sum())
    return {tower: (moved[tower] / length[tower]) ** 0.5 for tower in sorted(moved) if length[tower]}
