"""The ledger of a batch: what is about to be done on the network, and what was done, a line each, on disk first.

Whoever opens a ledger after a crash knows of each request file how far it came. A step that was announced and not
confirmed is in doubt: the service is asked for what it has before the step is taken again.
"""

from __future__ import annotations

import errno
import json
import os
import uuid
from typing import TYPE_CHECKING, Any, Self

from attrs import evolve, field, frozen

from geovlm._files import to_disk
from geovlm.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from io import FileIO
    from pathlib import Path

    from geovlm.pixtral.batch.options import Means

Event = dict[str, Any]


def _ranges(value: Iterable[Iterable[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((first, last) for first, last in value)


@frozen(kw_only=True)
class Shipment:
    """One request file and how far it came.

    Args:
        number: From 0; the name of its files.
        attempt: 1 for what is sent for the first time.
        places: The inputs in it, as ranges of places, both ends included.
        requests: How many.
        bytes: Of the file.
        image_tokens: Of all its images.
        step: `"written"`, `"uploading"`, `"uploaded"`, `"creating"`, `"created"`, `"ended"` or `"settled"`.
        file: The service's name of the uploaded file.
        uploaded_at: By the service's clock.
        job: The service's name of the job.
        status: That the job ended with.
        output: The service's name of the file with the answers.
        error: The service's name of the file with the failed requests.
        succeeded: Lines that the service tells to be in `output`.
        failed: Lines that the service tells to be in `error`.
        reason: What the service says of the job.
    """

    number: int
    attempt: int
    places: tuple[tuple[int, int], ...] = field(converter=_ranges)
    requests: int
    bytes: int
    image_tokens: int
    step: str = "written"
    file: str | None = None
    uploaded_at: int | None = None
    job: str | None = None
    status: str | None = None
    output: str | None = None
    error: str | None = None
    succeeded: int | None = None
    failed: int | None = None
    reason: str = ""

    def each(self) -> Iterator[int]:
        """The places, one by one, in order of the file."""
        for first, last in self.places:
            yield from range(first, last + 1)


def ranges_of(places: Iterable[int]) -> list[list[int]]:
    """Rising numbers as ranges, both ends included.

    Examples:
        >>> ranges_of([0, 1, 2, 5, 7, 8])
        [[0, 2], [5, 5], [7, 8]]
    """
    found: list[list[int]] = []
    for place in places:
        extend(found, place)
    return found


def extend(ranges: list[list[int]], place: int) -> None:
    """Add the next number to ranges."""
    if ranges and ranges[-1][1] == place - 1:
        ranges[-1][1] = place
    else:
        ranges.append([place, place])


class Ledger:
    """The events of a run, and what they amount to.

    Attributes:
        run: Names the run at the service.
        shipments: By number.
        prepared: What became of the inputs that were never sent; `None` before all requests are written.
        sending: What the last call allowed: its options, its limit, and how many shipments it was about.
        resumed: How many shipments there were when the run was last resumed on purpose.
    """

    def __init__(self, path: Path, file: FileIO | None = None) -> None:
        self.run: str = ""
        self.shipments: list[Shipment] = []
        self.prepared: Event | None = None
        self.sending: Event | None = None
        self.resumed: int = 0
        self._path, self._file = path, file

    @classmethod
    def read(cls, folder: Path) -> Ledger:
        """What is known, to look at; another process may be writing.

        Raises:
            StorageError: A line in the middle cannot be read.
        """
        ledger = cls(folder / "ledger.jsonl")
        events, _ = _events(ledger._path)
        for event in events:
            ledger._apply(event)
        return ledger

    @classmethod
    def open(cls, folder: Path) -> Ledger:
        """Go on writing; the caller holds the lock of the directory. A line that was cut off by a crash is removed.

        Raises:
            StorageError: A line in the middle cannot be read, or the disk refused.
        """
        ledger = cls.read(folder)
        try:
            _, whole = _events(ledger._path)  # noqa: SLF001 - its own
            ledger._file = ledger._path.open("ab", buffering=0)  # noqa: SLF001 - its own
            ledger._file.truncate(whole)  # noqa: SLF001 - its own
            to_disk(folder)
        except OSError as error:
            raise ledger._refused(error) from error  # noqa: SLF001 - its own
        if not ledger.run:
            ledger.append("run", id=uuid.uuid4().hex)
        return ledger

    def append(self, event: str, **details: Any) -> None:
        """Write one event; it is on disk when this returns.

        Raises:
            StorageError: The disk refused.
        """
        assert self._file is not None  # opened for writing
        entry = {"event": event, **details}
        line = json.dumps(entry).encode() + b"\n"
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._refused(error) from error
        self._apply(entry)

    def step(self, shipment: Shipment, step: str, **details: Any) -> Shipment:
        """Write how far a shipment came."""
        self.append("step", number=shipment.number, step=step, **details)
        return self.shipments[shipment.number]

    def allowed(self) -> list[Shipment]:
        """The shipments that may be sent: those that the last call was about, and their repetitions."""
        until = self.sending["until"] if self.sending else 0
        return [shipment for shipment in self.shipments if shipment.number < until or shipment.attempt > 1]

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def means(self) -> Means | None:
        """How the run is sent; `None` before that was decided."""
        return self.sending["means"] if self.sending else None

    def _apply(self, event: Event) -> None:
        kind, details = event["event"], {key: value for key, value in event.items() if key != "event"}
        if kind == "run":
            self.run = details["id"]
        elif kind == "shipment":
            self.shipments.append(Shipment(**details))
        elif kind == "step":
            number = details.pop("number")
            self.shipments[number] = evolve(self.shipments[number], **details)
        elif kind == "prepared":
            self.prepared = details
        elif kind == "sending":
            self.sending = details
        elif kind == "resumed":
            self.resumed = details["shipments"]

    def _refused(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self._path} could not be written ({error.strerror or error}). What was sent is known up to here: make"
            " room or mend the disk, then repeat the same call."
        )


def _events(path: Path) -> tuple[list[Event], int]:
    """The events of a file, and how many bytes they take; a last line that is not whole is none."""
    content = path.read_bytes() if path.exists() else b""
    events: list[Event] = []
    whole = 0
    while (end := content.find(b"\n", whole)) >= 0:
        try:
            events.append(json.loads(content[whole:end]))
        except ValueError as error:
            if content.find(b"\n", end + 1) < 0:
                break
            raise StorageError(
                f"Line {len(events) + 1} of {path} cannot be read, and others follow it: the file was changed or the"
                " disk is damaged. Mend the line, or start again in another directory."
            ) from error
        whole = end + 1
    return events, whole
