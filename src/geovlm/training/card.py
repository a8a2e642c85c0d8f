"""The model card of a tuned encoder: where it comes from, what it was trained on, how good it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from geovlm.encoders._torch import TorchEncoder
    from geovlm.training.result import TrainingReport

LIBRARIES = {"OpenClipEncoder": "open_clip", "HuggingFaceEncoder": "transformers"}


def model_card(
    encoder: TorchEncoder,
    settings: Mapping[str, Any],
    about: Mapping[str, Any],
    report: TrainingReport,
    *,
    failures: int,
) -> str:
    """A `README.md` with the front matter that the Hugging Face hub reads.

    Args:
        encoder: The tuned encoder.
        settings: What decided the run: the configuration and the fingerprints of encoder and data.
        about: The name of the base and the numbers of pairs.
        report: Before and after.
        failures: How many pairs could not be used.
    """
    front = {
        "library_name": LIBRARIES.get(type(encoder).__name__, "geovlm"),
        "pipeline_tag": "zero-shot-image-classification",
        "tags": ["remote-sensing", "clip", "geovlm"],
    }
    return "\n".join(
        [
            "---",
            *(f"{name}: {json.dumps(value)}" for name, value in front.items()),
            "---",
            f"# {encoder.name}",
            "",
            f"Tuned by geovlm's ContrastiveTrainer from `{about['base']}` (fingerprint `{settings['encoder']}`).",
            f"The fingerprint of this encoder is `{encoder.fingerprint}`.",
            "",
            "The base's licence and terms of use hold for this model too.",
            "",
            "## How good it is",
            "",
            _tables(report),
            "",
            "## What it was trained on",
            "",
            f"- Training pairs: {about['train_pairs']:,} (`{settings['train']}`).",
            f"- Held-out pairs: {about['val_pairs']:,} (`{settings['val']}`).",
            f"- {failures} inputs could not be used.",
            "",
            "## How to use it",
            "",
            "```python",
            "import geovlm as gv",
            "",
            'encoder = gv.load_encoder("path/to/this/folder")',
            "```",
            "",
            "## Settings",
            "",
            "```json",
            json.dumps(settings, indent=2, sort_keys=True),
            "```",
            "",
        ]
    )


def _tables(report: TrainingReport) -> str:
    tables = [table for table in (report.to_pandas(), report.forgetting()) if len(table)]
    return "\n\n".join(map(_as_markdown, tables)) or "No pairs were held out, so nothing says how good it is."


def _as_markdown(table: pd.DataFrame) -> str:
    rows = [f"| {name} | {before:.4f} | {after:.4f} |" for name, before, after, _ in table.itertuples()]
    return "\n".join([f"| {table.index.name} | before | after |", "| --- | --- | --- |", *rows])
