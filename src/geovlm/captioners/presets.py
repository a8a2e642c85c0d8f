"""Published captioning models by short name."""

from __future__ import annotations

from attrs import frozen

__all__ = ["PRESETS", "Preset"]


@frozen(kw_only=True)
class Preset:
    """A published model.

    Args:
        hub_id: Where it is on the Hugging Face hub.
        parameters: How many, in millions; two bytes each in half precision.
        paper: The arXiv number.
        licence: As its model card says; the language models inside BLIP-2 have terms of their own.
    """

    hub_id: str
    parameters: int
    paper: str
    licence: str


def _blip(size: str, parameters: int) -> Preset:
    hub_id = f"Salesforce/blip-image-captioning-{size}"
    return Preset(hub_id=hub_id, parameters=parameters, paper="2201.12086", licence="BSD-3-Clause")


def _blip2(language_model: str, parameters: int) -> Preset:
    hub_id = f"Salesforce/blip2-{language_model}"
    return Preset(hub_id=hub_id, parameters=parameters, paper="2301.12597", licence="MIT")


PRESETS = {
    "blip-base": _blip("base", 247),
    "blip-large": _blip("large", 470),
    "blip2-opt-2.7b": _blip2("opt-2.7b", 3745),
    "blip2-opt-2.7b-coco": _blip2("opt-2.7b-coco", 3745),
    "blip2-opt-6.7b": _blip2("opt-6.7b", 7753),
    "blip2-opt-6.7b-coco": _blip2("opt-6.7b-coco", 7753),
    "blip2-flan-t5-xl": _blip2("flan-t5-xl", 3942),
    "blip2-flan-t5-xl-coco": _blip2("flan-t5-xl-coco", 3942),
    "blip2-flan-t5-xxl": _blip2("flan-t5-xxl", 12229),
}
