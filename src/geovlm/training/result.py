"""What training leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from attrs import frozen

from geovlm._parts import Parts, read_manifest
from geovlm.errors import UsageError
from geovlm.records import Failure, Report
from geovlm.training.validation import Scores

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from geovlm.protocols import Encoder

KIND = "training"
ENCODER = "encoder"


@frozen(kw_only=True)
class TrainingReport:
    """The encoder before and after, on the same held-out pairs.

    Args:
        before: The base; `None` if no pairs were held out.
        after: The tuned encoder.
        pairs: How many images were held out.

    Examples:
        >>> scores = [Scores(loss=x, image_to_text={1: 1 - x}, text_to_image={1: 1 - x}) for x in (0.75, 0.25)]
        >>> print(TrainingReport(before=scores[0], after=scores[1], pairs=40))
        on 40 held-out pairs   before    after   change
        loss                   0.7500   0.2500  -0.5000
        image→text R@1         0.2500   0.7500  +0.5000
        text→image R@1         0.2500   0.7500  +0.5000
        mean recall            0.2500   0.7500  +0.5000
    """

    before: Scores | None
    after: Scores | None
    pairs: int

    def to_pandas(self) -> pd.DataFrame:
        """One row a measure, with the columns `before`, `after` and `change`."""
        if self.before is None or self.after is None:
            return pd.DataFrame(columns=["before", "after", "change"], dtype=float)
        table = pd.DataFrame({"before": self.before.as_row(), "after": self.after.as_row()})
        table["change"] = table["after"] - table["before"]
        table.index.name = f"on {self.pairs} held-out pairs"
        return table

    def __str__(self) -> str:
        if self.before is None:
            return "No pairs were held out, so nothing says whether the encoder is better: give val= to fit()."
        table = self.to_pandas()
        width = max(map(len, [str(table.index.name), *table.index]))
        lines = [f"{table.index.name:<{width}}   before    after   change"]
        lines += [f"{name:<{width}} {b:>8.4f} {a:>8.4f} {c:>+8.4f}" for name, b, a, c in table.itertuples()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        if self.before is None:
            return f"<p>{self}</p>"
        return str(self.to_pandas().to_html(float_format="{:.4f}".format))


@frozen(kw_only=True)
class History:
    """One row an epoch; the row of epoch 0 is the base.

    Args:
        rows: `epoch`, `step`, `train_loss`, `learning_rate`, `logit_scale`, and with held-out pairs their measures,
            whose names begin with `val`.
    """

    rows: tuple[Mapping[str, Any], ...]

    @classmethod
    def from_manifest(cls, rows: list[dict[str, Any]]) -> History:
        """In reading order, which JSON with sorted keys does not keep."""
        return cls(rows=tuple(_history_row(row) for row in rows))

    def to_pandas(self) -> pd.DataFrame:
        """One row an epoch."""
        return pd.DataFrame(list(self.rows))

    def _repr_html_(self) -> str:
        return str(self.to_pandas().to_html(index=False))


def _history_row(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("epoch", "step", "train_loss", "learning_rate", "logit_scale")
    scores = _scores(row["val"])
    measures = {} if scores is None else scores.as_row()
    return {**{name: row.get(name) for name in names}, **{f"val {name}": value for name, value in measures.items()}}


@frozen(kw_only=True)
class TrainingResult:
    """A tuned encoder and how it came about.

    Args:
        encoder: The tuned encoder: of the best epoch on the held-out pairs, else of the last.
        report: Before and after.
        history: Epoch by epoch.
        data: What became of every training and held-out record.
        path: The directory; `path / "encoder"` can be given to `load_encoder`.
    """

    encoder: Encoder
    report: TrainingReport
    history: History
    data: Report
    path: Path

    @property
    def improved(self) -> bool:
        """Whether the mean recall on held-out pairs is higher than that of the base; without such pairs `False`."""
        before, after = self.report.before, self.report.after
        return before is not None and after is not None and after.mean_recall > before.mean_recall

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, device: str | None = None, dtype: str | None = None
    ) -> TrainingResult:
        """Open the directory of a finished training.

        Args:
            path: What was given as `out`.
            device: Where the encoder goes; `None` chooses.
            dtype: The precision it computes in; `None` chooses.

        Raises:
            UsageError: There is no finished training.
        """
        from geovlm.encoders import load_encoder

        out = Path(path)
        Parts.open(out, kind=KIND)
        manifest = read_manifest(out)
        if manifest is None or manifest["state"] != "complete":
            raise UsageError(f"The training in {out} is not finished; repeat the fit() that began it.")
        return cls(
            encoder=load_encoder(out / ENCODER, device=device, dtype=dtype),
            report=TrainingReport(
                before=_scores(manifest["before"]), after=_scores(manifest["after"]), pairs=manifest["held_out"]
            ),
            history=History.from_manifest(manifest["history"]),
            data=Report(
                stage="train",
                skipped=manifest["done"],
                failures=[Failure(**failure) for failure in manifest["failures"]],
                seconds=0.0,
            ),
            path=out,
        )


def _scores(value: dict[str, Any] | None) -> Scores | None:
    return None if value is None else Scores(**value)
