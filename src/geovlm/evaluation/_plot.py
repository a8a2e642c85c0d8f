"""Pictures of results, drawn without matplotlib's global state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geovlm._files import write_atomically
from geovlm._optional import require
from geovlm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

FORMATS = (".pdf", ".png", ".svg")
INCHES_A_CELL = 0.32
SMALLEST = 4.0
LARGEST = 40.0
MOST_NUMBERS = 60  # classes above which counts in the cells cannot be read


def draw_matrix(counts: NDArray[np.int64], *, rows: Sequence[str], columns: Sequence[str], path: Path) -> Path:
    """Draw a matrix of counts, each cell coloured by its share of the row.

    Raises:
        UsageError: The file's ending is not of a format that can be drawn.
        MissingExtra: matplotlib is not installed.
        StorageError: The file cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"A plot ends in {', '.join(FORMATS)}, not in {path.suffix!r} ({path}).")
    figure = require("matplotlib.figure", extra="viz", purpose="plots").Figure
    sides = [min(max(SMALLEST, INCHES_A_CELL * len(names) + 2), LARGEST) for names in (columns, rows)]
    drawing = figure(figsize=sides, layout="constrained")
    axes = drawing.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    # A dollar sign would begin a formula.
    axes.set_xticks(range(len(columns)), [name.replace("$", r"\$") for name in columns], rotation=90)
    axes.set_yticks(range(len(rows)), [name.replace("$", r"\$") for name in rows])
    axes.set(xlabel="predicted", ylabel="label")
    if len(rows) <= MOST_NUMBERS:
        _write_numbers(axes, counts, shares)
    ending = path.suffix.lower().removeprefix(".")
    write_atomically(path, lambda temporary: drawing.savefig(temporary, format=ending, dpi=150))
    return path


def _write_numbers(axes: Any, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    for row, column in np.argwhere(counts):
        shade = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", size=7, color=shade)
