"""Bar charts of published figures, the same bytes each time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.suite.catalogue import PLOTS
from benchmarks.suite.report import shown
from benchmarks.suite.running import HERE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.suite.values import Plot

IMAGES = HERE.parent / "docs" / "images" / "benchmarks"
PEER, OURS = "#9aa5b1", "#00796b"


def draw_all(known: Mapping[str, Mapping[str, Any]], folder: Path = IMAGES) -> list[Path]:
    """Draw each plot that has something to compare."""
    folder.mkdir(parents=True, exist_ok=True)
    ready = ((plot, plot.measured(known)) for plot in PLOTS)
    return [draw(plot, bars, folder) for plot, bars in ready if len(bars) > 1]


def draw(plot: Plot, bars: list[tuple[str, float, bool]], folder: Path) -> Path:
    """One bar chart; geovlm's own bars have their own colour."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    labels, values, of_peers = zip(*bars, strict=True)
    path = folder / f"{plot.name}.svg"
    with rc_context({"svg.hashsalt": plot.name, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(7, 0.9 + 0.55 * len(values)), layout="constrained", facecolor="white")
        axes = figure.subplots()
        drawn = axes.barh(labels, values, color=[PEER if peer else OURS for peer in of_peers])
        axes.bar_label(drawn, [shown(value) for value in values], padding=4)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set(title=plot.title, xlabel=plot.unit)
        if plot.aim is not None:
            axes.axvline(plot.aim, color="#333", linestyle="--", linewidth=1)
        figure.savefig(path, metadata={"Date": None})
    return path
