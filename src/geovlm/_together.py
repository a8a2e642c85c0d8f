"""What several threads ask for at the same time, answered by one call."""

from __future__ import annotations

from threading import Event, Lock
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    Item = TypeVar("Item")
    Answer = TypeVar("Answer")


class Together:
    """Joins questions that come while another one is being answered.

    Nobody waits for company: a thread that finds nothing going on asks alone and at once. Those who come meanwhile
    wait, and then the first of them asks for all. It pays where one call for many costs less than many calls.

    Examples:
        >>> Together().ask("double", 4, lambda numbers: [2 * number for number in numbers])
        8
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._lines: dict[Hashable, list[_Ticket]] = {}  # who waits, where somebody is being answered

    def ask(self, key: Hashable, item: Item, run: Callable[[Sequence[Item]], Sequence[Answer]]) -> Answer:
        """The answer to one question.

        Args:
            key: Only questions of the same key are put together.
            item: What is asked.
            run: Gives one answer an item, in order; the same function for the same key. If it raises, everybody asks
                alone, so that an error reaches the one whose question it is about.
        """
        ticket = _Ticket(item)
        with self._lock:
            line = self._lines.get(key)
            if line is None:
                self._lines[key] = []
            else:
                line.append(ticket)
        if line is None:
            self._lead(key, [ticket], run)
        else:
            ticket.called.wait()
            if ticket.company:
                self._lead(key, ticket.company, run)
        answers: Sequence[Answer] = ticket.answer or run([item])
        return answers[0]

    def _lead(self, key: Hashable, tickets: list[_Ticket], run: Callable[[Sequence[Any]], Sequence[Any]]) -> None:
        """Ask for several, and hand over to the first of those who have come meanwhile."""
        try:
            answers = run([ticket.item for ticket in tickets])
            for ticket, answer in zip(tickets, answers, strict=True):
                ticket.answer = [answer]
        except Exception:
            if len(tickets) == 1:
                raise
        finally:
            with self._lock:
                waiting = self._lines.pop(key)
                if waiting:
                    self._lines[key] = []
                    waiting[0].company = waiting
            for ticket in (*tickets, *waiting[:1]):
                ticket.called.set()


class _Ticket:
    """One question, its place in the line, and its answer in a list."""

    def __init__(self, item: Any) -> None:
        self.item = item
        self.called = Event()
        self.company: list[_Ticket] = []
        self.answer: list[Any] = []
