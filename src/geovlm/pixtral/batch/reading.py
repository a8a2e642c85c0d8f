"""From raw result lines to one outcome for every input."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from attrs import define, field, frozen

from geovlm.errors import ServiceError
from geovlm.pixtral._policy import TRANSIENT_STATUS
from geovlm.pixtral.answers import read_answer, read_classification
from geovlm.pixtral.batch.files import result_path
from geovlm.pixtral.batch.hosted import GONE
from geovlm.pixtral.batch.results import SCHEMA, Strays

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from geovlm._parts import Parts
    from geovlm.pixtral.batch.ledger import Ledger, Shipment
    from geovlm.pixtral.parsing import LabelSet
    from geovlm.pixtral.values import Answer

EXCERPT = 400
ANSWERED = ("ok", "parse_error")
_RANK = {"ok": 0, "parse_error": 1, "request_error": 2}


@frozen(kw_only=True)
class Outcome:
    """What one result line, or the absence of one, says of an input.

    Args:
        state: One of `STATES`.
        may_pass: Whether sending it again may help.
        label: That was read.
        claimed: What was named outside the set.
        answer: Of the model.
        reason: Why it is not `"ok"`.
    """

    state: str
    may_pass: bool = False
    label: str | None = None
    claimed: str | None = None
    answer: Answer | None = None
    reason: str | None = None

    def columns(self) -> tuple[Any, ...]:
        """As in a result table, after `truth`."""
        usage = self.answer.usage if self.answer else None
        return (
            self.label,
            self.claimed,
            self.answer.text if self.answer else None,
            self.reason,
            usage.prompt_tokens if usage else 0,
            usage.completion_tokens if usage else 0,
            self.answer.model if self.answer else None,
        )


def read_line(line: Mapping[str, Any], labels: LabelSet | None) -> Outcome:
    """What a result line says."""
    response, error = line.get("response"), line.get("error")
    told = response if isinstance(response, Mapping) else {}
    status = told.get("status_code")
    if error or not told or not isinstance(status, int) or status >= 400:
        return _failure(status if isinstance(status, int) else None, error or told.get("body"))
    try:
        answer = read_answer(told.get("body") or {})
    except ServiceError as unread:
        return Outcome(state="parse_error", reason=str(unread)[:EXCERPT])
    if labels is None:
        return Outcome(state="ok", answer=answer) if answer.text.strip() else _unread(answer)
    read = read_classification(answer, labels)
    if read.label is None and read.claimed is None:
        return _unread(answer)
    return Outcome(state="ok", label=read.label, claimed=read.claimed, answer=answer)


def _unread(answer: Answer) -> Outcome:
    kind = "the answer was cut off" if answer.is_cut_off else "no single label can be read in the answer"
    reason = kind if answer.text.strip() else "the answer is empty"
    return Outcome(state="parse_error", answer=answer, reason=f"{reason}: {answer.text[:120]!r}")


def _failure(status: int | None, said: Any) -> Outcome:
    message = said.get("message", said) if isinstance(said, Mapping) else said
    text = message if isinstance(message, str) else json.dumps(message)
    may_pass = status is None or status < 400 or status >= 500 or status in TRANSIENT_STATUS
    reason = f"HTTP {status}: {text}" if status is not None else text
    return Outcome(state="request_error", may_pass=may_pass, reason=reason[:EXCERPT])


def absent(shipment: Shipment, *, resumed: bool) -> Outcome:
    """What it means that a settled shipment has no line for an input."""
    told = f": {shipment.reason}" if shipment.reason else ""
    if shipment.status == "TIMEOUT_EXCEEDED":
        return Outcome(state="expired", may_pass=True, reason=f"the service gave the job up{told}")
    if shipment.status == "CANCELLED":
        return Outcome(state="cancelled", may_pass=resumed, reason=f"the job was cancelled{told}")
    if shipment.status == GONE:
        # It may have been answered and paid for; only a person can decide to pay again.
        return Outcome(state="missing", may_pass=resumed, reason=f"the answer cannot be had any more{told}")
    return Outcome(state="missing", may_pass=True, reason=f"the job ended ({shipment.status}) without its line{told}")


@define
class _Reader:
    """Reads the lines of one shipment."""

    expected: dict[str, int]
    labels: LabelSet | None
    found: dict[int, Outcome] = field(factory=dict)
    unknown: int = 0
    duplicate: int = 0
    broken: int = 0

    def read(self, texts: Iterable[bytes]) -> None:
        for text in texts:
            if text.strip():
                self._read(text)

    def _read(self, text: bytes) -> None:
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if not isinstance(line, Mapping):
            self.broken += 1
            return
        key = line.get("custom_id")
        place = self.expected.get(key) if isinstance(key, str) else None
        if place is None:
            self.unknown += 1
            return
        outcome, before = read_line(line, self.labels), self.found.get(place)
        self.duplicate += before is not None
        if before is None or _RANK[outcome.state] < _RANK[before.state]:
            self.found[place] = outcome


class Outcomes:
    """The outcome of every place, from all settled shipments in their order; an answer is never replaced.

    Attributes:
        strays: Lines that were set aside.
        attempts: How often each place was sent.
        since: How often each place was sent since the run was last resumed on purpose.
    """

    def __init__(self, parts: Parts, ledger: Ledger, folder: Path, labels: LabelSet | None) -> None:
        self.strays = Strays()
        self._rows: dict[int, Outcome] = {}
        self._ids = _custom_ids(parts)
        self.attempts: NDArray[np.int64] = np.zeros(len(self._ids), dtype=np.int64)
        self.since = np.zeros_like(self.attempts)
        for shipment in ledger.shipments:
            if shipment.step == "settled":
                self._take(shipment, folder, labels, resumed=shipment.number < ledger.resumed)

    def __getitem__(self, place: int) -> Outcome:
        return self._rows.get(place) or Outcome(state="missing", reason="it was not sent")

    def to_repeat(self, most: int) -> list[int]:
        """Places that may be sent again."""
        return [place for place, row in sorted(self._rows.items()) if row.may_pass and self.since[place] < most]

    def spent(self) -> tuple[int, int]:
        """Tokens read and written in all answers that count."""
        usages = [row.answer.usage for row in self._rows.values() if row.answer]
        return sum(usage.prompt_tokens for usage in usages), sum(usage.completion_tokens for usage in usages)

    def _take(self, shipment: Shipment, folder: Path, labels: LabelSet | None, *, resumed: bool) -> None:
        places = list(shipment.each())
        self.attempts[places] += 1
        self.since[places] += not resumed
        reader = _Reader(expected={self._ids[place].as_py(): place for place in places}, labels=labels)
        for kind in ("output", "error"):
            path = result_path(folder, shipment.number, kind)
            if path.exists():
                with path.open("rb") as file:
                    reader.read(file)
        self.strays += Strays(unknown=reader.unknown, duplicate=reader.duplicate, broken=reader.broken)
        nothing = absent(shipment, resumed=resumed)
        for place in places:
            before = self._rows.get(place)
            if before is None or before.state not in ANSWERED:
                self._rows[place] = reader.found.get(place, nothing)


def _custom_ids(parts: Parts) -> pa.ChunkedArray:
    columns = [table["custom_id"].drop_null() for table in parts.tables(["custom_id"])]
    return pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.string()).combine_chunks()


def table_of(parts: Parts, ledger: Ledger, outcomes: Outcomes) -> pa.Table:
    """The result table: inputs in the order of the source, then those whose id came twice."""
    rows = [*_inputs(parts, outcomes), *_duplicates(ledger)]
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    arrays = [pa.array(column, kind.type) for column, kind in zip(columns, SCHEMA, strict=True)]
    return pa.table(arrays, schema=SCHEMA)


def _inputs(parts: Parts, outcomes: Outcomes) -> Iterator[tuple[Any, ...]]:
    names = ["id", "uri", "label", "stage", "reason", "place"]
    mended = (
        {key for table in parts.tables(["id", "place"]) for key in _prepared(table)} if _has_failures(parts) else ()
    )
    for table in parts.tables(names):
        for key, uri, truth, stage, reason, place in zip(*(table[name].to_pylist() for name in names), strict=True):
            if place is None:
                if key not in mended:
                    yield key, uri, "failed_input", truth, None, None, None, f"{stage}: {reason}", 0, 0, 0, None
                continue
            row = outcomes[place]
            label, claimed, text, why, *tokens = row.columns()
            yield key, uri, row.state, truth, label, claimed, text, why, int(outcomes.attempts[place]), *tokens


def _has_failures(parts: Parts) -> bool:
    return any(table["place"].null_count for table in parts.tables(["place"]))


def _prepared(table: pa.Table) -> list[str]:
    keys: list[str] = table.filter(pc.is_valid(table["place"]))["id"].to_pylist()
    return keys


def _duplicates(ledger: Ledger) -> Iterator[tuple[Any, ...]]:
    for key, uri, reason in (ledger.prepared or {}).get("set_aside", []):
        yield key, uri, "failed_input", None, None, None, None, reason, 0, 0, 0, None
