"""The commands on keyspaces and collections themselves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from geovlm.testing.data_api import checks
from geovlm.testing.data_api.errors import CommandFailure
from geovlm.testing.data_api.schema import CollectionOptions, parse_options
from geovlm.testing.data_api.store import Collection

if TYPE_CHECKING:
    from geovlm.testing.data_api.requests import Answer, Request

_NAME = re.compile(r"\w+", re.ASCII)


def create_keyspace(request: Request) -> Answer:
    """Create a keyspace, if it does not exist."""
    request.database.keyspaces.setdefault(_name(request, "keyspace"), {})
    return _done()


def drop_keyspace(request: Request) -> Answer:
    """Drop a keyspace with all in it, if it exists."""
    request.database.keyspaces.pop(_name(request, "keyspace", checked=False), None)
    return _done()


def find_keyspaces(request: Request) -> Answer:
    """The names of the keyspaces."""
    return {"status": {"keyspaces": list(request.database.keyspaces)}}


def find_embedding_providers(_: Request) -> Answer:
    """No provider: the emulator has none."""
    return {"status": {"embeddingProviders": {}}}


def find_reranking_providers(_: Request) -> Answer:
    """No provider: the emulator has none."""
    return {"status": {"rerankingProviders": {}}}


def create_collection(request: Request) -> Answer:
    """Create a collection; one that exists must have the same options."""
    collections = request.database.keyspace(request.keyspace or "")
    name = _name(request, "collection")
    options = parse_options(dict(request.options), request.limits)
    if name in collections:
        _check_same(name, options, collections[name].options)
        return _done()
    most = request.limits.collections
    if most is not None and sum(map(len, request.database.keyspaces.values())) >= most:
        message = f"The database has {most} collections, no more are allowed. Delete one."
        raise CommandFailure("TOO_MANY_COLLECTIONS", message)
    collections[name] = Collection(name, options.completed())
    return _done()


def delete_collection(request: Request) -> Answer:
    """Delete a collection, if it exists."""
    collections = request.database.keyspace(request.keyspace or "")
    collections.pop(_name(request, "collection", checked=False), None)
    return _done()


def find_collections(request: Request) -> Answer:
    """The collections of a keyspace: their names, or their options too."""
    collections = request.database.keyspace(request.keyspace or "")
    if not checks.boolean(request.options.get("explain"), "options.explain"):
        return {"status": {"collections": list(collections)}}
    described = [{"name": name, "options": made.options.describe()} for name, made in collections.items()]
    return {"status": {"collections": described}}


def list_tables(request: Request) -> Answer:
    """No tables: the emulator has none."""
    request.database.keyspace(request.keyspace or "")
    return {"status": {"tables": []}}


def list_types(request: Request) -> Answer:
    """No user-defined types: the emulator has none."""
    request.database.keyspace(request.keyspace or "")
    return {"status": {"types": []}}


def _done() -> Answer:
    return {"status": {"ok": 1}}


def _name(request: Request, kind: str, *, checked: bool = True) -> str:
    given: Any = checks.text_or_none(request.fields.get("name"), "name")
    if given is None:
        raise checks.invalid("command.name", None, "must not be null")
    if checked and not (_NAME.fullmatch(given) and len(given) <= request.limits.name_chars):
        rule = f"letters, digits and underscores, 1 to {request.limits.name_chars} of them"
        raise CommandFailure("UNSUPPORTED_SCHEMA_NAME", f"The {kind} name '{given}' is not supported. Use {rule}.")
    return str(given)


def _check_same(name: str, options: CollectionOptions, existing: CollectionOptions) -> None:
    if not options.completed(existing).same_as(existing):
        message = f"The collection '{name}' exists with other settings: {existing.describe()}."
        raise CommandFailure(
            "EXISTING_COLLECTION_DIFFERENT_SETTINGS", f"{message} Use the same settings, or another name."
        )
