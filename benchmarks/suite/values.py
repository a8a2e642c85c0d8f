"""What a benchmark, one of its figures and a plot are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

Path = tuple[str | int | dict[str, Any], ...]
"""Where a number is in a benchmark's JSON: names, positions, and for a list of rows what the row has."""


@frozen(kw_only=True)
class Figure:
    """One number that a benchmark tells.

    Attributes:
        key: Its name in records, after the benchmark's: `encode.embed_over_loop`.
        claim: What it is, in words; a figure without a claim is for plots alone.
        at: Where it is in the JSON.
        over: Where the number is that it is divided by.
        unit: Such as "ms".
        least, most: The aim, if there is one.
    """

    key: str
    claim: str = ""
    at: Path
    over: Path = ()
    unit: str = ""
    least: float | None = None
    most: float | None = None

    @property
    def aim(self) -> str:
        """In words."""
        parts = [
            f"≥ {self.least:,g}" if self.least is not None else "",
            f"≤ {self.most:,g}" if self.most is not None else "",
        ]
        return " and ".join(part for part in parts if part)

    def reached(self, value: float) -> bool | None:
        """Whether a value meets the aim; `None` where there is no aim."""
        if self.least is None and self.most is None:
            return None
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def found_in(self, result: Any) -> float | None:
        """The number in a benchmark's JSON; `None` if it is not there."""
        value, divisor = _at(result, self.at), _at(result, self.over) if self.over else 1.0
        return None if value is None or not divisor else value / divisor


@frozen(kw_only=True)
class Benchmark:
    """One run of a file in `benchmarks/`.

    Attributes:
        name: As `--only` takes it.
        file: Without `.py`, if it is not the name.
        arguments, quick: Of the full and of the quick run; `{aid}`, `{embeddings}` and `{encoder}` are filled in.
        minutes: That the full run takes on two cores, about; for planning.
        usual: Whether it is run when nothing is chosen.
        out: What is given to `--out`, in the record's folder; `result` is the JSON if that is another file.
        figures: What is told of it.
    """

    name: str
    file: str = ""
    arguments: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    minutes: int
    usual: bool = False
    out: str = ""
    result: str = ""
    figures: tuple[Figure, ...] = ()

    @property
    def script(self) -> str:
        """Name of the file."""
        return f"{self.file or self.name}.py"

    @property
    def needs(self) -> set[str]:
        """Names of the folders that it has to be given."""
        words = (*self.arguments, *self.quick)
        return {word[1:-1] for word in words if word.startswith("{") and word.endswith("}")}


@frozen(kw_only=True)
class Plot:
    """A bar chart of figures.

    Attributes:
        name: Of the image.
        title, unit: What is drawn.
        bars: Label and key of each bar.
        peers: So many of them, the first ones, are not geovlm's.
        aim: A line, if there is one.
    """

    name: str
    title: str
    unit: str
    bars: tuple[tuple[str, str], ...]
    peers: int = 0
    aim: float | None = None

    def measured(self, known: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, float, bool]]:
        """Label, value and whether it is a peer's, of the bars whose figures are there."""
        return [
            (label, known[name]["value"], place < self.peers)
            for place, (label, name) in enumerate(self.bars)
            if name in known
        ]


def _at(result: Any, path: Path) -> float | None:
    for step in path:
        if isinstance(step, dict):
            rows = result if isinstance(result, list) else []
            result = next((row for row in rows if isinstance(row, dict) and step.items() <= row.items()), None)
        elif isinstance(result, dict):
            result = result.get(step)
        elif isinstance(result, list) and isinstance(step, int) and step < len(result):
            result = result[step]
        else:
            return None
    return float(result) if isinstance(result, int | float) and not isinstance(result, bool) else None
