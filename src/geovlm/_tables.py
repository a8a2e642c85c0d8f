"""Records as Arrow rows and back: the columns that every artefact on disk shares.

A row is a ledger entry: `reason` is null for a finished input and says why for a failed one, so that one file holds
what became of every input.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from geovlm.errors import UsageError
from geovlm.records import Failure, Footprint, Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

RECORD_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("uri", pa.string()),
        pa.field("captions", pa.list_(pa.string())),
        pa.field("label", pa.string()),
        pa.field("footprint", pa.list_(pa.float64(), 4)),
        pa.field("meta", pa.string()),
        pa.field("stage", pa.string()),
        pa.field("reason", pa.string()),
    ]
)


def to_table(records: Sequence[Record], failures: Sequence[Failure | None] | None = None) -> pa.Table:
    """Rows for records; where `failures[i]` is given, row `i` is a failed one."""
    failed = failures if failures is not None else [None] * len(records)
    return pa.table(
        {
            "id": [record.id for record in records],
            "uri": [record.uri for record in records],
            "captions": [list(record.captions) for record in records],
            "label": [record.label for record in records],
            "footprint": [record.footprint and list(record.footprint.bounds) for record in records],
            "meta": [dump_meta(record.meta) for record in records],
            "stage": [failure and failure.stage for failure in failed],
            "reason": [failure and failure.reason for failure in failed],
        },
        schema=RECORD_SCHEMA,
    )


def to_record(row: Mapping[str, Any]) -> Record:
    """A row (as `Table.to_pylist` gives it) as a record."""
    footprint = None
    if row.get("footprint") is not None:
        west, south, east, north = row["footprint"]
        footprint = Footprint(west=west, south=south, east=east, north=north)
    return Record(
        id=row["id"],
        image=row.get("uri"),
        captions=row.get("captions") or (),
        label=row.get("label"),
        footprint=footprint,
        meta=json.loads(row["meta"]) if row.get("meta") else {},
    )


def to_metadata(record: Record) -> dict[str, Any]:
    """What a vector store keeps of a record: its own fields that are set, and its `meta` beside them."""
    fields: dict[str, Any] = {name: value for name, value in record.meta.items() if not _is_no_number(value)}
    if record.uri is not None:
        fields["uri"] = record.uri
    if record.label is not None:
        fields["label"] = record.label
    if record.captions:
        fields["captions"] = list(record.captions)
    if record.footprint is not None:
        fields["footprint"] = list(record.footprint.bounds)
    return fields


def _is_no_number(value: Any) -> bool:
    """NaN and infinities, which tables use for what is missing and JSON does not have."""
    return isinstance(value, float) and not math.isfinite(value)


def failures_in(table: pa.Table) -> Iterator[Failure]:
    """The failed rows of a part."""
    for row in table.select(["id", "uri", "stage", "reason"]).to_pylist():
        if row["reason"] is not None:
            yield Failure(id=row["id"], uri=row["uri"], stage=row["stage"], reason=row["reason"])


def dump_meta(meta: Mapping[str, Any]) -> str | None:
    """Metadata as canonical JSON; `None` when there is none."""
    if not meta:
        return None
    try:
        return json.dumps(dict(meta), sort_keys=True, ensure_ascii=False, default=plain)
    except TypeError as error:
        raise UsageError(f"Metadata must be JSON-like (text, numbers, booleans, lists, mappings): {error}") from error


def plain(value: Any) -> Any:
    """NumPy scalars and arrays, dates and paths, in their JSON form."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "__fspath__"):
        return value.__fspath__()
    raise TypeError(f"{type(value).__name__} is not")
