"""Mistakes with training."""

from __future__ import annotations

import geovlm as gv
from geovlm.testing import HashEncoder
from tests.mistakes.kit import mistake, pairs, scenes, tiny_clip

TRAINING = "Training"


@mistake(
    TRAINING,
    "A typo in a loss",
    "No loss is called 'info-nce'. Did you mean infonce?",
    "Take the name that is offered.",
)
def _():
    gv.TrainingConfig(loss="info-nce")


@mistake(
    TRAINING,
    "A learning rate beyond reason",
    "learning_rate is a number above 0 and at most 1, not 10.0. 1e-5 suits a trained encoder.",
    "Begin with `1e-5`; from random weights `1e-3`.",
)
def _():
    gv.TrainingConfig(learning_rate=10.0)


@mistake(
    TRAINING,
    "A batch size of zero",
    "batch_size is a whole number of at least 2, not 0. A contrastive loss compares pairs with each other.",
    "`batch_size=128`, or what fits; `micro_batch_size=` saves memory.",
)
def _():
    gv.TrainingConfig(batch_size=0)


@mistake(
    TRAINING,
    "Images without captions",
    "train has 0 records with a caption, and at least 2 are needed. 4 were left out, the first because it has"
    " no caption (beach/beach-1.png); geovlm.caption() writes captions.",
    "`gv.caption(source, captioner, out=…)`, or a `TableSource` with a column of captions.",
)
def _():
    gv.ContrastiveTrainer(tiny_clip()).fit(scenes(), out="train-a")


@mistake(
    TRAINING,
    "Too few pairs",
    "train has 1 records with a caption, and at least 2 are needed.",
    "Add pairs: hundreds at least for anything useful.",
)
def _():
    gv.ContrastiveTrainer(tiny_clip()).fit(pairs("a beach"), out="train-b")


@mistake(
    TRAINING,
    "The same caption everywhere",
    "All 3 records of train have the same caption, 'a scene'. A contrastive loss learns from differences: add"
    " records with other captions.",
    "Write or generate captions that tell the images apart.",
)
def _():
    gv.ContrastiveTrainer(tiny_clip()).fit(pairs("a scene", "a scene", "a scene"), out="train-c")


@mistake(
    TRAINING,
    "An encoder that cannot be trained",
    "A HashEncoder cannot be trained (it has no model, tokenize, image_features, text_features,"
    " normalize_pixels, preprocess, copy, save); give an open_clip or transformers encoder from"
    " load_encoder().",
    "`gv.load_encoder(…)` of a preset, an open_clip or a transformers model.",
)
def _():
    gv.ContrastiveTrainer(HashEncoder()).fit(pairs("a beach", "a forest"), out="train-d")


@mistake(
    TRAINING,
    "A share of held-out pairs above one",
    "val and test are shares, together less than 1, and val is above 0, such as 0.1; not 10 and 0.0.",
    "`data.split(val=0.1)` for a tenth.",
)
def _():
    gv.Dataset.from_records(pairs("a", "b", "c")).split(val=10)
