"""From a request's body to the command it asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from geovlm.testing.data_api import admin_commands as admin
from geovlm.testing.data_api import checks
from geovlm.testing.data_api import read_commands as read
from geovlm.testing.data_api import update_commands as update
from geovlm.testing.data_api import write_commands as write
from geovlm.testing.data_api.errors import CommandFailure

if TYPE_CHECKING:
    from collections.abc import Callable

    from geovlm.testing.data_api.requests import Answer, DocumentFault, Request


@dataclass(frozen=True)
class Command:
    """A command: what carries it out, and the fields and options it knows (None: options are refused)."""

    run: Callable[[Request], Answer]
    fields: tuple[str, ...] = ()
    options: tuple[str, ...] | None = ()
    # createCollection has its own error for options that are not known.
    checks_options: bool = True


_UPDATE = ("filter", "sort", "update")
_GENERAL = {
    "createKeyspace": Command(admin.create_keyspace, ("name",), ("replication",)),
    "dropKeyspace": Command(admin.drop_keyspace, ("name",)),
    "findEmbeddingProviders": Command(admin.find_embedding_providers, (), ("filterModelStatus",)),
    "findKeyspaces": Command(admin.find_keyspaces),
    "findRerankingProviders": Command(admin.find_reranking_providers, (), ("filterModelStatus",)),
}
_KEYSPACE = {
    "createCollection": Command(admin.create_collection, ("name",), (), checks_options=False),
    "deleteCollection": Command(admin.delete_collection, ("name",)),
    "findCollections": Command(admin.find_collections, (), ("explain",)),
    "listTables": Command(admin.list_tables, (), ("explain",)),
    "listTypes": Command(admin.list_types, (), ("explain",)),
}
_COLLECTION = {
    "countDocuments": Command(read.count_documents, ("filter",), None),
    "deleteMany": Command(write.delete_many, ("filter",), None),
    "deleteOne": Command(write.delete_one, ("filter", "sort"), None),
    "estimatedDocumentCount": Command(read.estimated_document_count, (), None),
    "find": Command(
        read.find,
        ("filter", "projection", "sort"),
        ("includeSimilarity", "includeSortVector", "limit", "pageState", "skip"),
    ),
    "findAndRerank": Command(
        read.find_and_rerank,
        ("filter", "projection", "sort"),
        ("hybridLimits", "includeScores", "includeSortVector", "limit", "rerankOn", "rerankQuery"),
    ),
    "findOne": Command(read.find_one, ("filter", "projection", "sort"), ("includeSimilarity", "includeSortVector")),
    "findOneAndDelete": Command(write.find_one_and_delete, ("filter", "projection", "sort"), None),
    "findOneAndReplace": Command(
        update.find_one_and_replace, ("filter", "projection", "replacement", "sort"), ("returnDocument", "upsert")
    ),
    "findOneAndUpdate": Command(update.find_one_and_update, (*_UPDATE, "projection"), ("returnDocument", "upsert")),
    "insertMany": Command(write.insert_many, ("documents",), ("ordered", "returnDocumentResponses")),
    "insertOne": Command(write.insert_one, ("document",), None),
    "updateMany": Command(update.update_many, ("filter", "update"), ("pageState", "upsert")),
    "updateOne": Command(update.update_one, _UPDATE, ("upsert",)),
}
_FOR_TABLES = ("alterTable", "createIndex", "createTextIndex", "createVectorIndex", "listIndexes")


def command_name(body: Any) -> str:
    """The name of the command that a body asks for.

    Raises:
        CommandFailure: the body does not name exactly one.

    Examples:
        >>> command_name({"findOne": {}})
        'findOne'
    """
    if not isinstance(body, dict):
        raise checks.mismatch("command", "an Object with the command's name as its key", body)
    names = [name for name in body if name != "forceSchemaRefresh"]
    if not names:
        raise checks.invalid("command", None, "must not be null")
    if len(names) > 1:
        message = f"One command per request, not {len(names)} ({', '.join(names[:5])}). Send several requests."
        raise CommandFailure("REQUEST_STRUCTURE_MISMATCH", f"Request invalid, mismatching structure: {message}")
    return str(names[0])


def run_command(body: Any, request: Request, fault: DocumentFault | None = None) -> Answer:
    """Carry out the command of a body.

    Args:
        body: as it was decoded.
        request: the request so far: the database and the path it was sent to.
        fault: documents that are to fail.

    Returns:
        What it is answered with.

    Raises:
        CommandFailure: the command is refused.
    """
    name = command_name(body)
    command = _command(name, request)
    fields = body[name]
    if not isinstance(fields, dict):
        raise checks.mismatch(name, "an Object", fields)
    options = _options(name, command, fields)
    fields = {field: value for field, value in fields.items() if field != "options"}
    full = replace(request, name=name, fields=fields, options=options, fault=fault)
    with request.database.lock:
        return command.run(full)


def _command(name: str, request: Request) -> Command:
    if request.keyspace is None:
        level, known = "General", _GENERAL
    elif request.collection is None:
        level, known = "Keyspace", _KEYSPACE
    else:
        level, known = "Collection", _COLLECTION
    if name in known:
        return known[name]
    if level == "Collection" and name in _FOR_TABLES:
        message = f"The command '{name}' is for tables, '{request.collection}' is a collection."
        raise CommandFailure("UNSUPPORTED_COLLECTION_COMMAND", message)
    message = f"Command '{name}' is not a {level} Command recognized by Data API."
    raise CommandFailure("COMMAND_UNKNOWN", f"{message} Known: {', '.join(known)}.")


def _options(name: str, command: Command, fields: dict[str, Any]) -> dict[str, Any]:
    checks.known_fields(fields, (*command.fields, "options"), f"'{name}'")
    options = checks.object_or_none(fields.get("options"), "options") or {}
    if command.options is None:
        if options:
            message = f"Command '{name}' accepts no options, these were given: {', '.join(options)}."
            raise CommandFailure("COMMAND_ACCEPTS_NO_OPTIONS", f"{message} Leave them out.")
    elif command.checks_options:
        checks.known_fields(options, command.options, f"the options of '{name}'")
    return options
