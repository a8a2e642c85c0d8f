"""Mixes of two encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geovlm.encoders._torch import TorchEncoder
from geovlm.errors import UsageError
from geovlm.training import interpolation

if TYPE_CHECKING:
    from geovlm.protocols import Encoder


def interpolate(base: Encoder, tuned: Encoder, *, share: float) -> Encoder:
    """Mix an encoder with its tuned self, weight by weight: `base + share · (tuned − base)`.

    A tuned encoder gains on its own kind of imagery and forgets some of the rest; a share of about a half often keeps
    most of both (WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903). `TrainingConfig(interpolation=True)` chooses the
    share on held-out pairs.

    Args:
        base: The encoder before tuning, from `load_encoder`.
        tuned: The same after it.
        share: From 0, the base, to 1, the tuned encoder.

    Returns:
        An encoder of its own, where and in the precision in which the tuned one computes. It has its own fingerprint,
        so vectors of either of the two do not go with its vectors.

    Raises:
        UsageError: They differ in more than their weights, or the share is not between 0 and 1.

    Examples:
        >>> from geovlm import new_encoder
        >>> vision = {"image_size": 16, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16}
        >>> text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
        >>> config = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}
        >>> base, tuned = (new_encoder(config, seed=seed, name=name) for seed, name in enumerate(["base", "tuned"]))
        >>> interpolate(base, tuned, share=0.4).name
        '0.4 tuned + 0.6 base'
    """
    for encoder in (base, tuned):
        if not isinstance(encoder, TorchEncoder):
            raise UsageError(
                f"A {type(encoder).__name__} has no weights to mix; give open_clip or transformers encoders from"
                " load_encoder()."
            )
    assert isinstance(base, TorchEncoder)
    assert isinstance(tuned, TorchEncoder)
    _check_alike(base, tuned)
    state = interpolation.interpolate(base.model.state_dict(), tuned.model.state_dict(), share)
    mix = tuned.copy(dtype=tuned.dtype)
    mix.model.load_state_dict(state)
    mix.name = f"{share:g} {tuned.name} + {1 - share:g} {base.name}"
    return mix


def _check_alike(base: TorchEncoder, tuned: TorchEncoder) -> None:
    """Weights of equal shapes are not enough: activations and preprocessing may differ."""
    if type(base) is not type(tuned):
        raise UsageError(
            f"{base.name} is a {type(base).__name__} and {tuned.name} a {type(tuned).__name__}; a mix needs two"
            " encoders of one library."
        )
    ours, theirs = base.architecture, tuned.architecture
    for part in ours:
        if ours[part] != theirs[part]:
            raise UsageError(
                f"{base.name} and {tuned.name} differ in their {part}, so a mix of their weights would fit neither;"
                " give an encoder and what was tuned from it."
            )
