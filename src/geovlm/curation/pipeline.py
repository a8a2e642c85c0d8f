"""`curate`: from captions as they come to captions that are worth training on."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from attrs import define, evolve, field

from geovlm._files import write_atomically
from geovlm.curation import _texts
from geovlm.curation._match import match
from geovlm.curation.result import CAPTIONS, Curated
from geovlm.curation.rules import CurationRules
from geovlm.dataset import Dataset
from geovlm.errors import UsageError
from geovlm.records import Failure, Report

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence

    from geovlm.protocols import Encoder, ImageSource

__all__ = ["curate"]

LOW = "among the lowest scores"


@define
class _Caption:
    """One caption on its way; what has a reason is dropped."""

    image: int
    text: str
    kept: str
    reason: str | None = None
    score: float = field(default=math.nan)


def curate(
    source: ImageSource,
    *,
    rules: CurationRules | None = None,
    encoder: Encoder | None = None,
    out: str | os.PathLike[str] | None = None,
    batch_size: int = 64,
    progress: bool | None = None,
) -> Curated:
    """Clean captions, and drop those that training is better without.

    Openings and place names are cut out; what is too short, too long, in another language, a refusal, a repetition or
    twice at its image is dropped. With an encoder, each caption gets a score against its image, and `drop_share` and
    `best` go by it: not the bare cosine, but also how well the image's captions fit on the whole, and how much this one
    disagrees with the others. A caption of another scene disagrees with its neighbours more clearly than with the
    pixels (measured in the benchmarks).

    Take another encoder than the one that will be trained: a model that filters its own data keeps its own errors.

    Args:
        source: Images with captions. What yields no captions is a failure in the report.
        rules: What captions must keep to; `None` takes the defaults, which need no encoder.
        encoder: What compares captions with images.
        out: A directory for the kept pairs (`dataset`), all captions with their fate (`captions.parquet`) and the
            vectors of images, so that a call that was stopped need not embed them again.
        batch_size: Images a batch of the encoder.
        progress: Show a bar; `None` decides by where the output goes.

    Raises:
        UsageError: A rule needs an encoder or a name in the metadata that is not there.
        ConfigMismatch: `out` holds something else.
        MissingExtra: `language` is set and py3langid is not installed.

    Examples:
        >>> from geovlm import Record
        >>> captions = ["The image shows a harbour in Rotterdam.", "I cannot tell.", "A harbour.", "boats at a pier"]
        >>> print(curate([Record(id="1", image="1.jpg", captions=captions)]))
        2 of 4 captions kept, 1 of them shortened
          1 dropped: it refuses or doubts
            1: 'I cannot tell.'
          1 dropped: the image has it twice
            1: 'A harbour.'
    """
    started = monotonic()
    rules = rules or CurationRules()
    if rules.needs_scores and encoder is None:
        raise UsageError("drop_share and best go by scores: give an encoder, another than the one to be trained.")
    folder = None if out is None else Path(out).expanduser()
    data = source if isinstance(source, Dataset) else Dataset.from_records(source)
    captions = _read(data, rules)
    if encoder is not None:
        _give_scores(data, captions, encoder, rules, folder, batch_size=batch_size, progress=progress)
    for drop in (_drop_low, _keep_best, _drop_copies, _keep_groups):
        drop(data, [caption for caption in captions if caption.reason is None], rules)
    kept, table = _kept(data, captions), _table(data, captions)
    if folder is not None:
        kept = kept.save(folder / "dataset")
        write_atomically(folder / "captions.parquet", lambda path: _write(table, path))
    report = _report(data, captions, seconds=monotonic() - started)
    return Curated(dataset=kept, captions=table, report=report)


def _read(data: Dataset, rules: CurationRules) -> list[_Caption]:
    captions = []
    for image, texts in enumerate(data.table["captions"].to_pylist()):
        met: set[str] = set()
        for text in texts or ():
            kept = _texts.clean(text, rules)
            meaning = _texts.meaning(kept)
            reason = _texts.fault(kept, rules) or ("the image has it twice" if meaning in met else None)
            if reason is None:
                met.add(meaning)
            captions.append(_Caption(image=image, text=text, kept=kept, reason=reason))
    return captions


def _give_scores(
    data: Dataset,
    captions: Sequence[_Caption],
    encoder: Encoder,
    rules: CurationRules,
    out: Path | None,
    *,
    batch_size: int,
    progress: bool | None,
) -> None:
    good = [caption for caption in captions if caption.reason is None]
    images = sorted({caption.image for caption in good})
    matched = match(
        data.subset(images),
        [caption.kept for caption in good],
        np.searchsorted(images, [caption.image for caption in good]),
        encoder,
        rotations=rules.rotations,
        out=out,
        batch_size=batch_size,
        progress=progress,
    )
    for caption, score in zip(good, matched.scores.tolist(), strict=True):
        failure = matched.failures.get(data.table["id"][caption.image].as_py())
        if failure is None:
            caption.score = score
        else:
            caption.reason = f"no image: {failure}"


def _drop_low(data: Dataset, captions: Sequence[_Caption], rules: CurationRules) -> None:
    if rules.drop_share == 0:
        return
    for group, members in _grouped(data, captions, rules.group_by).items():
        # Equal scores fall together: the share is the most that is dropped.
        limit = sorted(caption.score for caption in members)[int(rules.drop_share * len(members))]
        for caption in members:
            if caption.score < limit:
                caption.reason = LOW if rules.group_by is None else f"{LOW} of {rules.group_by} {group}"


def _keep_best(_: Dataset, captions: Sequence[_Caption], rules: CurationRules) -> None:
    _keep(rules.best, captions, lambda caption: caption.image, "the image has better ones")


def _drop_copies(_: Dataset, captions: Sequence[_Caption], rules: CurationRules) -> None:
    what = f"{rules.copies} other images have it"
    _keep(rules.copies, captions, lambda caption: _texts.meaning(caption.kept), what)


def _keep_groups(data: Dataset, captions: Sequence[_Caption], rules: CurationRules) -> None:
    if rules.per_group is None:
        return
    for group, members in _grouped(data, captions, rules.group_by).items():
        best: dict[int, float] = {}
        for caption in _ranked(members):
            best.setdefault(caption.image, caption.score)
        within = set(list(best)[: rules.per_group])
        for caption in members:
            if caption.image not in within:
                caption.reason = f"{rules.group_by} {group} is full"


def _keep(count: int | None, captions: Sequence[_Caption], key: Callable[[_Caption], object], reason: str) -> None:
    """Keep the first `count` of each kind, by score."""
    if count is None:
        return
    met: Counter[object] = Counter()
    for caption in _ranked(captions):
        met[key(caption)] += 1
        if met[key(caption)] > count:
            caption.reason = reason


def _ranked(captions: Iterable[_Caption]) -> list[_Caption]:
    """The highest score first; without scores, in the order in which they came."""
    return sorted(captions, key=lambda caption: 0.0 if math.isnan(caption.score) else -caption.score)


def _grouped(data: Dataset, captions: Sequence[_Caption], name: str | None) -> dict[object, list[_Caption]]:
    if name is None:
        return {None: list(captions)} if captions else {}
    values = [json.loads(text or "{}").get(name) for text in data.table["meta"].to_pylist()]
    if captions and all(value is None for value in values):
        raise UsageError(f"group_by={name!r}: no image has that name in its metadata.")
    groups: dict[object, list[_Caption]] = defaultdict(list)
    for caption in captions:
        groups[str(values[caption.image])].append(caption)
    return groups


def _kept(data: Dataset, captions: Sequence[_Caption]) -> Dataset:
    texts: list[list[str]] = [[] for _ in range(len(data))]
    for caption in captions:
        if caption.reason is None:
            texts[caption.image].append(caption.kept)
    place = data.table.column_names.index("captions")
    column = pa.array(texts, data.table.schema.field(place).type)
    whole = evolve(data, table=data.table.set_column(place, "captions", column))
    return whole.subset(np.array([bool(each) for each in texts]))


def _table(data: Dataset, captions: Sequence[_Caption]) -> pa.Table:
    ids = data.table["id"].to_pylist()
    rows = [
        (ids[one.image], one.text, one.kept if one.reason is None else None, one.reason, one.score) for one in captions
    ]
    columns = list(zip(*rows, strict=True)) or [()] * len(CAPTIONS.names)
    arrays = [pa.array(column, kind, from_pandas=True) for column, kind in zip(columns, CAPTIONS.types, strict=True)]
    return pa.table(arrays, schema=CAPTIONS)


def _write(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path)


def _report(data: Dataset, captions: Sequence[_Caption], *, seconds: float) -> Report:
    reasons: dict[int, list[str | None]] = defaultdict(list)
    for caption in captions:
        reasons[caption.image].append(caption.reason)
    failures = []
    uris = data.table["uri"].to_pylist()
    for image, key in enumerate(data.table["id"].to_pylist()):
        found = reasons[image]
        if None not in found:
            most = Counter(found).most_common(1)
            reason = f"no caption is left: {most[0][0]}" if most else "it has no caption"
            failures.append(Failure(id=key, uri=uris[image], stage="curate", reason=reason))
    kept = len(data) - len(failures)
    return Report(stage="curate", done=kept, failures=(*data.report.failures, *failures), seconds=seconds)
