"""The training loop: steps, checkpoints, the loss on held-out examples."""

from __future__ import annotations

import math
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

from geovlm import _progress
from geovlm.errors import TrainingDiverged
from geovlm.pixtral.tuning._batches import IGNORED, collate, order
from geovlm.pixtral.tuning._lora import trained

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geovlm.pixtral._rendering import Renderer, Sample
    from geovlm.pixtral.tuning._examples import Example
    from geovlm.pixtral.tuning.config import FineTuningConfig
    from geovlm.training.callbacks import MetricsFile
    from geovlm.training.checkpoints import Checkpoints


def learning_rate_at(step: int, config: FineTuningConfig, steps: int) -> float:
    """Linear warm-up, then half a cosine down to zero; steps count from 0.

    Examples:
        >>> from geovlm.pixtral.tuning import FineTuningConfig
        >>> config = FineTuningConfig(learning_rate=0.5, warmup=0.5)
        >>> [round(learning_rate_at(step, config, 4), 3) for step in range(4)]
        [0.25, 0.5, 0.5, 0.25]
    """
    warmup = min(round(config.warmup * steps), steps - 1)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


class Training:
    """One training.

    Args:
        model: With adapters.
        renderer: Makes samples.
        train: What is learned.
        val: What is held out; may be empty.
        config: The settings.
        checkpoints: Where it is kept.
        metrics: Told of each step.
    """

    def __init__(
        self,
        model: Any,
        renderer: Renderer,
        *,
        train: Sequence[Example],
        val: Sequence[Example],
        config: FineTuningConfig,
        checkpoints: Checkpoints,
        metrics: MetricsFile,
    ) -> None:
        self._model, self._renderer = model, renderer
        self._train, self._val = train, val
        self._config, self._checkpoints, self._metrics = config, checkpoints, metrics
        self._weights = trained(model)
        self._dtype = next(weight.dtype for weight in model.parameters() if not weight.requires_grad)
        self._device = next(model.parameters()).device
        self._optimizer = torch.optim.AdamW(
            self._weights.values(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self._per_epoch = math.ceil(len(train) / config.batch_size)
        self._steps = config.epochs * self._per_epoch

    def run(self, *, progress: bool | None) -> None:
        """Go on from the newest checkpoint to the last step.

        Raises:
            TrainingDiverged: The loss is no longer a finite number.
            StorageError: The disk refused; the last checkpoint stays.
        """
        done = self._resume()
        self._metrics.on_start({"step": done})
        with (
            ThreadPoolExecutor(1, thread_name_prefix="geovlm-samples") as pool,
            _progress.bar(progress, total=self._steps, desc="fine-tune", unit="step", initial=done) as bar,
        ):
            if done == 0:
                self._validate(0)
            ahead = self._prepare(pool, done)
            for step in range(done, self._steps):
                samples, ahead = ahead.result(), self._prepare(pool, step + 1)
                self._take(step, samples)
                bar.update(1)

    def _resume(self) -> int:
        state = self._checkpoints.load_newest()
        if state is None:
            return 0
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(state["weights"][name])
        self._optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])

    def _prepare(self, pool: ThreadPoolExecutor, step: int) -> Future[list[Sample]]:
        """The samples of a step, while the one before it is computed."""
        return pool.submit(lambda: [example.sample(self._renderer) for example in self._examples_of(step)])

    def _examples_of(self, step: int) -> list[Example]:
        epoch, place = divmod(step, self._per_epoch)
        places = order(len(self._train), seed=self._config.seed, epoch=epoch)
        size = self._config.batch_size
        return (
            [self._train[number] for number in places[place * size : (place + 1) * size]] if self._steps > step else []
        )

    def _take(self, step: int, samples: list[Sample]) -> None:
        """One step, told and kept."""
        rate = learning_rate_at(step, self._config, self._steps)
        loss = self._step(step, samples, rate)
        done = step + 1
        self._metrics.on_step({"step": done, "epoch": done / self._per_epoch, "loss": loss, "learning_rate": rate})
        if done % self._per_epoch == 0:
            self._validate(done)
        if self._checkpoints.is_due(done) or done == self._steps:
            weights = {name: weight.detach() for name, weight in self._weights.items()}
            state = {"step": done, "weights": weights, "optimizer": self._optimizer.state_dict()}
            self._checkpoints.save(state, step=done, best=None)

    def _step(self, step: int, samples: list[Sample], rate: float) -> float:
        """Gradients of the mean over all answer tokens of the step, however they are spread over micro batches."""
        self._model.train()
        self._optimizer.zero_grad()
        tokens = sum(len(sample.answer) for sample in samples)
        devices = [self._device] if self._device.type == "cuda" else []
        total = 0.0
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self._config.seed * 1_000_003 + step)
            for part in self._micro(samples):
                loss = self._loss(part) / tokens
                torch.autograd.backward(loss)
                total += loss.item()
        if not math.isfinite(total) or not math.isfinite(self._clip()):
            raise TrainingDiverged(
                f"The loss is {total} at step {step + 1}; lower learning_rate={self._config.learning_rate:g}.",
                step=step,
            )
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        return total

    def _clip(self) -> float:
        longest = self._config.max_grad_norm
        norm = torch.nn.utils.clip_grad_norm_(self._weights.values(), math.inf if longest is None else longest)
        return float(norm)

    def _micro(self, samples: list[Sample]) -> list[list[Sample]]:
        size = self._config.micro_batch_size
        return [samples[start : start + size] for start in range(0, len(samples), size)]

    def _loss(self, samples: list[Sample]) -> torch.Tensor:
        """Negative log-likelihood of the answers, summed over their tokens."""
        inputs, targets = collate(samples, filler=self._renderer.filler)
        # Logits are as wide as the vocabulary, so they are made only where an answer is foretold.
        columns = (targets != IGNORED).any(0).nonzero().flatten()
        placed = {name: tensor.to(self._device) for name, tensor in inputs.items()}
        if "pixel_values" in placed:
            placed["pixel_values"] = placed["pixel_values"].to(self._dtype)
        keep = (columns - 1).to(self._device)
        logits = self._model(**placed, logits_to_keep=keep, use_cache=False).logits
        wanted = targets[:, columns].to(self._device)
        return cross_entropy(logits.float().flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum")

    @torch.no_grad()
    def _validate(self, done: int) -> None:
        """Tell the loss on held-out examples."""
        if not self._val:
            return
        self._model.eval()
        loss, tokens = 0.0, 0
        size = self._config.micro_batch_size
        for start in range(0, len(self._val), size):
            samples = [example.sample(self._renderer) for example in self._val[start : start + size]]
            loss += self._loss(samples).item()
            tokens += sum(len(sample.answer) for sample in samples)
        self._metrics.on_epoch({"step": done, "epoch": done // self._per_epoch, "val_loss": loss / tokens})
