"""The commands that update and replace documents."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geovlm.testing.data_api import checks
from geovlm.testing.data_api.documents import Stored, identified, shred
from geovlm.testing.data_api.errors import CommandFailure
from geovlm.testing.data_api.filters import Clause, Comparison
from geovlm.testing.data_api.finding import PageState, Query, parse_page_state, parse_query
from geovlm.testing.data_api.read_commands import parse_projection
from geovlm.testing.data_api.update_paths import reached
from geovlm.testing.data_api.updates import Update
from geovlm.testing.data_api.values import canonical, identical

if TYPE_CHECKING:
    from geovlm.testing.data_api.requests import Answer, Request


@dataclass(frozen=True)
class _Change:
    """What became of one document; ``before`` is None for one that was inserted."""

    before: dict[str, Any] | None
    after: dict[str, Any]
    modified: bool

    def status(self) -> Answer:
        """The counts of a command that changes one document."""
        if self.before is None:
            return {"matchedCount": 0, "modifiedCount": 0, "upsertedId": self.after["_id"]}
        return {"matchedCount": 1, "modifiedCount": int(self.modified)}


_NOTHING: Answer = {"matchedCount": 0, "modifiedCount": 0}


def update_one(request: Request) -> Answer:
    """Update the first matching document."""
    change = _update_first(request, parse_query(request), _parse_update(request))
    return {"status": change.status() if change else _NOTHING}


def find_one_and_update(request: Request) -> Answer:
    """Update the first matching document and return it."""
    update = _parse_update(request)
    return _returned(request, lambda query: _update_first(request, query, update))


def find_one_and_replace(request: Request) -> Answer:
    """Replace the first matching document and return it."""
    replacement = request.fields.get("replacement")
    if replacement is None:
        raise checks.invalid("command.replacementDocument", None, "must not be null")
    if not isinstance(replacement, dict):
        raise checks.mismatch("replacement", "an Object", replacement)
    return _returned(request, lambda query: _replace_first(request, query, replacement))


def update_many(request: Request) -> Answer:
    """Update some of the matching documents; the status says where to go on."""
    update = _parse_update(request)
    query = parse_query(request)
    state = parse_page_state(request.options.get("pageState")) or PageState(0)
    most = request.limits.update_page
    found = list(itertools.islice(query.scan(state.place), most + 1))
    if not found and not state.place and _upserts(request):
        return {"status": _insert_updated(request, query, update).status()}
    status: Answer = {"matchedCount": len(found[:most]), "modifiedCount": 0}
    errors = []
    for _, stored in found[:most]:
        try:
            status["modifiedCount"] += _update(request, query, stored, update).modified
        except CommandFailure as failure:
            errors.append(failure.describe(stored.document["_id"]))
    if len(found) > most:
        status |= {"moreData": True, "nextPageState": PageState(found[most][0]).encode()}
    return {"status": status, "errors": errors} if errors else {"status": status}


def _parse_update(request: Request) -> Update:
    return Update(request.fields.get("update"))


def _upserts(request: Request) -> bool:
    return checks.boolean(request.options.get("upsert"), "options.upsert")


def _returned(request: Request, work: Any) -> Answer:
    """Do the work and answer with the document as it was or as it is."""
    wanted = checks.text_or_none(request.options.get("returnDocument"), "options.returnDocument") or "before"
    if wanted not in {"before", "after"}:
        raise checks.invalid("command.options.returnDocument", wanted, "must be 'before' or 'after'")
    projection = parse_projection(request)
    change = work(parse_query(request))
    if change is None:
        return {"data": {"document": None}, "status": _NOTHING}
    document = change.after if wanted == "after" else change.before
    shown = None if document is None else projection.apply(document)
    return {"data": {"document": shown}, "status": change.status()}


def _update_first(request: Request, query: Query, update: Update) -> _Change | None:
    stored, _ = query.first(request)
    if stored is not None:
        return _update(request, query, stored, update)
    return _insert_updated(request, query, update) if _upserts(request) else None


def _update(request: Request, query: Query, stored: Stored, update: Update) -> _Change:
    after, changed = update.applied(stored.document)
    if changed:
        query.collection.replace(_shredded(request, query, after))
    return _Change(stored.document, after, changed)


def _insert_updated(request: Request, query: Query, update: Update) -> _Change:
    """Insert what the filter says of the document it did not find, updated."""
    start = _from_filter(query.clause)
    after, _ = update.applied(start, is_new=True)
    if "_id" in start and not identical(after["_id"], start["_id"]):
        message = "The `$setOnInsert` of '_id' differs from the filter's. Use one `_id`."
        raise CommandFailure("UNSUPPORTED_UPDATE_OPERATOR_FOR_DOC_ID", message)
    return _inserted(request, query, after)


def _inserted(request: Request, query: Query, document: dict[str, Any]) -> _Change:
    full = identified(document, query.collection.options)
    query.collection.insert(_shredded(request, query, full))
    return _Change(None, full, modified=False)


def _shredded(request: Request, query: Query, document: dict[str, Any]) -> Stored:
    collection = query.collection
    return shred(document, collection.options, collection.indexing, request.limits)


def _from_filter(clause: Clause) -> dict[str, Any]:
    """A document with the values that a filter requires to be equal."""
    document: dict[str, Any] = {}
    for comparison in _required(clause):
        reached(document, comparison.names).put(comparison.operand)
    return document


def _required(clause: Clause) -> list[Comparison]:
    if isinstance(clause, Comparison):
        return [clause] if clause.operator == "$eq" and not clause.negated else []
    if clause.kind == "or" and len(clause.parts) > 1:
        return []
    return [comparison for part in clause.parts for comparison in _required(part)]


def _replace_first(request: Request, query: Query, replacement: dict[str, Any]) -> _Change | None:
    stored, _ = query.first(request)
    if stored is None:
        return _insert_replacement(request, query, replacement) if _upserts(request) else None
    before = stored.document
    if "_id" in replacement and canonical(replacement["_id"]) != stored.key:
        raise _other_id(before["_id"])
    after = {"_id": before["_id"], **{name: value for name, value in replacement.items() if name != "_id"}}
    changed = not identical(before, after)
    if changed:
        query.collection.replace(_shredded(request, query, after))
    return _Change(before, after, changed)


def _insert_replacement(request: Request, query: Query, replacement: dict[str, Any]) -> _Change:
    ids = [comparison.operand for comparison in _required(query.clause) if comparison.is_id]
    if ids and "_id" in replacement and canonical(replacement["_id"]) != canonical(ids[0]):
        raise _other_id(ids[0])
    return _inserted(request, query, {**({"_id": ids[0]} if ids else {}), **replacement})


def _other_id(expected: Any) -> CommandFailure:
    message = f"The replacement document and the document to replace have different '_id' (expected '{expected}')."
    return CommandFailure("DOCUMENT_REPLACE_DIFFERENT_DOCID", f"{message} Leave `_id` out of the replacement.")
