"""Resumable runs: finished parts on disk, a manifest, and the loop that fills them.

A directory holds `manifest.json` (what made it, and with which settings) and the parts `part-00000.parquet`,
`part-00001.parquet`, … Each part is the outcome of a fixed number of consecutive inputs, failures included, and
appears whole or not at all. A killed run therefore loses at most the part it was in, and the run that goes on cuts
the same parts again.
"""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from geovlm import _progress
from geovlm._files import locked, read_json, write_atomically, write_json
from geovlm._tables import failures_in
from geovlm.errors import ConfigMismatch, ImageError, UsageError
from geovlm.records import Failure, Record, Report

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

R = TypeVar("R")
FORMAT = 1
CODE_BYTES = 16


class IdSet:
    """A set of ids in about 20 bytes each: 128-bit digests, in drawers that a part of the digest chooses.

    Adding and asking take the same time however many there are.
    """

    IDS_A_DRAWER = 48

    def __init__(self) -> None:
        self._drawers = [bytearray()]
        self._count = 0

    def __contains__(self, key: str) -> bool:
        if not self._count:
            return False
        code = _code(key)
        return _has(self._drawer(code), code)

    def __len__(self) -> int:
        return self._count

    def add(self, key: str) -> bool:
        """Add an id; `False` if it was in the set already."""
        code = _code(key)
        drawer = self._drawer(code)
        if _has(drawer, code):
            return False
        drawer += code
        self._count += 1
        if self._count > self.IDS_A_DRAWER * len(self._drawers):
            self._split()
        return True

    def _drawer(self, code: bytes) -> bytearray:
        # The number of drawers is a power of two.
        return self._drawers[int.from_bytes(code[:5], "big") & (len(self._drawers) - 1)]

    def _split(self) -> None:
        old, self._drawers = self._drawers, [bytearray() for _ in range(2 * len(self._drawers))]
        while old:
            drawer = old.pop()
            for start in range(0, len(drawer), CODE_BYTES):
                code = bytes(drawer[start : start + CODE_BYTES])
                self._drawer(code).extend(code)


def _code(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=CODE_BYTES).digest()


def _has(drawer: bytearray, code: bytes) -> bool:
    place = drawer.find(code)
    while place % CODE_BYTES and place >= 0:  # the end of one code and the beginning of the next
        place = drawer.find(code, place + 1)
    return place >= 0


class Parts:
    """The parts of one run: a directory, or a list in memory when `out` is `None`.

    Args:
        out: The directory.
        kind: What is in it, such as `"embeddings"`.
        config: Everything that changes the results; a directory made with another one is refused.
        about: What else the manifest tells its readers; never compared.
    """

    def __init__(
        self,
        out: str | os.PathLike[str] | None,
        *,
        kind: str,
        config: dict[str, Any],
        about: dict[str, Any] | None = None,
    ) -> None:
        self.out: Path | None = None if out is None else Path(out)
        self.kind = kind
        self.config = config
        self.about = about
        self._memory: list[pa.Table] = []
        self._written: int | None = None

    @classmethod
    def open(cls, out: str | os.PathLike[str], *, kind: str) -> Parts:
        """Open what an earlier call wrote.

        Raises:
            UsageError: The directory does not hold this kind of thing.
        """
        manifest = read_manifest(Path(out))
        if manifest is None or manifest.get("kind") != kind:
            found = "nothing that geovlm wrote" if manifest is None else f"{manifest.get('kind')!r}"
            raise UsageError(f"{out} holds no {kind}: it holds {found}.")
        return cls(out, kind=kind, config=manifest["config"])

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the directory for this process; checks the manifest first and writes one if there is none.

        Raises:
            ConfigMismatch: The directory was made with other settings.
            RunLocked: Another process is writing here.
        """
        with ExitStack() as stack:
            if self.out is not None:
                stack.enter_context(locked(self.out))
                self._claim(self.out)
            self._written = None  # another process may have been here
            yield

    def _claim(self, out: Path) -> None:
        manifest = read_manifest(out)
        if manifest is None:
            write_json(out / "manifest.json", self._manifest(state="running"))
        elif manifest.get("kind") != self.kind:
            raise ConfigMismatch(f"{out} holds {manifest.get('kind')!r}, not {self.kind!r}; choose another directory.")
        elif manifest["config"] != self.config:
            raise ConfigMismatch(
                f"{out} was made with other settings ({_difference(manifest['config'], self.config)}); choose another"
                " directory, or remove this one."
            )

    def _manifest(self, **more: Any) -> dict[str, Any]:
        about = {"about": self.about} if self.about else {}
        return {"kind": self.kind, "format": FORMAT, "config": self.config, **about, **more}

    def finish(self, **summary: Any) -> None:
        """Mark the run complete in the manifest, with its totals."""
        if self.out is not None:
            write_json(self.out / "manifest.json", self._manifest(state="complete", **summary))

    def paths(self) -> list[Path]:
        """The finished parts, in order."""
        return [] if self.out is None else sorted(self.out.glob("part-*.parquet"), key=_number)

    def append(self, table: pa.Table) -> None:
        """Add one finished part."""
        if self.out is None:
            self._memory.append(table)
            return
        if self._written is None:
            self._written = len(self.paths())
        path = self.out / f"part-{self._written:05d}.parquet"
        # Vectors do not compress, and plain encoding reads ten times faster than a dictionary of floats.
        options: dict[str, Any] = {"compression": "zstd", "use_dictionary": ["label"]}
        write_atomically(path, lambda temporary: pq.write_table(table, temporary, **options))
        self._written += 1
        _return_memory()

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Read the parts one after the other."""
        names = None if columns is None else list(columns)
        for table in self._memory:
            yield table if names is None else table.select(names)
        for path in self.paths():
            yield pq.read_table(path, columns=names, memory_map=False)


def _return_memory() -> None:
    """Give back what neither Arrow nor the C library has in use, or a long run takes a little more with every part."""
    for pool in (pa.default_memory_pool(), pa.system_memory_pool()):
        pool.release_unused()


def _number(part: Path) -> tuple[int, str]:
    """What sorts parts: a name of six digits comes after those of five."""
    return len(part.name), part.name


def read_manifest(out: Path) -> dict[str, Any] | None:
    """The manifest of a run directory, or `None` if there is none."""
    path = out / "manifest.json"
    if not path.exists():
        return None
    manifest: dict[str, Any] = read_json(path)
    return manifest


def fill(
    parts: Parts,
    source: Iterable[Record],
    *,
    stage: str,
    part_size: int,
    process: Callable[[Iterable[Record]], Iterator[tuple[Record, R | Failure]]],
    to_part: Callable[[list[tuple[Record, R | Failure]]], pa.Table],
    on_error: Literal["skip", "raise"],
    progress: bool | None,
) -> Report:
    """Process what is not finished yet and write it in parts.

    Args:
        parts: Where the results go.
        source: The inputs. Those whose id is finished are skipped; those that failed in an earlier call are tried
            again, after all others.
        stage: Word for reports and the progress bar.
        part_size: Inputs a part.
        process: Turns records into outcomes, lazily and in order.
        to_part: Makes the table of one part.
        on_error: `"raise"` stops at the first failure.
        progress: Show a bar; `None` decides by where the output goes.
    """
    if on_error not in ("skip", "raise"):
        raise UsageError(f"on_error is 'skip' or 'raise', not {on_error!r}.")
    if isinstance(source, str | Path):
        raise UsageError(f"Records are read from a source: FolderSource({str(source)!r}), or TableSource for a table.")
    started = time.monotonic()
    with parts.writing(), _progress.bar(progress, total=_length(source), desc=stage, unit="img") as bar:
        ledger = _Ledger(parts, on_error, bar.update)
        with _Writer(parts) as writer:
            for chunk in _chunks(ledger.settle(process(ledger.pending(source))), part_size):
                writer.append(to_part(chunk))
            retried = ledger.settle(process(ledger.retries))
            mended = (pair for pair in retried if not isinstance(pair[1], Failure))
            for chunk in _chunks(mended, part_size):
                writer.append(to_part(chunk))
            writer.flush()
        report = ledger.report(stage, time.monotonic() - started)
        parts.finish(done=report.done + report.skipped, failed=report.failed)
    return report


class _Writer:
    """Writes one part in a thread while the next one is made; leaving it waits for the part that is being written."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="geovlm-write")
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True)

    def append(self, table: pa.Table) -> None:
        """Have a part written, after the one before it."""
        self.flush()
        self._writing = self._pool.submit(self._parts.append, table)

    def flush(self) -> None:
        """Wait until all is written.

        Raises:
            StorageError: The disk refused.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()


class _Ledger:
    """Counts every input of one call in exactly one state."""

    def __init__(self, parts: Parts, on_error: str, advance: Callable[[int], object]) -> None:
        self._finished, self._failed, self._seen = IdSet(), IdSet(), IdSet()
        self._on_error, self._advance = on_error, advance
        self.retries: list[Record] = []
        self._done = self._skipped = 0
        self._failures: list[Failure] = []
        for table in parts.tables(["id", "reason"]):
            for key, reason in zip(table["id"].to_pylist(), table["reason"].to_pylist(), strict=True):
                (self._finished if reason is None else self._failed).add(key)

    def pending(self, source: Iterable[Record]) -> Iterator[Record]:
        for record in source:
            if not isinstance(record, Record):
                raise UsageError(
                    f"A source yields geovlm.Record, not {type(record).__name__}: {record!r:.80}; wrap each image:"
                    " Record(id='a name', image=…)."
                )
            if not self._seen.add(record.id):
                self._fail(Failure(id=record.id, uri=record.uri, stage="read", reason="another input has the same id"))
            elif record.id in self._finished:
                self._skipped += 1
                self._advance(1)
            elif record.id in self._failed:
                self.retries.append(record)
            else:
                yield record

    def settle(self, outcomes: Iterator[tuple[Record, R | Failure]]) -> Iterator[tuple[Record, R | Failure]]:
        for record, outcome in outcomes:
            if isinstance(outcome, Failure):
                self._fail(outcome)
            else:
                self._done += 1
                self._advance(1)
            yield record, outcome

    def _fail(self, failure: Failure) -> None:
        if self._on_error == "raise":
            raise ImageError(f"{failure.stage}: {failure.reason}", uri=failure.uri or failure.id)
        self._failures.append(failure)
        self._advance(1)

    def report(self, stage: str, seconds: float) -> Report:
        return Report(
            stage=stage, done=self._done, skipped=self._skipped, failures=tuple(self._failures), seconds=seconds
        )


def stored_report(parts: Parts, stage: str) -> Report:
    """What the parts on disk say became of every input, for an artefact opened later."""
    failures: dict[str, Failure] = {}
    done = 0
    for table in parts.tables(["id", "uri", "stage", "reason"]):
        for failure in failures_in(table):
            failures[failure.id] = failure
        for key, reason in zip(table["id"].to_pylist(), table["reason"].to_pylist(), strict=True):
            if reason is None:
                done += 1
                failures.pop(key, None)
    return Report(stage=stage, skipped=done, failures=tuple(failures.values()), seconds=0.0)


T = TypeVar("T")


def _chunks(items: Iterator[T], size: int) -> Iterator[list[T]]:
    chunk: list[T] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _length(source: Iterable[Record]) -> int | None:
    try:
        return len(source)  # type: ignore[arg-type]
    except TypeError:
        return None


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    return ", ".join(f"{key}: {old.get(key)!r} then, {new.get(key)!r} now" for key in changed)
