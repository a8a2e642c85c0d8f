"""The benchmarks are described, registered and run together; the documentation shows what they have found."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import guard, scale
from benchmarks.__main__ import arguments_of, folders, missing, selection
from benchmarks.suite import plots, report, running
from benchmarks.suite.catalogue import BENCHMARKS, PLOTS
from benchmarks.suite.values import Benchmark, Figure, Plot

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for path in (ROOT / "benchmarks").glob("*.py") if not path.name.startswith("__"))
NOT_RUN_BY_THE_SUITE = {"guard.py", "scale.py"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_file_says_what_it_measures_and_how_to_run_it(path):
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert text, f"{path.name} has no docstring"
    assert re.search(rf"python benchmarks/{path.name}\b", text), f"{path.name} does not tell its command"
    assert len(text.split("\n\n")) >= 3, f"{path.name} does not tell what is compared, and how"


def test_each_file_is_run_by_the_suite_and_takes_out():
    files = {path.name for path in FILES}
    unknown = files - NOT_RUN_BY_THE_SUITE - {one.script for one in BENCHMARKS}
    assert not unknown, f"add them to benchmarks/suite/catalogue.py: {unknown}"
    for name in {one.script for one in BENCHMARKS if one.figures} & files:
        assert '"--out"' in (ROOT / "benchmarks" / name).read_text(encoding="utf-8"), f"{name} takes no --out"


def test_names_are_distinct_and_plots_draw_figures_that_exist():
    names = [name for _, _, name in report.figures()]
    assert len(names) == len(set(names))
    assert len({one.name for one in BENCHMARKS}) == len(BENCHMARKS)
    assert {name for plot in PLOTS for _, name in plot.bars} <= set(names)
    assert set(report.published()) <= set(names)


def test_list_tells_all_benchmarks():
    command = [sys.executable, "-m", "benchmarks", "--list"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(one.name in told for one in BENCHMARKS)


def test_the_usual_ones_need_at_most_images():
    here = {path.name for path in FILES}
    usual = [one for one in selection(arguments_of([])) if one.script in here]
    assert usual
    assert all(one.needs <= {"aid"} for one in usual)
    assert sum(missing(one, {}, quick=False) is None for one in usual) > len(usual) / 2


def test_choice_and_data(tmp_path):
    assert [one.name for one in selection(arguments_of(["--only", "dense"]))] == ["dense"]
    assert len(selection(arguments_of(["--all"]))) == len(BENCHMARKS)
    (tmp_path / "aid").mkdir()
    given = folders(arguments_of(["--data", str(tmp_path)]))
    assert given == {"aid": (tmp_path / "aid").resolve()}
    (curate,) = selection(arguments_of(["--only", "curate"]))
    assert missing(curate, given, quick=False) is None
    assert "aid" in missing(curate, {}, quick=False)


def test_quick_figures_are_not_published():
    with pytest.raises(SystemExit):
        arguments_of(["--quick", "--publish"])


RESULT = {"rows": [{"batch": 1, "ms": 8.0}, {"batch": 2, "kind": "b", "ms": 4.0}], "flag": True, "list": [[1, 0.5]]}


@pytest.mark.parametrize(
    ("at", "over", "expected"),
    [
        (("rows", {"batch": 2, "kind": "b"}, "ms"), (), 4.0),
        (("rows", {"batch": 1}, "ms"), ("rows", {"batch": 2}, "ms"), 2.0),
        (("list", 0, 1), (), 0.5),
        (("list", 3), (), None),
        (("rows", {"batch": 9}, "ms"), (), None),
        (("flag",), (), None),
        (("nothing", "deeper"), (), None),
        (("list", 0, 1), ("nothing",), None),
    ],
)
def test_figures_are_found_in_results(at, over, expected):
    assert Figure(key="x", at=at, over=over).found_in(RESULT) == expected


def test_aims():
    at_least, at_most, none = Figure(key="a", at=(), least=5), Figure(key="b", at=(), most=0), Figure(key="c", at=())
    assert (at_least.aim, at_most.aim, none.aim) == ("≥ 5", "≤ 0", "")
    assert (at_least.reached(5), at_least.reached(4.9), at_most.reached(0.1), none.reached(1)) == (
        True,
        False,
        False,
        None,
    )


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A benchmark that tells what it is given, counts its runs, and fails when asked to."""
    script = """
import json, pathlib, sys
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
runs = out.with_suffix(".runs")
runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
print("said something")
if "fail" in sys.argv:
    raise SystemExit("it broke")
out.write_text(json.dumps({"value": len(runs.read_text()), "words": sys.argv[1:2]}))
"""
    (tmp_path / "toy.py").write_text(script)
    monkeypatch.setattr(running, "HERE", tmp_path)
    figure = Figure(key="value", claim="Something", at=("value",), unit="ms", most=2)
    return Benchmark(name="toy", arguments=("{aid}",), quick=("fail",), minutes=1, figures=(figure,))


def test_a_run_tells_medians_and_keeps_what_was_printed(toy, tmp_path):
    entry = running.run(toy, tmp_path, quick=False, repeat=3, given={"aid": Path("somewhere")})
    assert entry["figures"] == {"value": {"median": 2, "least": 1, "most": 3}}
    assert entry["command"] == "python benchmarks/toy.py somewhere"
    assert entry["results"][0]["words"] == ["somewhere"]
    assert len(entry["seconds"]) == 3
    assert "said something" in (tmp_path / "toy.txt").read_text()


def test_a_benchmark_that_fails_is_told_with_its_last_line(toy, tmp_path):
    entry = running.run(toy, tmp_path, quick=True, given={})
    assert entry["failure"] == "it broke"
    assert "figures" not in entry


def test_a_record_becomes_a_summary_and_is_published(toy, tmp_path, monkeypatch):
    record = running.new_record(quick=False)
    record["benchmarks"]["toy"] = running.run(toy, tmp_path, quick=False, repeat=3, given={"aid": Path("x")})
    monkeypatch.setattr(report, "BENCHMARKS", (toy,))
    bars = (("an old\none", "old.figure"), ("a toy", "toy.value"), ("another", "not.there"))
    monkeypatch.setattr(report, "PLOTS", (Plot(name="p", title="Toys", unit="ms", bars=bars),))
    monkeypatch.setattr(report, "PUBLISHED", tmp_path / "published.json")
    (tmp_path / "published.json").write_text('{"old.figure": {"value": 1, "date": "2020-01-01", "note": ""}}')
    assert "| Something | 2 ms | 1 to 3 | ≤ 2 | reached |" in report.summary(record)
    assert json.loads(json.dumps(record)) == record
    assert report.publish(record) == ["toy.value"]
    assert report.published().keys() == {"old.figure", "toy.value"}
    page = tmp_path / "page.md"
    page.write_text(
        "Before.\n<!-- summary -->\nold\n<!-- end of summary -->\n<!-- plots -->\n<!-- end of plots -->\nAfter."
    )
    report.write_document(page)
    once = page.read_text()
    assert "old\n" not in once
    assert "| Something | 2 ms | ≤ 2 | reached |" in once
    assert "![Toys, ms: an old one 1, a toy 2](images/benchmarks/p.svg)" in once
    report.write_document(page)
    assert page.read_text() == once
    with pytest.raises(ValueError, match="no `<!-- other -->`"):
        report.replaced(once, "other", "")


def test_a_figure_that_was_not_measured_is_told_so():
    assert "not measured yet" in report.table({})


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.99995, "", "0.99995"),
        (12025, "documents/s", "12,025 documents/s"),
        (92.84, "%", "92.84 %"),
        (1e-7, "", "1e-07"),
    ],
)
def test_numbers_are_written_for_readers(value, unit, expected):
    assert report.shown(value, unit) == expected


def test_the_page_shows_what_is_published():
    page = report.DOCUMENT.read_text(encoding="utf-8")
    known = report.published()
    assert report.table(known) in page, "run `python -m benchmarks --document`"
    assert report.images(known) in page, "run `python -m benchmarks --document`"
    for image in re.findall(r"\]\((images/benchmarks/[^)]+)\)", page):
        assert (report.DOCUMENT.parent / image).is_file(), image


def test_plots_are_the_same_each_time_and_those_in_the_documentation(tmp_path):
    known = report.published()
    once = {path.name: path.read_bytes() for path in plots.draw_all(known, tmp_path)}
    again = {path.name: path.read_bytes() for path in plots.draw_all(known, tmp_path)}
    assert once == again
    assert once.keys() == {path.name for path in plots.IMAGES.glob("*.svg")}, "run `python -m benchmarks --document`"


def test_guards_give_a_bad_ratio_more_turns_and_tell_it(monkeypatch, tmp_path, capsys):
    costs = {"ours": [9.0, 9.0, 2.0, 9.0], "theirs": [1.0]}
    asked = {"ours": 0, "theirs": 0}

    def seconds(work):
        name = work()
        asked[name] += 1
        return costs[name][min(asked[name], len(costs[name])) - 1]

    monkeypatch.setattr(guard, "processor_seconds", seconds)
    slow = guard.Guard(name="x", what="x", make=lambda _: (lambda: "ours", lambda: "theirs"), usual=1, most=3)
    assert guard.ratio(slow, tmp_path, 2) == 2.0
    assert asked["ours"] == 3
    asked.update(ours=0)
    costs["ours"] = [9.0]
    assert guard.ratio(slow, tmp_path, 2) == 9.0
    assert asked["ours"] == 6
    monkeypatch.setattr(guard, "GUARDS", (slow,))
    monkeypatch.setattr(sys, "argv", ["guard.py"])
    assert guard.main() == 1
    assert "slower than it may be" in capsys.readouterr().out


def test_bounds_are_wide():
    assert all(one.most >= 1.8 * one.usual for one in guard.GUARDS)


def test_the_scale_plan_shows_what_its_formulas_give():
    page = scale.DOCUMENT.read_text(encoding="utf-8")
    assert scale.document(scale.usual_values()) in page, "run `python benchmarks/scale.py --write`"
    sources = [one.source for one in scale.INPUTS.values()]
    assert all(
        source.startswith(("measured", "published", "assumed", "estimated", "by construction")) for source in sources
    )


def test_the_slowest_part_bounds_a_stage():
    values = scale.usual_values()
    plain = scale.Plan(values)
    assert plain.rate(1, model=None)[1] == "decoding"
    assert plain.rate(64, model="gpu_embed_rate")[1] == "writing"
    faster = scale.Plan(values | {"calls_a_machine": 8.0, "network_gbit": 1000.0, "cores_a_gpu": 64.0})
    assert faster.rate(64, model="gpu_embed_rate") == (64 * values["gpu_embed_rate"] * values["gpu_share"], "GPU")
    assert scale.Plan(values | {"network_gbit": 0.1}).rate(8, model="gpu_train_rate")[1] == "network"


def test_own_prices(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scale.py", "--set", "training_gpu_price=2.4"])
    assert scale.main() == 0
    told = capsys.readouterr().out
    assert "2.4 $/h, A100 80 GB | yours" in told
    assert "$61" in told  # twice the money of an epoch of a ViT-L/14
    monkeypatch.setattr(sys, "argv", ["scale.py", "--set", "gpu_prize=1"])
    with pytest.raises(SystemExit):
        scale.main()


@pytest.mark.parametrize(
    ("hours", "words"), [(0.001, "3.6 s"), (1.5, "90 min"), (47, "47 h"), (50, "2.1 days"), (1e5, "11 years")]
)
def test_times_to_plan_with(hours, words):
    assert scale.hours_in_words(hours) == words
