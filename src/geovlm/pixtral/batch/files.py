"""Where the files of a batch lie, and the mark that ends it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def request_path(folder: Path, number: int) -> Path:
    """The requests of a shipment, a line each."""
    return folder / "requests" / f"{number:05d}.jsonl"


def result_path(folder: Path, number: int, kind: str) -> Path:
    """The raw result lines of a shipment: `"output"` or `"error"`."""
    return folder / "results" / f"{number:05d}-{kind}.jsonl"


def cancel_path(folder: Path) -> Path:
    """The mark; whoever sends looks for it before each step."""
    return folder / "cancelled"


def cancelled(folder: Path) -> bool:
    """Whether the run is to end."""
    return cancel_path(folder).exists()


def count_lines(path: Path) -> int | None:
    """Lines of a result file; `None` if the last one is not whole."""
    count, last = 0, b"{}"
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                count, last = count + 1, line
    try:
        json.loads(last)
    except ValueError:
        return None
    return count
