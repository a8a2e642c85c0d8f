"""Metadata as typed columns, so that Lance can filter on it.

Lance keeps a row's metadata as JSON text, and beside it a column for each name and each kind of value that the name
has: `n_year` holds the years that are numbers, `t_year` those that are text. The name of a column says all, so that the
table's own schema is the only list of them; odd characters of a name are written as `_` and two hex digits.

Lists that are boxes or points and text that is a time have further columns, of numbers. A name has them either from
its first list or text on or never, so that where they are, all its values are in them.

A name gets no column if a filter could mean a list's element by it (`tags.0`), if it is very long, or once there are
`MAX_NAMES` names. Filters on these names are answered from the JSON.
"""

from __future__ import annotations

import json
import re
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from attrs import field, frozen

from geovlm._areas import box_of
from geovlm._times import moment_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

MAX_NAMES = 256
MAX_LENGTH = 200

KINDS = {
    "n": pa.float64(),
    "t": pa.string(),
    "b": pa.bool_(),
    "i": pa.list_(pa.string()),  # a list's items, each as canonical JSON
    "z": pa.bool_(),  # the value is null
    "m": pa.bool_(),  # it is a mapping
    "x": pa.bool_(),  # it is a number that float64 cannot hold, or text that UTF-8 cannot
    # What a filter may take a value for.
    "w": pa.float64(),  # the west of a list that is a box or a point
    "s": pa.float64(),  # its south
    "e": pa.float64(),  # its east
    "h": pa.float64(),  # its north
    "d": pa.int64(),  # the moment of a text, in microseconds since 1970
}
SOURCE_OF = {"w": "i", "s": "i", "e": "i", "h": "i", "d": "t"}

Cell = tuple[str, Any]


@frozen
class Layout:
    """The columns that hold metadata.

    Args:
        columns: Their names, such as `"n_year"`.
    """

    columns: frozenset[str]
    names: frozenset[str] = field(init=False)

    @names.default
    def _names(self) -> frozenset[str]:
        return frozenset(column[2:] for column in self.columns)

    def columns_of(self, name: str) -> dict[str, str]:
        """The columns of a name by kind; none if no row has the name."""
        code = encoded(name)
        return {kind: f"{kind}_{code}" for kind in KINDS if f"{kind}_{code}" in self.columns}

    def covers(self, name: str) -> bool:
        """Whether the columns hold all that the rows have under a name."""
        return fits_columns(name) and (len(self.names) < MAX_NAMES or encoded(name) in self.names)


def layout_of(columns: Iterable[str]) -> Layout:
    """The layout of a table with these columns."""
    return Layout(frozenset(column for column in columns if column[:1] in KINDS and column[1:2] == "_"))


def encoded(name: str) -> str:
    """A name in lower-case letters, digits and `_`; two names never share a code.

    Examples:
        >>> encoded("camera.GSD")
        'camera_2e_47_53_44'
    """
    return re.sub(rb"[^a-z0-9]", lambda odd: b"_%02x" % odd[0][0], name.encode("utf-8", "surrogatepass")).decode()


def fits_columns(name: str) -> bool:
    """Whether a name may have columns."""
    if len(name) > MAX_LENGTH or len(encoded(name)) > MAX_LENGTH:
        return False
    return not any(part.isdecimal() for part in name.split(".")[1:])


def shred(rows: Sequence[Mapping[str, Any]], layout: Layout) -> dict[str, list[Any]]:
    """Metadata as columns, with `None` where a row has no such value.

    Args:
        rows: JSON values.
        layout: The columns that there are already; more may come out, within the limit of names.
    """
    names, known = set(layout.names), layout.columns
    column_of: dict[Cell, list[Any] | None] = {}
    columns: dict[str, list[Any]] = {}

    def open_column(kind: str, name: str) -> list[Any] | None:
        code = encoded(name) if fits_columns(name) else None
        if code is None or (code not in names and len(names) >= MAX_NAMES):
            return None
        # Rows may have been written without the further columns.
        if kind in SOURCE_OF and f"{SOURCE_OF[kind]}_{code}" in known and f"{kind}_{code}" not in known:
            return None
        names.add(code)
        return columns.setdefault(f"{kind}_{code}", [None] * len(rows))

    for position, row in enumerate(rows):
        for name, value in _named_values(row):
            for kind, held in _cells(value):
                key = kind, name
                if key not in column_of:
                    column_of[key] = open_column(kind, name)
                column = column_of[key]
                if column is not None:
                    column[position] = held
    return columns


def _named_values(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Everything in a row that a filter can name, but for the elements of lists; as `geovlm.filters` looks it up."""
    for name, value in row.items():
        yield name, value
        if isinstance(value, dict) and "." not in name:
            for inner_name, inner in _inside(name, value):
                if inner_name not in row:
                    yield inner_name, inner


def _inside(outer: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if "." not in name:
            yield f"{outer}.{name}", value
            if isinstance(value, dict):
                yield from _inside(f"{outer}.{name}", value)


def _cells(value: Any) -> Sequence[Cell]:
    """What the columns hold of a JSON value."""
    kind, held = _cell(value)
    if kind == "t" and (moment := moment_of(value)) is not None:
        return (kind, held), ("d", moment)
    if kind == "i" and (box := box_of(value)) is not None:
        return (kind, held), *zip("wseh", box, strict=True)
    return ((kind, held),)


def _cell(value: Any) -> Cell:
    """The kind of a JSON value, and what its column holds."""
    if isinstance(value, str):
        return ("t", value) if is_utf8(value) else ("x", True)
    if isinstance(value, bool):
        return "b", value
    if isinstance(value, int | float):
        number = as_float(value)
        return ("x", True) if number is None else ("n", number)
    if value is None:
        return "z", True
    return ("i", [canonical(item) for item in value]) if isinstance(value, list) else ("m", True)


def is_utf8(text: str) -> bool:
    """Whether text can be written; half of a surrogate pair cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_float(number: float) -> float | None:
    """The same number as a float; `None` for an integer that has no equal float."""
    try:
        value = float(number)
    except OverflowError:
        return None
    return value if value == number else None


def canonical(value: Any) -> str:
    """JSON text that is the same for values that are equal in a filter: `1` and `1.0`, mappings in any order."""
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    return json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"))


def _canonical(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, dict):
        return {name: _canonical(item) for name, item in value.items()}
    return value
