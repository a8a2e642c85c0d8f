"""A picture of how a training went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from geovlm._files import write_atomically
from geovlm._optional import require

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# The loss of single steps is noise; its running mean over this share of all steps, each way, is drawn over it.
SMOOTHING = 0.01


def save_curves(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw loss, recall on held-out pairs, learning rate and logit scale over the steps.

    Args:
        rows: What `read_metrics` gives.
        path: A PNG file.

    Raises:
        MissingExtra: `matplotlib` is not installed.
    """
    require("matplotlib", extra="viz", purpose="a picture of the curves")
    # The figure is made without pyplot, which keeps figures and a window system of its own.
    from matplotlib.figure import Figure

    steps = [row for row in rows if "loss" in row]
    epochs = [row for row in rows if "loss" not in row]
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    (loss, recall), (rate, scale) = figure.subplots(2, 2, sharex=True)
    _draw_loss(loss, steps, epochs)
    _draw_recall(recall, epochs)
    for axis, name, title in ((rate, "learning_rate", "learning rate"), (scale, "logit_scale", "logit scale")):
        axis.plot([row["step"] for row in steps], [row[name] for row in steps], color="tab:gray")
        axis.set(title=title, xlabel="step")
    for axis in (loss, recall, rate, scale):
        axis.grid(alpha=0.3)
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=120))


def _draw_loss(axis: Any, steps: Sequence[Mapping[str, Any]], epochs: Sequence[Mapping[str, Any]]) -> None:
    losses = pd.Series([row["loss"] for row in steps], index=[row["step"] for row in steps], dtype=float)
    window = 1 + 2 * int(len(losses) * SMOOTHING)
    axis.plot(losses, color="tab:blue", alpha=0.3, linewidth=0.8)
    axis.plot(losses.rolling(window, center=True, min_periods=1).mean(), color="tab:blue", label="training")
    held = [(row["step"], row["val"]["loss"]) for row in epochs if row["val"]]
    if held:
        axis.plot(*zip(*held, strict=True), color="tab:orange", marker="o", markersize=3, label="held out")
    axis.set(title="loss")
    axis.legend()


def _draw_recall(axis: Any, epochs: Sequence[Mapping[str, Any]]) -> None:
    rows = [row for row in epochs if row["val"]]
    names = [name for name in (rows[0]["val"] if rows else ()) if "recall" in name]
    for name in names:
        axis.plot(
            [row["step"] for row in rows], [row["val"][name] for row in rows], marker="o", markersize=3, label=name
        )
    axis.set(title="held-out recall" if rows else "no pairs were held out", ylim=(0, 1))
    if names:
        axis.legend(fontsize="x-small")
