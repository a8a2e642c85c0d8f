"""Contrastive losses on a batch of paired vectors, exact at any batch size: no matrix of all logits is ever held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from attrs import frozen

from geovlm.training._blocked import blocks, positives, sigmoid_score, softmax_score, sum_over_rows
from geovlm.training.groups import caption_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from geovlm.training._blocked import Score
    from geovlm.training.config import TrainingConfig


class ContrastiveLoss(Protocol):
    """What every loss is: two sets of vectors whose rows belong together, to one number."""

    def __call__(
        self,
        images: Tensor,
        texts: Tensor,
        scale: Tensor,
        groups: Tensor,
        *,
        bias: Tensor | None = None,
        rows: slice | None = None,
    ) -> Tensor:
        """Compute the loss.

        Args:
            images: `(n, dim)`, L2-normalised, float32.
            texts: `(n, dim)`, L2-normalised, float32; row `i` describes image `i`.
            scale: What cosines are multiplied by; one number.
            groups: int64 `(n, g)`: two pairs are positives of each other where a number that is not negative is the
                same in any column. A pair is always a positive of its own.
            bias: What is added to the scaled cosines, for losses in which it matters; one number.
            rows: Only the share of these pairs, each compared with all; shares add up to the loss. `None` is all.
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
        >>> round(float(loss(eye, eye, torch.tensor(1.0), torch.tensor([[0], [0]]))), 4)
        0.3133
    """

    label_smoothing: float = 0.0

    def __call__(
        self,
        images: Tensor,
        texts: Tensor,
        scale: Tensor,
        groups: Tensor,  # noqa: ARG002 - of the protocol
        *,
        bias: Tensor | None = None,  # noqa: ARG002
        rows: slice | None = None,
    ) -> Tensor:
        """The mean of both directions; only the own pair is a positive, and a softmax does not see the bias."""
        score = softmax_score(None, self.label_smoothing)
        return _both_ways(images, texts, scale, score=score, rows=rows)


@frozen(kw_only=True)
class MultiPositive:
    """InfoNCE in which equal captions, equal images or equal values are positives of each other, not negatives.

    The target of a row is shared evenly among its positives: the loss that Khosla et al. 2020 ("Supervised
    Contrastive Learning") call L_out. Its lowest value is the logarithm of the number of positives, not zero. Where
    no two pairs of a batch belong together it is `InfoNCE`.

    Args:
        label_smoothing: Share of the target that is spread over the whole batch.

    Examples:
        >>> loss = MultiPositive()
        >>> eye = torch.eye(2)
        >>> round(float(loss(eye, eye, torch.tensor(1.0), torch.tensor([[7], [7]]))), 4)
        0.8133
    """

    label_smoothing: float = 0.0

    def __call__(
        self,
        images: Tensor,
        texts: Tensor,
        scale: Tensor,
        groups: Tensor,
        *,
        bias: Tensor | None = None,  # noqa: ARG002 - of the protocol
        rows: slice | None = None,
    ) -> Tensor:
        """The mean of both directions; a softmax does not see the bias."""
        score = softmax_score(groups, self.label_smoothing)
        return _both_ways(images, texts, scale, score=score, rows=rows)


@frozen(kw_only=True)
class Sigmoid:
    """Each image and each text are asked alone whether they belong together (Zhai et al. 2023, SigLIP).

    The sum over all pairs of an image and a text, divided by the number of images. The logits need a bias, as nearly
    all pairs are negatives; models of the SigLIP kind have one and learn it. For one without (CLIP), the bias follows
    the batch and is not learnt: it lies where the errors on a pair and on its negatives balance, or where the negatives
    together count as about one pair, if that is lower.

    Examples:
        >>> eye = torch.eye(2)
        >>> groups = torch.tensor([[0], [1]])
        >>> round(float(Sigmoid()(eye, eye, torch.tensor(10.0), groups, bias=torch.tensor(-5.0))), 4)
        0.0134
        >>> round(float(Sigmoid()(eye, eye, torch.tensor(10.0), groups)), 4)
        0.0134
    """

    def __call__(
        self,
        images: Tensor,
        texts: Tensor,
        scale: Tensor,
        groups: Tensor,
        *,
        bias: Tensor | None = None,
        rows: slice | None = None,
    ) -> Tensor:
        """The mean over images of the sum over texts."""
        mine = slice(0, len(images)) if rows is None else rows
        bias = balanced_bias(images, texts, scale, groups) if bias is None else bias
        total = sum_over_rows(images[mine], texts, scale, bias, score=sigmoid_score(groups), first=mine.start)
        return total / len(images)


def _both_ways(images: Tensor, texts: Tensor, scale: Tensor, *, score: Score, rows: slice | None) -> Tensor:
    mine = slice(0, len(images)) if rows is None else rows
    to_text = sum_over_rows(images[mine], texts, scale, None, score=score, first=mine.start)
    to_image = sum_over_rows(texts[mine], images, scale, None, score=score, first=mine.start)
    return (to_text + to_image) / (2 * len(images))


@torch.no_grad()
def balanced_bias(images: Tensor, texts: Tensor, scale: Tensor, groups: Tensor) -> Tensor:
    """The bias for a model that has none.

    The mean over images of minus the log-sum-exp of the negatives' logits; where the pair's own logit is higher than
    that, of the middle between both.
    """
    total, count = images.new_zeros(()), 0
    for rows in blocks(len(images), len(texts)):
        logits = scale * images[rows] @ texts.T
        own = logits.diagonal(offset=rows.start).clone()
        negatives = logits.masked_fill_(positives(groups, rows.start, len(logits)), -torch.inf).logsumexp(dim=1)
        some = negatives.isfinite()
        total += (negatives + (own - negatives).relu() / 2)[some].sum()
        count += int(some.sum())
    return -total / max(1, count)


def make_loss(config: TrainingConfig) -> ContrastiveLoss:
    """The loss that the settings name."""
    if config.loss == "sigmoid":
        return Sigmoid()
    kind = InfoNCE if config.loss == "infonce" else MultiPositive
    return kind(label_smoothing=config.label_smoothing)


def caption_groups(captions: Sequence[str]) -> Tensor:
    """A number for each caption, equal where two differ in case and spacing at most, as tokenizers do not see those.

    Returns:
        int64 `(n, 1)`, as losses take them.

    Examples:
        >>> groups = caption_groups(["A river.", "a  river.", "a road."])
        >>> (groups == groups.T).int()
        tensor([[1, 1, 0],
                [1, 1, 0],
                [0, 0, 1]], dtype=torch.int32)
    """
    return torch.from_numpy(caption_numbers(captions))[:, None]
