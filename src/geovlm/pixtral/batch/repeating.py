"""Sending again what failed or is missing, and nothing else."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from geovlm._files import write_atomically
from geovlm.pixtral.batch.files import request_path
from geovlm.pixtral.batch.ledger import ranges_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from geovlm._parts import Parts
    from geovlm.pixtral.batch.ledger import Ledger
    from geovlm.pixtral.batch.reading import Outcomes

_logger = logging.getLogger(__name__)

Where = tuple[int, int, int, int, int]
"""Place, file, offset, length, image tokens."""


def repeat(folder: Path, parts: Parts, ledger: Ledger, outcomes: Outcomes) -> int:
    """Write new shipments of what may pass if it is sent again; returns how many requests.

    Raises:
        StorageError: The disk refused.
    """
    assert ledger.sending is not None  # it was sent before
    places = set(outcomes.to_repeat(ledger.sending["max_attempts"]))
    if not places:
        return 0
    lines = [where for where in _where(parts) if where[0] in places]
    if not _affordable(ledger, outcomes, lines):
        return 0
    for group in _groups(lines, ledger.sending["max_requests"], ledger.sending["max_bytes"]):
        _write(folder, ledger, group, attempt=1 + max(int(outcomes.attempts[where[0]]) for where in group))
    _logger.info("%d requests are sent again", len(lines))
    return len(lines)


def _where(parts: Parts) -> Iterator[Where]:
    names = ["place", "file", "offset", "length", "tokens"]
    for table in parts.tables(names):
        yield from (row for row in zip(*(table[name].to_pylist() for name in names), strict=True) if row[0] is not None)


def _affordable(ledger: Ledger, outcomes: Outcomes, lines: list[Where]) -> bool:
    sending = ledger.sending
    assert sending is not None  # it was sent before
    if sending["max_cost"] is None or sending["price"] is None:
        return True
    prompt, completion = outcomes.spent()
    for place, *_, tokens in lines:
        # An answer that never came may have been paid for.
        times = 1 + (int(outcomes.attempts[place]) if outcomes[place].state == "missing" else 0)
        prompt += times * (tokens + sending["text_tokens"])
        completion += times * sending["max_tokens"]
    cost = (prompt * sending["price"][0] + completion * sending["price"][1]) / 1e6 * sending["share"]
    if cost > sending["max_cost"]:
        _logger.warning("%d requests are not sent again: that may cost more than max_cost", len(lines))
        return False
    return True


def _groups(lines: list[Where], max_requests: int, max_bytes: int) -> Iterator[list[Where]]:
    group: list[Where] = []
    size = 0
    for where in sorted(lines):
        if group and (len(group) == max_requests or size + where[3] > max_bytes):
            yield group
            group, size = [], 0
        group.append(where)
        size += where[3]
    yield group


def _write(folder: Path, ledger: Ledger, group: list[Where], *, attempt: int) -> None:
    number = len(ledger.shipments)
    path = request_path(folder, number)

    def copy(temporary: Path) -> None:
        with temporary.open("wb") as to:
            for _, file, offset, length, _ in group:
                with request_path(folder, file).open("rb") as source:
                    source.seek(offset)
                    to.write(source.read(length))

    write_atomically(path, copy)
    ledger.append(
        "shipment",
        number=number,
        attempt=attempt,
        places=ranges_of(place for place, *_ in group),
        requests=len(group),
        bytes=path.stat().st_size,
        image_tokens=sum(tokens for *_, tokens in group),
    )
