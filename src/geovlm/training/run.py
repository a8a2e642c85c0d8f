"""One training run in its directory: epochs, validation, checkpoints, and what comes out."""

from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING, Any

from attrs import asdict, define, field

from geovlm import _progress
from geovlm.errors import TrainingDiverged, UsageError
from geovlm.records import Failure, Report
from geovlm.training.augment import decoded_side
from geovlm.training.checkpoints import Checkpoints
from geovlm.training.data import Batches, Pixels
from geovlm.training.learner import Learner
from geovlm.training.optimization import learning_rate_at, warn_if_stuck
from geovlm.training.result import ENCODER
from geovlm.training.validation import HeldOut, Scores

if TYPE_CHECKING:
    from pathlib import Path

    from geovlm._parts import Parts
    from geovlm.encoders._torch import TorchEncoder
    from geovlm.training.config import TrainingConfig
    from geovlm.training.data import Batch, Pairs


@define
class Standing:
    """How far a run has come; with the learner's state and the images that failed all that a checkpoint holds."""

    step: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    history: list[dict[str, Any]] = field(factory=list)
    before: Scores | None = None
    best: Scores | None = None
    best_epoch: int | None = None

    def to_plain(self) -> dict[str, Any]:
        """Numbers, text, lists and mappings only."""
        scores = {"before": _plain(self.before), "best": _plain(self.best)}
        return {**asdict(self, recurse=False), **scores}

    @classmethod
    def from_plain(cls, value: dict[str, Any]) -> Standing:
        """What `to_plain` returned, as it was."""
        scores = {name: value[name] and Scores(**value[name]) for name in ("before", "best")}
        return cls(**{**value, **scores})


def _plain(scores: Scores | None) -> dict[str, Any] | None:
    return None if scores is None else scores.to_json()


class Run:
    """Everything between the start of a run and its result.

    Args:
        encoder: The base; it is copied.
        config: The settings.
        pairs: To train on.
        held: Held-out pairs, if there are any.
        out: The directory, which this process holds.
    """

    def __init__(
        self, encoder: TorchEncoder, config: TrainingConfig, pairs: Pairs, held: Pairs | None, *, out: Path
    ) -> None:
        self._config, self._pairs, self._held, self._out = config, pairs, held, out
        side = decoded_side(encoder.image_size, config.augmentation)
        self._pixels = Pixels(
            pairs.records,
            prepare=lambda image: encoder.preprocess(image, size=side),
            side=side,
            budget=config.cache_bytes,
        )
        self._batches = Batches(pairs.records, self._pixels, size=encoder.image_size, config=config)
        self._steps = config.epochs * self._batches.count
        self._learner = Learner(encoder, config, steps=self._steps)
        self._held_out: HeldOut | None = None
        if held is not None:
            left = config.cache_bytes - self._pixels.nbytes
            self._held_out = HeldOut(held.records, encoder, config, budget=left)
        self._checkpoints = Checkpoints(
            out / "checkpoints", keep=config.checkpoints_kept, interval=config.checkpoint_interval
        )
        self._standing = Standing()

    def train(self, progress: bool | None) -> None:
        """Take all steps that are still to take."""
        now = self._standing = self._resume() or self._begin()
        with _progress.bar(progress, total=self._steps, desc="train", unit="step", initial=now.step) as bar:
            while now.step < self._steps and not self._is_stale():
                epoch, start = divmod(now.step, self._batches.count)
                for batch in self._batches.epoch(epoch, start=start):
                    loss = self._take(batch)
                    bar.set_postfix(loss=f"{loss:.3f}", scale=f"{self._learner.logit_scale:.1f}", refresh=False)
                    bar.update(1)

    def _resume(self) -> Standing | None:
        state = self._checkpoints.load_newest()
        if state is None:
            return None
        self._learner.restore(state["learner"])
        for pixels, failures in zip(self._all_pixels(), state["failures"], strict=True):
            pixels.failures.update({place: Failure(**failure) for place, failure in failures.items()})
        return Standing.from_plain(state["standing"])

    def _begin(self) -> Standing:
        """Look at the base before anything changes."""
        warn_if_stuck(self._learner.model, self._config.learning_rate)
        scores = self._score()
        if scores is not None and math.isnan(scores.loss):
            raise UsageError(
                f"None of the held-out images can be read. The first failure: {_first(self._all_pixels()[1])}"
            )
        row = {"epoch": 0, "step": 0, "logit_scale": self._learner.logit_scale, "val": _plain(scores)}
        return Standing(before=scores, history=[row])

    def _take(self, batch: Batch) -> float:
        """One step, and what is due after it."""
        now = self._standing
        try:
            loss = self._learner.step(now.step, batch)
        except TrainingDiverged as error:
            kept = self._checkpoints.newest()
            raise TrainingDiverged(f"{error} The last good checkpoint is {kept}.", step=error.step) from None
        now.step += 1
        if not math.isnan(loss):
            now.loss_sum, now.loss_count = now.loss_sum + loss, now.loss_count + 1
        if now.step % self._batches.count == 0:
            self._end_epoch(now)
        if self._checkpoints.is_due(now.step):
            self._checkpoints.save(self._state(), step=now.step, best=now.best_epoch)
        return loss

    def _end_epoch(self, now: Standing) -> None:
        epoch = now.step // self._batches.count
        if now.loss_count == 0:
            raise UsageError(
                "No batch had two images that could be read, so there is nothing to learn from. The first failure:"
                f" {_first(self._pixels)}"
            )
        scores = self._score()
        row = {
            "epoch": epoch,
            "step": now.step,
            "logit_scale": self._learner.logit_scale,
            "learning_rate": learning_rate_at(now.step - 1, self._config, self._steps),
            "train_loss": now.loss_sum / now.loss_count,
            "val": _plain(scores),
        }
        now.history.append(row)
        now.loss_sum, now.loss_count = 0.0, 0
        if scores is not None and scores.is_better_than(now.best):
            with self._learner.for_use() as encoder:
                self._checkpoints.save_best(encoder.model.state_dict(), epoch=epoch)
            now.best, now.best_epoch = scores, epoch

    def _score(self) -> Scores | None:
        if self._held_out is None:
            return None
        with self._learner.for_use() as encoder:
            return self._held_out.score(encoder)

    def _is_stale(self) -> bool:
        now = self._standing
        if self._config.patience is None or now.best_epoch is None:
            return False
        return now.step // self._batches.count - now.best_epoch >= self._config.patience

    def _state(self) -> dict[str, Any]:
        return {
            "learner": self._learner.state(),
            "standing": self._standing.to_plain(),
            "failures": [
                # A copy, because the threads that decode ahead may add to it.
                {place: asdict(failure) for place, failure in dict(pixels.failures).items()}
                for pixels in self._all_pixels()
            ],
        }

    def _all_pixels(self) -> list[Pixels]:
        return [self._pixels] if self._held_out is None else [self._pixels, self._held_out.pixels]

    def finish(self, parts: Parts) -> Report:
        """Save the encoder and close the manifest; returns what became of every record."""
        now = self._standing
        with self._learner.for_use() as encoder:
            if now.best_epoch is not None:
                encoder.model.load_state_dict(self._checkpoints.load_best(now.best_epoch))
            self._save(encoder)
        report = self._report()
        parts.finish(
            before=_plain(now.before),
            after=_plain(now.best),
            best_epoch=now.best_epoch,
            held_out=0 if self._held is None else len(self._held.records),
            history=now.history,
            done=report.done,
            failed=report.failed,
            failures=[asdict(failure) for failure in report.failures],
        )
        return report

    def _save(self, encoder: TorchEncoder) -> None:
        """Put a whole folder in place of what a killed call may have left."""
        temporary, final = self._out / f".{ENCODER}.tmp", self._out / ENCODER
        for folder in (temporary, final):
            shutil.rmtree(folder, ignore_errors=True)
        encoder.save(temporary)
        temporary.rename(final)

    def _report(self) -> Report:
        failures: list[Failure] = []
        for pairs, pixels in zip([self._pairs, self._held], self._all_pixels(), strict=False):
            assert pairs is not None
            failures += [*pairs.failures, *(pixels.failures[place] for place in sorted(pixels.failures))]
        usable = sum(len(pairs.records) for pairs in (self._pairs, self._held) if pairs is not None)
        unreadable = sum(len(pixels.failures) for pixels in self._all_pixels())
        return Report(stage="train", done=usable - unreadable, failures=failures)


def _first(pixels: Pixels) -> Failure:
    return pixels.failures[min(pixels.failures)]
