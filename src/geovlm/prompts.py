"""Class names and sentences: how the name of a class is put into words for zero-shot classification."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from geovlm._vocabulary import LAND_COVERS, NAMES, OTHER_THINGS, SYNONYMS, things_in, words_of
from geovlm.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "CONTRAST",
    "SYNONYMS",
    "TEMPLATES",
    "clean_class_name",
    "contrast",
    "fill_templates",
    "resolve_templates",
    "synonyms",
]

_VIEWS = (
    *("a satellite image", "a satellite photo", "an aerial image", "an aerial photo", "a remote sensing image"),
    *("an overhead image", "a drone photo", "an orthophoto"),
)


def _of_views(forms: Sequence[str]) -> tuple[str, ...]:
    """Each form with each kind of picture: `{view}` is "a satellite image", `{plain}` is "satellite image"."""
    views = ((view, view.partition(" ")[2]) for view in _VIEWS)
    return tuple(form.format("{}", view=view, plain=plain) for view, plain in views for form in forms)


TEMPLATES: Mapping[str, tuple[str, ...]] = {
    # The two prompts of the SkyScript benchmark (Wang et al., AAAI 2024), used there for every data set …
    "skyscript": ("a satellite photo of {}.", "a satellite image of {}"),
    # … but for its fine-grained ones: roof shapes, and the surface and smoothness of roads.
    "skyscript-building": ("a satellite photo of building, {}.", "a satellite image of building, {}"),
    "skyscript-road": ("a satellite photo of road, {}.", "a satellite image of road, {}"),
    # What it puts before captions for retrieval.
    "skyscript-retrieval": ("a satellite image. {}",),
    # The plain prompt of CLIP (Radford et al., 2021), as a baseline.
    "clip": ("a photo of a {}.",),
    # The prompt of Git-RSCLIP's model card.
    "remote-sensing": ("a remote sensing image of {}.",),
    # Eight kinds of picture, said in eight ways.
    "ensemble": _of_views(
        (
            "{view} of {}.",
            "{view} of the {}.",
            "{view} with {} in the middle.",
            "part of {view} that shows {}.",
            "a high-resolution {plain} of {}.",
            "a low-resolution {plain} of {}.",
            "a dark {plain} of {}.",
            "{} in {view}.",
        )
    ),
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

CONTRAST: tuple[str, ...] = tuple(LAND_COVERS)
"""Land covers that a query for one category is held against; `contrast` picks those that are not the query."""

_WORD = r"[^\W_]"
_CAPITALS_THEN_WORD = re.compile(r"(?<=[A-Z])(?=[A-Z][a-z])")
_DIGITS_AFTER_WORD = re.compile(r"(?<=[^\W\d_]{3})(?=\d)")
_HYPHEN_IN_WORD = re.compile(rf"(?<={_WORD})-(?={_WORD})")


def clean_class_name(name: str) -> str:
    """Turn a label as data sets spell it into words as captions spell them.

    Words joined by capitals, underscores or hyphens are taken apart, and all is lower case. A hyphen stays where
    other words stand beside it, because then it joins two words into one. Some names of well-known data sets that read
    badly are replaced: EuroSAT's `SeaLake` becomes "sea or lake", UC Merced's `parkinglot` "parking lot".

    Args:
        name: As a folder or a table has it.

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
    cleaned = " ".join(words)
    return NAMES.get(cleaned, cleaned)


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

    Args:
        templates: The name of a set, or sentences with one `{}` each.
        name: The class, in words.

    Raises:
        UsageError: As `resolve_templates`.

    Examples:
        >>> fill_templates("skyscript", clean_class_name("StorageTanks"))
        ('a satellite photo of storage tanks.', 'a satellite image of storage tanks')
    """
    return tuple(template.replace("{}", name) for template in resolve_templates(templates))


def synonyms(name: str) -> tuple[str, ...]:
    """A class name, cleaned, and what else it is called; only itself where nothing is known.

    The mean of the vectors of all of them is often a better class vector than that of the name alone.

    Args:
        name: As a data set spells it, singular or plural.

    Raises:
        UsageError: Nothing to read is in the name.

    Examples:
        >>> synonyms("Pond"), synonyms("storage_tanks")[:2]
        (('pond', 'small lake', 'water basin'), ('storage tanks', 'oil tank'))
    """
    cleaned = clean_class_name(name)
    known = SYNONYMS.get(cleaned) or SYNONYMS.get(" ".join(words_of(cleaned)), ())
    return (cleaned, *(other for other in known if other != cleaned))


def contrast(query: str) -> tuple[str, ...]:
    """What a query for one category is held against: land covers, without those that mean the query or are its genus.

    A softmax over one class is 1 everywhere, so a single category needs others beside it. A query that is a kind of
    one of the covers ("pine forest") is not held against it; to tell kinds apart, give the other kinds yourself.

    Args:
        query: Words for one category, such as `"a vineyard beside a river"`; only the thing itself counts, not where
            it stands.

    Raises:
        UsageError: No word is in the query.

    Examples:
        >>> "forest" in contrast("a vineyard beside a river"), "forest" in contrast("pine forests")
        (True, False)
        >>> [cover for cover in CONTRAST if cover not in contrast("open water")]
        ['a river', 'a lake', 'open sea']
    """
    things = list(things_in(query))
    if not things:
        raise UsageError(f"A query needs at least one word, and {query!r} has none.")
    meant = {cover for thing in things for cover in _covers_meant(thing)}
    return tuple(cover for cover in CONTRAST if cover not in meant)


def _covers_meant(thing: tuple[str, ...]) -> tuple[str, ...]:
    """The covers that a thing is or is a kind of: the longest known words that it ends in decide."""
    lengths = {cover: _longest_end(thing, (cover, *words)) for cover, words in LAND_COVERS.items()}
    longest = max(lengths.values())
    if longest <= _longest_end(thing, OTHER_THINGS):
        return ()
    return tuple(cover for cover, length in lengths.items() if length == longest)


def _longest_end(thing: tuple[str, ...], terms: Sequence[str]) -> int:
    """How many words the longest of the terms has that a thing ends in."""
    split = (words_of(term) for term in terms)
    return max((len(words) for words in split if thing[-len(words) :] == words), default=0)
