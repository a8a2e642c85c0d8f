"""One training step, on a copy of the encoder."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from geovlm._torch import pick_dtype
from geovlm.errors import TrainingDiverged, UsageError
from geovlm.training._gradients import Gradients
from geovlm.training._ranks import Ranks
from geovlm.training._towers import Statistics, Towers
from geovlm.training.adapters import add_lora, merged_state
from geovlm.training.optimization import WeightAverage, learning_rate_at, make_optimizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from geovlm.encoders._torch import TorchEncoder
    from geovlm.training.batch import Batch
    from geovlm.training.config import TrainingConfig

# CLIP's limit: cosines are never multiplied by more than 100.
MAX_LOG_SCALE = math.log(100)

# So many ids of a batch are named in an error.
SHOWN = 8


class Learner:
    """A float32 copy of an encoder with its optimiser and moving average.

    With several processes each has a whole copy and takes its share of every batch; the vectors of all are compared
    with each other, so that loss and gradient are those of the whole batch. Batch norms are the exception: their
    statistics are those of what goes through the model at once.

    Args:
        encoder: What is copied; it is not changed.
        config: The settings.
        steps: Length of the schedule.
        ranks: The processes; `None` is this one alone, where the encoder is.

    Raises:
        UsageError: The model or its device cannot do what the settings ask for.
        MissingExtra: The settings need a library that is not installed.
    """

    def __init__(
        self, encoder: TorchEncoder, config: TrainingConfig, *, steps: int, ranks: Ranks | None = None
    ) -> None:
        self._config, self._steps, self._base = config, steps, encoder
        self._ranks = Ranks(device=encoder.device) if ranks is None else ranks
        self._device = torch.device(self._ranks.device)
        precision = resolve_precision(config.precision, self._ranks.device)
        self.encoder: TorchEncoder = encoder.copy(dtype="float32", device=self._ranks.device)
        self.model: Any = self.encoder.model
        if config.lora_rank is not None:
            self._add_adapters(config.lora_rank)
        dtype = None if precision == "float32" else getattr(torch, precision)
        self._towers = Towers(self.encoder, config, dtype=dtype)
        self._statistics = Statistics(self.model)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=precision == "float16")
        self._gradients = Gradients(self._towers, config, ranks=self._ranks, scaler=self._scaler)
        self._log_scale: torch.nn.Parameter = self.model.logit_scale
        # An encoder that starts above CLIP's limit, as SigLIP's do, may stay there.
        self._max_log_scale = max(MAX_LOG_SCALE, float(self._log_scale.detach()))
        self._optimizer = make_optimizer(self.model, config)
        self._average = WeightAverage(self.model, config.average) if config.average else None
        self._plain: TorchEncoder | None = None

    def _add_adapters(self, rank: int) -> None:
        config = self._config
        add_lora(
            self.model,
            rank=rank,
            alpha=config.lora_alpha,
            dropout=config.lora_dropout,
            freeze=config.freeze,
            seed=config.seed,
        )

    def step(self, number: int, batch: Batch) -> float:
        """Learn from one batch.

        Args:
            number: Of the step, from 0; the schedule and all random numbers follow from it.
            batch: This process's share; it may be empty.

        Returns:
            The loss of the whole batch before the step; NaN where fewer than two images could be read, which compares
            nothing.

        Raises:
            TrainingDiverged: The loss or its gradient is not finite; the weights are as before.
            UsageError: Not even the smallest part of the batch fits into memory.
        """
        sizes = self._ranks.sizes(len(batch.captions))
        if sum(sizes) < 2:
            return math.nan
        rate = learning_rate_at(number, self._config, self._steps)
        with self._undone_on_error():
            loss = self._gradients.add(number, batch, sizes)
            self._scaler.unscale_(self._optimizer)
            norm = self._clip()
            self._check(number, rate, loss, norm, batch.ids)
        self._statistics.average(self._ranks, sizes)
        self._move(number, rate, moves=math.isfinite(norm))
        return loss

    @contextmanager
    def _undone_on_error(self) -> Iterator[None]:
        statistics = self._statistics.copy()
        try:
            yield
        except BaseException:
            self._optimizer.zero_grad()
            self._statistics.restore(statistics)
            raise

    def _move(self, number: int, rate: float, *, moves: bool) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad()
        with torch.no_grad():
            self._log_scale.clamp_(max=self._max_log_scale)
        if self._average is not None and moves:
            self._average.update(self.model, number)

    def _check(self, number: int, rate: float, loss: float, norm: float, ids: Sequence[str]) -> None:
        # A loss that was scaled too far up overflows in float16; the scaler skips the step and scales it down.
        overflows = self._scaler.is_enabled() and self._scaler.get_scale() > 1
        if not math.isfinite(loss) or not (math.isfinite(norm) or overflows):
            raise TrainingDiverged(_advice(number, rate, loss, norm, ids), step=number)

    def _clip(self) -> float:
        limit = math.inf if self._config.max_grad_norm is None else self._config.max_grad_norm
        return float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit))

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied by."""
        return float(self._log_scale.detach().exp())

    @contextmanager
    def for_use(self) -> Iterator[TorchEncoder]:
        """The encoder as it would be used now: averaged weights if there are any, no adapters, evaluation mode.

        Where that is not what learns, a second copy of the encoder takes the weights.
        """
        self.model.eval()
        if self._average is None and self._config.lora_rank is None:
            yield self.encoder
            return
        if self._plain is None:
            self._plain = self._base.copy(dtype="float32", device=self._ranks.device)
        averages = None if self._average is None else self._average.state
        self._plain.model.load_state_dict(merged_state(self.model, averages))
        yield self._plain

    def state(self) -> dict[str, Any]:
        """Everything that a step changes; frozen weights are not in it."""
        return {
            "model": self._changing(),
            "optimizer": self._optimizer.state_dict(),
            "average": None if self._average is None else self._average.state,
            "scaler": self._scaler.state_dict(),
            "micro_batch_size": self._gradients.micro,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` returned."""
        _fill(self._changing(), state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._average is not None:
            _fill(self._average.state, state["average"])
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(state["scaler"])
        self._gradients.micro = state["micro_batch_size"]

    def _changing(self) -> dict[str, Tensor]:
        """What is trained, and statistics."""
        return {
            name: tensor.detach()
            for name, tensor in self.model.state_dict(keep_vars=True).items()
            if tensor.requires_grad or not isinstance(tensor, torch.nn.Parameter)
        }


def _fill(tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        tensor.copy_(values[name])


def resolve_precision(precision: str, device: str) -> str:
    """What a precision means on a device: `"auto"` is bfloat16 where there are instructions for it, else float32.

    Raises:
        UsageError: float16, where gradients would vanish because nothing scales the loss.
    """
    place = torch.device(device)
    if precision == "float16" and place.type != "cuda":
        raise UsageError(
            f"precision='float16' is for GPUs, and {device!r} is none; 'bfloat16' works there, and 'auto' chooses."
        )
    if precision != "auto":
        return precision
    return "bfloat16" if pick_dtype(None, place) == torch.bfloat16 else "float32"


def _advice(step: int, rate: float, loss: float, norm: float, ids: Sequence[str]) -> str:
    what = f"the loss is {loss}" if not math.isfinite(loss) else f"the norm of its gradient is {norm}"
    more = f", … ({len(ids)} in all)" if len(ids) > SHOWN else ""
    batch = f" The batch is {', '.join(ids[:SHOWN])}{more}." if ids else ""
    return (
        f"Training diverged at step {step}: {what}, with a learning rate of {rate:.3g} at that step.{batch} In another"
        " directory, try a learning_rate three to ten times smaller, a longer warmup, a smaller max_grad_norm, or"
        " precision='float32'."
    )
