"""Your own data in a benchmark, and how all that `benchmark` takes becomes data sets to be measured."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attrs import evolve, field, frozen

from geovlm._files import must_exist
from geovlm.errors import UsageError
from geovlm.evaluation._bench_find import nothing_found, sets_in
from geovlm.evaluation._bench_read import IncompleteSetError, Prepared, read_set
from geovlm.evaluation.benchmark_sets import BENCHMARK_SETS, find_set
from geovlm.prompts import fill_templates, resolve_templates
from geovlm.sources import FolderSource, TableSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geovlm.protocols import ImageSource

__all__ = ["BenchmarkData"]

PEEKED = 64


def _names(value: Sequence[str] | None) -> tuple[str, ...] | None:
    if isinstance(value, str):
        raise UsageError(f"classes are several names, such as ['beach', 'forest'], not the text {value!r:.60}.")
    return None if value is None else tuple(value)


def _templates(value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    return None if value is None else resolve_templates(value)


@frozen(kw_only=True)
class BenchmarkData:
    """Data of your own for `benchmark`, where it must be told more than where it is.

    Args:
        source: Images with labels or captions; a source that can be read more than once.
        task: What is measured; labels make it a classification and captions a retrieval, if not given.
        classes: The classes in their order; the labels of the source if not given. They are cleaned for the prompts.
        templates: Prompt templates, or the name of a set of them.
        caption: What each caption is put into.

    Raises:
        UsageError: A template cannot be right, or the source can be read only once.

    Examples:
        >>> from geovlm import Record
        >>> BenchmarkData(source=[Record(id="1", image="1.jpg", label="1")], classes=["forest", "beach"]).classes
        ('forest', 'beach')
    """

    source: ImageSource = field(repr=False)
    task: Literal["classification", "retrieval"] | None = None
    classes: tuple[str, ...] | None = field(default=None, converter=_names)
    templates: tuple[str, ...] | None = field(default=None, converter=_templates)
    caption: str = "a satellite image. {}"

    def __attrs_post_init__(self) -> None:
        fill_templates([self.caption], "")
        if self.task not in (None, "classification", "retrieval"):
            raise UsageError(f"task is 'classification' or 'retrieval', not {self.task!r}.")
        if iter(self.source) is self.source:
            raise UsageError(
                "A generator can be read only once, and a benchmark that goes on reads again: give a list."
            )


def prepare(datasets: Any) -> tuple[list[Prepared], dict[str, str]]:
    """The data sets to be measured, and those of the benchmark that are not there, with the reason.

    Raises:
        UsageError: There is none, or what one says of its images cannot be right.
    """
    if isinstance(datasets, Mapping):
        if not datasets:
            raise UsageError("datasets is empty; give a folder, or a mapping from names to paths or sources.")
        return [_named(name, value) for name, value in datasets.items()], {}
    return _all_in(Path(datasets).expanduser())


def _all_in(root: Path) -> tuple[list[Prepared], dict[str, str]]:
    found = sets_in(root)
    ready: list[Prepared] = []
    missing: dict[str, str] = {}
    for name, one in BENCHMARK_SETS.items():
        if name not in found:
            missing[name] = f"no folder {one.folder} in {root}; {one.url} has it."
            continue
        try:
            ready.append(read_set(one, found[name]))
        except IncompleteSetError as error:
            missing[name] = str(error)
    if not found:
        raise nothing_found(root)
    if not ready:
        raise UsageError(" ".join(missing[name] for name in found))
    return ready, missing


def _named(name: str, value: Any) -> Prepared:
    if not isinstance(name, str) or not name or name.startswith(".") or set(name) & set('/\\:*?"<>|'):
        raise UsageError(f"The name of a data set names a folder of results too; {name!r} cannot.")
    known = find_set(name)
    if isinstance(value, str | Path):
        path = Path(value).expanduser()
        must_exist(path)
        if known is not None:
            return read_set(known, path)
        value = FolderSource(path) if path.is_dir() else TableSource(path)
    data = value if isinstance(value, BenchmarkData) else BenchmarkData(source=value)
    task = data.task or (known.task if known is not None else _task(name, data.source))
    own = Prepared(
        name=name,
        task=task,
        source=data.source,
        layout=type(data.source).__name__,
        classes=data.classes,
        templates=data.templates,
        caption=data.caption,
    )
    return own if known is None else evolve(own, name=known.name, subject=known.subject, images=known.images)


def _task(name: str, source: ImageSource) -> Literal["classification", "retrieval"]:
    first = list(islice(source, PEEKED))
    if any(record.label is not None for record in first):
        return "classification"
    if any(record.captions for record in first):
        return "retrieval"
    raise UsageError(
        f"The images of {name!r} have neither labels nor captions, so there is nothing to measure. Class folders or a"
        " column called label give labels; a column called caption gives captions."
    )
