"""What moves the weights: the optimiser, its schedule, the moving average, and a check that they can move at all."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from geovlm.errors import UsageError
from geovlm.training.layers import depths

if TYPE_CHECKING:
    from torch import Tensor

    from geovlm.training.config import TrainingConfig

# Of so many weights the spacing is looked at.
SAMPLE = 1_000_000

# A learning rate that cannot move more than this share of the weights deserves a warning.
STUCK_SHARE = 0.01


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW on what is trained: matrices decay; biases, norms and the logit scale do not.

    Each group has a `"rate"`, its multiple of the scheduled learning rate: `layer_decay` to the power of the layers
    that lie between a weight and the output of its tower.
    """
    groups = _groups(model, config.layer_decay)
    settings = [
        {
            "params": groups[rate, decays],
            "weight_decay": config.weight_decay if decays else 0.0,
            "rate": rate,
            "lr": config.learning_rate * rate,
        }
        for rate, decays in sorted(groups, reverse=True)
    ]
    return torch.optim.AdamW(settings, lr=config.learning_rate, betas=config.betas, eps=config.epsilon, fused=True)


def _groups(model: nn.Module, layer_decay: float) -> dict[tuple[float, bool], list[nn.Parameter]]:
    """What is trained, by its rate and by whether it decays."""
    # Of all weights: frozen layers lie between others and the output as well.
    layers = depths(name for name, _ in model.named_parameters())
    groups: dict[tuple[float, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[layer_decay ** layers[name], parameter.ndim >= 2].append(parameter)
    return groups


def warmup_steps(config: TrainingConfig, steps: int) -> int:
    """How many steps the warm-up takes.

    Raises:
        UsageError: It would not end before the training does.
    """
    wanted = round(config.warmup * steps) if config.warmup < 1 else int(config.warmup)
    if config.warmup >= 1 and wanted >= steps:
        raise UsageError(
            f"A warm-up of {wanted} steps does not end in a training of {steps}; give a share of the steps, such as"
            " warmup=0.05, or train for more epochs."
        )
    return wanted


def learning_rate_at(step: int, config: TrainingConfig, steps: int) -> float:
    """Linear warm-up, then half a cosine down to zero (Loshchilov and Hutter 2017); steps count from 0.

    Examples:
        >>> from geovlm.training.config import TrainingConfig
        >>> config = TrainingConfig(learning_rate=0.5, warmup=2)
        >>> [round(learning_rate_at(step, config, 6), 3) for step in range(6)]
        [0.25, 0.5, 0.5, 0.427, 0.25, 0.073]
    """
    warmup = warmup_steps(config, steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


class WeightAverage:
    """An exponential moving average of all that training changes: weights and statistics (Polyak and Juditsky 1992).

    The decay rises from 0.1 to its value over the first steps, so that the first weights are soon forgotten.

    Attributes:
        state: By the names in the model's state; frozen weights are not in it.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state: dict[Any, Any] = {
            name: tensor.detach().clone()
            for name, tensor in model.state_dict(keep_vars=True).items()
            if tensor.requires_grad or not isinstance(tensor, nn.Parameter)
        }

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after a step, counted from 0."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        live = model.state_dict()
        for name, average in self.state.items():
            if average.is_floating_point():
                average.lerp_(live[name], weight)
            else:
                average.copy_(live[name])


def warn_if_stuck(model: nn.Module, learning_rate: float) -> None:
    """Warn where the learning rate is too small for float32 to hold the step.

    A step of AdamW moves a weight by about the learning rate. Where that is no more than half the distance to the next
    float32 number, the weight rounds back to what it was.
    """
    limit = _half_spacing(model)
    if not len(limit):
        return
    stuck = float((limit >= learning_rate).float().mean())
    if stuck > STUCK_SHARE:
        enough = float(limit.double().quantile(1 - STUCK_SHARE))
        warnings.warn(
            f"learning_rate={learning_rate:g} cannot move {stuck:.0%} of the weights: a step of AdamW is about that"
            f" long, and half the distance between neighbouring float32 numbers is larger there (up to"
            f" {float(limit.max()):.2g}). Above {enough:.1g} nearly all can move; 1e-6 to 1e-4 is usual for tuning.",
            RuntimeWarning,
            stacklevel=2,
        )


def _half_spacing(model: nn.Module) -> Tensor:
    """Half the distance from weights to the float32 number above, for an even sample of those that are trained."""
    weights: list[Any] = [p.detach().flatten() for p in model.parameters() if p.requires_grad]
    stride = max(1, sum(len(w) for w in weights) // SAMPLE)
    sample = torch.cat([w[::stride].float().cpu() for w in weights] or [torch.empty(0)]).abs()
    return (torch.nextafter(sample, torch.tensor(math.inf)) - sample) / 2
