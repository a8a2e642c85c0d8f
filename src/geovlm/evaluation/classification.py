"""Zero-shot classification: every class in words, every image to the class it is nearest to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from attrs import evolve

from geovlm._vectors import check_count, unit_rows
from geovlm.errors import UnknownName, UsageError
from geovlm.evaluation._collect import collect, encode_texts
from geovlm.evaluation.classify_arrays import classify
from geovlm.evaluation.result import KEPT, ClassificationResult
from geovlm.prompts import clean_class_name, fill_templates, resolve_templates

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from geovlm.protocols import Encoder, Vectors
    from geovlm.records import Record

__all__ = ["class_vectors", "classify_vectors", "zero_shot"]

ROWS_A_BLOCK = 16_384
METHODS = ("inductive", "transductive")


def zero_shot(
    encoder: Encoder,
    source: Iterable[Record],
    *,
    classes: Sequence[str] | None = None,
    templates: str | Sequence[str] = "skyscript",
    method: Literal["inductive", "transductive"] = "inductive",
    batch_size: int = 64,
    progress: bool | None = None,
) -> ClassificationResult:
    """Classify images by the words for their classes, and compare with their labels.

    Each class is the normalised mean of the vectors of its prompts (the ensemble of Radford et al., 2021, section
    3.1.4); each image goes to the class with the largest cosine. Names are cleaned for the prompts: `BaseballField`
    becomes "baseball field". Inputs without a label are classified and not counted.

    Args:
        encoder: What is measured.
        source: Images with labels.
        classes: Names of at least two classes; the labels of the source if not given. A label may be spelt as the
            class is, or otherwise if it reads the same.
        templates: A name in `geovlm.prompts.TEMPLATES`, or templates with one `{}` each.
        method: Each image by itself, or all at once as `geovlm.evaluation.classify` does; labels are not used. The
            result tells which it was, and `scores` are probabilities where it was transductive.
        batch_size: Images a batch.
        progress: Show a bar; `None` decides by where the output goes.

    Raises:
        UsageError: Classes or templates cannot be right, a label is not among the classes, or there are no inputs.

    Examples:
        >>> from PIL import Image
        >>> from geovlm import Record
        >>> from geovlm.testing import HashEncoder
        >>> colours = ("red", "green", "blue")
        >>> scenes = [Record(id=c, image=Image.new("RGB", (8, 8), c), label=c) for c in colours]
        >>> result = zero_shot(HashEncoder(), [*scenes, Record(id="broken", image=b"no image", label="red")])
        >>> result.top1, result.coverage
        (0.75, 0.75)
    """
    if method not in METHODS:
        raise UnknownName("method of zero-shot classification", method, METHODS)
    prompts = resolve_templates(templates)
    names = _Names(classes)
    found = collect(encoder, source, lambda record: names.of(record.label), batch_size=batch_size, progress=progress)
    order = names.settled()
    texts = class_vectors(encoder, order, prompts)
    ranking = np.full((len(found.ids), min(KEPT, len(order))), -1, dtype=np.int64)
    scores = np.full(ranking.shape, np.nan, dtype=np.float32)
    read = found.place >= 0
    used: str = "inductive"
    notes: tuple[str, ...] = ()
    if read.any():
        vectors = found.vectors[found.place[read]]
        ranking[read], scores[read], used, notes = _ranked(encoder, vectors, texts, method, ranking.shape[1])
    number = {name: position for position, name in enumerate(order)}
    truth = np.array([-1 if name is None else number[name] for name in found.known], dtype=np.int64)
    report = evolve(found.report, stage="zero-shot")
    return ClassificationResult(
        classes=order,
        ids=found.ids,
        truth=truth,
        ranking=ranking,
        scores=scores,
        method=used,
        notes=notes,
        report=report,
    )


def _ranked(
    encoder: Encoder, vectors: Vectors, texts: Vectors, method: Literal["inductive", "transductive"], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], str, tuple[str, ...]]:
    """The best classes of each image and their scores; what was used, and why if that is not what was asked for."""
    notes: tuple[str, ...] = ()
    if method == "transductive":
        found = classify(vectors, texts, method=method, logit_scale=encoder.logit_scale)
        if found.method == method:
            ranking = np.argsort(-found.probabilities, axis=1, kind="stable")[:, :k]
            return ranking, np.take_along_axis(found.probabilities, ranking, axis=1), method, found.notes
        notes = found.notes
    return *classify_vectors(vectors, texts, k=k), "inductive", notes


def class_vectors(encoder: Encoder, classes: Sequence[str], templates: str | Sequence[str] = "skyscript") -> Vectors:
    """One vector a class: the normalised mean of the vectors of its prompts, float32 `(classes, dim)`.

    Args:
        encoder: What embeds the prompts.
        classes: The names; they are cleaned for the prompts.
        templates: The name of a set of templates, or sentences with one `{}` each.

    Raises:
        UsageError: A name is empty, or a template has not one `{}`.

    Examples:
        >>> from geovlm.testing import HashEncoder
        >>> class_vectors(HashEncoder(), ["Beach", "StorageTanks"]).shape
        (2, 64)
    """
    prompts = [fill_templates(templates, clean_class_name(name)) for name in classes]
    vectors = encode_texts(encoder, [prompt for filled in prompts for prompt in filled])
    each = unit_rows(vectors).reshape(len(classes), -1, encoder.dim)
    return unit_rows(each.mean(axis=1, dtype=np.float64), what="class")


def classify_vectors(
    images: NDArray[np.floating[Any]], class_vectors: NDArray[np.floating[Any]], *, k: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The best classes of each image, by cosine; of equals the first class wins.

    Args:
        images: `(n, dim)`; normalised here, which matters for half-precision files.
        class_vectors: `(classes, dim)`; normalised here.
        k: How many classes an image, at most all.

    Returns:
        Classes `(n, k)`, best first, and their cosines `(n, k)`.

    Raises:
        UsageError: Shapes do not fit, or a row is zero or not finite.

    Examples:
        >>> best, cosines = classify_vectors(np.array([[2.0, 0.0], [0.6, 0.8]]), np.eye(2), k=2)
        >>> best.tolist(), cosines.astype(float).round(2).tolist()
        ([[0, 1], [1, 0]], [[1.0, 0.0], [0.8, 0.6]])
    """
    texts = unit_rows(class_vectors, what="class")
    check_count(k, name="k")
    images = np.asarray(images)
    ranking = np.empty((len(images), min(k, len(texts))), dtype=np.int64)
    scores = np.empty(ranking.shape, dtype=np.float32)
    for start in range(0, len(images), ROWS_A_BLOCK):
        block = slice(start, start + ROWS_A_BLOCK)
        cosines = unit_rows(images[block], dim=texts.shape[1], what="image") @ texts.T
        ranking[block] = np.argsort(-cosines, axis=1, kind="stable")[:, : ranking.shape[1]]
        scores[block] = np.take_along_axis(cosines, ranking[block], axis=1)
    return ranking, scores


class _Names:
    """Which class a label means: the classes that were given, or all labels that come by."""

    def __init__(self, classes: Sequence[str] | None) -> None:
        self._is_open = classes is None
        self._by_words: dict[str, str] = {}
        if isinstance(classes, str):
            raise UsageError(f"classes are several names, such as ['beach', 'forest'], not the text {classes!r:.60}.")
        for name in classes or ():
            self._add(name)
        if not self._is_open:
            self.settled()

    def _add(self, name: str) -> None:
        words = clean_class_name(name)
        if words in self._by_words:
            raise UsageError(f"The classes {self._by_words[words]!r} and {name!r} read the same, “{words}”.")
        self._by_words[words] = name

    def of(self, label: str | None) -> str | None:
        """The class that a label means; a new one if the classes are those of the source."""
        if label is None:
            return None
        words = clean_class_name(label)
        name = self._by_words.get(words)
        if self._is_open and name != label:
            self._add(label)
            return label
        if name is None:
            raise UnknownName("class", label, self._by_words.values())
        return name

    def settled(self) -> tuple[str, ...]:
        """The classes in their order: as given, or sorted."""
        names = tuple(self._by_words.values())
        if len(names) < 2:
            said = "the labels of the source" if self._is_open else "classes"
            raise UsageError(f"Classification needs at least two classes; {said}: {', '.join(names) or 'none'}.")
        return tuple(sorted(names)) if self._is_open else names
