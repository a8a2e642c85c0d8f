"""The end of a run: which weights are returned, how they compare with the base, and what is written."""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import asdict

from geovlm.errors import MissingExtra
from geovlm.records import Failure, Report
from geovlm.training.callbacks import read_metrics
from geovlm.training.card import model_card
from geovlm.training.curves import save_curves
from geovlm.training.interpolation import best_mix, interpolate
from geovlm.training.layers import drift
from geovlm.training.result import CURVES, ENCODER, METRICS, TrainingReport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from geovlm._parts import Parts
    from geovlm.encoders._torch import TorchEncoder
    from geovlm.training.config import TrainingConfig
    from geovlm.training.run import Run

    Unusable: TypeAlias = Sequence[Mapping[Any, Failure]]


def finish(run: Run, config: TrainingConfig, parts: Parts, *, failures: Unusable, out: Path) -> Report:
    """Save the encoder and close the manifest; by the main process.

    Args:
        run: After its last step.
        config: The settings.
        parts: The directory's manifest.
        failures: What `run.all_failures()` gave.
        out: The directory.

    Returns:
        What became of every record.
    """
    now, report = run.standing, _report(run, failures)
    with run.learner.for_use() as encoder:
        if now.best_epoch is not None:
            encoder.model.load_state_dict(run.checkpoints.load_best(now.best_epoch))
        if config.interpolation:
            _interpolate(run, encoder)
        if run.general is not None:
            now.general_after = run.general.score(encoder)
        comparison = TrainingReport(
            before=now.before,
            after=now.best,
            pairs=0 if run.data.held is None else len(run.data.held),
            general_before=now.general_before,
            general_after=now.general_after,
            general_pairs=0 if run.data.general is None else len(run.data.general),
            drift=drift(run.base.model, encoder.model),
            share=now.share,
            leaks=now.leaks,
        )
        _save(encoder, model_card(encoder, parts.config, parts.about or {}, comparison, failures=report.failed), out)
    with suppress(MissingExtra):  # a picture is not worth an error at the end of a training
        save_curves(read_metrics(out / METRICS), out / CURVES)
    parts.finish(
        report=comparison.to_json(),
        best_epoch=now.best_epoch,
        history=now.history,
        done=report.done,
        failed=report.failed,
        failures=[asdict(failure) for failure in report.failures],
    )
    return report


def _interpolate(run: Run, encoder: TorchEncoder) -> None:
    """Leave the best mix in the encoder: on the held-out pairs, and with equal weight on general ones if there are."""
    now, held_out = run.standing, run.held_out
    assert held_out is not None  # the settings were checked
    base = run.base.model.state_dict()
    tuned = {name: tensor.clone() for name, tensor in encoder.model.state_dict().items()}
    found = {}

    def score(share: float) -> tuple[float, ...]:
        encoder.model.load_state_dict(interpolate(base, tuned, share))
        found[share] = held_out.score(encoder)
        recall = found[share].mean_recall
        if run.general is not None:
            recall = (recall + run.general.score(encoder).mean_recall) / 2
        return recall, -found[share].loss

    now.share, _ = best_mix(score)
    now.best = found[now.share]
    encoder.model.load_state_dict(interpolate(base, tuned, now.share))


def _save(encoder: TorchEncoder, card: str, out: Path) -> None:
    """Put a whole folder in place of what a killed call may have left."""
    temporary, final = out / f".{ENCODER}.tmp", out / ENCODER
    for folder in (temporary, final):
        shutil.rmtree(folder, ignore_errors=True)
    encoder.save(temporary)
    (temporary / "README.md").write_text(card, encoding="utf-8")
    temporary.rename(final)


def _report(run: Run, failures: Unusable) -> Report:
    found: list[Failure] = []
    used = 0
    for pairs, unreadable in zip((run.data.train, run.data.held, run.data.general), failures, strict=True):
        if pairs is not None:
            found += [*pairs.failures, *(unreadable[key] for key in sorted(unreadable))]
            used += len(pairs) - len(unreadable)
    return Report(stage="train", done=used, failures=found)
