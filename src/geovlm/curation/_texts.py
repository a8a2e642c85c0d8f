"""Captions by themselves: what to cut out, what to drop, which are the same."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from geovlm._optional import require

if TYPE_CHECKING:
    from geovlm.curation.rules import CurationRules

_KIND = (
    r"(?:(?:high|low|very|resolution|high-resolution|black|and|white|color|colour|overhead|aerial|satellite|drone"
    r"|remote|sensing|top-down|google|earth|given|provided|following)[ -])*"
    r"(?:image|picture|photo|photograph|view|scene|shot|imagery|snapshot)s?"
)
_SHOWS = (
    r"(?:shows?|depicts?|displays?|features?|captures?|presents?|contains?|illustrates?|portrays?|reveals?|showing"
    r"|depicting|is of|of)"
)
# Openings that could stand before any caption: "The image shows", "In this aerial photo we can see", "Here is".
_OPENINGS = re.compile(
    rf"^(?:caption\s*:|(?:this|here) is (?:(?:an?|the) )?{_KIND} {_SHOWS}|(?:the|this|an?) {_KIND} {_SHOWS}"
    rf"|in (?:the|this) {_KIND},? ?(?:we can see|you can see|one can see|there (?:is|are)|i can see)?"
    r"|(?:we|you|one|i) can see|as (?:we|you) can see,?)[\s,:]+",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\b(?:i(?:'| a)m (?:sorry|unable|not able)|as an ai|i (?:cannot|can't|can not)\b|sorry, (?:but )?i"
    r"|(?:unable|not possible|impossible|difficult|hard) to (?:determine|tell|identify|see|say))",
    re.IGNORECASE,
)
_NAME = r"(?!(?:North|South|East|West)(?:ern)?\b)[A-Z][\w'’.-]*[a-z]"
_PLACE = re.compile(
    rf"(?<=\w),? (?:(?:located |situated )?(?:in|near|at|from|off|outside|around|close to|next to)) (?:the )?"
    rf"(?:(?:city|town|village|state|country|county|province|region|district|port|island) of )?"
    rf"{_NAME}(?: (?:of |de |la |el |am )?{_NAME})*(?:, {_NAME}(?: {_NAME})*)*"
)
_COORDINATES = re.compile(
    r"[\s,(]*(?:\b(?:at|coordinates?:?|lat(?:itude)?:?|lon(?:gitude)?:?)\s*)*"
    r"[-−]?\d{1,3}(?:\.\d+)?\s*°?\s*(?:\d+(?:\.\d+)?['′]\s*)?(?:\d+(?:\.\d+)?[\"″]\s*)?[NSEW]\b\)?"
    r"|[\s,(]*\b(?:at|coordinates?:?)?\s*[-−]?\d{1,3}\.\d{3,}\s*°?,\s*[-−]?\d{1,3}\.\d{3,}\s*°?\)?"
)
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
# Words by whose presence two captions do not differ in meaning.
_SMALL = frozenset(
    [
        *("a", "an", "and", "are", "as", "at", "be", "by", "can", "from", "has", "have", "here", "in", "is", "it"),
        *(
            "its",
            "of",
            "on",
            "or",
            "that",
            "the",
            "there",
            "these",
            "this",
            "to",
            "we",
            "which",
            "with",
            "some",
            "many",
        ),
        *("several", "lot", "piece", "photo", "image", "picture", "view", "aerial", "satellite"),
    ]
)
# Fewer words than this say too little for a language to be told.
WORDS_TO_TELL = 5


def clean(text: str, rules: CurationRules) -> str:
    """A caption with single spaces, and without what the rules cut out; empty if nothing is left."""
    tidy = " ".join(text.split())
    if not rules.strip:
        return tidy
    cut = _PLACE.sub("", _COORDINATES.sub("", _OPENINGS.sub("", tidy)))
    return cut.strip(" ,;:-") if _WORD.search(cut) else ""


def fault(text: str, rules: CurationRules) -> str | None:
    """Why a cleaned caption is of no use, or `None`."""
    if _REFUSAL.search(text):
        return "it refuses or doubts"
    words = words_of(text)
    if reason := _length_fault(len(words), rules):
        return reason
    if _repeats(words):
        return "it repeats itself"
    if rules.language is not None and len(words) >= WORDS_TO_TELL and _language(text) != rules.language:
        return f"another language than {rules.language}"
    return None


def _length_fault(words: int, rules: CurationRules) -> str | None:
    if words == 0:
        return "it is empty"
    if words < rules.min_words:
        return f"fewer than {rules.min_words} words"
    return f"more than {rules.max_words} words" if words > rules.max_words else None


def words_of(text: str) -> list[str]:
    """The words of a text in small letters."""
    return _WORD.findall(text.lower())


def meaning(text: str) -> str:
    """What captions share that differ in small words, order and endings only.

    Examples:
        >>> meaning("There are many green trees in a park.") == meaning("a park with green tree")
        True
        >>> meaning("a park beside a river") == meaning("a park beside a road")
        False
    """
    words = words_of(text)
    return " ".join(sorted({_stem(word) for word in words} - _SMALL)) or " ".join(words)


def _stem(word: str) -> str:
    """Without the plural's ending, as far as comparing asks."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def _repeats(words: list[str]) -> bool:
    """A run of words that comes three times in a row, as generation that is stuck writes it."""
    for length in range(1, min(8, len(words) // 3) + 1):
        for start in range(len(words) - 3 * length + 1):
            first, second, third = (words[start + i * length : start + (i + 1) * length] for i in range(3))
            if first == second == third:
                return True
    return False


def _language(text: str) -> str:
    code: str = require("py3langid", extra="curate", purpose="the language of captions").classify(text)[0]
    return code
