"""Class names and sentences: how the name of a class is put into words for zero-shot classification."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from geovlm.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["TEMPLATES", "clean_class_name", "fill_templates", "resolve_templates"]

TEMPLATES: Mapping[str, tuple[str, ...]] = {
    # The two prompts of the SkyScript benchmark (Wang et al., AAAI 2024), used there for every data set.
    "skyscript": ("a satellite photo of {}.", "a satellite image of {}"),
    # The plain prompt of CLIP (Radford et al., 2021), as a baseline.
    "clip": ("a photo of a {}.",),
    "overhead": (
        "a satellite image of {}.",
        "an aerial photo of {}.",
        "{} seen from above.",
        "an overhead view of {}.",
        "a top-down view of {}.",
        "a remote sensing image showing {}.",
        "a high-resolution satellite image of {}.",
        "a low-resolution satellite image of {}.",
        "a bird's-eye view of {}.",
        "a drone photo of {}.",
        "an orthophoto of {}.",
        "a scene of {} on the ground, taken from the air.",
        "land with {}.",
    ),
}
"""Sets of prompt templates by name; each has one `{}` for the class."""

_WORD = r"[^\W_]"
_CAPITALS_THEN_WORD = re.compile(r"(?<=[A-Z])(?=[A-Z][a-z])")
_DIGITS_AFTER_WORD = re.compile(r"(?<=[^\W\d_]{3})(?=\d)")
_HYPHEN_IN_WORD = re.compile(rf"(?<={_WORD})-(?={_WORD})")


def clean_class_name(name: str) -> str:
    """Turn a label as data sets spell it into words as captions spell them.

    Words joined by capitals, underscores or hyphens are taken apart, and all is lower case. A hyphen stays where
    other words stand beside it, because then it joins two words into one.

    Raises:
        UsageError: Nothing to read is in the name.

    Examples:
        >>> [clean_class_name(name) for name in ("BaseballField", "storage_tanks", "mobile-home-park", "Level3Roads")]
        ['baseball field', 'storage tanks', 'mobile home park', 'level 3 roads']
        >>> clean_class_name("single-unit_residential"), clean_class_name("RSIImage")
        ('single-unit residential', 'rsi image')
    """
    spaced = _CAPITALS_THEN_WORD.sub(" ", _split_camel(name.replace("_", " ")))
    spaced = _DIGITS_AFTER_WORD.sub(" ", spaced).lower()
    words = spaced.split()
    if len(words) == 1:
        words = _HYPHEN_IN_WORD.sub(" ", words[0]).split()
    if not any(character.isalnum() for word in words for character in word):
        raise UsageError(f"A class name needs at least one letter or digit, and {name!r} has none.")
    return " ".join(words)


def _split_camel(name: str) -> str:
    """Put a space before a capital that follows a small letter or a digit, in any alphabet."""
    pieces = []
    for before, character in zip(" " + name, name, strict=False):
        if (before.islower() or before.isdigit()) and character != character.lower():
            pieces.append(" ")
        pieces.append(character)
    return "".join(pieces)


def resolve_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """The templates of a named set, or your own after a check.

    Args:
        templates: A name in `TEMPLATES`, one template, or several.

    Raises:
        UnknownName: No set has that name.
        UsageError: A template does not contain `{}` exactly once, or there is none.

    Examples:
        >>> resolve_templates("skyscript")
        ('a satellite photo of {}.', 'a satellite image of {}')
        >>> resolve_templates(["a {name}"])
        Traceback (most recent call last):
        ...
        geovlm.errors.UsageError: A template contains {} exactly once, where the class goes; 'a {name}' does not.
    """
    if isinstance(templates, str):
        if templates in TEMPLATES:
            return TEMPLATES[templates]
        if not any(mark in templates for mark in " {"):
            raise UnknownName("set of templates", templates, TEMPLATES)
        templates = (templates,)
    if not templates:
        raise UsageError(f"At least one template is needed; ready-made sets: {', '.join(TEMPLATES)}.")
    for template in templates:
        if not isinstance(template, str) or template.count("{}") != 1:
            raise UsageError(f"A template contains {{}} exactly once, where the class goes; {template!r} does not.")
    return tuple(templates)


def fill_templates(templates: str | Sequence[str], name: str) -> tuple[str, ...]:
    """Put a class name, as it is, into every template.

    Raises:
        UsageError: As `resolve_templates`.

    Examples:
        >>> fill_templates("skyscript", clean_class_name("StorageTanks"))
        ('a satellite photo of storage tanks.', 'a satellite image of storage tanks')
    """
    return tuple(template.replace("{}", name) for template in resolve_templates(templates))
