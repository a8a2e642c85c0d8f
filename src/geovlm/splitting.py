"""Splits that are honest about space: neighbouring tiles look alike, so they do not come into two parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from attrs import field, frozen

from geovlm._blocks import block_numbers, near_others, split_blocks
from geovlm._markup import panel, table
from geovlm.dataset import Dataset
from geovlm.errors import UsageError
from geovlm.records import Footprint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from geovlm.protocols import ImageSource

__all__ = ["SpatialSplit", "spatial_split"]


@frozen(kw_only=True, eq=False)
class SpatialSplit:
    """Parts of a data set that share no land; unpacks as `train, val = …` or `train, val, test = …`.

    Args:
        parts: By name: `train`, `val` and, if one was asked for, `test`.
        dropped: What was near another part, and is in none.
        blocks: How many blocks each part was given.
        block_m: Their side in metres.

    Examples:
        >>> from geovlm import Footprint, Record
        >>> def tile(x: int) -> Record:
        ...     place = Footprint(west=9 + x / 100, south=47, east=9.01 + x / 100, north=47.01)
        ...     return Record(id=str(x), image=f"{x}.png", footprint=place)
        >>> split = spatial_split([tile(x) for x in range(60)], val=0.2)
        >>> train, val = split
        >>> len(train) + len(val) + len(split.dropped)
        60
    """

    parts: Mapping[str, Dataset] = field(repr=False)
    dropped: Dataset = field(repr=False)
    blocks: Mapping[str, int]
    block_m: float

    def __iter__(self) -> Iterator[Dataset]:
        return iter(self.parts.values())

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, name: str) -> Dataset:
        return self.parts[name]

    def __str__(self) -> str:
        total = sum(map(len, self.parts.values())) + len(self.dropped)
        lines = [f"spatial split of {total} images by blocks of {self.block_m:g} m"]
        lines += [
            f"  {name}: {len(part)} images ({len(part) / total:.1%}) in {self.blocks[name]} blocks"
            for name, part in self.parts.items()
        ]
        return "\n".join([*lines, f"  dropped: {len(self.dropped)} images near another part"])

    def _repr_html_(self) -> str:
        parts = [(name, len(part), self.blocks[name]) for name, part in self.parts.items()]
        rows = [*parts, ("dropped", len(self.dropped), None)]
        return panel(str(self).split("\n", 1)[0], table(("part", "images", "blocks"), rows))


def spatial_split(
    source: ImageSource,
    *,
    val: float = 0.1,
    test: float = 0.0,
    block_m: float = 5000.0,
    buffer_m: float | None = 0.0,
    seed: int = 0,
) -> SpatialSplit:
    """Cut images into parts by blocks of land, so that a model is not measured on the neighbours of what it has seen.

    The Earth is cut into squares; the centre of a footprint decides the block of an image, and all images of a block
    come into the same part. Blocks are drawn by a hash of their place until a part has about its share: sizes are as
    near to that as whole blocks allow, and are told. What lies on an edge is then dropped from one of two parts: from
    `train` rather than from `val`, and from `val` rather than from `test`.

    Args:
        source: Records with footprints.
        val: The share for validation.
        test: The share for a test; 0 makes two parts.
        block_m: Side of a block in metres; several times that of an image.
        buffer_m: Images of different parts are farther apart than this, in metres; at 0 they may touch and not
            overlap. `None` drops nothing.
        seed: Decides which blocks go where.

    Raises:
        UsageError: Some records have no footprint, or there are too few blocks, or an argument cannot be right.
        MissingExtra: shapely is not installed, and `buffer_m` is not `None`.

    Examples:
        >>> from geovlm import Record
        >>> def tile(x, y):
        ...     place = Footprint(west=8 + x / 100, south=47 + y / 100, east=8.01 + x / 100, north=47.01 + y / 100)
        ...     return Record(id=f"{x}-{y}", image=f"{x}-{y}.png", footprint=place)
        >>> print(spatial_split([tile(x, y) for x in range(20) for y in range(20)], val=0.2))
        spatial split of 400 images by blocks of 5000 m
          train: 325 images (81.2%) in 20 blocks
          val: 75 images (18.8%) in 4 blocks
          dropped: 0 images near another part
    """
    if not 0 < val < 1 or not 0 <= test < 1 or val + test >= 1:
        raise UsageError(
            f"val and test are shares, together less than 1, and val is above 0, such as 0.1; not {val} and {test}."
        )
    if not block_m > 0 or (buffer_m is not None and not buffer_m >= 0):
        raise UsageError(f"block_m is above 0 and buffer_m not below, in metres: not {block_m} and {buffer_m}.")
    data = source if isinstance(source, Dataset) else Dataset.from_records(source)
    places = _footprints(data)
    blocks = block_numbers(np.array([place.center for place in places]), block_m)
    # What is drawn first stays whole.
    names = (["test"] if test else []) + ["val", "train"]
    of_row = split_blocks(blocks, shares=[test, val] if test else [val], seed=seed)
    is_dropped = np.zeros(len(data), dtype=bool)
    if buffer_m is not None:
        is_dropped = near_others([place.bounds for place in places], of_row, distance=buffer_m)
    rows = {name: of_row == number for number, name in enumerate(names)}
    empty = [name for name, chosen in rows.items() if not (chosen & ~is_dropped).any()]
    if empty:
        raise UsageError(
            f"Nothing is left for {' and '.join(empty)}: {int(is_dropped.sum())} images lie near another part."
            " Choose larger blocks with block_m, or a smaller buffer_m."
        )
    ordered = [name for name in ("train", "val", "test") if name in rows]
    return SpatialSplit(
        parts={name: data.subset(np.flatnonzero(rows[name] & ~is_dropped)) for name in ordered},
        dropped=data.subset(np.flatnonzero(is_dropped)),
        blocks={name: len(np.unique(blocks[rows[name]], axis=0)) for name in ordered},
        block_m=block_m,
    )


def _footprints(data: Dataset) -> list[Footprint]:
    bounds = data.table["footprint"].to_pylist()
    missing = sum(one is None for one in bounds)
    if missing or not bounds:
        raise UsageError(
            f"{missing} of {len(bounds)} images have no footprint, and their place decides where they go. RasterSource"
            " and tables with columns of longitude and latitude give one; data.filter(lambda record: record.footprint)"
            " leaves the others out; stratified_split needs none."
        )
    return [Footprint(west=west, south=south, east=east, north=north) for west, south, east, north in bounds]
