"""Request lines on disk: appended to files of limited size, never all in memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pyarrow.compute as pc
from attrs import frozen

from geovlm._files import digest, to_disk
from geovlm.errors import StorageError
from geovlm.pixtral.batch.files import request_path
from geovlm.pixtral.batch.ledger import Ledger

if TYPE_CHECKING:
    from io import BufferedWriter

    from geovlm._parts import Parts


@frozen(kw_only=True)
class Line:
    """Where a request is.

    Args:
        place: Of the input among all that can be sent, from 0.
        custom_id: Its name in the batch: the place and a digest of the record's id, so that it fits any service and a
            line of another run is noticed.
        file: Number of the request file.
        offset: Of the line, in bytes.
        length: Of the line, in bytes, its end included.
        tokens: Of its image.
    """

    place: int
    custom_id: str
    file: int
    offset: int
    length: int
    tokens: int


def custom_id_of(place: int, key: str) -> str:
    """A short name of letters and digits for any id, the same in every run."""
    return f"{place:08d}-{digest(key.encode('utf-8', 'surrogatepass'))[:8]}"


class Spool:
    """Appends request lines to files.

    A file that belongs to a shipment is never touched again. After a crash, lines that no part knows are cut off.

    Args:
        parts: Know the lines that count.
        max_requests: In one file.
        max_bytes: Of one file.
    """

    ENVELOPE = 64  # bytes of a line around the request

    def __init__(self, parts: Parts, *, max_requests: int, max_bytes: int) -> None:
        assert parts.out is not None  # batches live on disk
        self._parts, self._folder = parts, parts.out
        self._max_requests, self._max_bytes = max_requests, max_bytes
        self._file: BufferedWriter | None = None
        self._opened = False
        self._number = self._place = self._offset = self._count = 0

    def open(self) -> None:
        """Go on after the last line that counts; the caller holds the lock of the directory."""
        if self._opened:
            return
        self._opened = True
        shipped = len(Ledger.read(self._folder).shipments)
        lines: dict[int, tuple[int, int]] = {}  # of each file, lines and bytes
        for table in self._parts.tables(["file", "offset", "length"]):
            known = table.filter(pc.is_valid(table["file"]))
            self._place += known.num_rows
            for row in known.to_pylist():
                count, _ = lines.get(row["file"], (0, 0))
                lines[row["file"]] = (count + 1, row["offset"] + row["length"])
        self._number = max(shipped, max(lines, default=0))
        self._count, self._offset = lines.get(self._number, (0, 0))
        if self._count:
            self._start()
        for stale in self._folder.glob("requests/*.jsonl"):
            if int(stale.stem) > self._number:
                stale.unlink()

    def add(self, key: str, body: bytes, tokens: int) -> Line:
        """Append the request about the record `key`; `flush` makes it last."""
        custom_id = custom_id_of(self._place, key)
        text = b'{"custom_id": "%s", "body": %s}\n' % (custom_id.encode(), body)
        if self._count and (self._count == self._max_requests or self._offset + len(text) > self._max_bytes):
            self.close()
            self._number, self._count, self._offset = self._number + 1, 0, 0
        file = self._file or self._start()
        try:
            file.write(text)
        except OSError as error:
            raise self._refused(error) from error
        line = Line(
            place=self._place,
            custom_id=custom_id,
            file=self._number,
            offset=self._offset,
            length=len(text),
            tokens=tokens,
        )
        self._place, self._count, self._offset = self._place + 1, self._count + 1, self._offset + len(text)
        return line

    def flush(self) -> None:
        """Have the disk keep all lines so far."""
        if self._file is None:
            return
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._refused(error) from error

    def close(self) -> None:
        """Flush and let go of the file."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _start(self) -> BufferedWriter:
        path = request_path(self._folder, self._number)
        try:
            path.parent.mkdir(exist_ok=True)
            self._file = path.open("ab")
            self._file.truncate(self._offset)
            to_disk(path.parent)
        except OSError as error:
            raise self._refused(error) from error
        return self._file

    def _refused(self, error: OSError) -> StorageError:
        return StorageError(
            f"{request_path(self._folder, self._number)} could not be written ({error.strerror or error}). Nothing was"
            " sent: make room or mend the disk, then repeat the same call."
        )
