"""Sums over all pairs of a batch, some rows at a time: memory grows with the batch, not with its square.

The idea is that of Inf-CL (Cheng et al. 2024, "Breaking the Memory Barrier: Near Infinite Batch Size Scaling for
Contrastive Loss"): no gradient of a contrastive loss needs the whole matrix of logits at once. The gradient of a block
is formed while its logits are at hand, so the backward pass computes nothing again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import log_softmax, logsigmoid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    Score = Callable[[Tensor, int], tuple[Tensor, Tensor]]

# Logits that are held at once: 16 MiB in float32. Batches of up to 2,048 pairs are one block.
BLOCK = 1 << 22


def sum_over_rows(
    left: Tensor, right: Tensor, scale: Tensor, bias: Tensor | None, *, score: Score, first: int = 0
) -> Tensor:
    """Sum a score over the logits `scale * left @ right.T + bias`, differentiable in all four tensors.

    Args:
        left: `(m, dim)`: the rows from `first` on of a matrix with as many rows as `right`.
        right: `(n, dim)`.
        scale: What the products are multiplied by; one number.
        bias: What is added; one number, or `None` for nothing.
        score: Takes the logits `(rows, n)` of a block and the number of its first row; returns their score, summed,
            and its derivative by each logit.
        first: The number of the first row.
    """
    total: Tensor = _Blocked.apply(left, right, scale, bias, score, first)
    return total


class _Blocked(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917 - as torch calls it
        ctx: Any, left: Tensor, right: Tensor, scale: Tensor, bias: Tensor | None, score: Score, first: int
    ) -> Tensor:
        total = left.new_zeros(())
        wanted = any(ctx.needs_input_grad)
        slopes = _Slopes(left, right, scale, bias) if wanted else None
        for rows in blocks(len(left), len(right)):
            products = left[rows] @ right.T
            logits = products * scale if bias is None else torch.addcmul(bias, products, scale)
            value, slope = score(logits, first + rows.start)
            total += value
            if slopes is not None:
                slopes.add(rows, products, slope)
        if slopes is not None:
            ctx.save_for_backward(slopes.left, slopes.right, slopes.scale, slopes.bias)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *(None if slope is None else slope * gradient for slope in ctx.saved_tensors), None, None


class _Slopes:
    """The derivatives of the sum, block by block."""

    def __init__(self, left: Tensor, right: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        self._inputs = left, right, scale
        self.left, self.right = torch.empty_like(left), torch.zeros_like(right)
        self.scale = torch.zeros_like(scale)
        self.bias = None if bias is None else torch.zeros_like(bias)

    def add(self, rows: slice, products: Tensor, slope: Tensor) -> None:
        left, right, scale = self._inputs
        self.scale += (slope * products).sum()
        if self.bias is not None:
            self.bias += slope.sum()
        slope = slope * scale
        self.left[rows] = slope @ right
        self.right.addmm_(slope.T, left[rows])


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Cut rows so that no block has more than `BLOCK` elements, unless one row has."""
    step = max(1, BLOCK // max(1, columns))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def positives(groups: Tensor, first: int, count: int) -> Tensor:
    """Which pairs belong together: bool `(count, n)`, for the rows from `first` on.

    Args:
        groups: int64 `(n, g)`: two pairs belong together where a number that is not negative is the same in one of
            the columns; and each pair with itself.
        first: The number of the first row.
        count: How many rows.

    Examples:
        >>> positives(torch.tensor([[3, 0], [3, 1], [-1, 1], [-1, 2]]), 0, 4).int()
        tensor([[1, 1, 0, 0],
                [1, 1, 1, 0],
                [0, 1, 1, 0],
                [0, 0, 0, 1]], dtype=torch.int32)
    """
    together = torch.zeros(count, len(groups), dtype=torch.bool, device=groups.device)
    together.diagonal(offset=first).fill_(True)
    for column in groups.unbind(dim=1):
        mine = column[first : first + count, None]
        together |= (mine == column) & (mine >= 0)
    return together


def softmax_score(groups: Tensor | None, label_smoothing: float) -> Score:
    """Cross-entropy of each row with a target shared evenly among its positives; `None` is the own pair alone."""

    def score(logits: Tensor, first: int) -> tuple[Tensor, Tensor]:
        rows, columns = logits.shape
        if groups is None:
            target = torch.zeros_like(logits)
            target.diagonal(offset=first).fill_(1.0)
        else:
            target = positives(groups, first, rows).to(logits.dtype)
            target /= target.sum(dim=1, keepdim=True)
        if label_smoothing:
            target.mul_(1 - label_smoothing).add_(label_smoothing / columns)
        logs = log_softmax(logits, dim=1)
        return -(target * logs).sum(), logs.exp_().sub_(target)

    return score


def sigmoid_score(groups: Tensor) -> Score:
    """Binary cross-entropy of each logit: do the two belong together?"""

    def score(logits: Tensor, first: int) -> tuple[Tensor, Tensor]:
        together = positives(groups, first, len(logits))
        value = -logsigmoid(torch.where(together, logits, -logits)).sum()
        return value, logits.sigmoid().sub_(together.to(logits.dtype))

    return score
