"""Captioners by name: `load_captioner("blip-base")`, a folder with weights, a hub id, or `"tags"`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from geovlm.captioners.presets import PRESETS
from geovlm.registry import Registry

if TYPE_CHECKING:
    from geovlm.captioners.options import GenerationOptions
    from geovlm.protocols import Captioner

__all__ = ["CAPTIONERS", "load_captioner"]

BLIP = "geovlm.captioners.blip:load_blip"

CAPTIONERS = Registry(
    "captioner",
    group="geovlm.captioners",
    builtin={**dict.fromkeys(PRESETS, BLIP), "tags": "geovlm.captioners.tags:load_tags"},
)
"""Name → factory. A factory is called as `factory(name, device=…, dtype=…, options=…)` and returns a `Captioner`."""


def load_captioner(
    name_or_path: str | os.PathLike[str],
    *,
    device: str | None = None,
    dtype: str | None = None,
    options: GenerationOptions | None = None,
) -> Captioner:
    """Load a captioner.

    Args:
        name_or_path: A short name (`blip-base`, `blip-large`, `blip2-opt-2.7b`, `blip2-flan-t5-xl`, …, or `tags`,
            which needs no weights), a folder that holds a BLIP or BLIP-2 model, or `hf:` and a hub id, such as
            `hf:Salesforce/blip2-opt-2.7b-coco`.
        device: Where it runs, such as `"cuda:0"`; `None` takes a GPU if there is one.
        dtype: `"float32"`, `"bfloat16"` or `"float16"`; `None` takes the fastest that the device computes in.
        options: How captions are generated; `None` for the defaults of `GenerationOptions`.

    Raises:
        UnknownName: No captioner is called so; the message offers the nearest names.
        UsageError: The folder does not exist or does not hold such a model.
        WeightsError: The weights are not here and cannot be fetched, or do not fit the model.
        MissingExtra: torch or transformers is not installed.

    Examples:
        >>> load_captioner("tags").name
        'tags'
        >>> load_captioner("blip-bas")
        Traceback (most recent call last):
        ...
        geovlm.errors.UnknownName: No captioner is called 'blip-bas'. Did you mean blip-base or ...?
    """
    from geovlm.captioners.blip import load_blip

    # A path is made absolute, so that a folder of a known name is not taken for the name.
    name = name_or_path if isinstance(name_or_path, str) else str(Path(name_or_path).absolute())
    factory = CAPTIONERS[name] if _is_name(name) else load_blip
    captioner: Captioner = factory(name, device=device, dtype=dtype, options=options)
    return captioner


def _is_name(text: str) -> bool:
    """Whether it is a known name, or can only be a misspelt one."""
    is_place = text.startswith("hf:") or "/" in text or os.sep in text or Path(text).expanduser().exists()
    return text in CAPTIONERS or not is_place
