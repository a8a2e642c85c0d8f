"""Stitching: no seams, every cell, whatever the windows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geovlm.detection._grid import Grid, make_grid
from geovlm.detection._heat import Stitcher, cells_of, fill_empty, taper
from geovlm.errors import UsageError

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


def stitch(grid, truth, is_valid):
    """A map whose windows were cut from a true map."""
    side = grid.side
    stitcher = Stitcher(channels=1, side=side, columns=grid.columns, weights=taper(side, side - grid.step))
    padded = np.pad(truth, (0, side), constant_values=99)
    valid = np.pad(is_valid, (0, side))
    strips = []
    for row, end in zip(grid.down, [*grid.down[1:], grid.rows], strict=True):
        for column in grid.across:
            place = np.s_[row : row + side, column : column + side]
            stitcher.add(padded[place][None], valid[place], column)
        strips.append(stitcher.take(end))
    return np.concatenate(strips, axis=1)[0]


@given(sizes, st.integers(1, 9), st.data())
def test_windows_of_one_map_give_it_back(size, side, data):
    step = data.draw(st.integers(1, side))
    grid = Grid(width=size[0], height=size[1], cell=1, side=side, step=step)
    rng = np.random.default_rng(0)
    truth = rng.normal(size=size[::-1]).astype(np.float32)
    is_valid = rng.random(size[::-1]) > 0.2
    found = stitch(grid, truth, is_valid)
    np.testing.assert_allclose(found, np.where(is_valid, truth, np.nan), atol=1e-5)


@given(st.integers(1, 12), st.integers(0, 12))
def test_every_cell_of_a_window_counts_and_the_middle_counts_most(side, overlap):
    weights = taper(side, overlap)
    assert weights.min() > 0
    assert weights.max() == weights[side // 2, side // 2] <= 1
    np.testing.assert_array_equal(weights, weights[::-1, ::-1])


def test_one_window_fades_into_the_next():
    """Two windows that disagree: the values in the overlap go from the one to the other in steps."""
    grid = Grid(width=12, height=8, cell=1, side=8, step=4)
    stitcher = Stitcher(channels=1, side=8, columns=12, weights=taper(8, 4))
    everywhere = np.ones((8, 8), dtype=bool)
    for column, value in zip(grid.across, (0.0, 1.0), strict=True):
        stitcher.add(np.full((1, 8, 8), value, dtype=np.float32), everywhere, column)
    (line,) = stitcher.take(8)[:, 0]
    assert line[:4].tolist() == [0] * 4
    assert line[8:].tolist() == [1] * 4
    np.testing.assert_allclose(line[4:8], [0.2, 0.4, 0.6, 0.8], atol=1e-6)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(8, 70), st.floats(0, 0.95), st.integers(1, 8))
def test_windows_cover_every_pixel_and_start_on_cells(width, height, window, overlap, patches):
    grid = make_grid(width, height, window=window, overlap=overlap, image_size=64, patches=patches)
    side = grid.side * grid.cell
    assert window <= side < window + grid.side
    for length, places in ((width, grid.across), (height, grid.down)):
        covered = np.zeros(max(length, side) + grid.cell, dtype=bool)
        for place in places:
            covered[place * grid.cell : place * grid.cell + side] = True
        assert covered[:length].all()
        assert all(after - before <= grid.step for before, after in pairwise(places))
    rows = [row for band in grid.bands(7) for row in band]
    assert rows == grid.down
    assert len(grid) == len(grid.down) * len(grid.across)


def test_the_share_that_overlaps_is_about_what_was_asked_for():
    grid = make_grid(1000, 1000, window=None, overlap=0.25, image_size=224, patches=14)
    assert (grid.cell, grid.side, grid.step) == (16, 14, 10)
    with pytest.raises(UsageError, match="share"):
        make_grid(10, 10, window=None, overlap=-0.1, image_size=224, patches=14)


def test_a_cell_is_valid_if_any_of_its_pixels_is():
    mask = np.zeros((4, 6), dtype=bool)
    mask[3, 5] = True
    assert cells_of(mask, 2).tolist() == [[False] * 3, [False, False, True]]


def test_what_is_empty_gets_the_mean_colour_of_the_rest():
    pixels = np.zeros((2, 2, 3), dtype=np.uint8)
    pixels[0] = [[10, 20, 30], [20, 40, 60]]
    mask = np.array([[True, True], [False, False]])
    filled = fill_empty(pixels, mask)
    assert filled[1, 0].tolist() == filled[1, 1].tolist() == [15, 30, 45]
    np.testing.assert_array_equal(filled[0], pixels[0])
    assert fill_empty(pixels, np.ones((2, 2), dtype=bool)) is pixels
