"""Sending without batch jobs: single requests, several at a time, with the same ledger and the same result lines."""

from __future__ import annotations

import json
import os
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from geovlm.errors import RateLimited, RequestRefused, ServiceUnavailable, StorageError
from geovlm.pixtral.batch.files import cancelled, request_path, result_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import FileIO
    from pathlib import Path

    from geovlm.errors import ServiceError
    from geovlm.pixtral.batch.ledger import Ledger, Shipment
    from geovlm.pixtral.batch.service import JobService

Line = dict[str, Any]
PATIENCE = 2  # rounds of requests that all fail, before the server counts as away


class Requests:
    """Sends shipments request by request; each answer is on disk before the next is taken.

    Args:
        service: Where to.
        ledger: Open for writing.
        folder: Of the run.

    Attributes:
        progress: Requests that are finished, by shipment.
        told: Called after each request.
    """

    def __init__(self, service: JobService, ledger: Ledger, folder: Path) -> None:
        self.progress: dict[int, int] = {}
        self.told: Callable[[], object] = lambda: None
        self._service, self._ledger, self._folder = service, ledger, folder

    def submit(self) -> None:
        """Nothing travels before somebody waits for it."""

    def cancel_orphans(self) -> None:
        """Nothing goes on at the server."""

    def advance(self) -> None:
        """Send all that was not answered.

        Raises:
            ServiceError: The key or the model is wrong, or the server is away; answers so far are kept.
        """
        for shipment in self._ledger.allowed():
            if shipment.step != "settled":
                self._run(shipment)

    def _run(self, shipment: Shipment) -> None:
        if shipment.step == "written":
            self._ledger.step(shipment, "created")
        path = result_path(self._folder, shipment.number, "output")
        path.parent.mkdir(exist_ok=True)
        known = _whole_lines(path)
        self.progress[shipment.number] = len(known)
        with path.open("ab", buffering=0) as file:
            self._send(shipment, known, file)
        ending = "CANCELLED" if cancelled(self._folder) else "SUCCESS"
        self._ledger.step(shipment, "settled", status=ending)

    def _send(self, shipment: Shipment, known: set[str], file: FileIO) -> None:
        todo = self._todo(shipment, known)
        crew = _Crew(self._service)
        try:
            for line in crew.answers(todo, strict=shipment.attempt == 1 and not known):
                _append(file, line)
                self.progress[shipment.number] += 1
                self.told()
        except KeyboardInterrupt:
            for line in crew.last_answers():  # they are paid for
                _append(file, line)
            raise
        finally:
            crew.close()

    def _todo(self, shipment: Shipment, known: set[str]) -> Iterator[Line]:
        with request_path(self._folder, shipment.number).open("rb") as file:
            for text in file:
                if cancelled(self._folder):
                    return
                line = json.loads(text)
                if line["custom_id"] not in known:
                    yield line


class _Crew:
    """A few requests under way at a time."""

    def __init__(self, service: JobService) -> None:
        self._service = service
        self._pool = ThreadPoolExecutor(service.concurrency, thread_name_prefix="geovlm-batch")
        self._running: set[Future[tuple[Line, ServiceError | None]]] = set()

    def answers(self, todo: Iterator[Line], *, strict: bool) -> Iterator[Line]:
        """Result lines as they come; failures that may pass come last.

        Args:
            todo: Request lines.
            strict: Whether it is an error if nothing passes.

        Raises:
            ServiceError: The server is away.
        """
        in_a_row, passed = 0, False
        failed: list[tuple[Line, ServiceError]] = []
        for line, error in self._outcomes(todo):
            if error is None:
                in_a_row, passed = 0, True
                yield line
                continue
            in_a_row += 1
            failed.append((line, error))
            if in_a_row >= PATIENCE * self._service.concurrency:
                raise error
        if strict and failed and not passed:
            raise failed[-1][1]
        yield from (line for line, _ in failed)

    def last_answers(self) -> Iterator[Line]:
        """The answers of what is under way; nothing new is sent."""
        for future in list(self._running):
            if not future.cancel():
                line, error = future.result()
                if error is None:
                    yield line

    def close(self) -> None:
        """End it."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _outcomes(self, todo: Iterator[Line]) -> Iterator[tuple[Line, ServiceError | None]]:
        for line in todo:
            self._running.add(self._pool.submit(_answer, self._service, line))
            if len(self._running) > self._service.concurrency:
                yield from self._finished()
        while self._running:
            yield from self._finished()

    def _finished(self) -> Iterator[tuple[Line, ServiceError | None]]:
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        for future in done:
            self._running.remove(future)  # one by one: what an interrupt leaves is still under way
            yield future.result()


def _answer(service: JobService, line: Line) -> tuple[Line, ServiceError | None]:
    """A result line in the form of batch jobs, and the error if it may pass.

    Raises:
        ServiceError: It concerns all requests.
    """
    try:
        body = service.complete(line["body"])
    except RequestRefused as error:
        if error.status == 404:  # no such model, or no such path
            raise
        return _result(line, error.status or 400, {"message": str(error)}), None
    except (RateLimited, ServiceUnavailable) as error:
        return _result(line, error.status or 503, {"message": str(error)}), error
    return _result(line, 200, body), None


def _result(line: Line, status: int, body: dict[str, Any]) -> Line:
    return {"custom_id": line["custom_id"], "response": {"status_code": status, "body": body}, "error": None}


def _append(file: FileIO, line: Line) -> None:
    text = json.dumps(line).encode() + b"\n"
    try:
        if file.write(text) < len(text):
            raise OSError("the disk is full")
        os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(
            f"An answer could not be written ({error.strerror or error}). Those before it are kept: make room, then"
            " repeat the same call."
        ) from error


def _whole_lines(path: Path) -> set[str]:
    """The ids of the results so far; a line that was cut off by a crash is removed."""
    found: set[str] = set()
    if not path.exists():
        return found
    whole = 0
    with path.open("rb") as file:
        for text in file:
            if text.endswith(b"\n"):
                found.add(json.loads(text)["custom_id"])
                whole += len(text)
    with path.open("r+b") as file:
        file.truncate(whole)
    return found
