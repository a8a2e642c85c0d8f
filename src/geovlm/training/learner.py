"""One training step, on a copy of the encoder."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import normalize

from geovlm._torch import pick_dtype
from geovlm.errors import TrainingDiverged
from geovlm.training.losses import caption_groups, make_loss
from geovlm.training.optimization import WeightAverage, learning_rate_at, make_optimizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from geovlm.encoders._torch import TorchEncoder
    from geovlm.training.config import TrainingConfig
    from geovlm.training.data import Batch

# CLIP's limit: cosines are never multiplied by more than 100.
MAX_LOG_SCALE = math.log(100)


class Learner:
    """A float32 copy of an encoder with its optimiser and moving average.

    Args:
        encoder: What is copied; it is not changed.
        config: The settings.
        steps: Length of the schedule.
    """

    def __init__(self, encoder: TorchEncoder, config: TrainingConfig, *, steps: int) -> None:
        self.encoder = encoder.copy(dtype="float32")
        self.model = self.encoder.model
        self._config, self._steps = config, steps
        self._device = torch.device(self.encoder.device)
        self._autocast = resolve_precision(config.precision, self.encoder.device) == "bfloat16"
        self._log_scale: torch.nn.Parameter = self.model.logit_scale
        # An encoder that starts above CLIP's limit, as SigLIP's do, may stay there.
        self._max_log_scale = max(MAX_LOG_SCALE, float(self._log_scale.detach()))
        self._loss = make_loss(config)
        self._optimizer = make_optimizer(self.model, config)
        self._average = WeightAverage(self.model, config.average) if config.average else None

    def step(self, number: int, batch: Batch) -> float:
        """Learn from one batch.

        Returns:
            The loss before the step; NaN where fewer than two images could be read, which compares nothing.

        Raises:
            TrainingDiverged: The loss or its gradient is not finite; the weights are as before.
        """
        if len(batch.captions) < 2:
            return math.nan
        rate = learning_rate_at(number, self._config, self._steps)
        with _seeded(self._config.seed, number, self._device):
            loss = self._forward(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = self._clip()
        if not (math.isfinite(loss.item()) and math.isfinite(norm)):
            self._optimizer.zero_grad()
            raise TrainingDiverged(_advice(number, rate, loss.item(), norm), step=number)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad()
        with torch.no_grad():
            self._log_scale.clamp_(max=self._max_log_scale)
        if self._average is not None:
            self._average.update(self.model, number)
        return loss.item()

    def _forward(self, batch: Batch) -> Tensor:
        pixels = torch.from_numpy(batch.pixels).to(self._device)
        tokens = self.encoder.tokenize(batch.texts)
        groups = caption_groups(batch.captions).to(self._device)
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._autocast):
            images = self._tower("image", lambda: self.encoder.image_features(self.encoder.normalize_pixels(pixels)))
            texts = self._tower("text", lambda: self.encoder.text_features(tokens))
        images, texts = normalize(images.float(), dim=-1), normalize(texts.float(), dim=-1)
        return self._loss(images, texts, self._log_scale.exp(), groups)

    def _tower(self, name: str, features: Callable[[], Tensor]) -> Tensor:
        """A frozen tower works as it does in use: no gradient, no dropout, no new batch statistics."""
        frozen = self._config.freeze == name
        self.model.train(not frozen)
        with torch.set_grad_enabled(not frozen):
            return features()

    def _clip(self) -> float:
        limit = math.inf if self._config.max_grad_norm is None else self._config.max_grad_norm
        return float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit))

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied by."""
        return float(self._log_scale.detach().exp())

    @contextmanager
    def for_use(self) -> Iterator[TorchEncoder]:
        """The encoder as it would be used now: averaged weights if there are any, evaluation mode."""
        self.model.eval()
        if self._average is None:
            yield self.encoder
            return
        live = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.model.load_state_dict(self._average.state)
        try:
            yield self.encoder
        finally:
            self.model.load_state_dict(live)

    def state(self) -> dict[str, Any]:
        """Everything that a step changes."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": None if self._average is None else self._average.state,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._average is not None:
            for name, tensor in state["average"].items():
                self._average.state[name].copy_(tensor)


def resolve_precision(precision: str, device: str) -> str:
    """What `"auto"` means on a device: bfloat16 where there are instructions for it, else float32."""
    if precision != "auto":
        return precision
    return "bfloat16" if pick_dtype(None, torch.device(device)) == torch.bfloat16 else "float32"


@contextmanager
def _seeded(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """Random numbers that follow from the step; the caller's generators are left as they were.

    Not by `torch.manual_seed`, which would also seed devices that are not in use here.
    """
    number = int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0])
    gpus = []
    if device.type == "cuda":
        gpus = [torch.cuda.current_device() if device.index is None else device.index]
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(number)
        for gpu in gpus:
            torch.cuda.default_generators[gpu].manual_seed(number)
        yield


def _advice(step: int, rate: float, loss: float, norm: float) -> str:
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"the norm of its gradient is {norm}"
    return (
        f"Training diverged at step {step}: {what}, with a learning rate of {rate:.3g} at that step. In another"
        " directory, try a learning_rate three to ten times smaller, a longer warmup, a smaller max_grad_norm, or"
        " precision='float32'."
    )
