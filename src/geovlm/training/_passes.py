"""Through the towers and back: all at once, or in parts with cached gradients."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from geovlm.training._towers import TOWERS, Statistics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from geovlm.training._ranks import Ranks
    from geovlm.training._towers import Part, Towers


class Passes:
    """Forward to the vectors of a batch, and backward from the gradient of the loss by them.

    A batch in parts goes through by cached gradients (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size
    under Memory Limited Setup"): forward without a graph, then, when the gradient by all vectors is known, each part
    again with one. The gradient is that of the whole batch, dropout draws the same numbers both times, and a frozen
    tower is not passed again. Batch norms see the parts, not the batch, as in any gradient accumulation; their running
    statistics are updated by the second pass only.

    Args:
        towers: The module that learns.
        ranks: The processes whose gradients are averaged by the last backward pass.
        statistics: Of the batch norms.
    """

    def __init__(self, towers: Towers, ranks: Ranks, statistics: Statistics) -> None:
        self._towers, self._statistics = towers, statistics
        self._synced: Any = ranks.wrap(towers)

    def forward(self, parts: Sequence[Part], *, cached: bool) -> dict[str, Tensor]:
        """Vectors by tower: with their graph, which takes a single part, or to be cached."""
        if not cached:
            (part,) = parts
            return self._towers.forward(part)
        with torch.no_grad(), self._statistics.unchanged():
            found = [self._towers.forward(part) for part in parts]
        return {tower: torch.cat([vectors[tower] for vectors in found]) for tower in TOWERS}

    def backward(
        self, parts: Sequence[Part], vectors: Mapping[str, Tensor], gradients: Mapping[str, Tensor], *, cached: bool
    ) -> None:
        """Add to the gradients of all that is trained.

        Args:
            parts: What went forward.
            vectors: What came out.
            gradients: Of the loss, by them.
            cached: As in `forward`.
        """
        if not cached:
            # Only now, when every process has come this far, the wrapper may expect a backward pass.
            self._pull(self._synced(parts[0], ready=vectors), gradients)
            return
        start = 0
        for part in parts:
            end = start + len(part.texts)
            with nullcontext() if part is parts[-1] else self._unsynced():
                again = self._synced(part, self._towers.trained)
                self._pull(again, {tower: gradient[start:end] for tower, gradient in gradients.items()})
            start = end

    def _unsynced(self) -> Any:
        return nullcontext() if self._synced is self._towers else self._synced.no_sync()

    def _pull(self, vectors: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
        trained = self._towers.trained
        torch.autograd.backward([vectors[tower] for tower in trained], [gradients[tower] for tower in trained])
