"""Threads that decode ahead: one that hangs is given up and replaced, and large pictures wait for each other.

Threads cannot be stopped from outside. One that a dead disk or network holds is left behind: its picture is a failure,
another thread takes its place, and what it may bring later is ignored. The threads are daemons, so that a process can
end although some of them hang.
"""

from __future__ import annotations

import math
import threading
import time
from mmap import mmap
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from geovlm.errors import ImageError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

T = TypeVar("T")
P = TypeVar("P")

# Pictures of at least LARGE pixels count, and share ROOM; a larger one than that is decoded alone. Pillow takes four
# bytes a pixel, and some conversions hold a second copy.
LARGE = 1_000_000
ROOM = 100_000_000
# More threads than this, all hanging at once, are no fault of single files.
MOST_HANGING = 16
# How long the end of a run waits for pictures that are being decoded, in seconds.
PATIENCE = 5.0

_here = threading.local()


def claim(pixels: int) -> None:
    """Wait until there is room to decode a picture of so many pixels; it is kept until the thread's job is done.

    Only in the threads of `Workers`: elsewhere nobody else is decoding, and nothing happens.
    """
    desk: _Desk | None = getattr(_here, "desk", None)
    if desk is not None and pixels >= LARGE:
        desk.workers._claim(desk, pixels)  # noqa: SLF001 - two halves of one thing


class Jobs(Generic[P]):
    """Some inputs that are waited for together.

    Attributes:
        outcomes: What became of each, in order: what the work returned, or what it raised. Arrays of one shape lie side
            by side, see `as_one`.
    """

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = items
        self.outcomes: list[P | BaseException | None] = [None] * len(items)
        self.left = len(items)
        self.block: NDArray[Any] | None = None

    def side_by_side(self, place: int, array: NDArray[Any]) -> NDArray[Any]:
        """Copy an array to its place in the block of all, made like the first one; one of another shape stays alone."""
        block = self.block
        if block is None:  # two threads may both make one: what lies in the other is copied later, by `as_one`
            block = self.block = _new_block((len(self.items), *array.shape), array.dtype)
        if array.shape != block.shape[1:] or array.dtype != block.dtype:
            return array
        block[place] = array
        return block[place, ...]


class _Desk:
    """One thread and the job it is at."""

    def __init__(self, workers: Workers[Any, Any]) -> None:
        self.workers = workers
        self.job: tuple[Jobs[Any], int] | None = None
        self.started: float | None = None
        self.claimed = 0
        self.given_up = False
        self.thread = threading.Thread(target=workers._serve, args=(self,), name="geovlm-decode", daemon=True)  # noqa: SLF001


class Workers(Generic[T, P]):
    """Threads that do one kind of work.

    Args:
        work: What is done with one input.
        count: How many threads.
        timeout: Seconds after which a thread that is still at one input is given up; `None` waits for ever. Time spent
            waiting for other large pictures does not count.
    """

    def __init__(self, work: Callable[[T], P], *, count: int, timeout: float | None) -> None:
        self._work, self._count, self._timeout = work, count, timeout
        self._queue: SimpleQueue[tuple[Jobs[P], int] | None] = SimpleQueue()
        self._changed = threading.Condition()
        self._desks: list[_Desk] = []
        self._claimed = self._hanging = 0

    def submit(self, items: Sequence[T]) -> Jobs[P]:
        """Have these done; they are begun in the order in which they come."""
        jobs: Jobs[P] = Jobs(items)
        for place in range(len(items)):
            self._queue.put((jobs, place))
            if len(self._desks) < self._count:
                self._hire()
        return jobs

    def wait(self, jobs: Jobs[P]) -> list[P | BaseException | None]:
        """Wait until all of them are done or given up.

        Raises:
            StorageError: So many threads hang that the disk or the network must be at fault.
        """
        with self._changed:
            while jobs.left:
                self._changed.wait(self._give_up_the_late())
        return jobs.outcomes

    def close(self) -> None:
        """Forget what was not begun, and wait a little for what was."""
        try:
            while True:
                self._queue.get_nowait()
        except Empty:
            pass
        for _ in self._desks:
            self._queue.put(None)
        end = time.monotonic() + PATIENCE
        for desk in self._desks:
            desk.thread.join(max(0.0, end - time.monotonic()))

    def _hire(self) -> None:
        desk = _Desk(self)
        self._desks.append(desk)
        desk.thread.start()

    def _serve(self, desk: _Desk) -> None:
        _here.desk = desk
        while (job := self._queue.get()) is not None:
            jobs, place = job
            desk.job, desk.started = job, time.monotonic()
            try:
                outcome: Any = self._work(jobs.items[place])
                if isinstance(outcome, np.ndarray) and not outcome.dtype.hasobject:
                    outcome = jobs.side_by_side(place, outcome)
            except BaseException as error:  # noqa: BLE001 - handed to who waits; the thread lives on
                outcome = error
            if not self._settle(desk, outcome):
                return
            desk.job = None
            del job, jobs, outcome  # an idle thread keeps no picture alive

    def _settle(self, desk: _Desk, outcome: P | BaseException) -> bool:
        """Write down what became of a job; `False` for a thread that was given up."""
        with self._changed:
            if desk.given_up:
                self._hanging -= 1
                return False
            self._leave(desk, outcome)
            return True

    def _leave(self, desk: _Desk, outcome: Any) -> None:
        assert desk.job is not None
        jobs, place = desk.job
        jobs.outcomes[place] = outcome
        jobs.left -= 1
        desk.started = None
        if desk.claimed or not jobs.left:
            self._claimed -= desk.claimed
            desk.claimed = 0
            self._changed.notify_all()

    def _give_up_the_late(self) -> float | None:
        """Let go of threads whose time is over; returns the seconds until the next one's is."""
        if self._timeout is None:
            return None
        now, soonest = time.monotonic(), self._timeout
        for desk in list(self._desks):
            if desk.started is not None:
                remaining = desk.started + self._timeout - now
                if remaining <= 0:
                    self._give_up(desk)
                else:
                    soonest = min(soonest, remaining)
        return soonest

    def _give_up(self, desk: _Desk) -> None:
        desk.given_up = True
        self._desks.remove(desk)
        self._hanging += 1
        if self._hanging > MOST_HANGING:
            raise StorageError(
                f"{self._hanging} images at once gave no answer within {self._timeout:g} seconds: the disk or the"
                " network that they lie on is gone. What was finished before is kept: mend it, then repeat the same"
                " call; a larger timeout helps where it is only slow."
            )
        self._leave(desk, ImageError(_late(self._timeout)))
        self._hire()

    def _claim(self, desk: _Desk, pixels: int) -> None:
        with self._changed:
            if desk.given_up:
                raise ImageError(_late(self._timeout))
            desk.started = None
            # Who has room already takes more without waiting, or two such threads would wait for each other.
            while self._claimed and not desk.claimed and self._claimed + pixels > ROOM:
                self._changed.wait()
            desk.claimed += pixels
            self._claimed += pixels
            desk.started = time.monotonic()


def _new_block(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array in pages of its own, which go back to the system: from the heap, a long run took a tenth more memory."""
    size = math.prod(shape) * dtype.itemsize
    return np.ndarray(shape, dtype, buffer=mmap(-1, size) if size else None)


def as_one(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Stack arrays that came from `Workers`, in their order: without a copy, where they are all of a block."""
    block = arrays[0].base
    if isinstance(block, np.ndarray) and block.shape == (len(arrays), *arrays[0].shape):
        return block if all(array.base is block for array in arrays) else np.stack(arrays)
    return np.stack(arrays)


def _late(timeout: float | None) -> str:
    return (
        f"no answer within {timeout:g} seconds; if the disk or the network that it lies on is only slow, allow a larger"
        " timeout"
    )
