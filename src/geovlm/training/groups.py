"""Which pairs are positives of each other: numbers that agree between processes and runs."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from geovlm.errors import UnknownName

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from geovlm.records import Record

NOBODY = -1


def plain_caption(caption: str) -> str:
    """A caption without what tokenizers do not see: case and spacing.

    Examples:
        >>> plain_caption("A  river. ")
        'a river.'
    """
    return " ".join(caption.lower().split())


def number_of(value: str | bytes) -> int:
    """63 bits of a hash, the same in every process.

    Examples:
        >>> number_of("a river.") == number_of(b"a river.")
        True
    """
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") >> 1


def caption_numbers(captions: Sequence[str]) -> NDArray[np.int64]:
    """A number for each caption, equal where two differ in case and spacing at most.

    Examples:
        >>> first, second, third = caption_numbers(["A river.", "a  river.", "a road."])
        >>> bool(first == second), bool(first == third)
        (True, False)
    """
    return np.array([number_of(plain_caption(caption)) for caption in captions], dtype=np.int64)


def image_number(record: Record) -> int:
    """Equal for records of one image: by its bytes where they are at hand, else by its place, else by the id."""
    if isinstance(record.image, bytes):
        return number_of(record.image)
    return number_of(record.uri or record.id)


def value_number(record: Record, name: str) -> int:
    """Equal for records with the same value of that name; -1, which is equal to nobody, where there is none."""
    value = value_of(record, name)
    return NOBODY if value is None else number_of(repr(value))


def value_of(record: Record, name: str) -> Any:
    """The label, or what `meta` holds under a name."""
    return record.label if name == "label" else record.meta.get(name)


def check_positives(records: Iterable[Record], name: str) -> None:
    """Make sure that some record has a value of that name.

    Raises:
        UnknownName: None has; offers the nearest names.
    """
    names: set[str] = set()
    for record in records:
        if value_of(record, name) is not None:
            return
        names.update(record.meta, () if record.label is None else ("label",))
    raise UnknownName("value for positives", name, names)
