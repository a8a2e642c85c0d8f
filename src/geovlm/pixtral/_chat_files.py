"""Files of one JSON value a line: read without holding them, written whole or not at all, split by size."""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

from attrs import asdict, field, frozen

from geovlm._files import digest, locked, read_json, to_disk, write_atomically, write_json
from geovlm._parts import IdSet
from geovlm._stream import map_batches
from geovlm.errors import ConfigMismatch, ImageError, StorageError, UsageError
from geovlm.records import Failure, Record, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from io import BufferedWriter
    from pathlib import Path

FILE_BYTES = 512 * 1000 * 1000
LINE_BYTES = 128 << 20  # eight images of 10 MB in base64, and more
AHEAD = 16


@frozen(kw_only=True)
class Line:
    """One line as it is.

    Args:
        file: Where it is.
        number: From 1; lines without text are counted too.
        offset: Its first byte.
        text: Without its end; empty where `problem` tells why.
        problem: Why it could not be read.
    """

    file: Path
    number: int
    offset: int
    text: bytes = field(repr=False)
    problem: str | None = None

    def failure(self, reason: str) -> Failure:
        """It cannot be used."""
        place = f"{self.file}:{self.number}"
        return Failure(id=place, uri=place, stage="check", reason=reason)


def lines_of(path: Path) -> Iterator[Line]:
    """The lines of a file but for empty ones; of one that is too long no text is kept."""
    with path.open("rb") as file:
        number, offset = 0, 0
        while text := file.readline(LINE_BYTES):
            number += 1
            size, problem = len(text), None
            if size == LINE_BYTES and not text.endswith(b"\n"):
                text, problem = b"", f"it is longer than {LINE_BYTES} bytes"
                size += _skip_line(file)
            if text.strip() or problem:
                yield Line(file=path, number=number, offset=offset, text=text.rstrip(b"\r\n"), problem=problem)
            offset += size


def _skip_line(file: Any) -> int:
    skipped = 0
    while part := file.readline(LINE_BYTES):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


def line_at(path: Path, offset: int) -> bytes:
    """The line that begins at a byte."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.readline().rstrip(b"\r\n")


def ids_of(path: Path) -> list[str] | None:
    """The ids of the records behind the lines of a file that geovlm wrote."""
    names = path.with_suffix(".ids")
    return [json.loads(line) for line in names.read_bytes().splitlines()] if names.exists() else None


class SplitWriter:
    """Writes lines into `{name}-00000.jsonl`, `{name}-00001.jsonl`, …; a file appears once it is whole.

    Beside each lies `….ids` with the id of the record of each line.

    Args:
        out: The folder.
        name: What files' names begin with.
        max_bytes: The most in one file.
    """

    def __init__(self, out: Path, *, name: str, max_bytes: int) -> None:
        self.files: list[Path] = []
        self._out, self._name, self._max_bytes = out, name, max_bytes
        self._hash = hashlib.sha256()
        self._ids: list[str] = []
        self._file: BufferedWriter | None = None
        self._size = 0

    @property
    def digest(self) -> str:
        """A name for all that was written."""
        return self._hash.hexdigest()[:16]

    def takes(self, line: bytes) -> bool:
        """Whether a line fits into a file at all."""
        return len(line) <= min(self._max_bytes, LINE_BYTES)

    def write(self, key: str, line: bytes) -> None:
        """Add a line, in the next file if this one is full."""
        if self._file is not None and self._size + len(line) > self._max_bytes:
            self.finish_file()
        if self._file is None:
            self._file = self._temporary.open("wb")
        self._file.write(line)
        self._size += len(line)
        self._ids.append(key)
        self._hash.update(line)

    @property
    def _temporary(self) -> Path:
        return self._out / f".{self._name}.jsonl.tmp"

    def finish_file(self) -> None:
        """Have the file that is being written appear, if there is one."""
        if self._file is None:
            return
        path = self._out / f"{self._name}-{len(self.files):05}.jsonl"
        self._file.close()
        to_disk(self._temporary)
        ids = "".join(json.dumps(key) + "\n" for key in self._ids)
        write_atomically(path.with_suffix(".ids"), lambda temporary: temporary.write_text(ids, encoding="utf-8"))
        self._temporary.replace(path)
        to_disk(self._out)
        self.files.append(path)
        self._file, self._size, self._ids = None, 0, []

    def close(self) -> None:
        """Let go of what is half written."""
        if self._file is not None:
            self._file.close()
            self._temporary.unlink(missing_ok=True)


def export(
    source: Iterable[Record],
    out: Path,
    *,
    name: str,
    max_bytes: int,
    config: dict[str, Any],
    line: Callable[[Record], bytes | Failure],
    on_error: str,
    advance: Callable[[int], object],
) -> tuple[list[Path], Report, str]:
    """Write the line of each record; `{name}.json` appears once all files are there, and a second call reads that.

    Args:
        source: The records.
        out: The folder.
        name: What files' names begin with.
        max_bytes: The most in one file.
        config: Everything that decides what the lines are.
        line: Makes a record's line, in threads.
        on_error: `"raise"` stops at the first failure.
        advance: Told of each record.

    Returns:
        The files, what became of every record, and a name for all that is in the files.
    """
    with locked(out):
        manifest = out / f"{name}.json"
        if manifest.exists():
            return _known(read_json(manifest), source, out, config)
        for left in out.glob(f"{name}-*"):  # of a call that was stopped
            left.unlink()
        writer = SplitWriter(out, name=name, max_bytes=max_bytes)
        try:
            return _export(source, writer, manifest, config=config, line=line, on_error=on_error, advance=advance)
        except OSError as error:
            raise StorageError(f"{out} cannot take the export ({error.strerror or error}).") from error
        finally:
            writer.close()


def _export(
    source: Iterable[Record],
    writer: SplitWriter,
    manifest: Path,
    *,
    config: dict[str, Any],
    line: Callable[[Record], bytes | Failure],
    on_error: str,
    advance: Callable[[int], object],
) -> tuple[list[Path], Report, str]:
    started, inputs, seen = time.monotonic(), hashlib.sha256(), IdSet()
    failures: list[Failure] = []
    done = 0
    for record, outcome in map_batches(
        _noted(source, inputs), prepare=line, run=lambda _, lines: lines, batch_size=AHEAD, stage="export"
    ):
        failed = _write(writer, seen, record, outcome)
        if failed is not None and on_error == "raise":
            raise ImageError(failed.reason, uri=failed.uri or failed.id)
        failures += [] if failed is None else [failed]
        done += failed is None
        advance(1)
    writer.finish_file()
    if writer.files:
        told = {
            "config": config,
            "inputs": inputs.hexdigest(),
            "digest": writer.digest,
            "files": [path.name for path in writer.files],
            "done": done,
            "failures": [asdict(failure) for failure in failures],
        }
        write_json(manifest, told)
    report = Report(stage="export", done=done, failures=failures, seconds=time.monotonic() - started)
    return writer.files, report, writer.digest


def _write(writer: SplitWriter, seen: IdSet, record: Record, outcome: bytes | Failure) -> Failure | None:
    """Write one line; a failure instead if that cannot be."""
    if record.id in seen:
        return Failure(id=record.id, uri=record.uri, stage="read", reason="another input has the same id")
    seen.add(record.id)
    if isinstance(outcome, Failure):
        return outcome
    if not writer.takes(outcome):
        reason = f"its line of {len(outcome)} bytes is longer than a file may be; send smaller images"
        return Failure(id=record.id, uri=record.uri, stage="export", reason=reason)
    writer.write(record.id, outcome)
    return None


def _known(
    manifest: dict[str, Any], source: Iterable[Record], out: Path, config: dict[str, Any]
) -> tuple[list[Path], Report, str]:
    """What an earlier call wrote, if it was the same call."""
    inputs = hashlib.sha256()
    for _ in _noted(source, inputs):
        pass
    if manifest["config"] != config or manifest["inputs"] != inputs.hexdigest():
        raise ConfigMismatch(
            f"{out} holds an export of other records, or with other settings; choose another directory, or remove this"
            " one."
        )
    failures = [Failure(**failure) for failure in manifest["failures"]]
    report = Report(stage="export", skipped=manifest["done"], failures=failures, seconds=0.0)
    return [out / name for name in manifest["files"]], report, manifest["digest"]


def _noted(source: Iterable[Record], inputs: hashlib._Hash) -> Iterator[Record]:
    """The records, and in `inputs` what is cheap to know of them: enough to see that a source is another one."""
    for record in source:
        if not isinstance(record, Record):
            raise UsageError(f"A source yields geovlm.Record, not {type(record).__name__}: {record!r:.80}")
        inputs.update(digest([record.id, record.uri, record.label, record.captions]).encode())
        yield record
