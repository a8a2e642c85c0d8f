"""Tables of a benchmark: text, Markdown, HTML; measured figures beside published ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from geovlm._markup import frame, lines, panel, table
from geovlm.evaluation.benchmark_published import PUBLISHED
from geovlm.evaluation.benchmark_sets import EIGHT_SETS, SEVEN_SETS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from geovlm.evaluation.benchmark_published import PublishedRow
    from geovlm.evaluation.benchmark_result import BenchmarkMean, BenchmarkResult

MEANS = {"mean of 7": SEVEN_SETS, "mean of 8": EIGHT_SETS}
LEGEND = (
    "↑ and ↓: the published figure lies above or below the measured 95 % interval. †: the model was trained on images"
    " of that collection. *: measured on other images than the published figures, so these do not compare. A mean in"
    " any row is over the figures of the same sets, not the mean that the paper prints."
)


def beside_published(result: BenchmarkResult, architectures: Sequence[str] | None = None) -> pd.DataFrame:
    """One row a model, one column a measured data set or mean; percent."""
    columns = _columns(result)
    rows: dict[str, dict[str, float | None]] = {
        f"{result.encoder} (measured)": {name: 100 * value for name, (value, _, _) in _measured(result).items()}
    }
    for row in _published(result, architectures):
        rows[_title(row)] = {name: _figure(row, name, over) for name, over in columns.items()}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(columns), dtype=float)
    return table.rename_axis("model")


def differences(result: BenchmarkResult) -> pd.DataFrame:
    """Measured against published figures of the same weights."""
    rows = [
        {
            "data set": score.name,
            "paper": row.source,
            "measured": 100 * score.value,
            "low": 100 * score.low,
            "high": 100 * score.high,
            "published": value,
            "outside": not 100 * score.low <= value <= 100 * score.high,
            "comparable": score.comparable,
        }
        for row in PUBLISHED
        if row.preset is not None and row.preset == result.encoder
        for score in result.scores
        if (value := row.value(score.name)) is not None
    ]
    names = ["data set", "paper", "measured", "low", "high", "published", "outside", "comparable"]
    return pd.DataFrame(rows, columns=names)


def to_markdown(result: BenchmarkResult, architectures: Sequence[str] | None = None) -> str:
    """The tables with what must be known to read them."""
    table = _cells(result, architectures)
    parts = [
        f"## {result.encoder}, {result.method}",
        _markdown(
            ["model", *table.columns], ([name, *row] for name, row in zip(table.index, table.to_numpy(), strict=True))
        ),
        LEGEND,
        _markdown(*_conditions(result)),
        "\n".join(f"- {line}" for line in _lines(result)),
    ]
    return "\n\n".join(parts) + "\n"


def to_html(result: BenchmarkResult) -> str:
    """The same for a notebook."""
    title = f"{result.encoder}, {result.method}"
    return panel(
        title, frame(_cells(result, None)), lines([LEGEND]), table(*_conditions(result)), lines(_lines(result))
    )


def to_text(result: BenchmarkResult) -> str:
    """Figures and means, a line each."""
    width = max([len(name) for name in _measured(result)], default=0)
    lines = [
        f"  {name:<{width}}  {_with_interval(value, low, high)}"
        for name, (value, low, high) in _measured(result).items()
    ]
    return "\n".join([f"benchmark of {result.encoder}, {result.method}: {len(result.scores)} data sets", *lines])


def _columns(result: BenchmarkResult) -> dict[str, tuple[str, ...]]:
    """What each column is a mean of: a data set of itself, a mean of the measured ones."""
    measured = {score.name: (score.name,) for score in result.scores}
    return measured | {name: mean.over for name, mean in _means(result)}


def _means(result: BenchmarkResult) -> Iterator[tuple[str, BenchmarkMean]]:
    """The means that say more than one figure does; "3 of 7" where some are missing."""
    for name, sets in MEANS.items():
        mean = result.mean(sets)
        if mean is not None and len(mean.over) > 1:
            total = name.removeprefix("mean of ")
            yield (f"mean of {len(mean.over)} of the {total}" if mean.missing else name), mean


def _measured(result: BenchmarkResult) -> dict[str, tuple[float, float, float]]:
    scores = {score.name: (score.value, score.low, score.high) for score in result.scores}
    return scores | {name: (mean.value, mean.low, mean.high) for name, mean in _means(result)}


def _published(result: BenchmarkResult, architectures: Sequence[str] | None) -> list[PublishedRow]:
    """The rows that have a figure for one of the measured sets."""
    if architectures is None and result.architecture is not None:
        architectures = [result.architecture]
    names = {score.name for score in result.scores}
    return [
        row
        for row in PUBLISHED
        if (architectures is None or row.architecture in architectures) and names & {*row.accuracy, *row.recall}
    ]


def _figure(row: PublishedRow, name: str, over: tuple[str, ...]) -> float | None:
    """A published figure; a mean over a whole group falls back on the printed one where the parts are not told."""
    mean = row.mean(over)
    return row.printed_mean if mean is None and MEANS.get(name) == row.printed_over else mean


def _cells(result: BenchmarkResult, architectures: Sequence[str] | None) -> pd.DataFrame:
    """The table in words: figures with intervals in the first row, marks in the others."""
    measured, columns = _measured(result), _columns(result)
    alike = {name: all(result[part].comparable for part in over) for name, over in columns.items()}
    rows = {f"{result.encoder} (measured)": {name: _with_interval(*measured[name]) for name in columns}}
    for row in _published(result, architectures):
        rows[_title(row)] = {
            name: _mark(_figure(row, name, over), measured[name] if alike[name] else None, row.in_domain & {*over})
            for name, over in columns.items()
        }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(columns))
    return table.rename(columns={name: name if same else f"{name}*" for name, same in alike.items()})


def _title(row: PublishedRow) -> str:
    return f"{row.model}, {row.architecture} [{row.source}]"


def _with_interval(value: float, low: float, high: float) -> str:
    return f"{100 * value:.2f} [{100 * low:.1f}, {100 * high:.1f}]"


def _mark(published: float | None, measured: tuple[float, float, float] | None, in_domain: frozenset[str]) -> str:
    if published is None:
        return "-"
    _, low, high = measured or (0.0, 0.0, 1.0)
    arrow = " ↑" if published > 100 * high else " ↓" if published < 100 * low else ""
    return f"{published:.2f}{'†' if in_domain else ''}{arrow}"


def _conditions(result: BenchmarkResult) -> tuple[list[str], list[list[str]]]:
    """What each figure is measured on."""
    head = ["data set", "metric", "images", "coverage", "from", "same images as published", "prompts", "notes"]
    rows = [
        [
            score.name,
            "top-1" if score.task == "classification" else "mean recall",
            f"{score.images:,}",
            f"{score.coverage:.2%}",
            score.layout,
            "yes" if score.comparable else "no",
            "; ".join(score.prompts),
            "; ".join(score.notes),
        ]
        for score in result.scores
    ]
    return head, rows


def _lines(result: BenchmarkResult) -> list[str]:
    means = [
        f"The {name} is over {', '.join(mean.over)}"
        + (f"; missing: {', '.join(mean.missing)}." if mean.missing else ".")
        for name, mean in _means(result)
    ]
    outside = differences(result).query("outside")
    told = [
        f"{row['data set']}: measured {row['measured']:.2f} [{row['low']:.1f}, {row['high']:.1f}], published for these"
        f" weights {row['published']:.2f} ({row['paper']})"
        + ("." if row["comparable"] else "; not on the same images.")
        for _, row in outside.iterrows()
    ]
    missing = [f"Not measured: {name}: {reason}" for name, reason in result.missing.items()]
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    made = f"Encoder fingerprint {result.fingerprint}" + (f"; {versions}." if versions else ".")
    return [*means, *told, *missing, made]


def _markdown(head: Sequence[str], rows: Any) -> str:
    lines = [list(head), ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
