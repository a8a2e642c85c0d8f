"""Blocks of land: a grid of squares of one area over the Earth, and cutting tiles along them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from geovlm._areas import cut
from geovlm._optional import require
from geovlm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from geovlm._areas import Box

# Of a sphere with the Earth's area.
RADIUS = 6_371_007.2
METRES_A_DEGREE = np.pi * RADIUS / 180
# About a centimetre: neighbouring tiles share an edge, and rounding lets them share a little more.
TOUCH = 1e-7


def block_numbers(places: NDArray[np.float64], side: float) -> NDArray[np.intp]:
    """The block that each place lies in, as `(n, 2)`: a row from the south, a column from the antimeridian.

    Rows are as high as a block is wide; a row is cut into a whole number of columns, so that all around the Earth
    blocks are nearly square and none ends at the antimeridian before its time.

    Args:
        places: `(n, 2)` longitudes and latitudes.
        side: In metres.

    Examples:
        >>> block_numbers(np.array([[180.0, 0.5], [-180.0, 0.5], [-179.9, 0.5]]), 50_000).tolist()
        [[201, 0], [201, 0], [201, 0]]
    """
    longitudes, latitudes = places.T
    rows = max(1, round(180 * METRES_A_DEGREE / side))
    row = np.minimum((latitudes + 90) / 180 * rows, rows - 1).astype(np.intp)
    middle = np.radians((row + 0.5) / rows * 180 - 90)
    columns = np.maximum(1, np.round(360 * METRES_A_DEGREE * np.cos(middle) / side)).astype(np.intp)
    column = np.floor((longitudes + 180) / 360 * columns).astype(np.intp) % columns
    return np.column_stack([row, column])


def split_blocks(blocks: NDArray[np.intp], *, shares: Sequence[float], seed: int) -> NDArray[np.intp]:
    """The part of each row: whole blocks, in an order drawn from their names, until a part has its share of the rows.

    Args:
        blocks: `(n, 2)` as `block_numbers` gives them.
        shares: Of each drawn part; what remains is the last part.
        seed: Decides which blocks go where.

    Returns:
        `(n,)` numbers from 0; the rest has the number `len(shares)`.

    Raises:
        UsageError: There are too few blocks for one a part.
    """
    names, of_row, sizes = np.unique(blocks, axis=0, return_inverse=True, return_counts=True)
    if len(names) <= len(shares):
        raise UsageError(
            f"All {len(blocks)} images lie in {len(names)} blocks, too few for {len(shares) + 1} parts."
            " Choose smaller blocks with block_m."
        )
    order = sorted(range(len(names)), key=lambda place: _drawn(names[place].tolist(), seed))
    parts = np.full(len(names), len(shares), dtype=np.intp)
    start = 0
    for part, share in enumerate(shares):
        # At least one block for this part, and one for each that follows.
        most = len(order) - (len(shares) - part)
        filled = np.cumsum(sizes[order[start:most]])
        number = int(np.argmin(np.abs(filled - share * len(blocks)))) + 1
        parts[order[start : start + number]] = part
        start += number
    return parts[of_row.ravel()]


def _drawn(name: list[int], seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{name[0]}:{name[1]}".encode()).digest()


def near_others(boxes: Sequence[Box], parts: NDArray[np.intp], *, distance: float) -> NDArray[np.bool_]:
    """Whether a row is to be left out, so that no two rows of different parts are as near as that.

    Of two that are too near, the one of the later part goes, so that the part drawn first stays whole.

    Args:
        boxes: `(west, south, east, north)` in degrees, `west > east` across the antimeridian.
        parts: Of each row.
        distance: In metres; at 0 they may touch, and not overlap.
    """
    shapely = require("shapely", extra="geo", purpose="spatial_split with a buffer")
    pieces = [(row, piece) for row, box in enumerate(boxes) for piece in cut(box)]
    rows = np.array([row for row, _ in pieces])
    sides = np.array([piece for _, piece in pieces])
    wide = _grown(sides, distance)
    # What lies a buffer from the antimeridian is near what lies on its other side.
    turned = [wide + shift for shift in ([-360, 0, -360, 0], [0, 0, 0, 0], [360, 0, 360, 0])]
    tree = shapely.STRtree(shapely.box(*sides.T))
    is_near = np.zeros(len(boxes), dtype=bool)
    for part in np.unique(parts):
        of_part = (parts[rows] == part) & ~is_near[rows]
        for asked in turned:
            _, met = tree.query(shapely.box(*asked[of_part].T))
            met_rows = rows[met]
            is_near[met_rows[parts[met_rows] > part]] = True
    return is_near


def _grown(sides: NDArray[np.float64], distance: float) -> NDArray[np.float64]:
    """Boxes that are larger by a distance on every side, or smaller by what rounding adds to them."""
    tall = distance / METRES_A_DEGREE
    highest = np.minimum(np.abs(sides[:, [1, 3]]).max(axis=1) + tall, 89.9)
    wide = tall / np.cos(np.radians(highest))
    margin = np.column_stack([-wide, np.full(len(sides), -tall), wide, np.full(len(sides), tall)])
    grown: NDArray[np.float64] = sides + margin + [TOUCH, TOUCH, -TOUCH, -TOUCH]
    return grown
