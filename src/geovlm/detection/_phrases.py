"""What is looked for and what it is held against: queries, their synonyms, contrast phrases, and their vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import field, frozen

from geovlm._vectors import unit_rows
from geovlm._vocabulary import words_of
from geovlm.errors import UsageError
from geovlm.prompts import contrast, fill_templates

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from geovlm.protocols import Encoder, Vectors

# A text tower reads 64 to 77 tokens and drops the rest without a word; English has about 1.3 tokens a word.
WORDS_A_PHRASE = 40
# A text tower takes two megabytes a prompt while it works: few at a time take less than the images do later.
A_BATCH = 16


@frozen(kw_only=True, eq=False)
class Phrases:
    """The texts of one pass over the images, each embedded once, and which of them each query needs.

    Args:
        queries: The queries, as they were given.
        texts: All phrases, each once: synonyms of the queries, then contrast phrases.
        own: For each query the places of its synonyms in `texts`.
        others: For each query the places of the phrases it is held against; none for an absolute score.
    """

    queries: tuple[str, ...]
    texts: tuple[str, ...]
    own: tuple[NDArray[np.intp], ...]
    others: tuple[NDArray[np.intp], ...]

    @property
    def settings(self) -> dict[str, Any]:
        """The words, JSON-like: what changes the scores when it changes."""
        return {
            query: {"phrases": [self.texts[i] for i in own], "against": [self.texts[i] for i in others]}
            for query, own, others in zip(self.queries, self.own, self.others, strict=True)
        }

    def embed(self, encoder: Encoder, templates: str | Sequence[str]) -> Vectors:
        """One vector a phrase: the normalised mean over the templates, float32 `(phrases, dim)`."""
        prompts = [fill_templates(templates, text) for text in self.texts]
        every = [one for filled in prompts for one in filled]
        parts = [encoder.encode_texts(every[start : start + A_BATCH]) for start in range(0, len(every), A_BATCH)]
        each = unit_rows(np.concatenate(parts), dim=encoder.dim).reshape(len(self.texts), -1, encoder.dim)
        return unit_rows(each.mean(axis=1, dtype=np.float64), what="phrase")


def read_phrases(query: str | Sequence[str], against: Sequence[str] | None, *, absolute: bool) -> Phrases:
    """Take queries apart and give each its contrast phrases.

    Args:
        query: One query or several; commas in a query part synonyms.
        against: Contrast phrases for all queries, without those that mean a query; `None` takes land covers.
        absolute: The encoder scores a text by itself, so that contrast is needed only if it is asked for.

    Raises:
        UsageError: A query is empty, too long or there twice, or nothing is left to hold it against.
    """
    queries = (query,) if isinstance(query, str) else tuple(query)
    if not queries:
        raise UsageError("There is nothing to look for: give at least one query, such as 'a vineyard'.")
    if len({*queries}) != len(queries):
        raise UsageError("A query is there twice; each is looked for once.")
    texts = _Texts()
    own = [texts.places(_synonyms(one)) for one in queries]
    others = [texts.places(_contrast(one, against, absolute=absolute)) for one in queries]
    return Phrases(queries=queries, texts=tuple(texts.known), own=tuple(own), others=tuple(others))


@frozen
class _Texts:
    known: dict[str, int] = field(factory=dict)

    def places(self, texts: Iterable[str]) -> NDArray[np.intp]:
        return np.array([self.known.setdefault(text, len(self.known)) for text in texts], dtype=np.intp)


def _synonyms(query: object) -> tuple[str, ...]:
    if not isinstance(query, str):
        raise UsageError(f"A query is a text, such as 'a vineyard', not {query!r:.60}.")
    phrases = tuple(dict.fromkeys(part.strip() for part in query.split(",") if part.strip()))
    if not phrases:
        raise UsageError(f"A query needs at least one word, and {query!r:.60} has none.")
    for phrase in phrases:
        _check(phrase)
    return phrases


def _check(phrase: object) -> None:
    if not isinstance(phrase, str) or not any(character.isalnum() for character in phrase):
        raise UsageError(f"A phrase needs at least one letter or digit, and {phrase!r:.60} has none.")
    words = len(phrase.split())
    if words > WORDS_A_PHRASE:
        raise UsageError(
            f"A phrase of {words} words is more than encoders read ({phrase[:50]!r}…): they drop what is beyond about"
            f" {WORDS_A_PHRASE} words. Name the thing in a few; synonyms are parted by commas, several queries are a"
            " list."
        )


def _contrast(query: str, against: Sequence[str] | None, *, absolute: bool) -> tuple[str, ...]:
    if isinstance(against, str):
        raise UsageError(f"against is a list of phrases, such as [{against!r}], not one text.")
    if against is None:
        return () if absolute else _land_covers(query)
    for phrase in against:
        _check(phrase)
    meant = {words_of(phrase) for phrase in _synonyms(query)}
    left = tuple(phrase for phrase in against if words_of(phrase) not in meant)
    if left or absolute:
        return left
    raise UsageError(
        f"There is nothing to hold {query!r:.60} against, and a softmax over one phrase is 1 everywhere. Give a few"
        " things that are there instead, such as against=['forest', 'a town', 'bare soil'], or leave it out for a"
        " vocabulary of land covers."
    )


def _land_covers(query: str) -> tuple[str, ...]:
    """The land covers that no synonym of the query means, in the order of the vocabulary."""
    each = [contrast(phrase) for phrase in _synonyms(query)]
    return tuple(cover for cover in each[0] if all(cover in covers for covers in each))
