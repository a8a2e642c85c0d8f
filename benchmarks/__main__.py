"""Run benchmarks one after the other, into one record, a summary and, with `--publish`, the documentation.

    python -m benchmarks [--only encode search …] [--all] [--quick] [--data FOLDER] [--encoder FOLDER]
                         [--repeat N] [--out FOLDER] [--publish]
    python -m benchmarks --list

Each benchmark runs in a process of its own, beside its peers. `record.json` in the folder of `--out` tells machine,
versions, commit, date, what every benchmark found, and the figures with medians over `--repeat` runs; `summary.md` is
what is printed at the end. `--quick` takes sizes that only show that everything runs, and publishes nothing.
`--publish` takes the figures over into `benchmarks/published.json`, and redraws the summary table and the plots of
`docs/benchmarks.md`; `--document` does the latter alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.suite import plots, report, running
from benchmarks.suite.catalogue import BENCHMARKS

if TYPE_CHECKING:
    from benchmarks.suite.values import Benchmark


def arguments_of(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--only", nargs="+", choices=[one.name for one in BENCHMARKS], metavar="NAME")
    chosen.add_argument("--all", action="store_true", help="also those that take long or need data")
    parser.add_argument("--list", action="store_true", help="tell what there is, and stop")
    parser.add_argument("--quick", action="store_true", help="small sizes: does everything run?")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each, for the median")
    parser.add_argument("--data", type=Path, help="a folder with `aid/` and `clip_reference_embeddings/`")
    parser.add_argument("--encoder", type=Path, help="a local encoder, as `examples/train_aid.py` makes it")
    parser.add_argument("--out", type=Path, help="where everything goes; runs/benchmarks/DATE if not given")
    parser.add_argument("--publish", action="store_true", help="write the figures to docs/benchmarks.md")
    parser.add_argument("--document", action="store_true", help="write table and plots of what is published, and stop")
    found = parser.parse_args(words)
    if found.publish and found.quick:
        parser.error("quick sizes are not published")
    return found


def folders(chosen: argparse.Namespace) -> dict[str, Path]:
    """The folders that benchmarks may ask for, as far as they are there."""
    given = {"encoder": chosen.encoder}
    if chosen.data is not None:
        given |= {"aid": chosen.data / "aid", "embeddings": chosen.data / "clip_reference_embeddings"}
    return {name: path.resolve() for name, path in given.items() if path is not None and path.is_dir()}


def listing() -> str:
    lines = ["| benchmark | minutes | needs | what it measures |", "| --- | ---: | --- | --- |"]
    for one in BENCHMARKS:
        script = running.HERE / one.script
        first = _docstring(script).split("\n", 1)[0] if script.exists() else "(not in this checkout)"
        name = f"**{one.name}**" if one.usual else one.name
        lines.append(f"| {name} | {one.minutes} | {', '.join(sorted(one.needs))} | {first} |")
    return "\n".join([*lines, "", "Those in bold run when nothing is chosen."])


def _docstring(script: Path) -> str:
    import ast

    return ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""


def selection(chosen: argparse.Namespace) -> list[Benchmark]:
    if chosen.only:
        return [one for one in BENCHMARKS if one.name in chosen.only]
    return [one for one in BENCHMARKS if chosen.all or one.usual]


def missing(one: Benchmark, given: dict[str, Path], *, quick: bool) -> str | None:
    """Why a benchmark cannot run."""
    if not (running.HERE / one.script).exists():
        return f"{one.script} is not in this checkout"
    wanted = [word[1:-1] for word in (one.quick if quick else one.arguments) if word.startswith("{")]
    absent = [name for name in wanted if name not in given]
    return f"it needs {' and '.join(absent)}: give --data or --encoder" if absent else None


def main(words: list[str] | None = None) -> int:
    chosen = arguments_of(words)
    if chosen.list:
        print(listing())
        return 0
    if chosen.document:
        plots.draw_all(report.published())
        report.write_document()
        return 0
    folder = chosen.out or Path("runs", "benchmarks", datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S"))
    folder.mkdir(parents=True, exist_ok=True)
    record, given = running.new_record(quick=chosen.quick), folders(chosen)
    for one in selection(chosen):
        if reason := missing(one, given, quick=chosen.quick):
            print(f"{one.name}: left out, {reason}", flush=True)
            continue
        print(f"{one.name}: about {'a minute' if chosen.quick else f'{one.minutes * chosen.repeat} min'} …", flush=True)
        entry = running.run(one, folder, quick=chosen.quick, repeat=chosen.repeat, given=given)
        record["benchmarks"][one.name] = entry
        if "failure" in entry:
            print(f"{one.name}: failed, {entry['failure']}; see {folder / one.name}.txt", flush=True)
        (folder / "record.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    told = report.summary(record)
    (folder / "summary.md").write_text(told + "\n", encoding="utf-8")
    print(f"\n{told}\n\nRecord: {folder / 'record.json'}")
    if chosen.publish:
        print(f"Published: {', '.join(report.publish(record)) or 'nothing'}")
        plots.draw_all(report.published())
        report.write_document()
    return any("failure" in entry for entry in record["benchmarks"].values())


if __name__ == "__main__":
    sys.exit(main())
