"""Spatial splits: no land on two sides, whole blocks, the same cut every time, also across the antimeridian."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import geovlm as gv
from geovlm._blocks import METRES_A_DEGREE, block_numbers, near_others
from geovlm.errors import UsageError


def _tile(name, west, south, wide=0.02, tall=0.02):
    east = west + wide
    place = gv.Footprint(west=west, south=south, east=east - 360 if east > 180 else east, north=south + tall)
    return gv.Record(id=str(name), image=f"{name}.png", footprint=place)


def _scattered(seed, *, middle=(8.0, 47.0), count=80, spread=0.3):
    draw = np.random.default_rng(seed)
    longitudes = middle[0] + draw.uniform(-spread, spread, count)
    longitudes = (longitudes + 180) % 360 - 180
    latitudes = middle[1] + draw.uniform(-spread, spread, count)
    return [_tile(k, x, y) for k, (x, y) in enumerate(zip(longitudes.tolist(), latitudes.tolist(), strict=True))]


def _gap_m(one, other):
    """A slow distance of two footprints, in metres on a sphere: the nearest of their sides, any way around."""
    a, b = one.footprint, other.footprint
    wide_a, wide_b = (a.east - a.west) % 360, (b.east - b.west) % 360
    shift = (b.west - a.west) % 360
    across = min(max(0.0, shift - wide_a), max(0.0, 360 - shift - wide_b))
    up = max(0.0, a.south - b.north, b.south - a.north)
    latitude = max(abs(v) for v in (a.south, a.north, b.south, b.north))
    return np.hypot(across * np.cos(np.radians(latitude)), up) * METRES_A_DEGREE, across > 0 or up > 0


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    middle=st.sampled_from([(8.0, 47.0), (180.0, -17.0), (179.9, 65.0), (-179.95, 0.0)]),
    buffer=st.sampled_from([0.0, 500.0, 3000.0]),
    test=st.sampled_from([0.0, 0.2]),
)
def test_no_two_parts_share_land(seed, middle, buffer, test):
    split = gv.spatial_split(
        _scattered(seed, middle=middle), val=0.2, test=test, block_m=15_000, buffer_m=buffer, seed=seed
    )
    parts = [list(part) for part in split]
    assert len(parts) == (3 if test else 2)
    assert sum(map(len, parts)) + len(split.dropped) == 80
    for place, part in enumerate(parts):
        for other in parts[place + 1 :]:
            for one in part:
                for two in other:
                    gap, apart = _gap_m(one, two)
                    assert apart
                    assert gap >= buffer - 0.1


def test_a_block_is_on_one_side_and_the_cut_is_the_same_every_time():
    records = _scattered(3, count=300)
    split = gv.spatial_split(records, val=0.25, block_m=10_000, buffer_m=None, seed=5)
    sides = [
        {tuple(name) for name in block_numbers(np.array([r.footprint.center for r in part]), 10_000).tolist()}
        for part in split
    ]
    assert not sides[0] & sides[1]
    assert split.blocks == {"train": len(sides[0]), "val": len(sides[1])}
    again = gv.spatial_split(reversed(records), val=0.25, block_m=10_000, buffer_m=None, seed=5)
    assert {r.id for r in again["val"]} == {r.id for r in split["val"]}
    other = gv.spatial_split(records, val=0.25, block_m=10_000, buffer_m=None, seed=6)
    assert {r.id for r in other["val"]} != {r.id for r in split["val"]}


def test_shares_are_as_near_as_whole_blocks_allow_and_are_told():
    tiles = [_tile(f"{x}-{y}", 8 + x / 50, 47 + y / 50) for x in range(30) for y in range(30)]
    split = gv.spatial_split(tiles, val=0.2, test=0.1, block_m=4000)
    assert [abs(len(split[name]) - share * 900) <= 9 for name, share in (("val", 0.2), ("test", 0.1))] == [True, True]
    assert f"val: {len(split['val'])} images" in str(split)
    assert f"dropped: {len(split.dropped)} images" in str(split)
    assert not len(split.dropped)  # neighbours touch, and do not overlap
    train, val, test = split
    assert (len(train), len(val), len(test)) == tuple(len(split[name]) for name in ("train", "val", "test"))


def test_what_is_drawn_first_stays_whole():
    records = _scattered(1, count=200)
    free = gv.spatial_split(records, val=0.2, test=0.2, block_m=15_000, buffer_m=None)
    kept = gv.spatial_split(records, val=0.2, test=0.2, block_m=15_000, buffer_m=1000)
    assert len(kept.dropped) > 0
    assert [r.id for r in kept["test"]] == [r.id for r in free["test"]]
    assert len(kept["train"]) < len(free["train"])


@given(longitude=st.floats(-180, 180), latitude=st.floats(-90, 90), side=st.floats(100, 2_000_000))
def test_every_place_has_a_block_whose_middle_is_near(longitude, latitude, side):
    [[row, column]] = block_numbers(np.array([[longitude, latitude]]), side).tolist()
    rows = max(1, round(180 * METRES_A_DEGREE / side))
    assert 0 <= row < rows
    assert column >= 0
    assert abs((row + 0.5) / rows * 180 - 90 - latitude) <= 90 / rows + 1e-9
    assert block_numbers(np.array([[180.0, latitude]]), side).tolist() == (
        block_numbers(np.array([[-180.0, latitude]]), side).tolist()
    )


def test_blocks_have_one_area_within_a_hemisphere():
    """Columns become fewer towards the poles as the parallels become shorter."""
    places = np.array([[x, y] for y in (0.2, 45.2, 80.2) for x in np.arange(-180, 180, 0.05)])
    blocks = block_numbers(places, 100_000)
    columns = [len(np.unique(part[:, 1])) for part in np.split(blocks, 3)]
    assert columns == pytest.approx([400, 400 * np.cos(np.radians(45.2)), 400 * np.cos(np.radians(80.2))], rel=0.06)


def test_neighbours_across_the_antimeridian_are_neighbours():
    boxes = [(179.9, 0.0, 180.0, 0.1), (-180.0, 0.05, -179.9, 0.15), (0.0, 0.0, 0.1, 0.1)]
    parts = np.array([0, 1, 1])
    assert near_others(boxes, parts, distance=0).tolist() == [False, False, False]
    assert near_others(boxes, parts, distance=100).tolist() == [False, True, False]
    assert near_others([(179.9, 0.0, -179.9, 0.1), boxes[1], boxes[2]], parts, distance=0).tolist() == [
        False,
        True,
        False,
    ]


def test_records_without_a_footprint_say_what_to_do():
    records = [*_scattered(0, count=3), gv.Record(id="lost", image="lost.png")]
    with pytest.raises(UsageError, match=r"1 of 4 images have no footprint.*RasterSource"):
        gv.spatial_split(records)
    with pytest.raises(UsageError, match="0 of 0 images"):
        gv.spatial_split([])


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"val": 0.0}, "together less than 1"),
        ({"val": 0.6, "test": 0.5}, "together less than 1"),
        ({"block_m": 0}, "block_m is above 0"),
        ({"block_m": float("nan")}, "block_m is above 0"),
        ({"buffer_m": -1}, "buffer_m not below"),
        ({"block_m": 5_000_000}, "too few for 2 parts"),
        ({"buffer_m": 500_000}, "Nothing is left for train"),
    ],
)
def test_arguments_that_cannot_be_right(wrong, reason):
    with pytest.raises(UsageError, match=reason):
        gv.spatial_split(_scattered(0), **wrong)
