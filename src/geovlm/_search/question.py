"""What is asked, as one vector: a text, a picture or a hit, moved by feedback."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from attrs import field, frozen
from PIL import Image

from geovlm._hits import Hit
from geovlm._search.contrast import contrast_texts
from geovlm._search.feedback import NEAR, away, rocchio
from geovlm._search.stored import stored_vectors
from geovlm._search.texts import TextVectors, chosen_templates, expanded
from geovlm._vectors import unit_rows
from geovlm.errors import UsageError
from geovlm.imaging import open_image
from geovlm.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from geovlm.protocols import Encoder, Vectors, VectorStore

Query: TypeAlias = "str | Path | Image.Image | Record | Hit | NDArray[np.floating[Any]]"
"""What can be asked: a text; the path of an image, an image or a record; a hit; or a vector of shape `(dim,)`."""

Example: TypeAlias = "str | Path | Image.Image | Record | Hit | NDArray[np.floating[Any]]"
"""A scene that was marked: an id in the store or a hit; the path of an image, an image or a record; or a vector."""

Examples: TypeAlias = "Example | Iterable[Example]"

ONE_EXAMPLE = str | Path | Image.Image | Record | Hit


@frozen(kw_only=True)
class Question:
    """A question that a store can answer.

    Args:
        vector: `(dim,)`, what rows are compared with.
        words: What was asked, for reading.
        contrast: `(1 + c, dim)`, the query in words, without feedback, then the texts that it is held against; `None`
            if it is held against nothing.
        scale: The encoder's logit scale.
    """

    vector: NDArray[np.floating[Any]]
    words: str
    contrast: Vectors | None
    scale: float


@frozen
class Reader:
    """Turns what people ask into vectors of one encoder.

    Args:
        encoder: What embeds texts and images.
        store: Where ids are looked up.
        texts: Vectors of texts that were asked before.
    """

    encoder: Encoder
    store: VectorStore
    texts: TextVectors = field(factory=TextVectors)

    def read(
        self,
        query: Query | None,
        *,
        templates: str | Sequence[str] | None,
        more: Examples,
        less: Examples,
        against: bool | str | Sequence[str],
    ) -> Question:
        """Check everything, then encode it."""
        right, wrong = _several(more), _several(less)
        _refuse_marked_twice(right, wrong)
        if query is None and not right:
            raise UsageError("Say what to search for: a query, or scenes like it with more=.")
        if isinstance(query, str):
            _check_text(query)
        prompts = _for_text("templates", chosen_templates(templates), query)
        contrast = _for_text("against", _contrast(against, query), query)
        vector, words = (None, "") if query is None else self._query(query, prompts)
        return Question(
            vector=self._moved(vector, right, wrong),
            words=_in_words(words, len(right), len(wrong)),
            contrast=self._texts([str(query), *contrast], prompts) if contrast else None,
            scale=self.encoder.logit_scale,
        )

    def _texts(self, texts: Sequence[str], prompts: tuple[str, ...] | None) -> Vectors:
        return expanded(self.encoder, self.texts, texts, prompts)

    def _query(self, query: Query, prompts: tuple[str, ...] | None) -> tuple[NDArray[np.floating[Any]], str]:
        if isinstance(query, str):
            return self._texts([query], prompts)[0], f"“{query}”"
        if isinstance(query, Hit):
            return self._stored([query.id], "The query")[0], f"scenes like {query.id}"
        return self._picture(query, "A query is a text, a Path, a PIL image, a Record or a Hit")

    def _picture(self, value: Any, kinds: str) -> tuple[NDArray[np.floating[Any]], str]:
        if isinstance(value, Record):
            return self.encoder.encode_images([value.open()])[0], f"the image {value.id}"
        if isinstance(value, Path):
            return self.encoder.encode_images([open_image(value)])[0], f"the image {value.name}"
        if isinstance(value, Image.Image):
            return self.encoder.encode_images([open_image(value)])[0], "an image"
        vector = np.asarray(value)
        if vector.shape != (self.encoder.dim,) or vector.dtype.kind not in "fiu":
            raise UsageError(
                f"{kinds}, or a vector of shape ({self.encoder.dim},); not a {type(value).__name__} of shape"
                f" {vector.shape}."
            )
        return vector, "a vector"

    def _moved(
        self, vector: NDArray[np.floating[Any]] | None, right: list[Any], wrong: list[Any]
    ) -> NDArray[np.floating[Any]]:
        if vector is not None and not right and not wrong:
            return vector
        query = None if vector is None else unit_rows(vector[None], dim=self.encoder.dim, what="query vector")[0]
        more, less = self._marked(right, "more"), self._marked(wrong, "less")
        if query is None or right:
            return rocchio(query, more, less)
        return away(query, less, self._near(query, {_id_of(example) for example in wrong}))

    def _near(self, query: Vectors, marked: set[str | None]) -> Vectors:
        """The vectors of the rows nearest to a query, beside those that were marked."""
        found = self.store.query(query[None], NEAR + len(marked))[0]
        ids = [key for key in found.ids if key not in marked][:NEAR]
        rows = [vector for vector in stored_vectors(self.store, ids) if vector is not None]
        return np.array(rows) if rows else np.empty((0, self.encoder.dim), np.float32)

    def _marked(self, examples: list[Any], name: str) -> Vectors:
        """The vectors of examples `(n, dim)`; those of ids in one look at the store."""
        ids = [_id_of(example) for example in examples]
        stored = iter(self._stored([key for key in ids if key is not None], f"{name}="))
        kinds = f"{name}= takes ids, hits, Paths, PIL images or Records"
        rows = [
            next(stored) if key is not None else self._picture(example, kinds)[0]
            for key, example in zip(ids, examples, strict=True)
        ]
        return unit_rows(np.array(rows), what="example") if rows else np.empty((0, self.encoder.dim), np.float32)

    def _stored(self, ids: list[str], who: str) -> list[Vectors]:
        found = []
        for key, vector in zip(ids, stored_vectors(self.store, ids), strict=True):
            if vector is None:
                raise UsageError(f"{who} names {key!r:.80}, and no row of the store has that id.{_hint(key)}")
            found.append(vector)
        return found


def _several(examples: Examples) -> list[Any]:
    is_one = isinstance(examples, ONE_EXAMPLE) or (isinstance(examples, np.ndarray) and examples.ndim == 1)
    if is_one:
        return [examples]
    if not hasattr(examples, "__iter__"):
        raise UsageError(f"more= and less= take examples, such as ids or hits, not {examples!r:.80}.")
    return list(examples)


def _id_of(example: Any) -> str | None:
    """The id that an example is in the store by; `None` for pictures and vectors."""
    return example.id if isinstance(example, Hit) else example if isinstance(example, str) else None


def _refuse_marked_twice(right: list[Any], wrong: list[Any]) -> None:
    both = {_id_of(example) for example in right} & {_id_of(example) for example in wrong} - {None}
    if both:
        raise UsageError(f"{min(map(str, both))!r:.80} is in more= and in less=; a scene is right or wrong, not both.")


def _for_text(name: str, value: tuple[str, ...] | None, query: object) -> tuple[str, ...] | None:
    if value and not isinstance(query, str):
        raise UsageError(f"{name}= goes with a query in words; this one is {_kind(query)}.")
    return value


def _contrast(against: bool | str | Sequence[str], query: object) -> tuple[str, ...]:
    # A query that is no text is refused afterwards, whatever it is held against.
    return contrast_texts(against, query if isinstance(query, str) else "anything")


def _kind(query: object) -> str:
    return "examples alone" if query is None else f"a {type(query).__name__}"


def _check_text(query: str) -> None:
    if not query.strip():
        raise UsageError("The query is empty; say in words what the scenes should show.")
    if _is_picture(query):
        raise UsageError(f"{query!r} is a text here, and also a file; to search by that image, pass Path({query!r}).")


def _is_picture(text: str) -> bool:
    return Path(text).suffix.lower() in Image.registered_extensions() and Path(text).is_file()


def _hint(key: str) -> str:
    return f" To use that image, pass Path({key!r})." if _is_picture(key) else " Ids are those of hits: hits[0].id."


def _in_words(words: str, right: int, wrong: int) -> str:
    counts = [f"{word} like {count}" for word, count in (("more", right), ("less", wrong)) if count]
    return ", ".join(filter(None, [words, *counts]))
