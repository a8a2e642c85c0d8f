"""Classify vectors by the vectors of class texts: each image by itself, all at once, or with a few labelled ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from attrs import field, frozen

from geovlm._markup import lines, panel, table
from geovlm._vectors import unit_rows
from geovlm.embedding import Embeddings
from geovlm.errors import UnknownName, UsageError
from geovlm.evaluation import _fewshot, _transductive
from geovlm.evaluation._classify_rows import Rows, text_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from geovlm.protocols import Vectors

__all__ = ["Classification", "Method", "classify"]

Method = Literal["inductive", "transductive", "prototypes", "linear_probe"]

FEWEST_IMAGES = 32  # fewer say nothing of a mixture
IMAGES_A_CLASS = 2  # nor do fewer than two for each class that may be there
FEWEST_CLASSES = 1.5  # exp of the entropy of the labels by text: below it nearly all images are of one class
SAMPLE_TO_ESTIMATE = 20_000
SHOWN = 20


@frozen(kw_only=True, eq=False)
class Classification:
    """The class of every image, and how sure that is.

    Args:
        labels: `(n,)`, the number of the class; −1 for a row that could not be used.
        probabilities: `(n, classes)`, float32; NaN for a row that could not be used.
        method: What was used, which may be less than was asked for.
        notes: Why another method was used, and what was wrong with rows; empty if all is well.

    Examples:
        >>> found = classify(np.array([[2.0, 0.1], [0.1, 1.0]]), np.eye(2))
        >>> found.labels.tolist(), found.probabilities.shape
        ([0, 1], (2, 2))
    """

    labels: NDArray[np.int64] = field(repr=False)
    probabilities: NDArray[np.float32] = field(repr=False)
    method: Method
    notes: tuple[str, ...] = ()

    @property
    def confidence(self) -> NDArray[np.float32]:
        """`(n,)`, the probability of each image's label; NaN for a row that could not be used."""
        best: NDArray[np.float32] = self.probabilities.max(axis=1)
        return best

    def _repr_html_(self) -> str:
        classes = self.probabilities.shape[1]
        numbers, counts = np.unique(self.labels, return_counts=True)
        rows = [("none" if number < 0 else str(number), count) for number, count in zip(numbers, counts, strict=True)]
        title = f"Classification: {len(self.labels):,} rows in {classes} classes ({self.method})"
        return panel(title, lines(self.notes), table(("class", "rows"), rows[:SHOWN], total=len(rows)))


def classify(
    images: ArrayLike | Embeddings,
    texts: ArrayLike,
    *,
    method: Method = "inductive",
    support: ArrayLike | Embeddings | None = None,
    support_labels: ArrayLike | None = None,
    logit_scale: float = 100.0,
) -> Classification:
    """Give every image the class whose text fits it, with or without the help of the other images.

    - `"inductive"`: each image by itself, by cosine (Radford et al., 2021). With a support it is
      `"linear_probe"`.
    - `"transductive"`: all images at once, no labels needed: a mixture of Gaussians held at the classes by the texts,
      and a vote of neighbours, in the family of TransCLIP (Zanella et al., 2024) and RS-TransCLIP (El Khoury et al.,
      2024). With a support, the texts are first fitted to it as by `"linear_probe"`, and its labels stay as they are.
      Falls back to `"inductive"` where there are too few images, or nearly all are of one class, and says so in
      `notes`. Time and memory are linear in the images.
    - `"prototypes"`: the nearest mean of labelled images (Snell et al., 2017); needs a support.
    - `"linear_probe"`: logistic regression on the support that starts at the texts; needs a support.

    Args:
        images: `(n, dim)` in any precision, or embeddings. Rows that are zero or not finite get no label.
        texts: `(classes, dim)`, or `(templates, classes, dim)`, of which the normalised mean over templates is taken.
        method: See above.
        support: `(m, dim)`, images whose class is known; classes may be missing.
        support_labels: `(m,)`, their classes as numbers from 0.
        logit_scale: What cosines are multiplied with to become logits; that of the model, 100 for CLIP.

    Raises:
        UsageError: Shapes do not fit, nothing can be used, there are fewer than two classes, or a method needs what
            is not given.
        UnknownName: There is no such method.

    Examples:
        >>> found = classify(np.array([[2.0, 0.1], [0.1, 1.0], [0.0, 0.0]]), np.eye(2))
        >>> found.labels.tolist(), found.method
        ([0, 1, -1], 'inductive')
        >>> for note in found.notes:
        ...     print(note)
        1 of 3 image rows are zero or not finite and got no label.
        The image rows were not of unit length and were normalised.
    """
    if method not in get_args(Method):
        raise UnknownName("method of classification", str(method), get_args(Method))
    scale = _scale(logit_scale)
    classes = text_rows(texts)
    dim = classes.shape[1]
    shots = _support(support, support_labels, classes, images=images)
    if shots is None and method in {"prototypes", "linear_probe"}:
        raise UsageError(f"The method {method!r} learns from labelled images; give support and support_labels.")
    rows = Rows(_array(images), what="image", dim=dim)
    weights = classes if shots is None else _weights(method, classes, shots, scale)
    logits = _logits(rows, weights, scale)
    reason = _too_little(logits) if method == "transductive" else None
    if method == "transductive" and reason is None:
        found = _all_at_once(rows, logits, dim, shots)
    else:
        found = _transductive.softmax(logits)
    notes = (*rows.notes, *([reason] if reason else []))
    return _spread(found, rows.good, "inductive" if reason else method, notes)


@frozen(kw_only=True)
class _Shots:
    unit: Vectors
    labels: NDArray[np.int64]


def _array(vectors: ArrayLike | Embeddings) -> Any:
    return vectors.to_numpy()[1] if isinstance(vectors, Embeddings) else vectors


def _scale(logit_scale: float) -> float:
    if not (np.isfinite(logit_scale) and logit_scale > 0):
        raise UsageError(f"logit_scale is a positive number, not {logit_scale!r}.")
    return float(logit_scale)


def _support(support: Any, support_labels: Any, classes: Vectors, *, images: Any) -> _Shots | None:
    if support is None and support_labels is None:
        return None
    if support is None or support_labels is None:
        raise UsageError("support and support_labels belong together; give both or none.")
    _same_encoder(images, support)
    unit = unit_rows(_array(support), dim=classes.shape[1], what="support")
    labels = np.asarray(support_labels)
    if labels.shape != (len(unit),) or labels.dtype.kind not in "iu" or not len(unit):
        raise UsageError(
            f"support_labels are whole numbers, one for each of the {len(unit)} support rows and at least one, not"
            f" {labels.shape} of {labels.dtype}."
        )
    if labels.min() < 0 or labels.max() >= len(classes):
        wrong = labels[(labels < 0) | (labels >= len(classes))][0]
        raise UsageError(f"support_labels are from 0 to {len(classes) - 1}, the places of the texts, not {wrong}.")
    return _Shots(unit=unit, labels=labels.astype(np.int64))


def _same_encoder(images: Any, support: Any) -> None:
    if isinstance(images, Embeddings) and isinstance(support, Embeddings):
        ours, theirs = images.encoder_fingerprint, support.encoder_fingerprint
        if ours != theirs:
            raise UsageError(
                f"The images were embedded by the encoder {ours} and the support by {theirs}; embed both with one."
            )


def _weights(method: Method, classes: Vectors, shots: _Shots, scale: float) -> Vectors:
    if method == "prototypes":
        return _fewshot.prototypes(classes, shots.unit, shots.labels)
    return _fewshot.linear_probe(classes, shots.unit, shots.labels, scale)


def _logits(rows: Rows, weights: Vectors, scale: float) -> Vectors:
    logits = np.empty((rows.count, len(weights)), dtype=np.float32)
    for block, unit in rows.blocks():
        np.matmul(unit, weights.T, out=logits[block])
    logits *= np.float32(scale)
    return logits


def _too_little(logits: Vectors) -> str | None:
    """Why a mixture would be fitted to nothing, if it would."""
    images, classes = logits.shape
    least = max(FEWEST_IMAGES, IMAGES_A_CLASS * classes)
    if images < least:
        return f"Transductive inference needs at least {least} images for {classes} classes, and has {images}."
    shares = np.bincount(logits.argmax(axis=1), minlength=classes) / images
    present = shares[shares > 0]
    if np.exp(-(present * np.log(present)).sum()) < FEWEST_CLASSES:
        return f"Transductive inference needs images of several classes; {shares.max():.0%} look like one."
    return None


def _all_at_once(rows: Rows, logits: Vectors, dim: int, shots: _Shots | None) -> Vectors:
    space = _transductive.Space.of(rows, dim)
    low = np.empty((rows.count, space.directions.shape[1]), dtype=np.float32)
    for block, unit in rows.blocks():
        low[block] = space.project(unit)
    support = None if shots is None else _transductive.Support(low=space.project(shots.unit), labels=shots.labels)
    return _transductive.fit(low, _transductive.log_softmax(logits), support)


def _spread(found: Vectors, good: NDArray[np.bool_], method: Method, notes: tuple[str, ...]) -> Classification:
    """Answers of the usable rows back to their places among all."""
    labels = np.full(len(good), -1, dtype=np.int64)
    labels[good] = found.argmax(axis=1)
    if good.all():
        return Classification(labels=labels, probabilities=found, method=method, notes=notes)
    probabilities = np.full((len(good), found.shape[1]), np.nan, dtype=np.float32)
    probabilities[good] = found
    return Classification(labels=labels, probabilities=probabilities, method=method, notes=notes)
