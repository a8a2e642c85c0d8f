"""Loss and gradient of a whole batch: over parts where it does not fit, and over processes where there are several."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from geovlm.errors import UsageError
from geovlm.training._passes import Passes
from geovlm.training._towers import TOWERS, Part, Statistics
from geovlm.training.losses import make_loss

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor
    from torch.amp import GradScaler

    from geovlm.training._ranks import Ranks
    from geovlm.training._towers import Towers
    from geovlm.training.batch import Batch
    from geovlm.training.config import TrainingConfig


class Gradients:
    """Adds to the gradient of every parameter that is trained.

    Args:
        towers: What learns.
        config: The settings.
        ranks: The processes.
        scaler: What the loss is multiplied by before its gradient is taken.

    Attributes:
        micro: Pairs that go through the model at once; `None` is the whole share of a process.
    """

    def __init__(self, towers: Towers, config: TrainingConfig, *, ranks: Ranks, scaler: GradScaler) -> None:
        self._towers, self._ranks, self._scaler = towers, ranks, scaler
        self._seed, self._is_automatic = config.seed, config.micro_batch_size is None
        self.micro = config.micro_batch_size
        self._statistics = Statistics(towers)
        self._passes = Passes(towers, ranks, self._statistics)
        self._loss = make_loss(config)
        model = towers.model
        self._log_scale: Tensor = model.logit_scale
        self._bias: Tensor | None = getattr(model, "logit_bias", None) if config.loss == "sigmoid" else None

    def add(self, number: int, batch: Batch, sizes: Sequence[int]) -> float:
        """The loss of the whole batch; where memory runs out, it is repeated in smaller parts.

        Args:
            number: Of the step.
            batch: The share of this process.
            sizes: Of the shares of all processes.

        Raises:
            UsageError: Parts of the size that was asked for, or of one pair, do not fit into memory.
        """
        statistics = self._statistics.copy()
        while True:
            try:
                return self._add(number, batch, sizes)
            except torch.OutOfMemoryError as error:
                self.micro = self._half(sizes, error)
            # Only here, where the error no longer holds on to what the attempt has computed.
            self._towers.zero_grad()
            self._statistics.restore(statistics)
            if self._ranks.device.startswith("cuda"):
                torch.cuda.empty_cache()

    def _half(self, sizes: Sequence[int], error: Exception) -> int:
        """The next smaller part, the same in all processes."""
        now = min(self.micro or max(sizes), max(sizes))
        if now == 1 or not self._is_automatic:
            raise UsageError(_too_large(now, self._ranks.device, error)) from error
        return math.ceil(now / 2)

    def _add(self, number: int, batch: Batch, sizes: Sequence[int]) -> float:
        mine = sizes[self._ranks.index]
        cached = self.micro is not None and self.micro < max(sizes)
        self._towers.train(mine > 0)
        parts = self._cut(number, batch) if mine else [self._blank(number, batch)]
        vectors = self._forward(parts, cached=cached)
        loss, gradients, rest = self._compare({name: rows[:mine] for name, rows in vectors.items()}, batch, sizes)
        if not mine:
            gradients = {name: torch.zeros_like(rows) for name, rows in vectors.items()}
        self._backward(parts, vectors, gradients, cached=cached)
        for parameter, gradient in zip(self._temperature, rest, strict=True):
            parameter.grad = gradient
        return loss.item()

    def _cut(self, number: int, batch: Batch) -> list[Part]:
        """What goes through the model at once."""
        size, seed = self.micro or len(batch.texts), (self._seed, number, self._ranks.index)
        return [
            Part(pixels=batch.pixels[start:][:size], texts=batch.texts[start:][:size], seed=(*seed, start))
            for start in range(0, len(batch.texts), size)
        ]

    def _blank(self, number: int, batch: Batch) -> Part:
        """A pair that counts for nothing, for a process that has none: it takes part in what all do together."""
        pixels = np.zeros((1, *batch.pixels.shape[1:]), dtype=np.uint8)
        return Part(pixels=pixels, texts=["blank"], seed=(self._seed, number))

    def _forward(self, parts: Sequence[Part], *, cached: bool) -> dict[str, Tensor]:
        """Vectors of this share by tower. Where memory runs out in one process, it does so in all."""
        vectors, reason = None, "another process ran out of memory"
        try:
            vectors = self._passes.forward(parts, cached=cached)
        except torch.OutOfMemoryError as error:
            reason = str(error)
        if not self._ranks.every(vectors is not None) or vectors is None:
            raise torch.OutOfMemoryError(reason)
        return vectors

    def _compare(
        self, vectors: Mapping[str, Tensor], batch: Batch, sizes: Sequence[int]
    ) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
        """The loss of the whole batch, its gradient by this process's vectors, and by the temperature.

        Each process compares its own rows with those of all. What the shares of the loss say of a vector is added up
        over processes; then it is multiplied by their number, as the backward pass averages.
        """
        ranks = self._ranks
        groups = ranks.gather(torch.from_numpy(batch.groups).to(ranks.device), sizes)
        images, texts = (ranks.gather(vectors[name].detach(), sizes).requires_grad_() for name in TOWERS)
        share = self._loss(images, texts, self._log_scale.exp(), groups, bias=self._bias, rows=ranks.rows(sizes))
        # Not by backward(), which would tell the wrapper around the towers that their parameters are ready.
        by = torch.autograd.grad(self._scaler.scale(share), [images, texts, *self._temperature])
        by_vectors = [ranks.own(gradient, sizes) * ranks.count for gradient in by[:2]]
        by_temperature = [ranks.sum(gradient) for gradient in by[2:]]
        return ranks.sum(share.detach()), dict(zip(TOWERS, by_vectors, strict=True)), by_temperature

    @property
    def _temperature(self) -> list[Tensor]:
        """What turns cosines into logits and is learnt; it is in no tower, so its gradient is brought together here."""
        parameters = [self._log_scale, *([] if self._bias is None else [self._bias])]
        return [parameter for parameter in parameters if parameter.requires_grad]

    def _backward(
        self,
        parts: Sequence[Part],
        vectors: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        *,
        cached: bool,
    ) -> None:
        try:
            self._passes.backward(parts, vectors, gradients, cached=cached)
        except torch.OutOfMemoryError as error:
            if self._ranks.count == 1:
                raise
            # The other processes are in the middle of bringing gradients together.
            raise UsageError(_too_large(len(parts[0].texts), self._ranks.device, error)) from error


def _too_large(pairs: int, device: str, error: Exception) -> str:
    return (
        f"{pairs} pairs at once do not fit into the memory of {device} ({error}). Set a smaller micro_batch_size or"
        " gradient_checkpointing=True, freeze a tower, or take a smaller model."
    )
