"""Mistakes with evaluation."""

from __future__ import annotations

import geovlm as gv
from geovlm.testing import HashEncoder
from tests.mistakes.kit import mistake, scenes

EVALUATION = "Evaluation"


@mistake(
    EVALUATION,
    "A label that is not among the classes",
    "No class is called 'beach'. Did you mean beaches?",
    "Give all labels of the data as `classes`, or leave `classes` out.",
)
def _():
    gv.zero_shot(HashEncoder(), scenes(), classes=["beaches", "forest"])


@mistake(
    EVALUATION,
    "Classes as one text",
    "classes are several names, such as ['beach', 'forest'], not the text 'beach, forest'.",
    '`classes=["beach", "forest"]`.',
)
def _():
    gv.zero_shot(HashEncoder(), scenes(), classes="beach, forest")


@mistake(
    EVALUATION,
    "A template without its place",
    "A template contains {} exactly once, where the class goes; 'a satellite photo' does not.",
    '`"a satellite photo of {}"`.',
)
def _():
    gv.zero_shot(HashEncoder(), scenes(), templates=["a satellite photo"])


@mistake(
    EVALUATION,
    "Retrieval without captions",
    "No record has captions, and retrieval looks them up; caption() writes some.",
    "`gv.caption(source, captioner, out=…)`, or a table with captions.",
)
def _():
    gv.retrieval(HashEncoder(), scenes())


@mistake(
    EVALUATION,
    "Two results over different inputs",
    "The two are not of the same inputs: 1 of the baseline are not in the other, and 1 of the other not in the"
    " baseline, such as 'b'. Accuracies over different inputs cannot be compared.",
    "Measure both on the same test set.",
)
def _():
    first = gv.score_labels({"a": "beach", "b": "forest"}, {"a": "beach", "b": "beach"})
    gv.compare(first, gv.score_labels({"a": "beach", "c": "forest"}, {"a": "beach", "c": "beach"}))
