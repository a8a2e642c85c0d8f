"""Mixes of two sets of weights: much of what tuning gains, little of what it forgets.

After WiSE-FT (Wortsman et al. 2022, arXiv:2109.01903), which mixes a model with its fine-tuned self, and PAINT (Ilharco
et al. 2022, arXiv:2208.05592), which chooses the share on held-out data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch

from geovlm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

SHARES = tuple(tenths / 10 for tenths in range(1, 11))


S = TypeVar("S", float, tuple[float, ...])


@torch.no_grad()
def interpolate(base_state: Mapping[str, Tensor], tuned_state: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Weights on the line between two: `base + share · (tuned − base)`.

    Args:
        base_state: State of a model before tuning.
        tuned_state: After it, of the same names and shapes.
        share: From 0, exactly the base, to 1, exactly the tuned weights.

    Returns:
        On the devices of the tuned weights; what is not a floating-point number (counts, positions) is theirs.

    Raises:
        UsageError: The share is none, or the states are not of one architecture.

    Examples:
        >>> interpolate({"w": torch.zeros(2)}, {"w": torch.ones(2)}, 0.25)
        {'w': tensor([0.2500, 0.2500])}
    """
    if not 0 <= share <= 1:
        raise UsageError(f"share is a number from 0 (the base) to 1 (the tuned weights), not {share!r}.")
    _check_alike(base_state, tuned_state)
    return {
        name: torch.lerp(base_state[name].to(tuned), tuned, share) if tuned.is_floating_point() else tuned.clone()
        for name, tuned in tuned_state.items()
    }


def best_mix(score: Callable[[float], S]) -> tuple[float, dict[float, S]]:
    """Try the shares 0.1, 0.2, … 1.0 of tuned weights.

    Args:
        score: What a mix of that share scores on held-out data: a number or a tuple of numbers, the more the better.

    Returns:
        The best share, of equal ones the largest, and what each share scored.

    Examples:
        >>> best_mix(lambda share: -abs(share - 0.72))[0]
        0.7
    """
    scores = {share: score(share) for share in SHARES}
    return max(SHARES, key=lambda share: (scores[share], share)), scores


def _check_alike(base_state: Mapping[str, Tensor], tuned_state: Mapping[str, Tensor]) -> None:
    one_sided = sorted(base_state.keys() ^ tuned_state.keys())
    shapes = [
        name for name in base_state if name not in one_sided and base_state[name].shape != tuned_state[name].shape
    ]
    if one_sided or shapes:
        what = f"only one of them has {one_sided[0]!r}" if one_sided else f"{shapes[0]!r} has another shape"
        raise UsageError(f"These weights are of two architectures ({what}); a mix needs a model and its tuned self.")
