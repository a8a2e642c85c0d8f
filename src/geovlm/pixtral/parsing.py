"""From what a model wrote to a label of a closed set, or to the reason why there is none."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from geovlm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["LabelSet", "Reading"]

# A name is short. Longer texts are descriptions, in which a word of the set may mean anything.
LONGEST_NAME = 4
LONGEST_SENTENCE = 12

_FENCE = re.compile(r"```[a-zA-Z]*\s*(.*?)```", re.DOTALL)
_TOLD = re.compile(
    r"\b(?:label|class|category|answer|classification)\W{0,4}(?:\s+is\b|:|=)\W*([^\n.;,]+)", re.IGNORECASE
)
# Letters and digits, and the signs that tell names apart: C and C#, 5 % and 5, < 5 and > 5, 1 and −1.
_WORDS = re.compile(r"(?:[^\W_]|[#%@$€+]|[<>=]+(?=\s*\d)|(?<![^\W_])-(?=\d))+")
_BRACKET = re.compile(r"[\[{]")
_SENTENCE_END = re.compile(r"[.!?]\s+\S|\n\s*\S")
_KEYS = ("label", "class", "category", "answer", "classification")
_DOUBTS = re.compile(
    r"\b(?:no|not|nor|none|neither|never|without|unknown|unclear|unsure|uncertain|cannot|unable|sorry|n/a|null|either|or"
    r"|maybe|perhaps|\w+n't)\b",
    re.IGNORECASE,
)


@frozen(kw_only=True)
class Reading:
    """What was read: a label of the set, a name outside it (`claimed`), or neither."""

    label: str | None = None
    claimed: str | None = None


UNREAD = Reading()


def _checked(labels: Iterable[str]) -> tuple[str, ...]:
    if isinstance(labels, str):
        raise UsageError(f"labels is a list of names, not one text ({labels!r:.60}).")
    names = tuple(labels)
    if not names:
        raise UsageError("labels is empty; give the names to choose from.")
    for name in names:
        if not isinstance(name, str) or not name.strip() or name != name.strip() or not name.isprintable():
            raise UsageError(f"A label is text on one line without spaces around it, not {name!r:.80}.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UsageError(f"Labels come twice: {', '.join(map(repr, twice[:5]))}. Give each once.")
    return names


@frozen
class LabelSet:
    """The labels to choose from, and how a model's answer is read.

    Args:
        names: The labels, each once.

    Raises:
        UsageError: There are none, one comes twice, or one is not a line of text.

    Examples:
        >>> labels = LabelSet(["BareLand", "Beach", "DenseResidential"])
        >>> labels.read("The label is: dense residential.").label
        'DenseResidential'
        >>> labels.read('{"label": "Vineyard"}')
        Reading(label=None, claimed='Vineyard')
        >>> labels.read("A beach, or bare land?")
        Reading(label=None, claimed=None)
    """

    names: tuple[str, ...] = field(converter=_checked)
    _by_key: dict[str, str | None] = field(init=False, repr=False, eq=False)
    _by_stem: dict[str, str | None] = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_by_key", _unique((_key(name), name) for name in self.names))
        object.__setattr__(self, "_by_stem", _unique((_stem(_key(name)), name) for name in self.names))

    def schema(self) -> dict[str, Any]:
        """The JSON schema of an answer with one of the labels."""
        return {
            "type": "object",
            "properties": {"label": {"type": "string", "enum": list(self.names)}},
            "required": ["label"],
            "additionalProperties": False,
        }

    def find(self, name: str) -> str | None:
        """The label that `name` is, apart from case, spacing and plural; `None` if there is none, or more than one."""
        name = name.strip()
        if name in self.names:
            return name
        key = _key(name)
        # Two labels of one key are told apart by their exact spelling only.
        return self._by_key[key] if key in self._by_key else self._by_stem.get(_stem(key))

    def read(self, text: str, *, cut_off: bool = False) -> Reading:
        """Read an answer: a bare name, JSON, a fenced block, "The label is: …", or a sentence that names one label.

        Args:
            text: What the model wrote.
            cut_off: Whether it was stopped in the middle. Then only a JSON value that is whole counts: the rest may be
                the beginning of a longer name.
        """
        if cut_off:
            return self._agreed(_from_json(text))
        found = self.find(text)
        if found is not None:
            return Reading(label=found)
        for names in (_from_json(text), _TOLD.findall(text)):
            if names:
                return self._agreed(names)
        return self._from_prose(text)

    def _agreed(self, names: list[str]) -> Reading:
        readings = {self._named(name) for name in names}
        return readings.pop() if len(readings) == 1 else UNREAD

    def _named(self, name: str) -> Reading:
        label = self.find(name)
        if label is not None:
            return Reading(label=label)
        if not _key(name) or _has_doubt(name) or self._mentioned(name):
            return UNREAD
        return Reading(claimed=name.strip().strip("\"'`*_ "))

    def _from_prose(self, text: str) -> Reading:
        line = text.strip()
        words = _WORDS.findall(line)
        if not words or _has_doubt(line) or _SENTENCE_END.search(line) or len(words) > LONGEST_SENTENCE:
            return UNREAD
        mentioned = self._mentioned(line)
        if len(mentioned) == 1:
            return Reading(label=next(iter(mentioned)))
        if mentioned or len(words) > LONGEST_NAME:
            return UNREAD
        return Reading(claimed=line.strip("\"'`*_ .!"))

    def _mentioned(self, text: str) -> set[str | None]:
        """Labels that the words of a text spell, the longest first; `None` for a name that two labels share."""
        words = [_key(word) for word in _WORDS.findall(text)]
        found: set[str | None] = set()
        start = 0
        while start < len(words):
            longest = next((n for n in range(min(8, len(words) - start), 0, -1) if self._knows(words, start, n)), 0)
            if longest:
                found.add(self.find("".join(words[start : start + longest])))
            start += longest or 1
        return found

    def _knows(self, words: list[str], start: int, count: int) -> bool:
        key = "".join(words[start : start + count])
        return bool(key) and (key in self._by_key or _stem(key) in self._by_stem)


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for key, name in pairs:
        if key:
            found[key] = None if key in found else name
    return found


def _key(text: str) -> str:
    """Words without case and spacing."""
    return "".join(_WORDS.findall(unicodedata.normalize("NFKC", text).casefold()))


def _stem(key: str) -> str:
    """The singular of an English plural, roughly; the same rule for labels and answers, so that roughly is enough."""
    if key.endswith("ies") and len(key) > 4:
        return key[:-3] + "y"
    if key.endswith(("ches", "shes", "sses", "xes")):
        return key[:-2]
    return key[:-1] if key.endswith("s") and not key.endswith(("ss", "us", "is")) and len(key) > 3 else key


def _has_doubt(text: str) -> bool:
    return _DOUBTS.search(text.replace("’", "'")) is not None


def _from_json(text: str) -> list[str]:
    """The names in all JSON values of a text, fenced or bare; an empty one for a value that names nothing."""
    fenced = _FENCE.findall(text)
    return [name for part in (fenced or [text]) for value in _values(part) for name in _names(value)]


def _values(text: str) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    stripped = text.strip()
    if stripped[:1] == '"':
        with suppress(ValueError):
            yield json.loads(stripped)
        return
    end = 0
    for bracket in _BRACKET.finditer(text):
        if bracket.start() >= end:  # not inside a value that was read
            with suppress(ValueError, RecursionError):
                value, end = decoder.raw_decode(text, bracket.start())
                yield value


def _names(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [name for item in value for name in _names(item)]
    if isinstance(value, dict):
        told = {str(key).casefold(): item for key, item in value.items()}
        key = next((key for key in _KEYS if key in told), None)
        return [] if key is None else _names(told[key]) or [""]
    return []
