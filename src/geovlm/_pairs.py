"""The rows of a data set: written, read, and in the forms of other libraries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from attrs import evolve

from geovlm._images_on_disk import IMAGES, keep_image
from geovlm._optional import require
from geovlm._parts import Parts, fill
from geovlm._stream import map_batches
from geovlm._tables import RECORD_SCHEMA, to_table
from geovlm.imaging import resolve
from geovlm.records import Failure, Record, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    import pandas as pd

    from geovlm.imaging import ImageLike

KIND = "dataset"
PART_SIZE = 1024
# Enough to find a broken file, and JPEGs decode several times faster at an eighth of their size.
CHECKED_SIZE = 32
SIDES = ("west", "south", "east", "north")


def check_and_keep(record: Record, out: Path) -> Record:
    """Decode the image, then `keep_image`."""
    if record.image is not None:
        record = evolve(record, image=resolve(record.image))  # a function is called once
    record.open(size_hint=CHECKED_SIZE)
    return keep_image(record, out)


def store(
    parts: Parts,
    source: Iterable[Record],
    *,
    keep: Callable[[Record, Path], Record],
    on_error: Literal["skip", "raise"],
    progress: bool | None,
) -> Report:
    """Write records to a directory, each as `keep` returns it."""
    out = parts.out
    assert out is not None

    def process(records: Iterable[Record]) -> Iterator[tuple[Record, Record | Failure]]:
        return map_batches(
            records, prepare=lambda record: keep(record, out), run=lambda _, kept: kept, batch_size=32, stage="write"
        )

    return fill(
        parts,
        source,
        stage=KIND,
        part_size=PART_SIZE,
        process=process,
        to_part=_to_part,
        on_error=on_error,
        progress=progress,
    )


def hold(parts: Parts, source: Iterable[Record]) -> tuple[dict[str, ImageLike], Report]:
    """Keep rows in memory; also returns the images that are not files, by id."""
    images: dict[str, ImageLike] = {}

    def process(records: Iterable[Record]) -> Iterator[tuple[Record, Record | Failure]]:
        for record in records:
            if record.uri is None and record.image is not None:
                images[record.id] = record.image
            yield record, record

    report = fill(
        parts,
        source,
        stage=KIND,
        part_size=PART_SIZE,
        process=process,
        to_part=_to_part,
        on_error="skip",
        progress=False,
    )
    return images, report


def _to_part(chunk: Sequence[tuple[Record, Record | Failure]]) -> pa.Table:
    """Finished rows as they were kept, failed ones as they came."""
    kept = [record if isinstance(outcome, Failure) else outcome for record, outcome in chunk]
    return to_table(kept, [outcome if isinstance(outcome, Failure) else None for _, outcome in chunk])


def finished_rows(parts: Parts) -> pa.Table:
    """The rows that did not fail, with the places of saved images made absolute."""
    columns = [name for name in RECORD_SCHEMA.names if name != "stage"]
    tables = [table.filter(pc.is_null(table["reason"])) for table in parts.tables(columns)]
    rows = pa.concat_tables([RECORD_SCHEMA.empty_table().select(columns), *tables]).drop_columns("reason")
    if parts.out is None:
        return rows
    saved = pc.binary_join_element_wise(pa.scalar(f"{parts.out.absolute()}/"), rows["uri"], "")
    uris = pc.if_else(pc.starts_with(rows["uri"], f"{IMAGES}/"), saved, rows["uri"])
    return rows.set_column(rows.column_names.index("uri"), "uri", uris)


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Rows as a DataFrame, footprints and metadata in columns of their own."""
    import pandas as pd

    cells: dict[str, list[Any]] = {name: table[name].to_pylist() for name in ("id", "uri", "captions", "label")}
    bounds = table["footprint"].to_pylist()
    if any(box is not None for box in bounds):
        cells |= {side: [box and box[place] for box in bounds] for place, side in enumerate(SIDES)}
    meta = pd.DataFrame([json.loads(text) if text else {} for text in table["meta"].to_pylist()])
    meta = meta.rename(columns={name: f"meta_{name}" for name in meta.columns if name in cells})
    return pd.concat([pd.DataFrame(cells), meta], axis=1)


def to_huggingface(table: pa.Table, labels: Sequence[str]) -> Any:
    """Rows as a `datasets.Dataset`."""
    library = require("datasets", extra="datasets", purpose="to_huggingface")
    text, number = library.Value("string"), library.Value("float64")
    features = {"id": text, "image": library.Image(), "captions": library.List(text)}
    optional = {
        "label": library.ClassLabel(names=list(labels)),
        "footprint": library.List(number, length=4),
        "meta": text,
    }
    features |= {name: kind for name, kind in optional.items() if table[name].null_count < len(table)}
    chosen = table.rename_columns({"uri": "image"}).select(list(features))
    schema = library.Features(features)
    # Cast here, because the data set's own cast draws a progress bar.
    cells = library.table.table_cast(chosen, schema.arrow_schema)
    return library.Dataset(library.table.InMemoryTable(cells), info=library.DatasetInfo(features=schema))
