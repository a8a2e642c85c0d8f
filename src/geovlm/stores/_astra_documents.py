"""Rows as documents of the Data API, and back.

```
{"_id": "scene-1", "$vector": {"$binary": …}, "metadata": {…}, "sha": …, "write": …, "payload": "…"}
```

`metadata` is what filters are answered from. The Data API indexes at most 8,000 bytes of a text and has its own meaning
for some characters in names; where a row has more, `metadata` holds the beginning of the text or a coded name, and
`payload` the whole row as JSON. `sha` is a hash of vector and metadata, and `write` names the call that wrote the row.
Ids of rows are text; the document with the number 0 as its id is the store's own.
"""

from __future__ import annotations

import json
import re
from binascii import a2b_base64, b2a_base64
from functools import lru_cache
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from geovlm._vectors import unit_rows
from geovlm.errors import StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from geovlm.protocols import Vectors

TEXT_BYTES = 8000
DOCUMENT_CHARS = 3_900_000
PATH_CHARS = 900
NAME_CHARS = 200
LEVELS = 14
ITEMS = 1000
NAMES = 2000
LARGEST_NUMBER = 10**99

# So short that no list is too long, and no text.
SMALL = 2000
_LONG_NUMBER = re.compile("[0-9]{99}")

# The fields that make a row, without the ones that only writing needs.
ROW_FIELDS = {"$vector": 1, "metadata": 1, "payload": 1}

_ODD = re.compile(r"[.&~]|^\$|^\*$")
_TO_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class Prepared(NamedTuple):
    """A row's metadata, checked and ready to be sent.

    Args:
        text: As JSON.
        searchable: What filters see.
        size: About how many bytes both are in a request.
        whole: Whether `searchable` is all there is.
    """

    text: str
    searchable: dict[str, Any]
    size: int
    whole: bool


def prepare(rows: Sequence[tuple[dict[str, Any], str]]) -> list[Prepared]:
    """Check metadata, as `json_rows` gives it, against the limits of the Data API.

    Raises:
        UsageError: A row is beyond one of them.
    """
    return [
        Prepared(text, row, len(text), whole=True) if _is_small(row, text) else _prepared(row, position)
        for position, (row, text) in enumerate(rows)
    ]


def _prepared(row: dict[str, Any], position: int) -> Prepared:
    text, reader = _TO_JSON(row), _Reader()
    try:
        searchable = reader.mapping(row, PATH_CHARS, LEVELS)
        sent = text if reader.whole else text + _TO_JSON(text)
        if len(sent) > DOCUMENT_CHARS:
            raise ValueError(f"it has {len(sent):,} characters, the most is {DOCUMENT_CHARS:,}")
        size = len(sent) if sent.isascii() else len(sent.encode())
    except UnicodeEncodeError as error:
        raise UsageError(f"Metadata of row {position} holds half of a surrogate pair, which is no Unicode.") from error
    except ValueError as error:
        raise UsageError(
            f"Metadata of row {position} is beyond what Astra DB takes: {error}. Keep the large part elsewhere, or as"
            " one text made by json.dumps."
        ) from error
    return Prepared(text, searchable, size, reader.whole)


def _is_small(row: dict[str, Any], text: str) -> bool:
    """Whether a row is within all limits, by its length: most are, and a look at each value costs more."""
    return (
        len(text) <= SMALL
        and "\\u" not in text
        and text.count("{") == 1
        and text.count("[") < LEVELS
        and not _LONG_NUMBER.search(text)
        and _are_plain(tuple(row))
    )


@lru_cache(maxsize=1024)
def _are_plain(names: tuple[str, ...]) -> bool:
    """Whether `metadata` has all names as they are; rows of one source mostly share theirs."""
    return all(search_name(name) == name for name in names)


class _Reader:
    """Makes the searchable form of one row, and notes whether anything was lost."""

    def __init__(self) -> None:
        self.whole = True
        self._names = 0

    def mapping(self, values: Mapping[str, Any], chars: int, levels: int) -> dict[str, Any]:
        self._names += len(values)
        if len(values) > ITEMS or self._names > NAMES:
            raise ValueError(f"a mapping has at most {ITEMS:,} names, a row {NAMES:,}")
        found = {}
        for name, value in values.items():
            key = search_name(name)
            if key != name:
                self.whole = False
            left = chars - len(key) - 1
            if left < 0:
                raise ValueError(f"the names that lead to {name!r:.60} are longer than {PATH_CHARS} characters")
            found[key] = self._value(value, left, levels)
        return found

    def _value(self, value: Any, chars: int, levels: int) -> Any:
        if isinstance(value, str):
            return value if len(value) <= TEXT_BYTES and value.isascii() else self._text(value)
        if isinstance(value, list | dict):
            if levels == 0:
                raise ValueError(f"lists and mappings are nested in more than {LEVELS} levels")
            read: Any = self._list if isinstance(value, list) else self.mapping
            return read(value, chars, levels - 1)
        if isinstance(value, int) and not -LARGEST_NUMBER < value < LARGEST_NUMBER:
            raise ValueError("a number has more than 99 digits")
        return value

    def _list(self, items: list[Any], chars: int, levels: int) -> list[Any]:
        if len(items) > ITEMS:
            raise ValueError(f"a list has {len(items):,} items, the most is {ITEMS:,}")
        return [self._value(item, chars, levels) for item in items]

    def _text(self, text: str) -> str:
        data = text.encode()
        if len(data) <= TEXT_BYTES:
            return text
        self.whole = False
        return data[:TEXT_BYTES].decode(errors="ignore")


@lru_cache(maxsize=65_536)
def search_name(name: str) -> str:
    """A name as `metadata` has it; two names never share one.

    Examples:
        >>> search_name("year"), search_name("camera.gsd")
        ('year', 'camera~2egsd')
    """
    if len(name) > NAME_CHARS:
        return "~~" + blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return _ODD.sub(lambda odd: f"~{ord(odd[0]):x}", name) or "~"


def is_unicode(text: str) -> bool:
    """Whether text can be sent; half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def document(key: str, packed: bytes, row: Prepared, write: str) -> dict[str, Any]:
    """A row as it is sent.

    Args:
        key: Its id.
        packed: Its unit vector, big-endian float32.
        row: Its metadata.
        write: Names the call that writes it.
    """
    sent: dict[str, Any] = {
        "_id": key,
        "$vector": binary(packed),
        "metadata": row.searchable,
        "sha": content_hash(packed, row),
        "write": write,
    }
    if not row.whole:
        sent["payload"] = row.text
    return sent


def binary(packed: bytes) -> dict[str, str]:
    """Packed numbers as the Data API takes them."""
    return {"$binary": b2a_base64(packed, newline=False).decode("ascii")}


def packed_rows(vectors: Vectors) -> NDArray[np.float32]:
    """Vectors in the byte order of the Data API, big-endian."""
    return vectors.astype(">f4")


def pack(vector: Vectors) -> bytes:
    """One vector as big-endian float32."""
    return packed_rows(vector).tobytes()


def content_hash(packed: bytes, row: Prepared) -> str:
    """Changes with the vector or the metadata."""
    # Processors have instructions for SHA-256; it is shortened as it guards against chance, not against people.
    return sha256(packed + row.text.encode()).hexdigest()[:32]


def metadata_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a document as it was given."""
    payload = found.get("payload")
    metadata: Any = json.loads(payload) if isinstance(payload, str) else found.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def rows_of(documents: Sequence[Mapping[str, Any]], dim: int) -> tuple[list[str], Vectors, list[Mapping[str, Any]]]:
    """Documents as ids, vectors and metadata."""
    return [one["_id"] for one in documents], vectors_of(documents, dim), [metadata_of(one) for one in documents]


def vectors_of(found: Sequence[Mapping[str, Any]], dim: int) -> Vectors:
    """The vectors of documents, float32 `(n, dim)`.

    Raises:
        StoreError: A document has none of this length; something else has written it.
    """
    vectors = np.empty((len(found), dim), dtype=np.float32)
    for row, one in enumerate(found):
        try:
            vectors[row] = _vector(one["$vector"], dim)
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"The document {one.get('_id')!r:.80} has no vector of {dim} numbers; something else than geovlm has"
                " written it. Remove it, or give geovlm a collection of its own."
            ) from error
    return vectors


def _vector(value: Any, dim: int) -> Vectors:
    if isinstance(value, dict):
        found = np.frombuffer(a2b_base64(value["$binary"]), dtype=">f4")
        if len(found) != dim:
            raise ValueError(f"{len(found)} numbers")
        return found.astype(np.float32)
    # Only other programs write lists, and perhaps of other lengths than one.
    unit: Vectors = unit_rows([value], dim=dim)[0]
    return unit
