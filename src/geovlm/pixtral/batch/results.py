"""What a batch brought: one state for every input, and the answers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from attrs import field, frozen

from geovlm._markup import listing, panel, table
from geovlm.pixtral.values import Usage
from geovlm.records import Failure, Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from geovlm.pixtral.models import Price

__all__ = ["STATES", "BatchResult", "BatchRow", "Strays"]

SHOWN = 10
STATES = ("ok", "parse_error", "request_error", "missing", "expired", "cancelled", "failed_input")
"""What may become of an input: answered and read; answered, but not readable; refused or failed; absent from the
results of its job; given up by the service after `timeout_hours`; cancelled; never sent because it cannot be read or
its id comes twice."""


@frozen(kw_only=True)
class BatchRow:
    """What became of one input.

    Args:
        id: Of the record.
        uri: Where its image is.
        state: One of `STATES`.
        truth: The label that the record brought along.
        label: The label that the model chose; `None` where there is none of the set.
        claimed: What the model named where that is outside the set.
        text: The raw answer; `None` where there is none.
        reason: Why the state is not `"ok"`.
        attempts: How often it was sent.
        usage: Tokens of the answer that counts.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> from geovlm import PixtralClient, Record
        >>> from geovlm.testing.mistral_api import MistralEmulator
        >>> scenes = [Record(id="a", image=Image.new("RGB", (64, 64)), label="Beach")]
        >>> with MistralEmulator(brain=lambda request: "Beach") as api, tempfile.TemporaryDirectory() as out:
        ...     client = PixtralClient("pixtral-12b-2409", base_url=api.url, api_key=api.api_key)
        ...     result = client.batch_classify(scenes, labels=["Beach", "Forest"], out=out).wait(poll=0)
        >>> result[0].state, result[0].label, result[0].attempts
        ('ok', 'Beach', 1)
    """

    id: str
    uri: str | None
    state: str
    truth: str | None
    label: str | None
    claimed: str | None
    text: str | None
    reason: str | None
    attempts: int
    usage: Usage

    @property
    def hallucinated(self) -> bool:
        """Whether the model named a label outside the set."""
        return self.claimed is not None


@frozen(kw_only=True)
class Strays:
    """Result lines that were set aside.

    Args:
        unknown: With an id that was not sent in their job.
        duplicate: A second answer to one request of a job; the first readable one counts.
        broken: Not JSON.

    Examples:
        >>> Strays(unknown=1).unknown, Strays().broken
        (1, 0)
    """

    unknown: int = 0
    duplicate: int = 0
    broken: int = 0

    def __add__(self, other: Strays) -> Strays:
        return Strays(
            unknown=self.unknown + other.unknown,
            duplicate=self.duplicate + other.duplicate,
            broken=self.broken + other.broken,
        )


@frozen(kw_only=True)
class BatchResult:
    """All inputs of a batch in the order of the source, each in one state.

    Args:
        table: A row an input; the columns are the fields of `BatchRow`, with `prompt_tokens`, `completion_tokens` and
            `model` for the answer.
        labels: The set that was asked for; `None` for captions.
        strays: Result lines that were set aside.
        price: Of a token, where it is known.
        discounted: Whether the answers cost what batch jobs cost.
        seconds: Of the call that made this result.

    Examples:
        >>> row = {"id": "a", "uri": None, "state": "ok", "truth": "Beach", "label": "Beach", "claimed": None,
        ...     "text": "Beach", "reason": None, "attempts": 1, "prompt_tokens": 527, "completion_tokens": 3,
        ...     "model": "m"}
        >>> lost = {**row, "id": "b", "state": "missing", "label": None, "text": None, "reason": "no line"}
        >>> result = BatchResult(table=pa.Table.from_pylist([row, lost], schema=SCHEMA), labels=("Beach", "Forest"))
        >>> result.counts, result.coverage, result.predictions
        ({'ok': 1, 'missing': 1}, 0.5, ['Beach', None])
        >>> print(result.report)
        batch: 1 done, 0 skipped, 1 failed of 2
          b: missing: no line
    """

    table: pa.Table = field(repr=False)
    labels: tuple[str, ...] | None = None
    strays: Strays = field(factory=Strays)
    price: Price | None = None
    discounted: bool = True
    seconds: float = field(default=float("nan"), eq=False)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[BatchRow]:
        for batch in self.table.to_batches(max_chunksize=1024):
            yield from map(_row, batch.to_pylist())

    def __getitem__(self, place: int) -> BatchRow:
        if not -len(self) <= place < len(self):
            raise IndexError(f"there are {len(self)} inputs, none at {place}")
        return _row(self.table.slice(place % len(self), 1).to_pylist()[0])

    @property
    def counts(self) -> dict[str, int]:
        """How many inputs are in each state; those without any are left out."""
        found = Counter(self._column("state"))
        return {state: found[state] for state in STATES if found[state]}

    @property
    def coverage(self) -> float:
        """Share of all inputs with an answer that could be read; NaN where there are none."""
        return self.counts.get("ok", 0) / len(self) if len(self) else float("nan")

    @property
    def predictions(self) -> list[str | None]:
        """The chosen label of every input, in order; `None` counts as wrong."""
        return self._column("label")

    @property
    def truth(self) -> list[str | None]:
        """The labels that the records brought along, in the same order."""
        return self._column("truth")

    @property
    def hallucinated(self) -> int:
        """Answers that name a label outside the set."""
        return len(self) - int(self.table["claimed"].null_count)

    @property
    def usage(self) -> Usage:
        """Tokens of all answers that came, as the server counted them."""
        return Usage(
            prompt_tokens=sum(self._column("prompt_tokens")), completion_tokens=sum(self._column("completion_tokens"))
        )

    @property
    def cost(self) -> float | None:
        """US dollars for these tokens; `None` where the price is not known."""
        usage = self.usage
        if self.price is None:
            return None
        return self.price.of(
            prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens, batch=self.discounted
        )

    @property
    def report(self) -> Report:
        """Inputs with a readable answer are done; all others failed, each with its state as the stage."""
        rows = self.table.select(["id", "uri", "state", "reason"]).to_pylist()
        failures = [
            Failure(id=row["id"], uri=row["uri"], stage=row["state"], reason=row["reason"] or row["state"])
            for row in rows
            if row["state"] != "ok"
        ]
        return Report(stage="batch", done=len(rows) - len(failures), failures=failures, seconds=self.seconds)

    def to_pandas(self) -> pd.DataFrame:
        """A row an input, with a column `hallucinated`."""
        frame: pd.DataFrame = self.table.to_pandas()
        frame.insert(frame.columns.get_loc("claimed"), "hallucinated", frame["claimed"].notna())  # type: ignore[arg-type]
        return frame

    def _column(self, name: str) -> list[Any]:
        values: list[Any] = self.table[name].to_pylist()
        return values

    def _repr_html_(self) -> str:
        cost = None if self.cost is None else f"${self.cost:.4f}"
        tokens = f"{self.usage.prompt_tokens:,} read, {self.usage.completion_tokens:,} written"
        rows = [(row.id, row.state, row.truth, row.label or row.text or row.reason) for row in self._first()]
        answers = table(("input", "state", "truth", "answer"), rows, total=len(self))
        return panel(str(self), listing({"tokens": tokens, "cost": cost}), answers)

    def _first(self) -> list[BatchRow]:
        return [self[place] for place in range(min(SHOWN, len(self)))]

    def __str__(self) -> str:
        states = ", ".join(f"{count} {state}" for state, count in self.counts.items())
        return f"{len(self)} inputs: {states or 'none'}; coverage {self.coverage:.1%}"


SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("uri", pa.string()),
        ("state", pa.string()),
        ("truth", pa.string()),
        ("label", pa.string()),
        ("claimed", pa.string()),
        ("text", pa.string()),
        ("reason", pa.string()),
        ("attempts", pa.int64()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("model", pa.string()),
    ]
)


def _row(row: dict[str, Any]) -> BatchRow:
    usage = Usage(prompt_tokens=row.pop("prompt_tokens"), completion_tokens=row.pop("completion_tokens"))
    row.pop("model")
    return BatchRow(**row, usage=usage)
