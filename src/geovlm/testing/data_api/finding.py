"""Finding the documents that a command is about."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geovlm.testing.data_api import checks
from geovlm.testing.data_api.errors import CommandFailure
from geovlm.testing.data_api.filters import EVERYTHING, Clause, Comparison, Group, parse_filter
from geovlm.testing.data_api.matching import check_indexed, matches
from geovlm.testing.data_api.sorting import FieldSort, Sort, VectorSort, parse_sort
from geovlm.testing.data_api.values import canonical, is_integer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geovlm.testing.data_api.documents import Stored
    from geovlm.testing.data_api.requests import Request
    from geovlm.testing.data_api.store import Collection


@dataclass(frozen=True)
class Query:
    """A filter and a sort on one collection.

    Args:
        collection: to look in.
        clause: what documents must match.
        sort: their order, None for that of insertion.
    """

    collection: Collection
    clause: Clause
    sort: Sort | None

    @property
    def is_everything(self) -> bool:
        """Whether there is no filter."""
        return self.clause == EVERYTHING

    def named_ids(self) -> list[Any] | None:
        """The ids that the filter asks for, or None if it does not say."""
        parts = self.clause.parts if isinstance(self.clause, Group) and self.clause.kind == "and" else (self.clause,)
        for part in parts:
            if isinstance(part, Comparison) and part.is_id and not part.negated and part.operator in {"$eq", "$in"}:
                return [part.operand] if part.operator == "$eq" else list(part.operand)
        return None

    def scan(self, start: int = 0) -> Iterator[tuple[int, Stored]]:
        """Matching documents with their places, in the order of insertion."""
        for place, stored in self.collection.scan(start):
            if matches(self.clause, stored):
                yield place, stored

    def documents(self) -> Iterator[Stored]:
        """Matching documents without regard to the sort; by the filter's ids, in their order, if it names any."""
        ids = self.named_ids()
        if ids is None:
            yield from (stored for _, stored in self.scan())
            return
        for key in dict.fromkeys(canonical(value) for value in ids):
            stored = self.collection.get(key)
            if stored is not None and matches(self.clause, stored):
                yield stored

    def first(self, request: Request) -> tuple[Stored | None, float | None]:
        """The first document in the order of the sort, with its similarity if that is a vector."""
        if isinstance(self.sort, VectorSort):
            best = self.sort.order(self.documents(), 1)
            return best[0] if best else (None, None)
        if isinstance(self.sort, FieldSort):
            ordered = self.sort.order(self.documents(), request.limits)
            return (ordered[0] if ordered else None), None
        return next(self.documents(), None), None


def parse_query(request: Request) -> Query:
    """The filter and the sort of a command.

    Raises:
        CommandFailure: one of them is not valid for the collection.
    """
    collection = request.target()
    clause = parse_filter(request.fields.get("filter"), collection.options, request.limits)
    sort = parse_sort(request.fields.get("sort"), collection.options, collection.indexing)
    check_indexed(clause, collection.indexing)
    return Query(collection, clause, sort)


@dataclass(frozen=True)
class PageState:
    """Where the next page begins, and how many documents are still wanted (None for all)."""

    place: int
    remaining: int | None = None

    def encode(self) -> str:
        """The state as clients hand it back."""
        return base64.urlsafe_b64encode(json.dumps([self.place, self.remaining]).encode()).decode()


def parse_page_state(value: Any) -> PageState | None:
    """The ``pageState`` of a command's options.

    Raises:
        CommandFailure: it is not one that a response gave.

    Examples:
        >>> parse_page_state(PageState(7, 3).encode())
        PageState(place=7, remaining=3)
    """
    text = checks.text_or_none(value, "options.pageState")
    if not text:
        return None
    try:
        state = PageState(*json.loads(base64.urlsafe_b64decode(text)))
    except (binascii.Error, ValueError, TypeError):
        state = PageState(-1)
    if not all(is_integer(number) and number >= 0 for number in (state.place, state.remaining or 0)):
        raise checks.invalid("command.options.pageState", text, "not a page state of a response")
    return state


def unsorted_only(query: Query, state: PageState | None) -> None:
    """Refuse a page state beside a sort.

    Raises:
        CommandFailure: as it says.
    """
    if state is not None and query.sort is not None:
        message = "pageState is not supported with a non-empty sort clause. Leave one of them out."
        raise CommandFailure("SORT_CLAUSE_INVALID", f"Sort clause not valid: {message}")
