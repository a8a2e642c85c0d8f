"""Texts as vectors: put into templates, and not encoded twice."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from geovlm._together import Together
from geovlm._vectors import unit_rows
from geovlm.errors import UsageError
from geovlm.prompts import fill_templates, resolve_templates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geovlm.protocols import Encoder, Vectors

TEXTS_A_BATCH = 256

# At 768 numbers each these are 12 MB.
MOST_KEPT = 4096


class TextVectors:
    """Vectors of texts, kept for the next search: contrast texts, templates and popular queries come again.

    Texts of several threads are encoded together: one text is mostly waiting for the weights to come out of memory.
    """

    def __init__(self) -> None:
        self._encoder: Encoder | None = None
        self._kept: dict[str, Vectors] = {}
        self._together = Together()

    def of(self, encoder: Encoder, texts: Sequence[str]) -> Vectors:
        """One row a text, float32 `(len(texts), dim)`."""
        kept = self._kept_by(encoder)
        found = {text: kept[text] for text in texts if text in kept}
        new = [text for text in dict.fromkeys(texts) if text not in found]
        if new:
            encoded = self._together.ask(id(encoder), new, partial(_encode, encoder))
            found.update((text, encoded[text]) for text in new)
            kept.update((text, encoded[text]) for text in new)
        return np.stack([found[text] for text in texts])

    def _kept_by(self, encoder: Encoder) -> dict[str, Vectors]:
        # A new mapping, rather than one that is emptied: another thread may be reading it. The encoder is told by which
        # object it is, as asking for its fingerprint at every search takes longer than finding a text here.
        if self._encoder is not encoder or len(self._kept) > MOST_KEPT:
            self._encoder, self._kept = encoder, {}
        return self._kept


def _encode(encoder: Encoder, several: Sequence[Sequence[str]]) -> list[dict[str, Vectors]]:
    """The vectors of several people's texts, all of them for each."""
    texts = list(dict.fromkeys(text for some in several for text in some))
    parts = (texts[start : start + TEXTS_A_BATCH] for start in range(0, len(texts), TEXTS_A_BATCH))
    found = {text: vector for some in parts for text, vector in zip(some, encoder.encode_texts(some), strict=True)}
    return [found] * len(several)


def chosen_templates(templates: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """The templates of one or more named sets, or your own; `None` for words as they are.

    Raises:
        UnknownName: No set has that name.
        UsageError: A template does not contain `{}` exactly once, or there is none.

    Examples:
        >>> chosen_templates(["skyscript", "a drone photo of {}"])
        ('a satellite photo of {}.', 'a satellite image of {}', 'a drone photo of {}')
    """
    if templates is None:
        return None
    several = [templates] if isinstance(templates, str) else list(templates)
    for one in several:
        if not isinstance(one, str):
            raise UsageError(f"templates are texts with {{}} in them, or names of sets, not {one!r:.80}.")
    found = dict.fromkeys(template for one in several for template in resolve_templates(one))
    return tuple(found) or resolve_templates(())


def expanded(encoder: Encoder, kept: TextVectors, phrases: Sequence[str], templates: tuple[str, ...] | None) -> Vectors:
    """One unit vector a phrase: the mean over its templates (Radford et al., 2021, section 3.1.4)."""
    if templates is None:
        return kept.of(encoder, phrases)
    texts = [text for phrase in phrases for text in fill_templates(templates, _within_sentence(phrase))]
    each = unit_rows(kept.of(encoder, texts)).reshape(len(phrases), len(templates), -1)
    return unit_rows(each.mean(axis=1, dtype=np.float64), what="query vector")


def _within_sentence(phrase: str) -> str:
    """A phrase as it stands inside a template, which has its own full stop."""
    return phrase.strip().rstrip(".") or phrase
