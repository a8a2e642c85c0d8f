"""Mistakes with runs and disks."""

from __future__ import annotations

import errno
from pathlib import Path
from unittest import mock

import geovlm as gv
from geovlm.testing import EchoCaptioner, HashEncoder
from tests.mistakes.kit import mistake, scenes

RUNS = "Runs and disks"


@mistake(
    RUNS,
    "Going on with other settings",
    "vectors-a was made with other settings (encoder: '…' then, '…' now); choose another directory, or remove"
    " this one.",
    "Another `out`; or remove the folder, if its results are not wanted.",
)
def _():
    gv.embed(scenes(), HashEncoder(), out="vectors-a")
    gv.embed(scenes(), HashEncoder(seed=1), out="vectors-a")


@mistake(
    RUNS,
    "Two processes in one folder",
    "Another process is writing in vectors-b. Wait for it, or choose another directory.",
    "Wait, or give each its own `out`; the lock goes when the other process ends, however it ends.",
)
def _():
    from geovlm._files import locked

    with locked(Path("vectors-b")):
        gv.embed(scenes(), HashEncoder(), out="vectors-b")


@mistake(
    RUNS,
    "A folder that may not be written",
    "vectors-c cannot be used for results (Permission denied); choose one that can be written.",
    "Another `out`, or other permissions.",
)
def _():
    with mock.patch("pathlib.Path.mkdir", side_effect=PermissionError(errno.EACCES, "Permission denied")):
        gv.embed(scenes(), HashEncoder(), out="vectors-c")


@mistake(
    RUNS,
    "A full disk",
    "vectors-d/manifest.json could not be written (No space left on device). What was finished before is kept:"
    " make room or mend the disk, then repeat the same call.",
    "Make room and repeat the call: it goes on where it stopped.",
)
def _():
    with mock.patch("os.replace", side_effect=OSError(errno.ENOSPC, "No space left on device")):
        gv.embed(scenes(), HashEncoder(), out="vectors-d")


@mistake(
    RUNS,
    "Opening what is something else",
    "scenes holds no embeddings: it holds nothing that geovlm wrote.",
    "Give the `out` of the call that made it.",
)
def _():
    gv.Embeddings.open("scenes")


@mistake(
    RUNS,
    "A batch size of zero",
    "batch_size is a whole number of at least 1, or 'auto'; not 0.",
    "`batch_size=1` or more.",
)
def _():
    gv.embed(scenes(), HashEncoder(), batch_size=0)


@mistake(
    RUNS,
    "A word for `on_error` that there is not",
    "on_error is 'skip' or 'raise', not 'ignore'.",
    '`"skip"` lists failures in the report, `"raise"` stops at the first.',
)
def _():
    gv.caption(scenes(), EchoCaptioner(), out="pairs-a", on_error="ignore")


@mistake(
    RUNS,
    "A name where a captioner is meant",
    "A captioner has a name, a fingerprint and caption(records, images), unlike 'blip-base'; for a name or a"
    " folder use load_captioner.",
    '`gv.load_captioner("blip-base")`.',
)
def _():
    gv.caption(scenes(), "blip-base", out="pairs-b")
