"""From records to request files on disk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from attrs import frozen

from geovlm._parts import fill
from geovlm._stream import map_batches
from geovlm._tables import to_table
from geovlm.errors import ImageError
from geovlm.pixtral.batch.files import request_path
from geovlm.pixtral.batch.ledger import extend
from geovlm.pixtral.batch.spool import Spool
from geovlm.pixtral.messages import classification_prompt
from geovlm.pixtral.parsing import LabelSet
from geovlm.records import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from geovlm._parts import Parts
    from geovlm.pixtral.batch.ledger import Ledger
    from geovlm.pixtral.batch.options import BatchOptions
    from geovlm.pixtral.batch.spool import Line
    from geovlm.pixtral.requests import RequestBuilder
    from geovlm.pixtral.values import ChatRequest
    from geovlm.protocols import ImageSource
    from geovlm.records import Record, Report

__all__ = ["KIND", "Task", "prepare", "seal"]

KIND = "batch"
PART_SIZE = 512
AHEAD = 16  # inputs a batch of the threads that encode
COLUMNS = ("place", "custom_id", "file", "offset", "length", "tokens")


@frozen(kw_only=True)
class Task:
    """What every image is asked.

    Args:
        kind: For a label or for a caption.
        labels: To choose from; `None` for captions.
        context: What else is known of the images.
    """

    kind: Literal["classify", "caption"]
    labels: LabelSet | None = None
    context: str = ""

    def request(self, record: Record, builder: RequestBuilder) -> tuple[ChatRequest, int]:
        """The request about a record, and the tokens of its image.

        Raises:
            ImageError: The image cannot be read.
        """
        image = builder.encoding.encode(record)
        if self.labels is None:
            return builder.caption(image), image.tokens
        return builder.classify(image, self.labels, context=self.context), image.tokens

    def text(self, builder: RequestBuilder) -> str:
        """What a request says beside its image."""
        if self.labels is None:
            return builder.caption_prompt
        return classification_prompt(self.labels, context=self.context)

    def config(self, builder: RequestBuilder) -> dict[str, Any]:
        """All that changes the answers."""
        encoding = builder.encoding
        return {
            "task": self.kind,
            "labels": None if self.labels is None else list(self.labels.names),
            "context": self.context,
            "caption_prompt": builder.caption_prompt if self.labels is None else None,
            "model": builder.model,
            "structured": builder.structured,
            "temperature": builder.temperature,
            "max_tokens": builder.max_tokens,
            "image_tokens": encoding.max_tokens,
            "quality": encoding.quality,
            "grid": [encoding.grid.patch, encoding.grid.merge, encoding.grid.max_side],
        }

    @classmethod
    def of(cls, config: dict[str, Any]) -> Task:
        """The task of a run that was configured before."""
        labels = None if config["labels"] is None else LabelSet(config["labels"])
        return cls(kind=config["task"], labels=labels, context=config["context"])


def prepare(
    parts: Parts,
    source: ImageSource | Iterable[Record],
    task: Task,
    builder: RequestBuilder,
    options: BatchOptions,
    *,
    progress: bool | None,
) -> Report:
    """Write the requests of all records that have none yet; stops and goes on.

    Each record becomes one line of a request file; the parts hold where it is. A line counts once its part is there.
    """
    assert parts.out is not None  # batches live on disk
    spool = Spool(parts, max_requests=options.max_requests, max_bytes=options.max_bytes)

    def encode(record: Record) -> tuple[bytes, int]:
        request, tokens = task.request(record, builder)
        body = {key: value for key, value in request.body().items() if key != "model"}  # the job tells it
        line = json.dumps(body).encode()
        if len(line) > options.max_bytes - Spool.ENVELOPE:
            reason = f"its request of {len(line):,} bytes is more than a request file takes; see image_tokens="
            raise ImageError(reason, uri=record.uri)
        return line, tokens

    def process(records: Iterable[Record]) -> Iterator[tuple[Record, Line | Failure]]:
        spool.open()
        encoded = map_batches(records, prepare=encode, run=lambda _, lines: lines, batch_size=AHEAD, stage="encode")
        for record, outcome in encoded:
            yield record, outcome if isinstance(outcome, Failure) else spool.add(record.id, *outcome)

    def to_part(chunk: Sequence[tuple[Record, Line | Failure]]) -> pa.Table:
        spool.flush()
        return _to_part(chunk)

    try:
        return fill(
            parts,
            source,
            stage="prepare",
            part_size=PART_SIZE,
            process=process,
            to_part=to_part,
            on_error="skip",
            progress=progress,
        )
    finally:
        spool.close()


def _to_part(chunk: Sequence[tuple[Record, Line | Failure]]) -> pa.Table:
    failures = [outcome if isinstance(outcome, Failure) else None for _, outcome in chunk]
    table = to_table([record for record, _ in chunk], failures)
    for name in COLUMNS:
        values = [None if isinstance(outcome, Failure) else getattr(outcome, name) for _, outcome in chunk]
        table = table.append_column(name, pa.array(values, pa.string() if name == "custom_id" else pa.int64()))
    return table


def seal(parts: Parts, ledger: Ledger, folder: Path) -> None:
    """Make shipments of the request files that are complete; nothing is added to them afterwards."""
    known = {shipment.number for shipment in ledger.shipments}
    found: dict[int, dict[str, Any]] = {}
    for table in parts.tables(["place", "file", "tokens"]):
        for row in table.filter(pc.is_valid(table["place"])).to_pylist():
            if row["file"] not in known:
                _add(found.setdefault(row["file"], {"places": [], "requests": 0, "image_tokens": 0}), row)
    for number, shipment in sorted(found.items()):
        size = request_path(folder, number).stat().st_size
        ledger.append("shipment", number=number, attempt=1, bytes=size, **shipment)


def _add(shipment: dict[str, Any], row: dict[str, Any]) -> None:
    shipment["requests"] += 1
    shipment["image_tokens"] += row["tokens"]
    extend(shipment["places"], row["place"])
