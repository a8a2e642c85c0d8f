"""One data set of a benchmark from images to figures, with what is finished kept on the disk."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import evolve, frozen

import geovlm
from geovlm._files import digest, read_json, write_atomically, write_json
from geovlm._parts import Parts
from geovlm._vectors import unit_rows
from geovlm.errors import UsageError
from geovlm.evaluation._bench_read import match_labels
from geovlm.evaluation._bench_scores import CUTS, Recalls, recalls, wilson
from geovlm.evaluation._collect import collect, encode_texts
from geovlm.evaluation.benchmark_result import BenchmarkScore
from geovlm.evaluation.classification import classify_vectors
from geovlm.evaluation.result import KEPT, ClassificationResult
from geovlm.prompts import fill_templates

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from geovlm.evaluation._bench_read import Prepared
    from geovlm.evaluation._collect import Collected
    from geovlm.evaluation.benchmark_result import Method
    from geovlm.protocols import Encoder, Vectors
    from geovlm.records import Report

KIND = "benchmark set"
FAILURES_KEPT = 20


@frozen(kw_only=True)
class Setting:
    """What is the same for all data sets of a run."""

    encoder: Encoder
    method: Method
    batch_size: int
    progress: bool | None


def run_set(setting: Setting, data: Prepared, templates: Sequence[str], *, out: Path | None) -> BenchmarkScore:
    """Measure one data set, or read what an earlier call measured on the same inputs.

    Raises:
        ConfigMismatch: `out` was made with other prompts.
        UsageError: There are no inputs, or labels and classes do not fit.
    """
    with _holding(out, data, templates):
        if data.task == "retrieval":
            return _retrieval(setting, data, out=out)
        return _classification(setting, data, templates, out=out)


def _holding(out: Path | None, data: Prepared, templates: Sequence[str]) -> AbstractContextManager[None]:
    """Tie a folder to the words of this data set."""
    if out is None:
        return nullcontext()
    words = [data.caption] if data.task == "retrieval" else [*templates, *([data.subject] if data.subject else [])]
    classes = None if data.classes is None else digest(list(data.classes))
    config = {"task": data.task, "prompts": words, "classes": classes}
    return Parts(out, kind=KIND, config=config, about={"name": data.name}).writing()


def _classification(setting: Setting, data: Prepared, templates: Sequence[str], *, out: Path | None) -> BenchmarkScore:
    found = _collected(setting, data, "label", out=out)
    classes, meant = _settled(data, {label for label in found.known if label is not None})
    prompts = [fill_templates(templates, data.words(name)) for name in classes]
    state = _state(data, found, [list(found.known), prompts])
    path = None if out is None else out / f"{setting.method}.json"
    finished = _finished(path, state)
    if finished is not None:
        return finished
    number = {name: place for place, name in enumerate(classes)}
    truth = np.array([-1 if label is None else number[meant[label]] for label in found.known], dtype=np.int64)
    texts = _class_vectors(setting.encoder, prompts, out=out)
    ranking, scores, notes = _ranked(setting, found, texts)
    result = ClassificationResult(
        classes=classes, ids=found.ids, truth=truth, ranking=ranking, scores=scores, report=found.report
    )
    score = _accuracy(evolve(data, notes=(*data.notes, *notes)), result, templates)
    _keep(path, state, score, result.to_pandas())
    return score


def _collected(setting: Setting, data: Prepared, field: str, *, out: Path | None) -> Collected[Any]:
    return collect(
        setting.encoder,
        data.source,
        lambda record: getattr(record, field),
        batch_size=setting.batch_size,
        progress=setting.progress,
        out=None if out is None else out / "images",
    )


def _state(data: Prepared, found: Collected[Any], more: list[Any]) -> str:
    """Changes with all that a score says: the inputs, those that failed, where they are from, the code that counts."""
    missed = [int(place) for place in np.flatnonzero(found.place < 0)]
    about = [data.layout, data.comparable, data.images, list(data.notes), geovlm.__version__]
    return digest([list(found.ids), missed, about, more])


def _settled(data: Prepared, labels: set[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The classes in their order, and which of them each label means."""
    classes = data.classes or tuple(sorted(labels))
    if len(classes) < 2:
        raise UsageError(f"{data.name} has {len(classes)} classes, and classification needs at least two.")
    words: dict[str, str] = {}
    for name in classes:
        other = words.setdefault(data.words(name), name)
        if other != name:
            raise UsageError(f"The classes {other!r} and {name!r} of {data.name} read the same; make them one.")
    return classes, match_labels(labels, classes, table=data.name)


def _class_vectors(encoder: Encoder, prompts: Sequence[tuple[str, ...]], *, out: Path | None) -> Vectors:
    """One vector a class: the normalised mean of the vectors of its prompts, as SkyScript's code has it."""
    vectors = _text_vectors(encoder, [prompt for filled in prompts for prompt in filled], out=out)
    each = unit_rows(vectors).reshape(len(prompts), -1, encoder.dim)
    return unit_rows(each.mean(axis=1, dtype=np.float64), what="class")


def _text_vectors(encoder: Encoder, texts: list[str], *, out: Path | None) -> Vectors:
    """Vectors of texts, read from the disk where they were written before."""
    if out is None:
        return encode_texts(encoder, texts)
    path = out / f"texts-{digest(texts)}.npy"
    if not path.exists():
        vectors = encode_texts(encoder, texts)

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.save(file, vectors, allow_pickle=False)

        write_atomically(path, write)
    loaded: Vectors = np.load(path, allow_pickle=False)
    return loaded


def _ranked(
    setting: Setting, found: Collected[Any], texts: Vectors
) -> tuple[NDArray[np.int64], NDArray[np.float32], tuple[str, ...]]:
    """The best classes of each input with their scores, −1 and NaN where it could not be read; and what was said."""
    ranking = np.full((len(found.ids), min(KEPT, len(texts))), -1, dtype=np.int64)
    scores = np.full(ranking.shape, np.nan, dtype=np.float32)
    read = found.place >= 0
    if not read.any():
        return ranking, scores, ()
    images, k = found.vectors[found.place[read]], ranking.shape[1]
    if setting.method == "inductive":
        ranking[read], scores[read] = classify_vectors(images, texts, k=k)
        return ranking, scores, ()
    from geovlm.evaluation.classify_arrays import classify

    made = classify(images, texts, method=setting.method, logit_scale=setting.encoder.logit_scale)
    ranking[read] = np.argsort(-made.probabilities, axis=1, kind="stable")[:, :k]
    scores[read] = np.take_along_axis(made.probabilities, ranking[read], axis=1)
    return ranking, scores, made.notes


def _accuracy(data: Prepared, result: ClassificationResult, templates: Sequence[str]) -> BenchmarkScore:
    images, right = int(result.labelled.sum()), int(result.correct.sum())
    if not images:
        raise UsageError(f"No image of {data.name} has a label, so there is nothing to measure.")
    low, high = wilson(right, images)
    return BenchmarkScore(
        name=data.name,
        task="classification",
        value=right / images,
        low=low,
        high=high,
        images=images,
        queries=images,
        coverage=float((result.predicted >= 0)[result.labelled].mean()),
        prompts=tuple(fill_templates(templates, "{}" if data.subject is None else f"{data.subject}, {{}}")),
        classes=result.classes,
        details={"macro accuracy": float(result.per_class()["recall"].mean()), "top-5": result.top5},
        **_told(data, result.report, images),
    )


def _told(data: Prepared, report: Report, images: int) -> dict[str, Any]:
    """Where the images come from, what went wrong, and whether the published figures are on the same ones."""
    expected = data.images or images
    differs = images != expected
    note = f"{images:,} images; the published figures are on {expected:,}"
    return {
        "layout": data.layout,
        "comparable": data.comparable and not differs,
        "notes": (*data.notes, *((note,) if differs else ())),
        "failures": tuple(str(failure) for failure in report.failures[:FAILURES_KEPT]),
    }


def _retrieval(setting: Setting, data: Prepared, *, out: Path | None) -> BenchmarkScore:
    found = _collected(setting, data, "captions", out=out)
    number: dict[str, int] = {}
    pairs = [
        (image, number.setdefault(caption, len(number)))
        for image, captions in enumerate(found.known)
        for caption in dict.fromkeys(captions)
    ]
    if not pairs:
        raise UsageError(f"No image of {data.name} has captions, so there is nothing to look up.")
    texts = [fill_templates([data.caption], caption)[0] for caption in number]
    state = _state(data, found, [pairs, texts])
    path = None if out is None else out / "retrieval.json"
    finished = _finished(path, state)
    if finished is not None:
        return finished
    image, text = np.array(pairs, dtype=np.int64).T
    read = found.place >= 0
    result = recalls(
        unit_rows(found.vectors[found.place[read]]),  # without what the folder has of images that are gone
        unit_rows(_text_vectors(setting.encoder, texts, out=out)),
        image=image,
        text=text,
        place=np.where(read, np.cumsum(read) - 1, -1),
    )
    score = _mean_recall(data, result, found)
    _keep(path, state, score, _ranks(found.ids, list(number), result))
    return score


def _mean_recall(data: Prepared, result: Recalls, found: Collected[Any]) -> BenchmarkScore:
    forth, back = result.directions()
    low, high = result.interval()
    return BenchmarkScore(
        name=data.name,
        task="retrieval",
        value=(forth + back) / 2,
        low=low,
        high=high,
        images=len(found.ids),
        queries=int(result.asked.sum()) + len(result.text_ranks),
        coverage=float((found.place >= 0).mean()),
        prompts=(data.caption,),
        details={
            "image to text": forth,
            "text to image": back,
            **{f"image to text R@{k}": result.image_to_text(k) for k in CUTS},
            **{f"text to image R@{k}": result.text_to_image(k) for k in CUTS},
            "captions": float(len(result.text_ranks)),
        },
        **_told(data, found.report, len(found.ids)),
    )


def _ranks(ids: Sequence[str], captions: Sequence[str], result: Recalls) -> pd.DataFrame:
    """One row a query: which it is, and the rank from 1 of its best placed answer, missing if it was missed."""
    import pandas as pd

    asked = result.asked
    ranks = np.concatenate([result.image_ranks[asked], result.text_ranks])
    directions = ["image to text"] * int(asked.sum()) + ["text to image"] * len(captions)
    queries = [*(key for key, there in zip(ids, asked, strict=True) if there), *captions]
    shown = pd.Series(ranks, dtype="Int64").where(pd.Series(ranks < np.iinfo(np.int64).max)) + 1
    return pd.DataFrame({"direction": directions, "query": queries, "rank": shown})


def _finished(path: Path | None, state: str) -> BenchmarkScore | None:
    """The score that an earlier call wrote for the same inputs and prompts."""
    if path is None or not path.exists():
        return None
    kept = read_json(path)
    return BenchmarkScore.from_dict(kept["score"]) if kept["inputs"] == state else None


def _keep(path: Path | None, state: str, score: BenchmarkScore, rows: pd.DataFrame) -> None:
    """Write the row of every input, then the score: where a score is, its rows are."""
    if path is None:
        return
    write_atomically(path.with_suffix(".parquet"), lambda temporary: rows.to_parquet(temporary, index=False))
    write_json(path, {"inputs": state, "score": score.to_dict()})
