"""Captions from what is already known of an image: its class, its tags and a few facts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from numbers import Real
from random import Random
from typing import TYPE_CHECKING, Any

from geovlm._files import digest
from geovlm.errors import UsageError
from geovlm.prompts import clean_class_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL import Image

    from geovlm.captioners.options import GenerationOptions
    from geovlm.records import Record

__all__ = ["TEMPLATES", "TagCaptioner", "with_article"]

# Raised when the wording of unchanged settings changes, so that an old run is not continued with other sentences.
WORDING = 1

TEMPLATES = (
    "an aerial view of {subject}",
    "an aerial photograph of {subject}",
    "an aerial image showing {subject}",
    "an overhead view of {subject}",
    "a bird's-eye view of {subject}",
    "a satellite image of {subject}",
    "a satellite photo of {subject}",
    "a satellite view showing {subject}",
    "a remote sensing image of {subject}",
    "{subject} seen from above",
    "{subject} in an overhead image",
    "a view from above of {subject}",
)
"""Sentences around a subject; `a satellite photo of` and `a satellite image of` are SkyScript's own prompts
(Wang et al. 2024, AAAI, arXiv 2312.12856)."""

MOST_TAGS = 3

# Names of land use that are adjectives, and names of things that are not counted.
KINDS_OF_AREA = {"residential", "commercial", "industrial", "parking"}
UNCOUNTED = {
    *("agriculture", "cropland", "farmland", "grass", "grassland", "pavement", "rangeland", "scrub", "scrubland"),
    *("earth", "ice", "land", "mud", "rock", "sand", "sea", "snow", "soil", "water"),
    *("shrubland", "vegetation", "wetland", "woodland"),
}
SOUNDS_LIKE_A_CONSONANT = re.compile(r"(?:uni(?!n|m)|us[ae]|eu|one\b|once\b)")
SOUNDS_LIKE_A_VOWEL = re.compile(r"(?:[aeiou]|hour|heir|honest)")


class TagCaptioner:
    """Turns labels, tags and metadata into varied sentences; needs no model, and the pixels do not matter.

    What is said comes from the record: its `label` (`BaseballField` becomes `a baseball field`), the tags in
    `meta["tags"]` (a list, or text with commas between), and, in some of the sentences, `meta["place"]`,
    `meta["season"]` and the ground sample distance `meta["gsd"]` in metres per pixel. The choice is drawn from the
    seed and the record's id alone, so it is the same in every order, batch and resumed run.

    Args:
        templates: Sentences with `{subject}` in them; `None` for `TEMPLATES`.
        seed: Another seed gives other sentences.
        captions_per_image: How many different sentences to write, where there are that many.
        tags_key: The name in `meta` of the tags.

    Raises:
        UsageError: There is no template, one of them lacks `{subject}`, or the number of captions is below one.

    Examples:
        >>> from geovlm.records import Record
        >>> captioner = TagCaptioner(templates=["a satellite photo of {subject}"])
        >>> port = Record(id="1", label="Port", meta={"tags": ["ship", "storage_tank"]})
        >>> captioner.caption([port, Record(id="2", label="Airport"), Record(id="3")], [])
        [('a satellite photo of a port with a storage tank and a ship',), ('a satellite photo of an airport',), ()]
    """

    name = "tags"
    image_size = 1
    """Any size of image will do."""
    silence = "nothing to say: no label and no tags"
    """Why a record gets no caption."""

    def __init__(
        self,
        *,
        templates: Sequence[str] | None = None,
        seed: int = 0,
        captions_per_image: int = 1,
        tags_key: str = "tags",
    ) -> None:
        self.templates: tuple[str, ...] = TEMPLATES if templates is None else tuple(templates)
        self.seed = seed
        self.captions_per_image = captions_per_image
        self.tags_key = tags_key
        if isinstance(templates, str) or not self.templates:
            raise UsageError("templates is a list of sentences, such as ['a satellite photo of {subject}'].")
        for template in self.templates:
            _check_template(template)
        if captions_per_image < 1:
            raise UsageError(f"captions_per_image is at least 1, not {captions_per_image}.")

    def __repr__(self) -> str:
        return f"TagCaptioner({len(self.templates)} templates, seed={self.seed})"

    @property
    def fingerprint(self) -> str:
        """Changes with the templates, the seed, the number of captions and where the tags are."""
        return digest([WORDING, self.templates, self.seed, self.captions_per_image, self.tags_key])

    def caption(self, records: Sequence[Record], images: Sequence[Image.Image]) -> list[tuple[str, ...]]:  # noqa: ARG002
        """Write captions for each record; `images` may be empty.

        Returns:
            For each record its sentences, all different; an empty tuple where it has no label and no tags.
        """
        return [self._describe(record) for record in records]

    def _describe(self, record: Record) -> tuple[str, ...]:
        names = self._names(record)
        if not names:
            return ()
        chance = Random(digest([self.seed, record.id]))  # noqa: S311 - variety, not secrecy
        templates = chance.sample(self.templates, len(self.templates))
        # Several rounds through the templates: a fact that is told once and not the next time is another sentence.
        attempts = (
            _fill(templates[number % len(templates)], names, record.meta, chance)
            for number in range(4 * max(self.captions_per_image, len(templates)))
        )
        sentences: dict[str, None] = {}
        for sentence in attempts:
            sentences[sentence] = None
            if len(sentences) == self.captions_per_image:
                break
        return tuple(sentences)

    def _names(self, record: Record) -> list[str]:
        tags = record.meta.get(self.tags_key)
        if isinstance(tags, str):
            tags = re.split(r"[,;|]", tags)
        elif not isinstance(tags, Iterable):
            tags = ()
        names = [clean_class_name(name) for name in (record.label, *tags) if isinstance(name, str) and _is_word(name)]
        return list(dict.fromkeys(names))


def load_tags(
    name: str,  # noqa: ARG001 - every factory takes these
    *,
    device: str | None = None,  # noqa: ARG001
    dtype: str | None = None,  # noqa: ARG001
    options: GenerationOptions | None = None,
) -> TagCaptioner:
    """The registry's factory: of the options only the seed and the number of captions mean something here."""
    return (
        TagCaptioner() if options is None else TagCaptioner(seed=options.seed, captions_per_image=options.num_captions)
    )


def with_article(name: str) -> str:
    """Put "a" or "an" before a name that takes one; kinds of land use become areas.

    Examples:
        >>> [with_article(name) for name in ("harbor", "airport", "storage tanks", "bare land", "dense residential")]
        ['a harbor', 'an airport', 'storage tanks', 'bare land', 'a dense residential area']
        >>> with_article("university"), with_article("bus"), with_article("overpass")
        ('a university', 'a bus', 'an overpass')
    """
    last = name.rsplit(" ", 1)[-1]
    if last in KINDS_OF_AREA:
        name = f"{name} area"
    elif last in UNCOUNTED or _is_plural(last):
        return name
    vowel = SOUNDS_LIKE_A_VOWEL.match(name) and not SOUNDS_LIKE_A_CONSONANT.match(name)
    return f"{'an' if vowel else 'a'} {name}"


def _is_word(name: str) -> bool:
    return any(letter.isalnum() for letter in name)


def _is_plural(word: str) -> bool:
    return word.endswith("s") and not word.endswith(("ss", "us", "is"))


def _check_template(template: str) -> None:
    try:
        fits = "{subject}" in template and bool(template.format(subject="a harbor"))
    except (KeyError, IndexError, ValueError):
        fits = False
    if not fits:
        raise UsageError(f"A template has {{subject}} in it and no other braces, unlike {template!r}.")


def _fill(template: str, names: list[str], meta: Mapping[str, Any], chance: Random) -> str:
    subject = with_article(names[0])
    others = chance.sample(names[1:], min(len(names) - 1, MOST_TAGS))
    if others:
        subject += f" with {_listing([with_article(name) for name in others])}"
    facts = "".join(fact for fact in _facts(meta) if chance.random() < 0.5)
    sentence = template.format(subject=subject)
    end = len(sentence.rstrip(" ."))
    return f"{sentence[:end]}{facts}{sentence[end:]}"


def _facts(meta: Mapping[str, Any]) -> list[str]:
    facts = []
    if isinstance(place := meta.get("place"), str) and place.strip():
        facts.append(f" in {place.strip()}")
    if isinstance(season := meta.get("season"), str) and season.strip():
        facts.append(f" in {season.strip().lower()}")
    gsd = meta.get("gsd")
    if isinstance(gsd, Real) and not isinstance(gsd, bool) and 0 < float(gsd) < math.inf:
        facts.append(f", {float(gsd):g} m per pixel")
    return facts


def _listing(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
