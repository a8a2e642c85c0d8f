"""What training leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from attrs import asdict, field, frozen

from geovlm._markup import frame, guarded, image, lines, panel
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
METRICS = "metrics.jsonl"
CURVES = "curves.png"


@frozen(kw_only=True)
class TrainingReport:
    """The encoder before and after, on the same held-out pairs.

    Args:
        before: The base; `None` if no pairs were held out.
        after: The tuned encoder.
        pairs: How many images were held out.
        general_before: The base on general pairs, which tell what is forgotten; `None` if none were given.
        general_after: The tuned encoder on them.
        general_pairs: How many they are.
        drift: How far the weights of each tower have come from the base's, relative to their length.
        share: How much of the tuned weights is in the result; below 1 the rest is the base (`interpolation`).
        leaks: What training and held-out pairs share, in words; empty if nothing.

    Examples:
        >>> scores = [Scores(loss=x, image_to_text={1: 1 - x}, text_to_image={1: 1 - x}) for x in (0.75, 0.25)]
        >>> print(TrainingReport(before=scores[0], after=scores[1], pairs=40, drift={"image": 0.01, "text": 0.0}))
        on 40 held-out pairs   before    after   change
        loss                   0.7500   0.2500  -0.5000
        image→text R@1         0.2500   0.7500  +0.5000
        text→image R@1         0.2500   0.7500  +0.5000
        mean recall            0.2500   0.7500  +0.5000
        weights moved by: image 1.00%, text 0.00%
    """

    before: Scores | None
    after: Scores | None
    pairs: int
    general_before: Scores | None = None
    general_after: Scores | None = None
    general_pairs: int = 0
    drift: Mapping[str, float] = field(factory=dict)
    share: float = 1.0
    leaks: str = ""

    def to_pandas(self) -> pd.DataFrame:
        """One row a measure, with the columns `before`, `after` and `change`."""
        return _compared(self.before, self.after, f"on {self.pairs} held-out pairs")

    def forgetting(self) -> pd.DataFrame:
        """The same on general pairs; empty if none were given."""
        return _compared(self.general_before, self.general_after, f"on {self.general_pairs} general pairs")

    def _tables(self) -> list[pd.DataFrame]:
        return [table for table in (self.to_pandas(), self.forgetting()) if len(table)]

    def _notes(self) -> list[str]:
        notes = []
        if self.before is None:
            notes.append("No pairs were held out, so nothing says whether the encoder is better: give val= to fit().")
        if self.drift:
            notes.append("weights moved by: " + ", ".join(f"{tower} {far:.2%}" for tower, far in self.drift.items()))
        if self.share < 1:
            notes.append(f"mixed with the base: {self.share:.0%} of the tuned weights")
        return [*notes, self.leaks] if self.leaks else notes

    def __str__(self) -> str:
        return "\n".join([*map(_as_text, self._tables()), *self._notes()])

    def _repr_html_(self) -> str:
        return panel("Before and after", *map(frame, self._tables()), lines(self._notes()))

    def to_json(self) -> dict[str, Any]:
        """JSON-like."""
        values = asdict(self, recurse=False)
        return {name: value.to_json() if isinstance(value, Scores) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainingReport:
        """What `to_json` gave."""
        scores = {name: None if values[name] is None else Scores(**values[name]) for name in SCORES}
        return cls(**{**values, **scores})


SCORES = ("before", "after", "general_before", "general_after")


def _compared(before: Scores | None, after: Scores | None, title: str) -> pd.DataFrame:
    if before is None or after is None:
        return pd.DataFrame(columns=["before", "after", "change"], dtype=float)
    table = pd.DataFrame({"before": before.as_row(), "after": after.as_row()})
    table["change"] = table["after"] - table["before"]
    table.index.name = title
    return table


def _as_text(table: pd.DataFrame) -> str:
    width = max(map(len, [str(table.index.name), *table.index]))
    lines = [f"{table.index.name:<{width}}   before    after   change"]
    lines += [f"{name:<{width}} {b:>8.4f} {a:>8.4f} {c:>+8.4f}" for name, b, a, c in table.itertuples()]
    return "\n".join(lines)


@frozen(kw_only=True)
class History:
    """One row an epoch; the row of epoch 0 is the base.

    Args:
        rows: `epoch`, `step`, `train_loss`, `learning_rate`, `logit_scale`, and with held-out pairs their measures,
            whose names begin with `val`.

    Examples:
        >>> History(rows=({"epoch": 0, "val_loss": 2.0}, {"epoch": 1, "val_loss": 1.5})).to_pandas().shape[0]
        2
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
        return panel(f"{len(self.rows)} epochs", frame(self.to_pandas(), index=False))


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

    Examples:
        >>> from geovlm.testing import HashEncoder
        >>> scores = [Scores(loss=x, image_to_text={1: 1 - x}, text_to_image={1: 1 - x}) for x in (0.75, 0.25)]
        >>> report = TrainingReport(before=scores[0], after=scores[1], pairs=40)
        >>> result = TrainingResult(
        ...     encoder=HashEncoder(), report=report, history=History(rows=()), data=Report(done=40), path=Path("run")
        ... )
        >>> result.improved
        True
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

    def __str__(self) -> str:
        return f"{self.path}\n{self.report}"

    @guarded
    def _repr_html_(self) -> str:
        """Before and after, the curves and the epochs, for a notebook."""
        curves = self.path / CURVES
        drawn = image(curves.read_bytes(), "curves of the training") if curves.is_file() else ""
        tables = (self.report._repr_html_(), drawn, self.history._repr_html_())
        return panel(f"{self.path}: {str(self.data).splitlines()[0]}", *tables)

    def push_to_hub(self, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
        """Upload the encoder with its model card to the Hugging Face hub.

        Args:
            repo_id: `"name/of-the-model"`; made if there is none.
            private: Whether a new repository is.
            token: One that may write; `None` takes the one of `hf auth login` or `HF_TOKEN`.

        Returns:
            The address of the repository; `load_encoder("hf-hub:…")` (open_clip) or `"hf:…"` (transformers) reads it.

        Raises:
            StorageError: The hub cannot be reached, or refuses.
        """
        from geovlm.training.hub import push_folder

        return push_folder(self.path / ENCODER, repo_id, private=private, token=token)

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
            report=TrainingReport.from_json(manifest["report"]),
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
