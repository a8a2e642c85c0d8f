"""The commands that read: find, findOne, counts."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from geovlm.testing.data_api import checks
from geovlm.testing.data_api.errors import CommandFailure
from geovlm.testing.data_api.finding import PageState, Query, parse_page_state, parse_query, unsorted_only
from geovlm.testing.data_api.projection import Projection
from geovlm.testing.data_api.sorting import FieldSort, VectorSort
from geovlm.testing.data_api.vectors import short_float

if TYPE_CHECKING:
    from geovlm.testing.data_api.documents import Stored
    from geovlm.testing.data_api.requests import Answer, Request


def find(request: Request) -> Answer:
    """A page of documents."""
    query = parse_query(request)
    projection = parse_projection(request)
    state = parse_page_state(request.options.get("pageState"))
    unsorted_only(query, state)
    limit, skip = _window(request, query)
    with_similarity = checks.boolean(request.options.get("includeSimilarity"), "options.includeSimilarity")
    with_vector = checks.boolean(request.options.get("includeSortVector"), "options.includeSortVector")
    after: str | None = None
    if isinstance(query.sort, VectorSort):
        best = query.sort.order(query.documents(), limit or request.limits.vector_limit)
        documents = [
            _returned(projection, stored, similarity if with_similarity else None) for stored, similarity in best
        ]
    else:
        page, after = _page(request, query, limit, skip, state)
        documents = [projection.apply(stored.document) for stored in page]
    answer: Answer = {"data": {"documents": documents, "nextPageState": None if with_vector else after}}
    if with_vector:
        answer["status"] = {"sortVector": _sort_vector(query)}
    return answer


def find_one(request: Request) -> Answer:
    """The first document."""
    query = parse_query(request)
    projection = parse_projection(request)
    with_similarity = checks.boolean(request.options.get("includeSimilarity"), "options.includeSimilarity")
    with_vector = checks.boolean(request.options.get("includeSortVector"), "options.includeSortVector")
    stored, similarity = query.first(request)
    document = None if stored is None else _returned(projection, stored, similarity if with_similarity else None)
    answer: Answer = {"data": {"document": document}}
    if with_vector:
        answer["status"] = {"sortVector": _sort_vector(query)}
    return answer


def count_documents(request: Request) -> Answer:
    """The number of matching documents, up to where counting stops."""
    most = request.limits.count
    found = sum(1 for _ in itertools.islice(parse_query(request).documents(), most + 1))
    return {"status": {"count": most, "moreData": True} if found > most else {"count": found}}


def estimated_document_count(request: Request) -> Answer:
    """The number of documents; an estimate on the service, exact here."""
    return {"status": {"count": len(request.target())}}


def find_and_rerank(request: Request) -> Answer:
    """Refused: it needs a reranking service."""
    request.target()
    message = "Reranking is not enabled: the emulator has no reranking service. Use find with a `$vector` sort."
    raise CommandFailure("RERANKING_FEATURE_NOT_ENABLED", message)


def parse_projection(request: Request) -> Projection:
    """The projection of a command.

    Raises:
        CommandFailure: it is not one.
    """
    return Projection(request.fields.get("projection", {}))


def _window(request: Request, query: Query) -> tuple[int, int]:
    limit = _amount(request, "limit")
    skip = _amount(request, "skip")
    largest = request.limits.vector_limit
    if isinstance(query.sort, VectorSort) and limit > largest:
        problem = f"limit options should not be greater than {largest} for vector search"
        raise checks.invalid("command.options.limit", limit, problem)
    if skip and isinstance(query.sort, VectorSort):
        raise checks.invalid("command.options.skip", skip, "skip options should not be used with vector search")
    if skip and query.sort is None:
        raise checks.invalid("command.options.skip", skip, "skip options should be used with sort")
    return limit, skip


def _amount(request: Request, name: str) -> int:
    given = request.options.get(name)
    amount = 0 if given is None else checks.integer(given, f"options.{name}")
    if amount < 0:
        raise checks.invalid(f"command.options.{name}", amount, f"{name} should be greater than or equal to `0`")
    return amount


def _page(
    request: Request, query: Query, limit: int, skip: int, state: PageState | None
) -> tuple[list[Stored], str | None]:
    """A page of documents, and the state of the next one if there is one."""
    size = request.limits.page
    if isinstance(query.sort, FieldSort):
        return query.sort.order(query.documents(), request.limits)[skip : skip + min(limit or size, size)], None
    if query.named_ids() is not None:
        found = list(query.documents())
        return found[: limit or len(found)], None
    remaining = (limit or None) if state is None else state.remaining
    size = size if remaining is None else min(size, remaining)
    places = list(itertools.islice(query.scan(state.place if state else 0), size + 1))
    page = [stored for _, stored in places[:size]]
    left = None if remaining is None else remaining - size
    if len(places) <= size or left == 0:
        return page, None
    return page, PageState(places[size][0], left).encode()


def _returned(projection: Projection, stored: Stored, similarity: float | None) -> dict[str, Any]:
    document = projection.apply(stored.document)
    return document if similarity is None else {**document, "$similarity": similarity}


def _sort_vector(query: Query) -> list[float] | None:
    """The vector of the sort, as numbers whatever form it was sent in."""
    return [short_float(value) for value in query.sort.vector] if isinstance(query.sort, VectorSort) else None
