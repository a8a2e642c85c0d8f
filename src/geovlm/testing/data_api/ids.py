"""The ``_id`` of documents that come without one."""

from __future__ import annotations

import itertools
import secrets
import time
import uuid
from typing import Any

# 100-nanosecond steps between 1582-10-15, where UUID time begins, and 1970-01-01.
_UUID_EPOCH = 0x01B21DD213814000
_counter = itertools.count(secrets.randbits(24))
_process = secrets.token_bytes(5)


def new_id(kind: str | None) -> Any:
    """A new ``_id``: UUID text without a kind, else an extended value of that kind.

    Args:
        kind: ``"uuid"``, ``"uuidv6"``, ``"uuidv7"``, ``"objectId"`` or None.

    Examples:
        >>> uuid.UUID(new_id("uuidv7")["$uuid"]).version
        7
    """
    if kind == "objectId":
        return {"$objectId": _object_id()}
    if kind == "uuidv6":
        return {"$uuid": str(_uuid6())}
    if kind == "uuidv7":
        return {"$uuid": str(_uuid7())}
    fresh = str(uuid.uuid4())
    return {"$uuid": fresh} if kind == "uuid" else fresh


def _object_id() -> str:
    count = next(_counter) & 0xFFFFFF
    return (int(time.time()).to_bytes(4, "big") + _process + count.to_bytes(3, "big")).hex()


def _uuid6() -> uuid.UUID:
    """RFC 9562, section 5.6: the time of version 1 with its high bits first."""
    steps = time.time_ns() // 100 + _UUID_EPOCH
    high = (steps >> 12 & 0xFFFFFFFFFFFF) << 80 | 6 << 76 | (steps & 0xFFF) << 64
    return uuid.UUID(int=high | 2 << 62 | secrets.randbits(62))


def _uuid7() -> uuid.UUID:
    """RFC 9562, section 5.7: milliseconds since 1970, then random bits."""
    milliseconds = time.time_ns() // 1_000_000 & 0xFFFFFFFFFFFF
    return uuid.UUID(int=milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62))
