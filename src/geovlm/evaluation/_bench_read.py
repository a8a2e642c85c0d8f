"""What is in a data set of the benchmark: records with the labels or captions that count, and the words for them."""

from __future__ import annotations

from difflib import get_close_matches
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from attrs import evolve, field, frozen

from geovlm.errors import UnknownName, UsageError
from geovlm.evaluation._bench_find import TRIED, class_root, find_file, find_table, image_root
from geovlm.prompts import clean_class_name
from geovlm.sources import FolderSource, TableSource

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from geovlm.evaluation.benchmark_sets import BenchmarkSet
    from geovlm.protocols import ImageSource
    from geovlm.records import Record

Task = Literal["classification", "retrieval"]


@frozen(kw_only=True, eq=False)
class Prepared:
    """One data set, ready to be measured.

    Args:
        name: What it is called.
        task: What is measured.
        source: Its images, with labels or captions.
        layout: Where they come from, in words.
        classes: The classes; the labels of the source if not given.
        verbatim: Put the names of the classes into the prompts as they are.
        subject: Stands before the name of a class in the prompts.
        templates: Prompt templates of its own.
        caption: What each caption is put into.
        comparable: Whether the images are those of the published figures, as far as can be told.
        images: How many images the published figures are on, where that is known.
        notes: What must be known to read the figure.
    """

    name: str
    task: Task
    source: ImageSource = field(repr=False)
    layout: str
    classes: tuple[str, ...] | None = None
    verbatim: bool = False
    subject: str | None = None
    templates: tuple[str, ...] | None = None
    caption: str = "{}"
    comparable: bool = False
    images: int | None = None
    notes: tuple[str, ...] = ()

    def words(self, name: str) -> str:
        """The words for a class."""
        words = name if self.verbatim else clean_class_name(name)
        return words if self.subject is None else f"{self.subject}, {words}"


def read_set(one: BenchmarkSet, path: Path) -> Prepared:
    """Read what a data set of the benchmark says of its images; no image is opened.

    Raises:
        UsageError: Neither its table nor folders of classes are there, or they contradict each other.
    """
    table = (path, False) if path.is_file() else find_table(path, one.tables)
    if one.task == "retrieval":
        if table is None:
            raise _incomplete(one, path, "captions")
        return _retrieval(one, table[0])
    return _scenes(one, path, *table) if table else _class_folders(one, path)


class IncompleteSetError(UsageError):
    """A folder has the name of a data set, and not what belongs to it."""


def _incomplete(one: BenchmarkSet, path: Path, what: str) -> IncompleteSetError:
    return IncompleteSetError(
        f"{path} has no {what} of {one.name}: looked for {' and '.join(one.tables)} in it and in the folders below."
        f" The archive {one.url} has them."
    )


def _scenes(one: BenchmarkSet, path: Path, table: Path, is_published: bool) -> Prepared:
    source = _open(table, one)
    records = [record for record in source if record.label is not None]
    without = len(list(source)) - len(records)
    if not records:
        raise UsageError(f"{table} has no labels; it needs a column called {' or '.join(one.labels)}.")
    names = find_file(one.classnames, near=table.parent, top=path if path.is_dir() else table.parent)
    classes, labels, notes = _classes(names, {record.label or "" for record in records}, table=str(table))
    if without:
        notes = (*notes, f"{without} rows without a label are left out, as in the paper")
    return Prepared(
        name=one.name,
        task="classification",
        source=[evolve(record, label=labels[record.label or ""]) for record in records],
        layout=f"table {table.name}",
        classes=classes,
        verbatim=names is not None,
        subject=one.subject,
        comparable=is_published and names is not None,
        images=one.images,
        notes=notes,
    )


def _open(table: Path, one: BenchmarkSet, *, split: str | None = None) -> TableSource:
    """The table with its labels, and with the images where they are."""
    first = TableSource(table, split=split)
    root = image_root(table, [record.id for record in islice(first, TRIED)])
    if one.task == "retrieval":
        return TableSource(table, root=root, split=split)
    for column in one.labels:
        try:
            return TableSource(table, root=root, label=column, split=split)
        except UnknownName:
            continue
    return TableSource(table, root=root, split=split)


def _class_folders(one: BenchmarkSet, path: Path) -> Prepared:
    root, part = class_root(path, one.splits)
    try:
        found = list(FolderSource(root, class_folders=False))
    except UsageError as error:
        raise _incomplete(one, path, "table or class folders") from error
    records = [evolve(record, label=_folder(record)) for record in found]
    present = {record.label for record in records} - {None}
    if len(present) < 2:
        raise _incomplete(one, path, "table or class folders")
    names = find_file(one.classnames, near=root, top=path)
    classes, labels, notes = _classes(names, {str(label) for label in present}, table=f"the folders in {root}")
    where = "all images" if part is None else f"the images of the part {part!r}"
    return Prepared(
        name=one.name,
        task="classification",
        source=[evolve(record, label=labels[record.label]) for record in records if record.label],
        layout="class folders",
        classes=classes,
        verbatim=names is not None,
        subject=one.subject,
        images=one.images,
        notes=(*notes, f"{where} in class folders; the published figures are on those of {one.tables[0]}"),
    )


def _folder(record: Record) -> str | None:
    """The folder that an image lies in: sets with groups of classes have the class innermost."""
    return PurePosixPath(record.id).parent.name or None


def _classes(
    names: Path | None, labels: set[str], *, table: str
) -> tuple[tuple[str, ...], dict[str, str], tuple[str, ...]]:
    """The classes in order, the class that each label means, and what is to be said of it."""
    if names is None:
        note = "there is no classnames.txt, so the names of the classes are the labels, put into words"
        return tuple(sorted(labels)), {label: label for label in labels}, (note,)
    classes = read_names(names)
    meant = match_labels(labels, classes, table=table)
    absent = len(set(classes) - set(meant.values()))
    return classes, meant, (f"{absent} of {len(classes)} classes have no images",) if absent else ()


def read_names(path: Path) -> tuple[str, ...]:
    """The classes of a `classnames.txt`, a name a line; their order is that of numbered labels.

    Raises:
        UsageError: It has fewer than two names, a name twice, or is no UTF-8 text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8.") from error
    names = tuple(line.strip() for line in lines if line.strip())
    twice = sorted({name for name in names if names.count(name) > 1})
    if len(names) < 2 or twice:
        wrong = f"{', '.join(twice)} more than once" if twice else f"{len(names)} names"
        raise UsageError(f"{path} has {wrong}; it needs at least two names, a line each, each once.")
    return names


def match_labels(labels: Iterable[str], classes: Sequence[str], *, table: str) -> dict[str, str]:
    """The class that each label means: spelt the same, reading the same, or its number from 0.

    Raises:
        UsageError: Two classes read the same, or labels mean none of the classes; with the nearest.
    """
    exact, wanted = set(classes), sorted(set(labels))
    if wanted and not exact.intersection(wanted) and all(label.isdecimal() for label in wanted):
        return _numbered(wanted, classes, table=table)
    by_words: dict[str, str] = {}
    for name in classes:
        by_words.setdefault(clean_class_name(name), name)
    meant = {label: label if label in exact else by_words.get(clean_class_name(label), "") for label in wanted}
    strange = [label for label in wanted if not meant[label]]
    if strange:
        near = get_close_matches(clean_class_name(strange[0]), by_words, n=1)
        hint = f"nearest: {by_words[near[0]]!r}" if near else f"the classes are {', '.join(list(classes)[:6])}, …"
        raise UsageError(
            f"{len(strange)} of {len(wanted)} labels in {table} are none of the {len(classes)} classes:"
            f" {', '.join(repr(label) for label in strange[:5])} ({hint}). Correct the class names or the labels."
        )
    return meant


def _numbered(labels: Sequence[str], classes: Sequence[str], *, table: str) -> dict[str, str]:
    largest = max(int(label) for label in labels)
    if largest >= len(classes):
        raise UsageError(f"{table} has the label {largest}, but there are {len(classes)} classes, numbered from 0.")
    return {label: classes[int(label)] for label in labels}


def _retrieval(one: BenchmarkSet, table: Path) -> Prepared:
    split = one.splits[0] if table.suffix.lower() == ".json" else None
    records, notes = together(_open(table, one, split=split))
    if not any(record.captions for record in records):
        raise UsageError(f"{table} has no captions; each image needs at least one.")
    return Prepared(
        name=one.name,
        task="retrieval",
        source=records,
        layout=f"table {table.name}" if split is None else f"{table.name}, split {split!r}",
        caption=one.caption,
        comparable=True,
        images=one.images,
        notes=notes,
    )


def together(records: Iterable[Record]) -> tuple[list[Record], tuple[str, ...]]:
    """One record an image, with all its captions, each once; and what had to be done for it."""
    images: dict[str, Record] = {}
    again = 0
    for record in records:
        held = images.get(record.id)
        again += held is not None
        captions = (*(held.captions if held else ()), *record.captions)
        images[record.id] = evolve(held or record, captions=tuple(dict.fromkeys(captions)))
    silent = sum(not record.captions for record in images.values())
    notes = (
        f"{again} entries name an image that came before; its captions are put together" if again else "",
        f"{silent} images have no captions: they are candidates and no queries" if silent else "",
    )
    return list(images.values()), tuple(note for note in notes if note)
