"""Scores of labels, whoever chose them: a batch of a hosted model, a local one, an encoder, a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, overload, runtime_checkable

import numpy as np
from attrs import field, frozen

from geovlm.errors import UnknownName, UsageError
from geovlm.evaluation.result import ClassificationResult
from geovlm.records import Failure, Record, Report

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["AnsweredBatch", "AnsweredRow", "LabelAnswer", "score_labels"]


@runtime_checkable
class LabelAnswer(Protocol):
    """A label of the set, a name outside it, or neither; `geovlm.pixtral.Classification` is one."""

    @property
    def label(self) -> str | None:
        """The chosen label."""

    @property
    def claimed(self) -> str | None:
        """What was named where that is outside the set."""


class AnsweredRow(LabelAnswer, Protocol):
    """What became of one input; `geovlm.pixtral.batch.BatchRow` is one."""

    @property
    def id(self) -> str:
        """Of the record."""

    @property
    def truth(self) -> str | None:
        """The label that the record brought along."""


@runtime_checkable
class AnsweredBatch(Protocol):
    """All inputs of a batch, answered or not; `geovlm.pixtral.batch.BatchResult` is one."""

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The set to choose from."""

    @property
    def report(self) -> Report:
        """What became of every input."""

    @property
    def predictions(self) -> list[str | None]:
        """The chosen label of every input."""

    def __iter__(self) -> Iterator[AnsweredRow]:
        """All inputs, in the order of the source."""


Predicted: TypeAlias = str | LabelAnswer | None


@overload
def score_labels(truth: ClassificationResult | AnsweredBatch) -> ClassificationResult: ...


@overload
def score_labels(
    truth: Mapping[str, str | None],
    predicted: Mapping[str, Predicted] | Iterable[Predicted],
    *,
    labels: Iterable[str] | None = None,
) -> ClassificationResult: ...


@overload
def score_labels(
    truth: Iterable[Record],
    predicted: Mapping[str, Predicted] | Iterable[Predicted],
    *,
    labels: Iterable[str] | None = None,
) -> ClassificationResult: ...


@overload
def score_labels(
    truth: Iterable[str | None], predicted: Iterable[Predicted], *, labels: Iterable[str] | None = None
) -> ClassificationResult: ...


def score_labels(truth: Any, predicted: Any = None, *, labels: Iterable[str] | None = None) -> ClassificationResult:
    """Compare chosen labels with true ones, over all inputs.

    An input without an answer is wrong, and so is one whose answer is outside the set: accuracy is right answers over
    labelled inputs, and `coverage` tells how many were answered. What was predicted is joined to the inputs, never the
    other way round, so that rows that got lost cannot leave the count.

    Args:
        truth: What a batch brought, which has both; or the inputs: records with labels, labels by id, or labels.
        predicted: For each input in order, or by id, a label, what `PixtralClient.classify` returned, or `None` for no
            answer. By id, absent ones have no answer.
        labels: The set to choose from; if not given, that of the batch, or the labels of the inputs, sorted.

    Raises:
        UsageError: In order, there are more or fewer answers than inputs; by id, some are of no input; there are no
            inputs, or nothing to choose from.
        UnknownName: An input's label is not of the set.

    Examples:
        >>> by_id = score_labels({"a": "Beach", "b": "Port", "c": "Port"}, {"a": "Beach", "b": "Harbour"})
        >>> round(by_id.top1, 3), round(by_id.coverage, 3), round(by_id.hallucination_rate, 3)
        (0.333, 0.667, 0.333)
        >>> result = score_labels(["Beach", "Port", "Port"], ["Beach", None, "Port"])
        >>> print(result)
        labels: top-1 66.67% over all 3 inputs, 2 classes; coverage 66.67%
               images  failed  hallucinated  precision  recall      f1
        label
        Port        2       1             0        1.0     0.5  0.6667
        Beach       1       0             0        1.0     1.0  1.0000
    """
    if isinstance(truth, ClassificationResult):
        return truth
    if predicted is None:
        return _of_batch(truth)
    inputs = _inputs(truth)
    answers = [_Answer.of(value) for value in _in_order(predicted, inputs)]
    known = {label for _, label in inputs if label is not None}
    return _scored(inputs, answers, classes=sorted(known) if labels is None else labels, report=None)


@frozen(kw_only=True)
class _Answer:
    """A label, of the set or not, or `None`; and whether it is known to be outside the set."""

    name: str | None = None
    outside: bool = field(default=False)

    @classmethod
    def of(cls, value: Any) -> _Answer:
        if value is None or isinstance(value, str):
            return cls(name=value or None)
        if isinstance(value, LabelAnswer):
            return cls(name=value.label, outside=value.claimed is not None)
        raise UsageError(f"An answer is a label, a classification or None, not {value!r:.80}.")


def _of_batch(batch: Any) -> ClassificationResult:
    if not isinstance(batch, AnsweredBatch):
        raise UsageError(
            "score_labels takes what a batch brought (batch_classify(…).wait()), or the true labels and the predicted"
            f" ones; {type(batch).__name__} alone cannot be scored."
        )
    if batch.labels is None:
        raise UsageError("This batch asked for captions; only one that asked for labels can be scored.")
    rows = list(batch)
    return _scored(
        [(row.id, row.truth) for row in rows],
        [_Answer.of(row) for row in rows],
        classes=batch.labels,
        report=batch.report,
    )


def _inputs(truth: Any) -> list[tuple[str, str | None]]:
    """Id and label of every input."""
    if isinstance(truth, str) or not isinstance(truth, Iterable):
        raise UsageError(f"truth is records, labels by id, or a list of labels, not {truth!r:.80}.")
    if isinstance(truth, Mapping):
        return list(truth.items())
    return [
        (value.id, value.label) if isinstance(value, Record) else (str(place), value)
        for place, value in enumerate(truth)
    ]


def _in_order(predicted: Any, inputs: list[tuple[str, str | None]]) -> list[Any]:
    if isinstance(predicted, Mapping):
        ids = Counter(key for key, _ in inputs)
        strange = [key for key in predicted if key not in ids]
        twice = [key for key, count in ids.items() if count > 1]
        if strange or twice:
            said = f"are of no input, such as {strange[0]!r}" if strange else f"stand for several, such as {twice[0]!r}"
            raise UsageError(f"{len(strange or twice)} ids of the answers {said}.")
        return [predicted.get(key) for key, _ in inputs]
    if isinstance(predicted, str) or not isinstance(predicted, Iterable):
        raise UsageError(f"predicted is a list of labels, or labels by id, not {predicted!r:.80}.")
    answers = list(predicted)
    if len(answers) != len(inputs):
        raise UsageError(
            f"{len(inputs)} inputs and {len(answers)} answers do not go together. Give None where there is no answer,"
            " or give both by id: {id: label}."
        )
    return answers


def _scored(
    inputs: list[tuple[str, str | None]], answers: list[_Answer], *, classes: Iterable[str], report: Report | None
) -> ClassificationResult:
    if not inputs:
        raise UsageError("There is nothing to score: there are no inputs.")
    if isinstance(classes, str):
        raise UsageError(f"labels are several names, such as ['beach', 'forest'], not the text {classes!r:.60}.")
    names = tuple(classes)
    number = {name: place for place, name in enumerate(names)}
    for _, label in inputs:
        if label is not None and label not in number:
            raise UnknownName("class", label, names)
    chosen = np.array(
        [-1 if answer.name is None else number.get(answer.name, -1) for answer in answers], dtype=np.int64
    )
    named = np.array([answer.outside or answer.name is not None for answer in answers])
    return ClassificationResult(
        classes=names,
        ids=tuple(key for key, _ in inputs),
        truth=np.array([-1 if label is None else number[label] for _, label in inputs], dtype=np.int64),
        ranking=chosen[:, None],
        scores=np.full((len(inputs), 1), np.nan, dtype=np.float32),
        hallucinated=named & (chosen < 0),
        report=report or _report(inputs, named.tolist()),
    )


def _report(inputs: list[tuple[str, str | None]], answered: list[bool]) -> Report:
    failures = [
        Failure(id=key, stage="answer", reason="there is none")
        for (key, _), there in zip(inputs, answered, strict=True)
        if not there
    ]
    return Report(stage="labels", done=len(inputs) - len(failures), failures=failures)
