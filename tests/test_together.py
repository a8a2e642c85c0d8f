"""Questions of several threads are put together, and nobody gets another one's answer, error or silence."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock

import pytest

from geovlm._together import Together


class Desk:
    """Answers numbers by their squares, keeps the batches, and holds the first one until it is let go."""

    def __init__(self):
        self.batches, self.busy, self.go = [], Event(), Event()
        self._lock = Lock()

    def __call__(self, numbers):
        with self._lock:
            self.batches.append(list(numbers))
            first = len(self.batches) == 1
        if first:
            self.busy.set()
            assert self.go.wait(20)
        if -1 in numbers:
            raise ValueError("minus one")
        return [number * number for number in numbers]


def while_busy(together, desk, questions):
    """The futures of questions that come while the first one, a zero, is being answered."""
    pool = ThreadPoolExecutor(1 + len(questions))
    first = pool.submit(together.ask, "a", 0, desk)
    assert desk.busy.wait(20)
    waiting = [pool.submit(together.ask, key, number, desk) for key, number in questions]
    wanted = sum(key == "a" for key, _ in questions)
    while len(together._lines["a"]) < wanted:
        pass
    desk.go.set()
    pool.shutdown(wait=True)
    return [first, *waiting]


def test_who_comes_meanwhile_is_answered_at_once_and_by_key():
    together, desk = Together(), Desk()
    futures = while_busy(together, desk, [("a", n) for n in range(1, 6)] + [("b", 7)])
    assert [future.result() for future in futures] == [0, 1, 4, 9, 16, 25, 49]
    assert sorted(map(sorted, desk.batches)) == [[0], [1, 2, 3, 4, 5], [7]]
    assert not together._lines, "a line is left when nobody stands in it"


def test_an_error_reaches_only_the_one_whose_question_it_is_about():
    together, desk = Together(), Desk()
    futures = while_busy(together, desk, [("a", 1), ("a", -1), ("a", 2)])
    with pytest.raises(ValueError, match="minus one"):
        futures[2].result()
    assert [futures[place].result() for place in (0, 1, 3)] == [0, 1, 4]
    assert not together._lines
    with pytest.raises(ValueError, match="minus one"):
        together.ask("a", -1, desk)
    assert together.ask("a", 3, desk) == 9


def test_many_threads_and_many_questions():
    together = Together()

    def run(numbers):
        return [number + 1 for number in numbers]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: together.ask(number % 3, number, run), range(2000)))
    assert answers == list(range(1, 2001))
    assert not together._lines
