"""Every pixel lies in a window, for every size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geovlm.errors import UsageError
from geovlm.sources.raster.grid import Window, cover


def _check_side(starts, size, window, overlap):
    """Nothing uncovered, no step beyond window - overlap, nothing outside, all of full length."""
    starts = np.asarray(starts)
    length = min(window, size)
    assert starts[0] == 0
    assert starts[-1] + length == size
    assert (np.diff(starts) > 0).all()
    assert (np.diff(starts) <= window - overlap).all()


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 300), st.data())
def test_every_pixel_is_covered(width, height, window, data):
    step = data.draw(st.integers(max(1, window // 8), window))
    grid = cover(width, height, window=window, overlap=window - step)
    counts = np.zeros((height + 1, width + 1), dtype=int)
    for one in grid if len(grid) < 5000 else ():
        assert (one.width, one.height) == (min(window, width), min(window, height))
        right, bottom = one.col + one.width, one.row + one.height
        counts[one.row, one.col] += 1
        counts[bottom, right] += 1
        counts[one.row, right] -= 1
        counts[bottom, one.col] -= 1
    seen = counts.cumsum(axis=0).cumsum(axis=1)[:height, :width]
    assert len(grid) >= 5000 or seen.min() >= 1


def test_20_000_random_cases():
    rng = np.random.default_rng(0)
    for _ in range(20_000):
        window = int(rng.integers(1, 1200))
        overlap = int(rng.integers(0, window))
        width, height = (int(v) for v in rng.integers(1, window + 40 * (window - overlap), size=2))
        grid = cover(width, height, window=window, overlap=overlap)
        _check_side(grid.columns, width, window, overlap)
        _check_side(grid.rows, height, window, overlap)


def test_windows_come_row_by_row_and_are_a_sequence():
    grid = cover(700, 500, window=300, overlap=20)
    assert [(w.row, w.col) for w in grid] == [(r, c) for r in (0, 200) for c in (0, 280, 400)]
    assert grid[-1] == grid[len(grid) - 1] == Window(col=400, row=200, width=300, height=300)
    assert len(grid[1:3]) == 2
    with pytest.raises(IndexError):
        grid[6]


def test_a_billion_windows_take_no_memory():
    grid = cover(3_000_000, 2_000_000, window=64)
    assert len(grid) > 10**9
    assert grid[10**9].row > 0


@pytest.mark.parametrize(
    "wrong",
    [{"window": 0}, {"window": 10, "overlap": 10}, {"window": 10, "overlap": -1}, {"window": 2.5}, {"window": True}],
)
def test_wrong_numbers_are_refused(wrong):
    with pytest.raises(UsageError):
        cover(100, 100, **wrong)
    with pytest.raises(UsageError, match="width"):
        cover(0, 100, window=5)
