"""The commands that insert and delete."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geovlm.testing.data_api import checks
from geovlm.testing.data_api.documents import check_vector_use, identified, shred
from geovlm.testing.data_api.errors import CommandFailure
from geovlm.testing.data_api.finding import parse_query
from geovlm.testing.data_api.read_commands import parse_projection

if TYPE_CHECKING:
    from geovlm.testing.data_api.requests import Answer, Request

_UNKNOWN: Any = ...


@dataclass
class _Insertion:
    """The outcomes of one request's documents."""

    ids: list[Any] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    responses: list[dict[str, Any]] = field(default_factory=list)

    def add(self, document_id: Any, failure: CommandFailure | None) -> None:
        """Note the outcome of one document."""
        response: dict[str, Any] = {} if document_id is _UNKNOWN else {"_id": document_id}
        if failure is None:
            self.ids.append(document_id)
            self.responses.append({**response, "status": "OK"})
            return
        self.responses.append({**response, "status": "ERROR", "errorsIdx": len(self.errors)})
        self.errors.append(failure.describe(document_id))

    def answer(self, *, responses: bool) -> Answer:
        """What the request is answered with."""
        status = {"documentResponses": self.responses} if responses else {"insertedIds": self.ids}
        return {"status": status, "errors": self.errors} if self.errors else {"status": status}


def insert_one(request: Request) -> Answer:
    """Insert a document."""
    document = request.fields.get("document")
    if document is None:
        raise checks.invalid("command.document", None, "must not be null")
    if not isinstance(document, dict):
        raise checks.mismatch("document", "an Object", document)
    return _insert(request, [document], ordered=False).answer(responses=False)


def insert_many(request: Request) -> Answer:
    """Insert documents; ordered ones until the first that fails."""
    documents = request.fields.get("documents")
    if documents is not None and not isinstance(documents, list):
        raise checks.mismatch("documents", "an Array", documents)
    if not documents:
        raise checks.invalid("command.documents", documents, "must not be null or empty")
    most = request.limits.insert
    if len(documents) > most:
        problem = f"amount of documents to insert is over the max limit ({len(documents)} vs {most})"
        raise checks.invalid("command.documents", "[...]", problem)
    ordered = checks.boolean(request.options.get("ordered"), "options.ordered")
    named = checks.boolean(request.options.get("returnDocumentResponses"), "options.returnDocumentResponses")
    return _insert(request, documents, ordered=ordered).answer(responses=named)


def _insert(request: Request, documents: list[Any], *, ordered: bool) -> _Insertion:
    options = request.target().options
    # What is wrong with the collection rather than with one document refuses the whole request.
    for document in documents:
        if isinstance(document, dict):
            check_vector_use(document, options)
    outcome = _Insertion()
    for place, document in enumerate(documents):
        outcome.add(*_insert_document(request, document, place))
        if ordered and outcome.errors:
            _skip(outcome, documents[place + 1 :])
            break
    return outcome


def _insert_document(request: Request, document: Any, place: int) -> tuple[Any, CommandFailure | None]:
    collection = request.target()
    document_id = document.get("_id", _UNKNOWN) if isinstance(document, dict) else _UNKNOWN
    fault = request.fault if request.fault and place in request.fault.places else None
    try:
        full = identified(document, collection.options)
        document_id = full["_id"]
        stored = shred(full, collection.options, collection.indexing, request.limits, measure=request.may_be_long)
        if fault is None or fault.written:
            collection.insert(stored)
        if fault:
            raise CommandFailure(fault.code, "The database did not answer in time. Try the document again.")
    except CommandFailure as failure:
        return document_id, failure
    return document_id, None


def _skip(outcome: _Insertion, documents: list[Any]) -> None:
    for document in documents:
        named = {"_id": document["_id"]} if isinstance(document, dict) and "_id" in document else {}
        outcome.responses.append({**named, "status": "SKIPPED"})


def delete_one(request: Request) -> Answer:
    """Delete the first matching document."""
    _require_filter(request)
    stored, _ = parse_query(request).first(request)
    if stored is not None:
        request.target().delete(stored)
    return {"status": {"deletedCount": 0 if stored is None else 1}}


def delete_many(request: Request) -> Answer:
    """Delete some of the matching documents, or all documents where there is no filter."""
    query = parse_query(request)
    if query.is_everything:
        query.collection.truncate()
        return {"status": {"deletedCount": -1}}
    most = request.limits.delete_page
    found = list(itertools.islice(query.documents(), most + 1))
    for stored in found[:most]:
        query.collection.delete(stored)
    status: Answer = {"deletedCount": min(len(found), most)}
    return {"status": {**status, "moreData": True} if len(found) > most else status}


def find_one_and_delete(request: Request) -> Answer:
    """Delete the first matching document and return it."""
    projection = parse_projection(request)
    query = parse_query(request)
    stored, _ = query.first(request)
    if stored is None:
        return {"data": {"document": None}, "status": {"deletedCount": 0}}
    query.collection.delete(stored)
    return {"data": {"document": projection.apply(stored.document)}, "status": {"deletedCount": 1}}


def _require_filter(request: Request) -> None:
    if request.fields.get("filter") is None:
        raise checks.invalid("command.filterClause", None, "must not be null")
