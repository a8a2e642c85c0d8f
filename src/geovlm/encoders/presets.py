"""Published remote-sensing encoders by short name: a table, no code."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PRESETS", "Preset"]


@frozen(kw_only=True)
class Preset:
    """A published model in the format of open_clip.

    Args:
        architecture: The open_clip architecture that the weights were trained with, activation included: the names that
            end in `-quickgelu` have the same weights as those that do not, and give other vectors.
        url: Where the weights are: a checkpoint, or a zip with one in it.
        trained_on: The pairs that it learned from.
        templates: The prompt templates that it was evaluated with, a name in `geovlm.prompts.TEMPLATES`.
        licence: As its repository says.
        paper: The arXiv number.
    """

    architecture: str
    url: str
    trained_on: str
    templates: str
    licence: str
    paper: str

    @property
    def stem(self) -> str:
        """The name under which the weights are published, by which a local copy is recognised."""
        return PurePosixPath(self.url).stem


def _sky(architecture: str, stem: str, trained_on: str) -> Preset:
    """Wang et al., "SkyScript: a large and semantically diverse vision-language dataset …", AAAI 2024."""
    return Preset(
        architecture=architecture,
        url=f"https://opendatasharing.s3.us-west-2.amazonaws.com/SkyScript/ckpt/{stem}.zip",
        trained_on=trained_on,
        templates="skyscript",
        licence="MIT",
        paper="2312.12856",
    )


# The L/14 models started from OpenAI's weights, which compute QuickGELU; the B/32 model from LAION's: GELU.
_L14, _B32 = "ViT-L-14-quickgelu", "ViT-B-32"

PRESETS: Mapping[str, Preset] = {
    "skyclip-vit-l-14": _sky(
        _L14,
        "SkyCLIP_ViT_L14_top30pct_filtered_by_CLIP_laion_RS",
        "the 30 % of SkyScript that CLIP-laion-RS ranks first",
    ),
    "skyclip-vit-l-14-top30": _sky(
        _L14, "SkyCLIP_ViT_L14_top30pct", "the 30 % of SkyScript that OpenAI's CLIP ranks first"
    ),
    "skyclip-vit-l-14-top50": _sky(
        _L14, "SkyCLIP_ViT_L14_top50pct", "the 50 % of SkyScript that OpenAI's CLIP ranks first"
    ),
    "skyclip-vit-l-14-multi-objects": _sky(
        _L14, "SkyCLIP_ViT_L14_top30pct_multi_objects", "30 % of SkyScript, captions that name several objects"
    ),
    "skyclip-vit-b-32": _sky(_B32, "SkyCLIP_ViT_B32_top50pct", "the 50 % of SkyScript that OpenAI's CLIP ranks first"),
    "clip-laion-rs-vit-l-14": _sky(_L14, "CLIP_ViT_L14_LAION_RS", "the 726,000 remote-sensing pairs of LAION-2B"),
}
"""Short name → preset. `skyclip-vit-l-14` is the one with the best mean over the benchmarks of its authors."""
