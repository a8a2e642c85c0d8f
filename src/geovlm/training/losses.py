"""Contrastive losses on a batch of paired vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from attrs import frozen
from torch.nn.functional import cross_entropy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from geovlm.training.config import TrainingConfig


class ContrastiveLoss(Protocol):
    """What every loss is: two sets of vectors whose rows belong together, to one number."""

    def __call__(self, images: Tensor, texts: Tensor, scale: Tensor, groups: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            images: `(n, dim)`, L2-normalised, float32.
            texts: `(n, dim)`, L2-normalised, float32; row `i` describes image `i`.
            scale: What cosines are multiplied by; a scalar.
            groups: `(n,)` integers, equal where two captions are the same.
        """
        ...


@frozen(kw_only=True)
class InfoNCE:
    """The symmetric loss of CLIP: each image must find its text in the batch, and each text its image.

    van den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding"; Radford et al. 2021,
    "Learning Transferable Visual Models From Natural Language Supervision".

    Args:
        label_smoothing: Share of the target that is spread over the whole batch.

    Examples:
        >>> loss = InfoNCE()
        >>> eye = torch.eye(2)
        >>> round(float(loss(eye, eye, torch.tensor(1.0), torch.arange(2))), 4)
        0.3133
    """

    label_smoothing: float = 0.0

    def __call__(self, images: Tensor, texts: Tensor, scale: Tensor, groups: Tensor) -> Tensor:
        """The mean of both directions; `groups` is not used."""
        logits = scale * images @ texts.T
        target = torch.arange(len(groups), device=logits.device)
        return _both_ways(logits, target, self.label_smoothing)


@frozen(kw_only=True)
class MultiPositive:
    """InfoNCE in which equal captions are positives of each other, as they describe each other's images.

    The target of a row is shared evenly among its positives: the loss that Khosla et al. 2020 ("Supervised
    Contrastive Learning") call L_out. Its lowest value is the logarithm of the number of positives, not zero. With no
    caption twice in a batch it is `InfoNCE`.

    Args:
        label_smoothing: Share of the target that is spread over the whole batch.

    Examples:
        >>> loss = MultiPositive()
        >>> eye = torch.eye(2)
        >>> round(float(loss(eye, eye, torch.tensor(1.0), torch.zeros(2))), 4)
        0.8133
    """

    label_smoothing: float = 0.0

    def __call__(self, images: Tensor, texts: Tensor, scale: Tensor, groups: Tensor) -> Tensor:
        """The mean of both directions."""
        same = (groups[:, None] == groups[None, :]).to(images.dtype)
        return _both_ways(scale * images @ texts.T, same / same.sum(dim=1, keepdim=True), self.label_smoothing)


def _both_ways(logits: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
    to_text = cross_entropy(logits, target, label_smoothing=label_smoothing)
    to_image = cross_entropy(logits.T, target, label_smoothing=label_smoothing)
    return (to_text + to_image) / 2


def make_loss(config: TrainingConfig) -> ContrastiveLoss:
    """The loss that the settings name."""
    if config.loss == "infonce":
        return InfoNCE(label_smoothing=config.label_smoothing)
    return MultiPositive(label_smoothing=config.label_smoothing)


def caption_groups(captions: Sequence[str]) -> Tensor:
    """A number for each caption, equal where two differ in case and spacing at most, as tokenizers do not see those.

    Examples:
        >>> caption_groups(["A river.", "a  river.", "a road."]).tolist()
        [0, 0, 1]
    """
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(" ".join(c.lower().split()), len(numbers)) for c in captions])
