"""What every store asks of its arguments, before it writes anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from geovlm._tables import plain
from geovlm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


def check_ids(ids: Sequence[str]) -> list[str]:
    """Ids as plain strings.

    Raises:
        UsageError: One is not text, or empty.
    """
    if isinstance(ids, str):
        raise UsageError(f"ids is a sequence of ids, not one string; write [{ids!r:.80}].")
    for key in ids:
        if not isinstance(key, str) or not key:
            raise UsageError(
                f"An id is text of at least one character, not {key!r:.80}; numbers can go as str(number)."
            )
    return [str(key) for key in ids]


def check_metadata(metadata: Sequence[Mapping[str, Any]] | None, rows: int) -> list[dict[str, Any]]:
    """Metadata as fresh JSON values: NumPy scalars, dates and paths in their JSON forms.

    Raises:
        UsageError: There is not one mapping a row, a value has no JSON form, or a name starts with `$`.
    """
    found = _at_once(metadata, rows)
    # Decoded together, rows share their names, which is most of what small rows take in memory.
    return _PLAIN_DECODER.decode(found) if isinstance(found, str) else [row for row, _ in found]


def json_rows(metadata: Sequence[Mapping[str, Any]] | None, rows: int) -> list[tuple[dict[str, Any], str]]:
    """As `check_metadata`, each row with its text, in ASCII.

    Raises:
        UsageError: As `check_metadata`.
    """
    found = _at_once(metadata, rows)
    return _elements(found, rows) if isinstance(found, str) else found


def _at_once(metadata: Sequence[Mapping[str, Any]] | None, rows: int) -> str | list[tuple[dict[str, Any], str]]:
    """All rows as one text, which takes less than half of the time, or each by itself if one may be wrong."""
    if metadata is None:
        return [({}, "{}") for _ in range(rows)]
    if len(metadata) != rows:
        raise UsageError(f"There are {rows} ids and {len(metadata)} rows of metadata; they go in pairs.")
    if all(isinstance(row, Mapping) for row in metadata):
        with suppress(TypeError, ValueError):
            text = _ENCODER.encode([dict(row) for row in metadata])
            if '"$' not in text:
                return text
    return [_as_json(row, position) for position, row in enumerate(metadata)]


def _elements(text: str, count: int) -> list[tuple[Any, str]]:
    """The elements of a JSON list, each with its text."""
    found, start = [], 1
    for _ in range(count):
        value, end = _PLAIN_DECODER.raw_decode(text, start)
        found.append((value, text[start:end]))
        start = end + 1
    return found


def _as_json(row: Mapping[str, Any], position: int) -> tuple[dict[str, Any], str]:
    if not isinstance(row, Mapping):
        raise UsageError(f"Metadata of row {position} is a mapping, not {row!r:.80}.")
    try:
        text = _ENCODER.encode(dict(row))
        return _DECODER.decode(text), text
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"Metadata of row {position} cannot be kept: {error}. It may hold text, finite numbers, booleans, None,"
            " and lists and mappings of these."
        ) from error


def _without_operators(values: dict[str, Any]) -> dict[str, Any]:
    for name in values:
        if name.startswith("$"):
            raise ValueError(f"the name {name!r} starts with $, as the operators of filters do")
    return values


# Made once: a call of `json.loads` with a hook makes a new decoder each time, which costs as much as decoding.
_ENCODER = json.JSONEncoder(default=plain, allow_nan=False, separators=(",", ":"))
_PLAIN_DECODER = json.JSONDecoder()
_DECODER = json.JSONDecoder(object_hook=_without_operators)
