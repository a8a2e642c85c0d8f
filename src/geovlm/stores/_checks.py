"""What every store asks of its arguments, before it writes anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    if metadata is None:
        return [{} for _ in range(rows)]
    if len(metadata) != rows:
        raise UsageError(f"There are {rows} ids and {len(metadata)} rows of metadata; they go in pairs.")
    return _all_as_json(metadata) or [_as_json(row, position) for position, row in enumerate(metadata)]


def _all_as_json(metadata: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]] | None:
    """All rows at once, in less than half of the time; `None` if one may be wrong, so that each is looked at."""
    if not all(isinstance(row, Mapping) for row in metadata):
        return None
    try:
        text = _ENCODER.encode([dict(row) for row in metadata])
    except (TypeError, ValueError):
        return None
    return None if '"$' in text else json.loads(text)


def _as_json(row: Mapping[str, Any], position: int) -> dict[str, Any]:
    if not isinstance(row, Mapping):
        raise UsageError(f"Metadata of row {position} is a mapping, not {row!r:.80}.")
    try:
        fresh: dict[str, Any] = _DECODER.decode(_ENCODER.encode(dict(row)))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"Metadata of row {position} cannot be kept: {error}. It may hold text, finite numbers, booleans, None,"
            " and lists and mappings of these."
        ) from error
    return fresh


def _without_operators(values: dict[str, Any]) -> dict[str, Any]:
    for name in values:
        if name.startswith("$"):
            raise ValueError(f"the name {name!r} starts with $, as the operators of filters do")
    return values


# Made once: a call of `json.loads` with a hook makes a new decoder each time, which costs as much as decoding.
_ENCODER = json.JSONEncoder(default=plain, allow_nan=False)
_DECODER = json.JSONDecoder(object_hook=_without_operators)
