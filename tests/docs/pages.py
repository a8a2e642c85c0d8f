"""What single pages need beyond the common stage, and what they must leave behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.evaluation import bench_layouts

if TYPE_CHECKING:
    from pathlib import Path


def _zero_shot(folder: Path) -> dict[str, Any]:
    bench_layouts.scenes(folder / "benchmarks", folder="aid")
    return {}


PREPARE = {"docs/guides/zero-shot.md": _zero_shot}
"""Page → what writes more files into its folder, and returns the names that its blocks take as given."""

EXPECTED = {
    "docs/guides/detection.md": (
        "ponds.geojson",
        "ponds.parquet",
        "ponds.tif",
        "ponds.html",
        "ponds.png",
        "where.geojson",
    ),
}
"""Page → files that its blocks write."""
