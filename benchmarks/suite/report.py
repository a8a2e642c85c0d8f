"""Records as tables in Markdown, and the figures that are published in `docs/benchmarks.md`."""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING, Any

from benchmarks.suite.catalogue import BENCHMARKS, PLOTS
from benchmarks.suite.running import HERE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from benchmarks.suite.values import Benchmark, Figure

PUBLISHED = HERE / "published.json"
DOCUMENT = HERE.parent / "docs" / "benchmarks.md"


def shown(value: float, unit: str = "") -> str:
    """A number as a reader wants it: three digits that matter, thousands apart."""
    if value and abs(value) < 0.001:
        number = f"{value:.0e}"
    elif abs(value) >= 1000:
        number = f"{value:,.0f}"
    elif 0.9 < abs(value) < 1 and not unit:
        number = f"{value:.5f}".rstrip("0")
    else:
        number = f"{value:.3g}" if unit != "%" else f"{value:.2f}"
    return f"{number} {unit}".strip()


def figures() -> Iterable[tuple[Benchmark, Figure, str]]:
    """All figures, in order, with their names in records."""
    return ((one, figure, f"{one.name}.{figure.key}") for one in BENCHMARKS for figure in one.figures)


def summary(record: Mapping[str, Any]) -> str:
    """What one run found, as Markdown: medians, the range where runs were repeated, and the aims."""
    machine = record["machine"]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, GPU: {machine['gpu'] or 'none'};"
        f" Python {machine['python']}; commit {record['commit']}; {record['started']}"
        + ("; quick sizes, which say only that it runs" if record["quick"] else ""),
        "",
        "| figure | median | least to most | aim | |",
        "| --- | ---: | ---: | --- | --- |",
    ]
    for one, figure, _ in figures():
        values = record["benchmarks"].get(one.name, {}).get("figures", {}).get(figure.key)
        if values:
            ends = f"{shown(values['least'])} to {shown(values['most'])}" if values["least"] < values["most"] else ""
            name = figure.claim or f"{one.name}: {figure.key}"
            verdict = _verdict(figure, values["median"])
            lines.append(f"| {name} | {shown(values['median'], figure.unit)} | {ends} | {figure.aim} | {verdict} |")
    lines += ["", *(_what_ran(name, entry) for name, entry in record["benchmarks"].items())]
    return "\n".join(lines)


def _verdict(figure: Figure, value: float) -> str:
    return {True: "reached", False: "missed", None: ""}[figure.reached(value)]


def _what_ran(name: str, entry: Mapping[str, Any]) -> str:
    times = ", ".join(f"{seconds:g} s" for seconds in entry.get("seconds", []))
    told = f"- `{name}`: {times}, load {entry.get('load_before')} before; `{entry.get('command')}`"
    return f"{told}; failed: {entry['failure']}" if "failure" in entry else told


def published() -> dict[str, dict[str, Any]]:
    """The figures in `docs/benchmarks.md` by name, each with its date and a note."""
    found: dict[str, dict[str, Any]] = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    return found


def publish(record: Mapping[str, Any]) -> list[str]:
    """Take a record's figures over into those that are published; their names are returned."""
    known, taken = published(), []
    for one, figure, name in figures():
        entry = record["benchmarks"].get(one.name, {})
        if values := entry.get("figures", {}).get(figure.key):
            quiet = "quiet machine" if entry["load_before"] < 1 else f"under load ({entry['load_before']:.0f})"
            note = f"{quiet}, commit {record['commit']}"
            day = date.fromisoformat(record["started"][:10]).isoformat()
            known[name] = {"value": float(f"{values['median']:.6g}"), "date": day, "note": note}
            taken.append(name)
    PUBLISHED.write_text(json.dumps(known, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return taken


def table(known: Mapping[str, Mapping[str, Any]]) -> str:
    """The summary table of `docs/benchmarks.md`."""
    lines = ["| claim | figure | aim | | measured | `--only` |", "| --- | ---: | --- | --- | --- | --- |"]
    for one, figure, name in figures():
        if not figure.claim:
            continue
        if entry := known.get(name):
            value, verdict = shown(entry["value"], figure.unit), _verdict(figure, entry["value"])
            note = f"{entry['date']}, {entry['note']}" if entry.get("note") else entry["date"]
        else:
            value, verdict, note = "", "", "not measured yet"
        lines.append(f"| {figure.claim} | {value} | {figure.aim} | {verdict} | {note} | `{one.name}` |")
    return "\n".join(lines)


def images(known: Mapping[str, Mapping[str, Any]]) -> str:
    """The plots of `docs/benchmarks.md`, with what they show in words."""
    lines = []
    for plot in PLOTS:
        bars = plot.measured(known)
        if len(bars) > 1:
            words = ", ".join(f"{' '.join(label.split())} {shown(value)}" for label, value, _ in bars)
            lines.append(f"![{plot.title}, {plot.unit}: {words}](images/benchmarks/{plot.name}.svg)")
    return "\n\n".join(lines)


def replaced(text: str, mark: str, content: str) -> str:
    """A document with what stands between `<!-- mark -->` and `<!-- end of mark -->` exchanged."""
    before, start, rest = text.partition(f"<!-- {mark} -->\n")
    _, end, after = rest.partition(f"<!-- end of {mark} -->")
    if not start or not end:
        raise ValueError(f"There is no `<!-- {mark} -->` with its end.")
    return f"{before}{start}\n{content}\n\n{end}{after}"


def write_document(path: Path = DOCUMENT) -> None:
    """Bring the table and the images of `docs/benchmarks.md` up to date with what is published."""
    known, text = published(), path.read_text(encoding="utf-8")
    text = replaced(replaced(text, "summary", table(known)), "plots", images(known))
    path.write_text(text, encoding="utf-8")
