"""What a classification is worth: every input is counted, answered or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from attrs import field, frozen

from geovlm._markup import frame, grid, lines, panel
from geovlm._vectors import check_count
from geovlm.errors import UsageError

if TYPE_CHECKING:
    import os
    from typing import Any

    from attrs import Attribute
    from numpy.typing import NDArray

    from geovlm.records import Report

__all__ = ["KEPT", "NO_ANSWER", "ClassificationResult"]

KEPT = 5
NO_ANSWER = "(no answer)"


def _one_for_each(instance: ClassificationResult, attribute: Attribute[Any], value: Any) -> None:
    if len(value) != len(instance.ids):
        raise UsageError(f"{attribute.name} has {len(value)} rows for {len(instance.ids)} inputs.")


def _each_once(_: object, __: object, names: tuple[str, ...]) -> None:
    if not names or len(set(names)) != len(names):
        raise UsageError(f"classes are at least one name, each once, not {names!r:.120}.")


@frozen(kw_only=True, eq=False)
class ClassificationResult:
    """How well images were classified, by an encoder or by a model that answers in words.

    Every share is over *all* labelled inputs. One that could not be read, was not answered, or was answered with a
    name outside the set, is wrong; there is no other way to count. `coverage` tells beside it how many were answered.

    Args:
        classes: The names.
        ids: The id of every input, in order.
        truth: `(n,)`, each input's class, or −1 if it has no label.
        ranking: `(n, k)`, the best classes of each input, best first; −1 where there is none of the set. Models that
            answer in words name one.
        scores: `(n, k)`, their cosines, or probabilities by a transductive method; NaN where there is none.
        hallucinated: `(n,)`, where a name outside the set was answered; nowhere if not given.
        method: How vectors were put into classes; empty for models that answer in words.
        notes: Why that is not the method that was asked for, and what else is to be known.
        report: What became of every input.

    Examples:
        >>> from geovlm import score_labels
        >>> result = score_labels({"a": "Beach", "b": "Port"}, {"a": "Beach"})
        >>> result.top1, result.coverage, result.classes
        (0.5, 0.5, ('Beach', 'Port'))
    """

    classes: tuple[str, ...] = field(validator=_each_once)
    ids: tuple[str, ...] = field(repr=False)
    truth: NDArray[np.int64] = field(repr=False, validator=_one_for_each)
    ranking: NDArray[np.int64] = field(repr=False, validator=_one_for_each)
    scores: NDArray[np.float32] = field(repr=False, validator=_one_for_each)
    hallucinated: NDArray[np.bool_] = field(repr=False, validator=_one_for_each)
    method: str = ""
    notes: tuple[str, ...] = ()
    report: Report = field(repr=False)

    @hallucinated.default
    def _nowhere(self) -> NDArray[np.bool_]:
        return np.zeros(len(self.ids), dtype=np.bool_)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """`(n,)`, the class that each input was taken for; −1 where there is none of the set."""
        return self.ranking[:, 0]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """`(n,)`, whether each input is labelled and was classified rightly."""
        return self._hits(1)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """`(n,)`, which inputs have a label, and so are counted."""
        return self.truth >= 0

    @property
    def _answered(self) -> NDArray[np.bool_]:
        return (self.predicted >= 0) | self.hallucinated

    @property
    def _cuts(self) -> tuple[int, ...]:
        return (1, KEPT) if self.ranking.shape[1] >= min(KEPT, len(self.classes)) else (1,)

    @property
    def coverage(self) -> float:
        """Share of all inputs with an answer that could be read, names outside the set included."""
        return float(self._answered.mean()) if len(self.ids) else float("nan")

    @property
    def hallucination_rate(self) -> float:
        """Share of all inputs that were answered with a name outside the set."""
        return float(self.hallucinated.mean()) if len(self.ids) else float("nan")

    def accuracy(self, k: int = 1) -> float:
        """Share of the labelled inputs whose class is among the best `k`, at most 5; NaN if there are no labels.

        Raises:
            UsageError: `k` is not between 1 and 5, or only the best class of each input is known.
        """
        if check_count(k, name="k") > max(self._cuts):
            kept = max(self._cuts)
            raise UsageError(
                f"The best {kept} of the classes are kept for each input, so k is at most {kept}, not {k}."
            )
        hits = self._hits(k)[self.labelled]
        return float(hits.mean()) if len(hits) else float("nan")

    def _hits(self, k: int) -> NDArray[np.bool_]:
        return np.asarray((self.ranking[:, :k] == self.truth[:, None]).any(axis=1) & self.labelled)

    @property
    def top1(self) -> float:
        """Share of the labelled inputs that are classified rightly."""
        return self.accuracy(1)

    @property
    def top5(self) -> float:
        """Share of the labelled inputs whose class is among the best five.

        Raises:
            UsageError: Only the best class of each input is known.
        """
        return self.accuracy(KEPT)

    @property
    def confusion(self) -> NDArray[np.int64]:
        """`(classes, classes + 1)`: how many inputs of the row's class were taken for the column's.

        The last column counts those that were taken for none of the set, so that each row adds up to its class.
        """
        count = len(self.classes)
        columns = np.where(self.predicted < 0, count, self.predicted)
        cells = self.truth * (count + 1) + columns
        return np.bincount(cells[self.labelled], minlength=count * (count + 1)).reshape(count, count + 1)

    def confusion_to_pandas(self) -> pd.DataFrame:
        """The confusion matrix with names: rows are true classes, columns are predictions, the last "(no answer)"."""
        names = list(self.classes)
        columns = pd.Index([*names, NO_ANSWER], name="predicted")
        return pd.DataFrame(self.confusion, index=pd.Index(names, name="label"), columns=columns)

    def plot_confusion(self, path: str | os.PathLike[str]) -> Path:
        """Draw the confusion matrix; colours are shares of the row, numbers are counts.

        Args:
            path: Where to write it; its ending decides on PNG, PDF or SVG.

        Returns:
            The path.

        Raises:
            UsageError: The ending is not of a format that can be drawn.
            MissingExtra: matplotlib is not installed.
            StorageError: The file cannot be written.
        """
        from geovlm.evaluation._plot import draw_matrix

        return draw_matrix(self.confusion, rows=self.classes, columns=(*self.classes, NO_ANSWER), path=Path(path))

    def per_class(self) -> pd.DataFrame:
        """One row a class.

        Columns: how many `images` it has, how many of them `failed` (no readable answer) or were `hallucinated`, and
        `precision`, `recall` and `f1`, as scikit-learn defines them, with NaN for 0/0; `top5` where it is known.
        """
        matrix = self.confusion
        right, images = matrix.diagonal(), matrix.sum(axis=1)
        taken = matrix[:, :-1].sum(axis=0)
        with np.errstate(invalid="ignore"):
            shares = {"precision": right / taken, "recall": right / images, "f1": 2 * right / (images + taken)}
            best = {f"top{k}": self._tally(self._hits(k)) / images for k in self._cuts[1:]}
        counts = {
            "images": images,
            "failed": self._tally(~self._answered),
            "hallucinated": self._tally(self.hallucinated),
        }
        return pd.DataFrame({**counts, **shares, **best}, index=pd.Index(list(self.classes), name="label"))

    def _tally(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(self.truth[chosen & self.labelled], minlength=len(self.classes))

    def to_pandas(self) -> pd.DataFrame:
        """One row an input: id, label, predicted class, its score, and whether it is right; no class if it failed."""
        names = np.array([*self.classes, None], dtype=object)  # −1 finds the last
        return pd.DataFrame(
            {
                "id": list(self.ids),
                "label": names[self.truth],
                "predicted": names[self.predicted],
                "score": self.scores[:, 0],
                "hallucinated": self.hallucinated,
                "correct": self.correct,
            }
        )

    def _head(self) -> str:
        labelled, total = int(self.labelled.sum()), len(self.ids)
        over = f"all {total}" if labelled == total else f"the {labelled} labelled of {total}"
        shares = ", ".join(f"top-{k} {self.accuracy(k):.2%}" for k in self._cuts)
        told = f", {self.hallucination_rate:.2%} hallucinated" if self.hallucinated.any() else ""
        how = "" if self.method in {"", "inductive"} else f" ({self.method})"
        return (
            f"{self.report.stage}{how}: {shares} over {over} inputs, {len(self.classes)} classes; coverage"
            f" {self.coverage:.2%}{told}"
        )

    def __str__(self) -> str:
        table = self.per_class().query("images > 0").sort_values("recall", kind="stable")
        return f"{self._head()}\n{table.round(4).to_string()}" if len(table) else self._head()

    def _repr_html_(self) -> str:
        classes = self.per_class().query("images > 0").sort_values("recall", kind="stable")
        matrix = grid(self.confusion, rows=self.classes, columns=(*self.classes, NO_ANSWER))
        return panel(self._head(), lines(self.notes), frame(classes), matrix if self.labelled.any() else "")
