"""Data sets of the Hugging Face `datasets` library, in memory, on disk or streamed."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve

from geovlm._optional import require
from geovlm.errors import UnknownName, UsageError
from geovlm.sources._columns import choose, merge, to_record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from geovlm.records import Record

__all__ = ["HuggingFaceSource"]

# Few, because a batch of a shuffled data set is a copy, images included.
ROWS_AT_ONCE = 64


class HuggingFaceSource:
    """The images of a `datasets.Dataset` or `datasets.IterableDataset`.

    Images are not decoded while the source is read: a broken one is yielded, and fails where it is used. Those of a
    `Dataset` are fetched when they are opened, so that a list of records is small; those of a stream come with their
    records. The names of a `ClassLabel` become labels, a column of lists gives several captions, and all other columns
    that JSON can write become `meta`. With `id`, neighbours of one id become one record with all captions.

    Args:
        dataset: The data set; or a name or local path, which is opened by `datasets.load_from_disk` or `load_dataset`.
        image: The column of images; if not given, the first of type `Image`, else one of a common name.
        caption: The column of captions, or several; if not given, one of a common name.
        label: The column of classes; if not given, one of a common name.
        id: The column of ids; without one, the id is the position in the data set.
        split: Which split, where there are several.

    Raises:
        UsageError: This is no such data set, or a column or split does not exist, with the nearest that does.
        MissingExtra: The `datasets` library is not installed.

    Examples:
        >>> import datasets
        >>> from PIL import Image
        >>> features = datasets.Features(
        ...     image=datasets.Image(),
        ...     label=datasets.ClassLabel(names=["Beach", "Port"]),
        ...     text=datasets.Value("string"),
        ... )
        >>> rows = {"image": [Image.new("RGB", (8, 6))], "label": [1], "text": ["a port"]}
        >>> [record] = HuggingFaceSource(datasets.Dataset.from_dict(rows, features=features))
        >>> record.id, record.label, record.captions, record.open().size
        ('0', 'Port', ('a port',), (8, 6))
    """

    def __init__(
        self,
        dataset: Any,
        *,
        image: str | None = None,
        caption: str | Sequence[str] | None = None,
        label: str | None = None,
        id: str | None = None,  # noqa: A002 - the word that users know
        split: str | None = None,
    ) -> None:
        library = require("datasets", extra="datasets", purpose="Hugging Face data sets")
        if isinstance(dataset, str | os.PathLike):
            dataset = _load(library, os.fspath(dataset))
        dataset = _take_split(library, dataset, split).with_format(None)
        columns = _columns(dataset)
        self._features = dict(dataset.features or {})
        self._roles = choose(
            columns,
            table="the data set",
            image=image or _first_image(self._features),
            caption=caption,
            label=label,
            id=id,
        )
        self._streamed = isinstance(dataset, library.IterableDataset)
        self._dataset = _undecoded(dataset, keep=self._roles.image)
        if not self._streamed and not len(dataset):
            raise UsageError("The data set has no rows.")

    def __iter__(self) -> Iterator[Record]:
        rows = _streamed_rows if self._streamed else _stored_rows
        return merge(self._record(position, row) for position, row in enumerate(rows(self._dataset, self._roles.image)))

    def __len__(self) -> int:
        if self._streamed:
            raise TypeError("A streamed data set has no length before it is read.")
        return len(self._dataset) if self._roles.id is None else sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"HuggingFaceSource({'a stream' if self._streamed else f'{len(self._dataset)} rows'})"

    @property
    def labels(self) -> list[str]:
        """The classes, sorted; read from the whole data set where the column is not a `ClassLabel`."""
        names = getattr(self._features.get(self._roles.label), "names", None)
        found = names if names is not None else {record.label for record in self if record.label is not None}
        return sorted(found)

    def _record(self, position: int, row: dict[str, Any]) -> Record:
        for name, value in row.items():
            names = getattr(self._features.get(name), "names", None)
            if names is not None:
                row[name] = names[value] if value is not None and value >= 0 else None  # -1: a hidden label
        record = to_record(row, self._roles, position=position, locate=str)
        return record if self._roles.id is not None else evolve(record, id=str(position))


def _load(library: Any, name: str) -> Any:
    path = Path(name).expanduser()
    try:
        if any((path / marker).exists() for marker in ("state.json", "dataset_dict.json")):
            return library.load_from_disk(str(path))
        return library.load_dataset(str(path) if path.exists() else name)
    except (OSError, ValueError) as error:
        raise UsageError(f"{name!r} could not be loaded as a data set: {error}") from error


def _take_split(library: Any, dataset: Any, split: str | None) -> Any:
    if isinstance(dataset, dict):  # DatasetDict, IterableDatasetDict
        if split is None and len(dataset) == 1:
            return next(iter(dataset.values()))
        if split is None:
            raise UsageError(f"The data set has the splits {', '.join(dataset)}; choose one with split='…'.")
        if split not in dataset:
            raise UnknownName("split of the data set", split, dataset)
        return dataset[split]
    if not isinstance(dataset, library.Dataset | library.IterableDataset):
        raise UsageError(
            f"A Hugging Face data set is a datasets.Dataset, a datasets.IterableDataset or a name, not a"
            f" {type(dataset).__name__}."
        )
    if split is not None:
        raise UsageError(f"The data set is one split already, so that split={split!r} cannot be chosen.")
    return dataset


def _columns(dataset: Any) -> list[str]:
    names: list[str] | None = dataset.column_names
    return list(names) if names is not None else list(next(iter(dataset), ()))


def _first_image(features: dict[str, Any]) -> str | None:
    return next((name for name, feature in features.items() if type(feature).__name__ == "Image"), None)


def _undecoded(dataset: Any, *, keep: str) -> Any:
    """The data set with its images as they are stored, and without other columns that would be decoded."""
    decoded = {
        name: feature for name, feature in (dataset.features or {}).items() if hasattr(feature, "decode_example")
    }
    for name, feature in decoded.items():
        dataset = dataset.cast_column(name, replace(feature, decode=False))
    others = [name for name in decoded if name != keep]
    return dataset.remove_columns(others) if others else dataset


def _streamed_rows(dataset: Any, image: str) -> Iterator[dict[str, Any]]:
    for row in dataset:
        yield {**row, image: _remote_or_here(row[image])}


def _remote_or_here(cell: Any) -> Any:
    """Images inside archives or on servers are opened by `datasets`, when they are needed."""
    path = cell.get("path") if isinstance(cell, dict) and cell.get("bytes") is None else None
    return partial(_open_remote, path) if path is not None and "://" in path else cell


def _open_remote(path: str) -> Any:
    import datasets

    return datasets.Image().decode_example({"path": path, "bytes": None})


def _stored_rows(dataset: Any, image: str) -> Iterator[dict[str, Any]]:
    stored = dataset.with_format("arrow")
    position = 0
    for batch in stored.iter(ROWS_AT_ONCE):
        images = _stored_images(batch[image])
        others = [(name, batch[name].to_pylist()) for name in batch.column_names if name != image]
        for place, cell in enumerate(images):
            row = {name: cells[place] for name, cells in others}
            row[image] = partial(_fetch, stored, image, position) if cell is None else _remote_or_here(cell)
            yield row
            position += 1


def _stored_images(column: Any) -> list[Any]:
    """A path for each image that is a file; `None` for one that is stored as bytes, or missing."""
    import pyarrow as pa

    if pa.types.is_struct(column.type):
        cells = column.combine_chunks()
        whole = cells.field("bytes").is_null().to_pylist()
        paths = cells.field("path").to_pylist()
        return [{"path": path} if alone and path else None for alone, path in zip(whole, paths, strict=True)]
    return (
        column.to_pylist()
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        else [None] * len(column)
    )


def _fetch(dataset: Any, image: str, position: int) -> Any:
    cell = dataset[position][image][0].as_py()
    return cell.get("bytes") if isinstance(cell, dict) else cell
