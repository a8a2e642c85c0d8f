"""Before and after, on the same inputs: what changed, and whether chance may have done it."""

from __future__ import annotations

import math
from itertools import accumulate
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from attrs import evolve, field, frozen

from geovlm._markup import frame, panel
from geovlm.errors import UsageError
from geovlm.evaluation.labels import score_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from geovlm.evaluation.labels import AnsweredBatch
    from geovlm.evaluation.result import ClassificationResult

__all__ = ["Comparison", "compare"]


@frozen(kw_only=True, eq=False)
class Comparison:
    """Two classifications of the same inputs; every share is over all labelled ones, as in `ClassificationResult`.

    Args:
        before: The baseline.
        after: What is compared with it, in the same order of inputs and classes.

    Examples:
        >>> from geovlm import score_labels
        >>> truth = {"a": "Beach", "b": "Port"}
        >>> comparison = Comparison(before=score_labels(truth, {"a": "Beach"}), after=score_labels(truth, truth))
        >>> comparison.change, comparison.gained, comparison.lost
        (0.5, 1, 0)
    """

    before: ClassificationResult = field(repr=False)
    after: ClassificationResult = field(repr=False)

    @property
    def change(self) -> float:
        """Accuracy after less accuracy before; NaN if there are no labels."""
        return self.after.top1 - self.before.top1

    @property
    def gained(self) -> int:
        """Inputs that were wrong before and are right after."""
        return int((self.after.correct & ~self.before.correct).sum())

    @property
    def lost(self) -> int:
        """Inputs that were right before and are wrong after."""
        return int((self.before.correct & ~self.after.correct).sum())

    @property
    def p_value(self) -> float:
        """How likely so uneven a count of gained and lost inputs is by chance (McNemar's exact test, two-sided).

        Under chance a changed input is gained or lost with probability 1/2 each (McNemar, 1947, Psychometrika 12).
        """
        changed, fewer = self.gained + self.lost, min(self.gained, self.lost)
        ways = accumulate(range(fewer), lambda last, k: last * (changed - k) // (k + 1), initial=1)
        # The probability of at most `fewer`, both ways; whole numbers stay exact until they are divided.
        return min(1.0, sum(ways) / 2 ** (changed - 1)) if changed else 1.0

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The confidence interval of `change`, for paired inputs.

        The adjusted Wald interval of Bonett and Price (2012, Journal of Educational and Behavioral Statistics 37,
        479-488), cut at −1 and 1.

        Raises:
            UsageError: `level` is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise UsageError(f"level is between 0 and 1, such as 0.95, not {level!r}.")
        count = int(self.after.labelled.sum())
        if not count:
            return float("nan"), float("nan")
        up, down = ((number + 1) / (count + 2) for number in (self.gained, self.lost))
        middle = up - down
        width = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt((up + down - middle**2) / (count + 2))
        return max(-1.0, middle - width), min(1.0, middle + width)

    def per_class(self) -> pd.DataFrame:
        """One row a class: how many images, then recall and F1 before and after, and the change of each."""
        before, after = self.before.per_class(), self.after.per_class()
        columns = {"images": before["images"]}
        for name in ("recall", "f1"):
            columns |= {
                f"{name} before": before[name],
                f"{name} after": after[name],
                f"{name} change": after[name] - before[name],
            }
        return pd.DataFrame(columns)

    def to_pandas(self) -> pd.DataFrame:
        """One row an input: id, label, the class before and after, and what became of it.

        The last, `outcome`, is "right", "wrong", "gained" or "lost"; missing for inputs without a label.
        """
        before, after = self.before.to_pandas(), self.after.to_pandas()
        outcomes = np.array(["wrong", "gained", "lost", "right"], dtype=object)
        outcome = outcomes[2 * self.before.correct.astype(int) + self.after.correct]
        return pd.DataFrame(
            {
                "id": before["id"],
                "label": before["label"],
                "before": before["predicted"],
                "after": after["predicted"],
                "outcome": np.where(self.before.labelled, outcome, None),
            }
        )

    def _summary(self) -> pd.DataFrame:
        rows = {"before": self.before, "after": self.after}
        return pd.DataFrame(
            {
                "accuracy": [result.top1 for result in rows.values()],
                "coverage": [result.coverage for result in rows.values()],
                "hallucinated": [result.hallucination_rate for result in rows.values()],
            },
            index=list(rows),
        )

    def _head(self) -> str:
        low, high = self.interval()
        labelled, total = int(self.after.labelled.sum()), len(self.after.ids)
        over = f"all {total}" if labelled == total else f"the {labelled} labelled of {total}"
        return (
            f"accuracy {self.before.top1:.2%} → {self.after.top1:.2%} over {over} inputs: {100 * self.change:+.2f}"
            f" points (95% interval {100 * low:+.2f} to {100 * high:+.2f}); {self.gained} gained, {self.lost} lost,"
            f" exact McNemar p = {self.p_value:.2g}"
        )

    def __str__(self) -> str:
        classes = self.per_class().query("images > 0").sort_values("recall change", kind="stable")
        tables = [self._summary(), classes] if len(classes) else [self._summary()]
        return "\n".join([self._head(), *(table.round(4).to_string() for table in tables)])

    def _repr_html_(self) -> str:
        classes = self.per_class().query("images > 0").sort_values("recall change", kind="stable")
        return panel(self._head(), frame(self._summary()), frame(classes))


def compare(baseline: ClassificationResult | AnsweredBatch, after: ClassificationResult | AnsweredBatch) -> Comparison:
    """Compare two classifications of the same inputs, such as those of a model before and after fine-tuning.

    Args:
        baseline: What a batch brought, or what `zero_shot` or `score_labels` gave.
        after: The same, of the other model. Its inputs may stand in another order.

    Raises:
        UsageError: They are not of the same inputs, with the same labels and the same classes: accuracies over
            different inputs cannot be compared.

    Examples:
        >>> truth = {"a": "Beach", "b": "Port", "c": "Port", "d": "Beach"}
        >>> before = score_labels(truth, {"a": "Beach", "b": "Harbour", "c": "Beach"})
        >>> after = score_labels(truth, {"a": "Beach", "b": "Port", "c": "Port"})
        >>> comparison = compare(before, after)
        >>> comparison.change, comparison.gained, comparison.lost, after.coverage
        (0.5, 2, 0, 0.75)
    """
    first, second = score_labels(baseline), score_labels(after)
    if set(first.classes) != set(second.classes):
        only = sorted(set(first.classes) ^ set(second.classes))
        raise UsageError(f"The two chose from different classes: only one of them has {', '.join(only[:5])}.")
    order = _order(first.ids, second.ids)
    second = _arranged(second, order, first.classes)
    unlike = np.flatnonzero(first.truth != second.truth)
    if unlike.size:
        names = (*first.classes, None)
        place = unlike[0]
        raise UsageError(
            f"{unlike.size} inputs have another label in one than in the other, such as {first.ids[place]!r}:"
            f" {names[first.truth[place]]} and {names[second.truth[place]]}."
        )
    return Comparison(before=first, after=second)


def _order(wanted: tuple[str, ...], given: tuple[str, ...]) -> NDArray[np.int64]:
    """Where in `given` each of `wanted` is."""
    if wanted == given:
        return np.arange(len(wanted))
    places = {key: place for place, key in enumerate(given)}
    missing = [key for key in wanted if key not in places]
    extra = set(given).difference(wanted)
    if missing or extra:
        example = missing[0] if missing else min(extra)
        raise UsageError(
            f"The two are not of the same inputs: {len(missing)} of the baseline are not in the other, and {len(extra)}"
            f" of the other not in the baseline, such as {example!r}. Accuracies over different inputs cannot be"
            " compared."
        )
    if len(wanted) != len(given) or len(places) != len(given):
        raise UsageError("Some ids come twice, and stand in another order in one than in the other.")
    return np.array([places[key] for key in wanted], dtype=np.int64)


def _arranged(result: ClassificationResult, order: NDArray[np.int64], classes: tuple[str, ...]) -> ClassificationResult:
    """The same, with inputs and classes in another order."""
    number = {name: place for place, name in enumerate(classes)}
    renamed = np.array([*(number[name] for name in result.classes), -1], dtype=np.int64)  # −1 finds the last
    return evolve(
        result,
        classes=classes,
        ids=tuple(result.ids[place] for place in order),
        truth=renamed[result.truth[order]],
        ranking=renamed[result.ranking[order]],
        scores=result.scores[order],
        hallucinated=result.hallucinated[order],
    )
