"""One training run in its directory: epochs, validation, checkpoints."""

from __future__ import annotations

import math
import time
import warnings
from typing import TYPE_CHECKING, Any

from attrs import asdict, evolve, frozen

from geovlm import _progress
from geovlm._files import digest
from geovlm.errors import TrainingDiverged, UsageError
from geovlm.records import Failure
from geovlm.training.checkpoints import Checkpoints
from geovlm.training.data import make_batches
from geovlm.training.leaks import find_leaks
from geovlm.training.learner import Learner
from geovlm.training.optimization import learning_rate_at, warn_if_stuck
from geovlm.training.pairs import ShardPairs
from geovlm.training.standing import Standing, plain
from geovlm.training.validation import HeldOut

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from geovlm.encoders._torch import TorchEncoder
    from geovlm.records import Record
    from geovlm.training._ranks import Ranks
    from geovlm.training.batch import Batch
    from geovlm.training.callbacks import Audience
    from geovlm.training.config import TrainingConfig
    from geovlm.training.pairs import Pairs
    from geovlm.training.validation import Scores


@frozen(kw_only=True)
class Data:
    """The pairs of a run.

    Args:
        train: To learn from.
        held: Held out, if there are any.
        general: Of other imagery, if there are any: they tell what is forgotten.
    """

    train: Pairs | ShardPairs
    held: Pairs | None = None
    general: Pairs | None = None


class Run:
    """The loop from the start of a run to its last step; where several processes train, each has one.

    Args:
        encoder: The base; it is copied.
        config: The settings.
        data: The pairs.
        out: The directory, which the main process holds.
        ranks: The processes.
        audience: Who is told.
    """

    def __init__(
        self,
        encoder: TorchEncoder,
        config: TrainingConfig,
        data: Data,
        *,
        out: Path,
        ranks: Ranks,
        audience: Audience,
    ) -> None:
        self.base: TorchEncoder = encoder
        self.data: Data = data
        self._config, self._ranks, self._audience = config, ranks, audience
        self.held_out, self.general = (
            HeldOut(pairs.records, encoder, config) if pairs is not None and ranks.is_main else None
            for pairs in (data.held, data.general)
        )
        left = config.cache_bytes - sum(part.pixels.nbytes for part in (self.held_out, self.general) if part)
        self._batches = make_batches(
            data.train,
            prepare=encoder.preprocess,
            size=encoder.image_size,
            config=evolve(config, cache_bytes=left),
            rank=ranks.index,
            ranks=ranks.count,
            vectors=encoder.encode_texts,
        )
        self._steps = config.epochs * self._batches.count
        self.learner: Learner = Learner(encoder, config, steps=self._steps, ranks=ranks)
        self.checkpoints: Checkpoints = Checkpoints(
            out / "checkpoints", keep=config.checkpoints_kept, interval=config.checkpoint_interval
        )
        # The same when the run goes on, and no other run's.
        self._name = digest([str(out.absolute()), data.train.fingerprint])
        self.standing = Standing()

    def train(self, progress: bool | None) -> None:
        """Take all steps that are still to take."""
        resumed = self._resume()
        now = self.standing = resumed or self._begin()
        about = {"run": self._name, "step": now.step, "steps": self._steps}
        self._audience.on_start({**about, **self._config.for_manifest()})
        if resumed is None:
            self._audience.on_epoch(now.history[0] | {"val": _metrics(now.before)})
        shown = progress if self._ranks.is_main else False
        try:
            with _progress.bar(shown, total=self._steps, desc="train", unit="step", initial=now.step) as bar:
                while now.step < self._steps and not self._is_stale():
                    epoch, start = divmod(now.step, self._batches.count)
                    last = time.perf_counter()
                    for batch in self._batches.epoch(epoch, start=start):
                        loss = self._take(batch)
                        last, row = self._row(loss, batch, since=last)
                        self._audience.on_step(row)
                        self._end_step(now)
                        bar.set_postfix(
                            loss=f"{loss:.3f}",
                            scale=f"{row['logit_scale']:.1f}",
                            pairs=f"{row['pairs_per_second']:.0f}/s",
                            refresh=False,
                        )
                        bar.update(1)
        finally:
            self._audience.on_end()

    def _resume(self) -> Standing | None:
        state = self.checkpoints.load_newest() if self._ranks.is_main else None
        step = self._ranks.broadcast(None if state is None else state["standing"]["step"])
        if step is None:
            return None
        state = state or self.checkpoints.load(step)
        self.learner.restore(state["learner"])
        for failures, kept in zip(self.failures(), state["failures"], strict=True):
            failures.update({place: Failure(**failure) for place, failure in kept.items()})
        return Standing.from_plain(state["standing"])

    def _begin(self) -> Standing:
        """Look at the base before anything changes."""
        now = Standing()
        if self._ranks.is_main:
            warn_if_stuck(self.learner.model, self._config.learning_rate)
            now.leaks = self._leaks()
        now.before, now.general_before = self._score(self.held_out), self._score(self.general)
        if now.before is not None and math.isnan(now.before.loss):
            raise UsageError(
                f"None of the held-out images can be read. The first failure: {_first(self.failures()[1])}"
            )
        row = {"epoch": 0, "step": 0, "logit_scale": self.learner.logit_scale, "val": plain(now.before)}
        now.history.append(row)
        return now

    def _leaks(self) -> str:
        """What training and held-out data share, which is a warning too."""
        if self.data.held is None:
            return ""
        leaks = find_leaks(_records(self.data.train), self.data.held.records)
        if not leaks:
            return ""
        warnings.warn(
            f"{leaks} Figures on them say little about new imagery; take them out of one of the two.",
            RuntimeWarning,
            stacklevel=2,
        )
        return str(leaks)

    def _take(self, batch: Batch) -> float:
        now = self.standing
        try:
            loss = self.learner.step(now.step, batch)
        except TrainingDiverged as error:
            kept = self.checkpoints.newest()
            raise TrainingDiverged(f"{error} The last good checkpoint is {kept}.", step=error.step) from None
        now.step += 1
        if not math.isnan(loss):
            now.loss_sum, now.loss_count = now.loss_sum + loss, now.loss_count + 1
        return loss

    def _row(self, loss: float, batch: Batch, *, since: float) -> tuple[float, dict[str, float]]:
        """What is told of a step, and when it ended."""
        step, now = self.standing.step, time.perf_counter()
        return now, {
            "step": step,
            "epoch": (step - 1) / self._batches.count,
            "loss": loss,
            "learning_rate": learning_rate_at(step - 1, self._config, self._steps),
            "logit_scale": self.learner.logit_scale,
            "pairs_per_second": len(batch.captions) * self._ranks.count / (now - since),
        }

    def _end_step(self, now: Standing) -> None:
        """What is due after a step."""
        if now.step % self._batches.count == 0:
            self._end_epoch(now)
        if self._ranks.broadcast(self.checkpoints.is_due(now.step)):
            state = self._state()
            if self._ranks.is_main:
                self.checkpoints.save(state, step=now.step, best=now.best_epoch)

    def _end_epoch(self, now: Standing) -> None:
        epoch = now.step // self._batches.count
        if now.loss_count == 0:
            raise UsageError(
                "No batch had two images that could be read, so there is nothing to learn from. The first failure:"
                f" {_first(self.failures()[0])}"
            )
        scores = self._score(self.held_out)
        row = {
            "epoch": epoch,
            "step": now.step,
            "logit_scale": self.learner.logit_scale,
            "learning_rate": learning_rate_at(now.step - 1, self._config, self._steps),
            "train_loss": now.loss_sum / now.loss_count,
            "val": plain(scores),
        }
        now.history.append(row)
        self._audience.on_epoch(row | {"val": _metrics(scores)})
        now.loss_sum, now.loss_count = 0.0, 0
        if scores is not None and scores.is_better_than(now.best):
            if self._ranks.is_main:
                with self.learner.for_use() as encoder:
                    self.checkpoints.save_best(encoder.model.state_dict(), epoch=epoch)
            now.best, now.best_epoch = scores, epoch

    def _score(self, pairs: HeldOut | None) -> Scores | None:
        """By the main process; all learn it."""
        scores = None
        if pairs is not None:
            with self.learner.for_use() as encoder:
                scores = pairs.score(encoder)
        return self._ranks.broadcast(scores)

    def _is_stale(self) -> bool:
        now = self.standing
        if self._config.patience is None or now.best_epoch is None:
            return False
        return now.step // self._batches.count - now.best_epoch >= self._config.patience

    def _state(self) -> dict[str, Any]:
        failures = [{key: asdict(failure) for key, failure in part.items()} for part in self.all_failures()]
        return {"learner": self.learner.state(), "standing": self.standing.to_plain(), "failures": failures}

    def all_failures(self) -> list[dict[Any, Failure]]:
        """What no process could use: of the pairs for training, those held out, and general ones."""
        # Copies, because the threads that decode ahead may add to them.
        of_all = self._ranks.collect([dict(part) for part in self.failures()])
        return [{key: failure for rank in of_all for key, failure in rank[part].items()} for part in range(3)]

    def failures(self) -> list[dict[Any, Failure]]:
        """The same of this process."""
        parts = (self.held_out, self.general)
        return [self._batches.failures, *({} if part is None else part.pixels.failures for part in parts)]


def _records(pairs: Pairs | ShardPairs) -> Iterable[Record]:
    return pairs.source if isinstance(pairs, ShardPairs) else pairs.records


def _metrics(scores: Scores | None) -> dict[str, float] | None:
    return None if scores is None else scores.as_metrics()


def _first(failures: dict[Any, Failure]) -> Failure:
    return failures[min(failures)]
