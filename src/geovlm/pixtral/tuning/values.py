"""What a fine-tuning tells: its loss, its cost, its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from attrs import asdict, field, frozen

from geovlm._markup import frame, panel

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

    import pandas as pd

    from geovlm.records import Report

__all__ = ["Estimate", "LossPoint", "TuningEvent", "TuningResult", "losses_table"]


@frozen(kw_only=True)
class LossPoint:
    """The loss after a step: mean negative log-likelihood of a token of the answers, in nats.

    Args:
        step: From 1.
        train: On the examples of this step; `None` where only the held-out ones were looked at.
        val: On the held-out examples, where these were looked at.

    Examples:
        >>> LossPoint(step=1, train=2.0).val is None
        True
    """

    step: int
    train: float | None = None
    val: float | None = None


@frozen(kw_only=True)
class Estimate:
    """What a hosted job would take, as the service tells before it is started.

    Args:
        cost: In `currency`; the whole job.
        currency: Such as `"USD"`.
        train_tokens: Tokens that are trained on, all epochs together.
        data_tokens: Tokens of the files.
        seconds: How long it takes.

    Examples:
        >>> Estimate(cost=4.0, currency="USD", train_tokens=1_000_000).cost
        4.0
    """

    cost: float | None = None
    currency: str | None = None
    train_tokens: int | None = None
    data_tokens: int | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        cost = "an unknown cost" if self.cost is None else f"{self.cost:.2f} {self.currency or ''}".rstrip()
        tokens = "" if self.train_tokens is None else f", {self.train_tokens} tokens"
        return f"{cost}{tokens}" + ("" if self.seconds is None else f", about {self.seconds / 60:.0f} min")


@frozen(kw_only=True)
class TuningEvent:
    """Something that happened to a hosted job.

    Args:
        name: Such as `"status-updated"`.
        at: When.
        data: What the service tells beside it.

    Examples:
        >>> import datetime as dt
        >>> TuningEvent(name="status-updated", at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC)).at.year
        2026
    """

    name: str
    at: dt.datetime
    data: dict[str, Any] = field(factory=dict)


@frozen(kw_only=True)
class TuningResult:
    """A fine-tuned model.

    Args:
        model: What `PixtralClient` takes as its `model`: the folder of an adapter, or a name at the service.
        backend: Where it was made, and where it answers.
        report: What became of every example.
        val_report: What became of every held-out example; `None` without any.
        losses: Over the steps.
        out: The folder of the run.

    Examples:
        >>> from pathlib import Path
        >>> from geovlm import Report
        >>> losses = (LossPoint(step=1, train=2.0), LossPoint(step=2, train=0.5, val=0.75))
        >>> result = TuningResult(
        ...     model="ft:a:b", backend="hosted", report=Report(done=16), losses=losses, out=Path("run")
        ... )
        >>> print(result)
        ft:a:b: 16 examples, 0 failed; training loss 2.000 → 0.500 in 2 steps; held-out loss 0.750
    """

    model: str
    backend: Literal["local", "hosted"]
    report: Report
    losses: tuple[LossPoint, ...] = field(repr=lambda value: f"<{len(value)} points>")
    out: Path
    val_report: Report | None = None

    def to_pandas(self) -> pd.DataFrame:
        """The loss curve: columns `step`, `train`, `val`."""
        return losses_table(self.losses)

    def _repr_html_(self) -> str:
        return panel(str(self), frame(self.to_pandas(), index=False, rows=20))

    def __str__(self) -> str:
        train = [point.train for point in self.losses if point.train is not None]
        val = [point.val for point in self.losses if point.val is not None]
        used = self.report.done + self.report.skipped
        told = [f"{self.model}: {used} examples, {self.report.failed} failed"]
        told += [f"training loss {train[0]:.3f} → {train[-1]:.3f} in {self.losses[-1].step} steps"] if train else []
        told += [f"held-out loss {val[-1]:.3f}"] if val else []
        return "; ".join(told)


def losses_table(losses: tuple[LossPoint, ...]) -> pd.DataFrame:
    """A loss curve as a table."""
    import pandas as pd

    return pd.DataFrame([asdict(point) for point in losses], columns=["step", "train", "val"])
