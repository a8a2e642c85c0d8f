"""Data sets of images with captions and labels: on disk, split, filtered, handed to other libraries."""

from __future__ import annotations

import hashlib
import json
import operator
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from attrs import evolve, field, frozen

from geovlm._files import must_exist
from geovlm._html import record_strip
from geovlm._images_on_disk import keep_image
from geovlm._markup import guarded, panel, table
from geovlm._optional import require
from geovlm._pairs import KIND, check_and_keep, finished_rows, hold, store, to_frame, to_huggingface
from geovlm._parts import Parts, stored_report
from geovlm._split import split_rows
from geovlm._tables import to_record
from geovlm.errors import UsageError
from geovlm.records import Record, Report

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pandas as pd
    from numpy.typing import ArrayLike

    from geovlm.imaging import ImageLike
    from geovlm.protocols import ImageSource

__all__ = ["Dataset", "stratified_split"]

ROWS_AT_ONCE = 1024
LABELS_SHOWN, PICTURES_SHOWN = 10, 5


@frozen(eq=False, repr=False, kw_only=True)
class Dataset:
    """Images with captions, labels, footprints and metadata; rows in memory, pixels where they are.

    Made by `Dataset.write`, `Dataset.open`, `Dataset.from_records` or `geovlm.caption`. It is an `ImageSource`: calls
    that take a folder or a table take it too. It does not change; `split`, `filter`, `sample` and `subset` return
    others that share the images.

    Args:
        table: The rows, in the columns that geovlm stores.
        images: Images that are not files, by id.
        report: What became of the inputs it was made of.

    Examples:
        >>> from PIL import Image
        >>> scenes = [Record(id=str(i), image=Image.new("RGB", (8, 8)), label="ab"[i % 2]) for i in range(10)]
        >>> data = Dataset.from_records(scenes)
        >>> train, val = data.split(val=0.2, seed=0)
        >>> train, val
        (Dataset(8 images, 0 captions, 2 labels), Dataset(2 images, 0 captions, 2 labels))
        >>> data.filter(lambda record: record.label == "a")[1].id
        '2'
    """

    table: pa.Table
    images: Mapping[str, ImageLike] = field(factory=dict)
    report: Report = field(factory=Report)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Read a data set that `write`, `save` or `geovlm.caption` wrote. Failed inputs are in `report` only.

        Raises:
            UsageError: There is no data set at `path`.
        """
        folder = Path(path).expanduser()
        must_exist(folder)
        parts = Parts.open(folder, kind=KIND)
        return cls(table=finished_rows(parts), report=stored_report(parts, KIND))

    @classmethod
    def write(
        cls,
        source: ImageSource,
        out: str | os.PathLike[str],
        *,
        on_error: Literal["skip", "raise"] = "skip",
        progress: bool | None = None,
    ) -> Self:
        """Write the records of any source to a directory, with a check that each image can be decoded.

        Files stay where they are and are named by absolute paths; other images are saved in `out/images`. A call that
        was stopped goes on when it is repeated; inputs that failed are tried again, and new ones are added. What is
        written of an id is not changed.

        Args:
            source: Records.
            out: The directory.
            on_error: `"raise"` stops at the first failure.
            progress: Show a bar; `None` decides by where the output goes.

        Returns:
            The data set in `out`, with the report of this call.

        Raises:
            ConfigMismatch: `out` holds something else.
            ImageError: An input failed, and `on_error` is `"raise"`.
            StorageError: The disk refused; the finished parts are kept.
        """
        parts = Parts(Path(out).expanduser(), kind=KIND, config={"by": "Dataset.write"})
        report = store(parts, source, keep=check_and_keep, on_error=on_error, progress=progress)
        return cls(table=finished_rows(parts), report=report)

    def save(self, out: str | os.PathLike[str]) -> Self:
        """Write these rows to a directory; images that are not files go to `out/images`. Nothing is decoded again.

        Raises:
            ConfigMismatch: `out` holds something else, or other rows.
        """
        config = {"by": "Dataset.save", "fingerprint": self.fingerprint}
        parts = Parts(Path(out).expanduser(), kind=KIND, config=config)
        report = store(parts, self, keep=keep_image, on_error="raise", progress=False)
        return evolve(self, table=finished_rows(parts), images={}, report=report)

    @classmethod
    def from_records(cls, records: ImageSource) -> Self:
        """Hold the rows of any source in memory. Images are neither read nor copied; what is no file is referred to.

        A record whose id came before is left out and is a failure in `report`.
        """
        parts = Parts(None, kind=KIND, config={})
        images, report = hold(parts, records)
        return cls(table=finished_rows(parts), images=images, report=report)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[Record]:
        for batch in self.table.to_batches(ROWS_AT_ONCE):
            for row in batch.to_pylist():
                yield self._record(row)

    def __getitem__(self, index: int) -> Record:
        """One record; negative numbers count from the end.

        Raises:
            IndexError: There are fewer records.
            UsageError: `index` is no whole number.
        """
        try:
            place = operator.index(index)
        except TypeError:
            raise UsageError(f"A record is chosen by a whole number, not {index!r}; for several, use subset.") from None
        if not -len(self) <= place < len(self):
            raise IndexError(f"There is no record {place} in a data set of {len(self)}.")
        [row] = self.table.slice(place % len(self), 1).to_pylist()
        return self._record(row)

    def _record(self, row: Mapping[str, Any]) -> Record:
        record = to_record(row)
        return evolve(record, image=self.images[record.id]) if record.id in self.images else record

    @cached_property
    def labels(self) -> list[str]:
        """The names of the classes, sorted."""
        return sorted(label for label in pc.unique(self.table["label"]).to_pylist() if label is not None)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with the rows: ids, places, captions, labels, footprints or metadata.

        Pixels do not count: an image that is not a file counts by its id.
        """
        state = hashlib.sha256()
        for batch in self.table.to_batches(ROWS_AT_ONCE):
            for row in batch.to_pylist():
                state.update(json.dumps(row, sort_keys=True).encode())
        return state.hexdigest()[:16]

    def subset(self, indices: ArrayLike) -> Self:
        """The records with these numbers, in this order; a mask of truth values chooses where it is true.

        Raises:
            UsageError: There are fewer records, or one is named twice.
        """
        chosen = np.asarray(indices)
        if chosen.dtype == np.bool_ and chosen.shape == (len(self),):
            chosen = np.flatnonzero(chosen)
        if chosen.size == 0:
            chosen = chosen.astype(np.int64)
        if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
            raise UsageError("A subset is chosen by a list of whole numbers, or a truth value for each record.")
        wrong = chosen[(chosen < -len(self)) | (chosen >= len(self))]
        if wrong.size:
            raise UsageError(f"There is no record {wrong[0]} in a data set of {len(self)}.")
        places = chosen % max(len(self), 1)
        if len(np.unique(places)) != len(places):
            raise UsageError("A record is named twice; a data set holds each once.")
        return self._with(self.table.take(pa.array(places)))

    def filter(self, predicate: Callable[[Record], bool]) -> Self:
        """The records for which `predicate` is true."""
        return self.subset([place for place, record in enumerate(self) if predicate(record)])

    def sample(self, n: int, *, seed: int = 0) -> Self:
        """`n` records drawn without replacement, in their order here.

        Raises:
            UsageError: There are fewer than `n`.
        """
        if not 0 <= n <= len(self):
            raise UsageError(f"{n} of {len(self)} records cannot be drawn.")
        return self.subset(np.sort(np.random.default_rng(seed).choice(len(self), n, replace=False)))

    @overload
    def split(self, *, val: float = 0.1, seed: int = 0, stratify: bool = True) -> tuple[Self, Self]: ...

    @overload
    def split(self, *, val: float = 0.1, test: float, seed: int = 0, stratify: bool = True) -> tuple[Self, ...]: ...

    def split(self, *, val: float = 0.1, test: float = 0.0, seed: int = 0, stratify: bool = True) -> tuple[Self, ...]:
        """Cut into `(train, val)`, or `(train, val, test)` when `test` is not 0.

        No image is in two parts, even if two records name the same file. Sizes are the rounded shares of all images.
        With `stratify`, each class is cut in proportion, and one of two or more images is in `train` and in `val` (and,
        of three or more, in `test`), as far as these are large enough; records without a label are one class.

        Args:
            val: The share for validation.
            test: The share for a test.
            seed: Decides which records go where.
            stratify: Cut by label.

        Raises:
            UsageError: The shares leave nothing for a part.
        """
        if not 0 < val < 1 or not 0 <= test < 1 or val + test >= 1:
            raise UsageError(
                f"val and test are shares, together less than 1, and val is above 0, such as 0.1; not {val} and {test}."
            )
        keys = pc.coalesce(self.table["uri"], self.table["id"]).to_pylist()
        strata = self.table["label"].to_pylist() if stratify else [None] * len(self)
        *drawn, rest = split_rows(keys, strata, shares=[val, test] if test else [val], seed=seed)
        return tuple(self.subset(places) for places in (rest, *drawn))

    def _with(self, table: pa.Table) -> Self:
        return evolve(self, table=table, report=Report(stage=KIND, done=table.num_rows))

    def to_pandas(self) -> pd.DataFrame:
        """A DataFrame: `id`, `uri`, `captions` (lists), `label`, the sides of footprints where known, and metadata.

        Metadata called like one of these columns is prefixed with `meta_`. `TableSource` reads such a frame.
        """
        return to_frame(self.table)

    def to_huggingface(self) -> Any:
        """A `datasets.Dataset`: `id`, `image` (by path), `captions`, `label` (a `ClassLabel`), `footprint` and `meta`.

        Metadata is text in JSON. Of `label`, `footprint` and `meta`, those without any value are left out.

        Raises:
            UsageError: Some images are not files; `save` makes them files.
            MissingExtra: The `datasets` library is not installed.
        """
        if self.images and any(key in self.images for key in self.table["id"].to_pylist()):
            raise UsageError("Some images are not files. Save the data set, and convert what save returns.")
        return to_huggingface(self.table, self.labels)

    def __repr__(self) -> str:
        captions = pc.sum(pc.list_value_length(self.table["captions"])).as_py() or 0
        return f"Dataset({len(self)} images, {captions} captions, {len(self.labels)} labels)"

    @guarded
    def _repr_html_(self) -> str:
        """Some pictures from all over the data set, and its largest classes, for a notebook."""
        counts = Counter(label for label in self.table["label"].to_pylist() if label is not None).most_common()
        step = max(1, len(self) // PICTURES_SHOWN)
        records = [self[place] for place in range(0, len(self), step)][:PICTURES_SHOWN]
        labels = table(("label", "images"), counts[:LABELS_SHOWN], total=len(counts))
        return panel(repr(self), record_strip(records) if records else "", labels)


def stratified_split(source: ImageSource, *, test: float = 0.2, seed: int = 42) -> tuple[Dataset, Dataset]:
    """Cut labelled records into `(train, test)`: the rows, in the order, that scikit-learn's `train_test_split` gives.

    That is `train_test_split(range(n), test_size=test, random_state=seed, stratify=labels)`, so that results can be
    compared with those of scripts that used it. `Dataset.split` keeps the order and cuts into more parts.

    Args:
        source: Records that all have a label.
        test: The share for the test.
        seed: Decides which records go where.

    Raises:
        UsageError: Some records have no label, or a class or the share is too small.
        MissingExtra: scikit-learn is not installed.

    Examples:
        >>> records = [Record(id=str(i), image=f"{i}.png", label="ab"[i % 2]) for i in range(10)]
        >>> stratified_split(records, test=0.2)
        (Dataset(8 images, 0 captions, 2 labels), Dataset(2 images, 0 captions, 2 labels))
    """
    selection = require("sklearn.model_selection", extra="evaluate", purpose="stratified_split")
    data = Dataset.from_records(source)
    labels: Sequence[str | None] = data.table["label"].to_pylist()
    if None in labels:
        raise UsageError(
            f"{labels.count(None)} of {len(labels)} records have no label; leave those out, or use Dataset.split."
        )
    try:
        places = selection.train_test_split(range(len(data)), test_size=test, random_state=seed, stratify=labels)
    except ValueError as error:
        raise UsageError(f"The records cannot be split: {error}") from error
    return data.subset(places[0]), data.subset(places[1])
