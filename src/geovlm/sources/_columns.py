"""Which column of a table is what, and a row as a record."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

from attrs import evolve, frozen

from geovlm.errors import UnknownName, UsageError
from geovlm.records import Footprint, Record

Row: TypeAlias = Mapping[str, Any]

# The first that is there wins.
IMAGE_NAMES = (
    "filepath", "file_path", "image_path", "img_path", "path", "image", "img", "file_name", "filename", "file", "uri",
    "image_url", "url",
)  # fmt: skip
CAPTION_NAMES = ("title", "captions", "caption", "texts", "text", "sentences", "sentence", "description")
LABEL_NAMES = ("label", "class", "category", "class_name", "label_name", "category_name")
SPLIT_NAMES = ("split", "subset", "partition")
BOX_NAMES = (
    ("west", "south", "east", "north"),
    ("min_lon", "min_lat", "max_lon", "max_lat"),
    ("lon_min", "lat_min", "lon_max", "lat_max"),
)
POINT_NAMES = (("lon", "lat"), ("longitude", "latitude"), ("lng", "lat"), ("long", "lat"))


@frozen(kw_only=True)
class Roles:
    """The columns that make a record; all others are metadata.

    Args:
        table: What the table is called in messages.
        image: The column of images.
        captions: The columns of captions, in order.
        label: The column of classes.
        id: The column of ids; without one, the image's path is the id.
        split: The column that says to which part of a data set a row belongs.
        place: Four columns (west, south, east, north) or two (longitude, latitude), in degrees.
    """

    table: str
    image: str
    captions: tuple[str, ...] = ()
    label: str | None = None
    id: str | None = None
    split: str | None = None
    place: tuple[str, ...] = ()

    @cached_property
    def texts(self) -> frozenset[str]:
        """Columns whose cells are text even where they look like numbers."""
        return frozenset(name for name in (self.image, *self.captions, self.label, self.id, self.split) if name)

    @cached_property
    def known(self) -> frozenset[str]:
        """Columns with a field of their own, which are no metadata."""
        return self.texts - {self.split}

    @property
    def keys(self) -> list[str]:
        """Columns that say which image a row is about, and whether the row is wanted."""
        return [name for name in dict.fromkeys((self.id, self.image, self.split)) if name]


def choose(
    columns: Sequence[str],
    *,
    table: str,
    image: str | None,
    caption: str | Sequence[str] | None,
    label: str | None,
    id: str | None,  # noqa: A002 - the word that users know
) -> Roles:
    """Find the columns: those that were named, else those whose names are common.

    Raises:
        UnknownName: A named column is not there.
        UsageError: No column was found for the images.
    """
    captions = (caption,) if isinstance(caption, str) else caption
    for name in (image, label, id, *(captions or ())):
        if name is not None and name not in columns:
            raise UnknownName(f"column of {table}", name, columns)
    image = image or _first(columns, IMAGE_NAMES)
    if image is None:
        raise UsageError(
            f"{table} has no column of images that can be told by its name, such as filepath or image; its columns are"
            f" {', '.join(columns) or 'none'}. Name it: image='…'."
        )
    if captions is None:
        found = _first(columns, CAPTION_NAMES)
        captions = () if found is None else (found,)
    return Roles(
        table=table,
        image=image,
        captions=tuple(captions),
        label=label or _first(columns, LABEL_NAMES),
        id=id,
        split=_first(columns, SPLIT_NAMES),
        place=_place(columns),
    )


def _first(columns: Iterable[str], names: Iterable[str]) -> str | None:
    plain = {name.strip().lower().replace(" ", "_"): name for name in columns}
    return next((plain[name] for name in names if name in plain), None)


def _place(columns: Sequence[str]) -> tuple[str, ...]:
    for names in (*BOX_NAMES, *POINT_NAMES):
        found = [_first(columns, (name,)) for name in names]
        if all(found):
            return tuple(name for name in found if name)
    return ()


def to_record(row: Row, roles: Roles, *, position: int, locate: Callable[[str], str]) -> Record:
    """Make a record of one row.

    Args:
        row: Cells by column; a column may be missing.
        roles: What the columns are.
        position: Where the row is in its table, from 0; the id of a row without a path or an id.
        locate: Turns the path in a cell into one that can be opened.
    """
    image = _image(row.get(roles.image))
    path = image if isinstance(image, str) else None
    footprint = _footprint(row, roles)
    known = roles.known.union(roles.place) if footprint else roles.known
    return Record(
        id=(_text(row.get(roles.id)) if roles.id else None) or path or str(position),
        image=image if path is None else locate(path),
        captions=[caption for name in roles.captions for caption in _captions(row.get(name))],
        label=_text(row.get(roles.label)) if roles.label else None,
        footprint=footprint,
        meta={name: value for name in row if name not in known and (value := _plain(row[name])) is not None},
    )


def merge(records: Iterable[Record]) -> Iterator[Record]:
    """Make one record of neighbours that have the same id and the same image, with the captions of all."""
    held: Record | None = None
    for record in records:
        if held is not None and (held.id, held.uri) == (record.id, record.uri):
            held = evolve(
                held,
                captions=held.captions + record.captions,
                label=held.label or record.label,
                footprint=held.footprint or record.footprint,
                meta={**record.meta, **held.meta},
            )
            continue
        if held is not None:
            yield held
        held = record
    if held is not None:
        yield held


def _is_missing(value: Any) -> bool:
    # Pandas' own missing values are told by name, so that pandas need not be imported.
    is_nan = isinstance(value, float) and math.isnan(value)
    return value is None or is_nan or type(value).__name__ in ("NAType", "NaTType")


def _image(value: Any) -> Any:
    """A cell as what a record can hold; paths as `str`."""
    if isinstance(value, Mapping):  # as Hugging Face stores images in Parquet
        value = value.get("bytes") or value.get("path")
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    return _text(value) if isinstance(value, str | int | float) or _is_missing(value) else value


def _text(value: Any) -> str | None:
    if _is_missing(value):
        return None
    if isinstance(value, float) and value.is_integer():  # whole numbers become floats where a cell is missing
        value = int(value)
    return str(value) or None


def _captions(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):  # a Karpathy sentence
        value = value.get("raw")
    if isinstance(value, str) or not isinstance(value, Iterable):
        text = _text(value)
        if text is not None and not text.isspace():
            yield text
        return
    for item in value:
        yield from _captions(item)


def _footprint(row: Row, roles: Roles) -> Footprint | None:
    values: list[Any] = [row.get(name) for name in roles.place]
    if not values or any(_is_missing(value) for value in values):
        return None
    west, south, east, north = values if len(values) == 4 else values * 2
    try:
        return Footprint(west=west, south=south, east=east, north=north)
    except (ValueError, TypeError):
        warnings.warn(
            f"{roles.table}: rows whose {', '.join(roles.place)} are not longitudes and latitudes in degrees get no"
            " footprint; the values stay in their metadata.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def _plain(value: Any) -> Any:
    """A cell in JSON's types; `None` where it is missing or cannot be written so."""
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        value = value.tolist()
    if _is_missing(value) or isinstance(value, str | bool | int | float):
        return None if _is_missing(value) else value
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return os.fspath(value) if hasattr(value, "__fspath__") else None
