"""Documents on their way into a collection: what is refused, and what is kept of one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geovlm.testing.data_api.errors import CommandFailure, json_type
from geovlm.testing.data_api.ids import new_id
from geovlm.testing.data_api.paths import escape
from geovlm.testing.data_api.values import Canonical, document_key, extended_form, extended_key
from geovlm.testing.data_api.vectors import check_vector, document_vector

if TYPE_CHECKING:
    from geovlm.testing.data_api.indexing import Indexing
    from geovlm.testing.data_api.limits import Limits
    from geovlm.testing.data_api.schema import CollectionOptions
    from geovlm.testing.data_api.vectors import Vector

SPECIAL = ("$vector", "$vectorize", "$lexical")


@dataclass(frozen=True)
class Stored:
    """A document as a collection keeps it; the document is never changed in place."""

    key: Canonical
    document: dict[str, Any]
    indexed: dict[str, Any]
    vector: Vector | None


def identified(document: Any, options: CollectionOptions) -> dict[str, Any]:
    """A document with its ``_id`` in the first place, a new one if it has none.

    Raises:
        CommandFailure: it is not an object.
    """
    if not isinstance(document, dict):
        message = f"Document to insert must be a JSON Object, instead got {json_type(document)}."
        raise CommandFailure("SHRED_BAD_DOCUMENT_TYPE", f"Bad document type to shred: {message}")
    given = document["_id"] if "_id" in document else new_id(options.default_id)
    return {"_id": given, **document}


def shred(
    document: dict[str, Any], options: CollectionOptions, indexing: Indexing, limits: Limits, *, measure: bool = True
) -> Stored:
    """Check a document that has an ``_id`` and take it apart.

    Args:
        document: as :func:`identified` returns it.
        options: of its collection.
        indexing: which of its parts are indexed.
        limits: what is refused.
        measure: False if the document cannot be too long, so that its length need not be found out.

    Raises:
        CommandFailure: the document breaks a rule.
    """
    key = document_key(document["_id"])
    _check_structure(document, limits)
    if measure:
        _check_length(document, limits)
    vector = _vector(document, options, limits)
    _check_lexical(document, options, limits)
    indexed = indexing.project(document)
    _check_indexed(indexed, limits)
    return Stored(key, document, indexed, vector)


def too_large(problem: str) -> CommandFailure:
    """The error for a document that breaks one of the limits."""
    return CommandFailure("SHRED_DOC_LIMIT_VIOLATION", f"Document size limitation violated: {problem}.")


def _check_length(document: dict[str, Any], limits: Limits) -> None:
    length = len(json.dumps(document, separators=(",", ":"), ensure_ascii=False, default=str))
    if length > limits.document_chars:
        raise too_large(f"document size ({length} chars) exceeds maximum allowed ({limits.document_chars})")


def _check_structure(document: dict[str, Any], limits: Limits) -> None:
    for name, member in document.items():
        if name not in SPECIAL:
            _check_name(name)
            _check_member(member, len(escape(name)), 1, limits)


def _check_member(value: Any, path_chars: int, depth: int, limits: Limits) -> None:
    """The whole document's rules: names, depth, lengths of paths, extended values."""
    if path_chars > limits.path_chars:
        raise too_large(f"field path length ({path_chars}) exceeds maximum allowed ({limits.path_chars})")
    if not isinstance(value, (dict, list)) or _is_extended(value):
        return
    depth += 1
    if depth > limits.depth:
        raise too_large(f"document depth exceeds maximum allowed ({limits.depth})")
    if isinstance(value, list):
        for element in value:
            _check_member(element, path_chars, depth, limits)
        return
    for name, member in value.items():
        _check_name(name)
        _check_member(member, path_chars + 1 + len(escape(name)), depth, limits)


def _is_extended(value: Any) -> bool:
    key = extended_key(value)
    if key is None:
        return False
    if not (isinstance(value[key], str) if key == "$binary" else extended_form(key, value[key])):
        message = f"Bad JSON Extension value: '{key}' with {json_type(value[key])} value {value[key]!r} is not valid."
        raise CommandFailure("SHRED_BAD_EJSON_VALUE", message)
    return True


def _check_name(name: str) -> None:
    if not name:
        problem = "field name '' is empty"
    elif name.startswith("$"):
        problem = f"field name '{name}' starts with '$'"
    elif name == "*":
        problem = "field name '*' is reserved"
    else:
        return
    raise CommandFailure("SHRED_BAD_FIELD_NAME", f"Document field name not valid: {problem}. Rename the field.")


def _check_indexed(indexed: dict[str, Any], limits: Limits) -> None:
    fields = {name: value for name, value in indexed.items() if name not in SPECIAL}
    count = _count_properties(fields, "", limits)
    if count > limits.document_properties:
        problem = f"total number of indexed properties ({count}) in document exceeds maximum allowed"
        raise too_large(f"{problem} ({limits.document_properties})")


def _count_properties(value: Any, name: str, limits: Limits) -> int:
    """The number of properties in a value, every part of which must keep the limits of indexed ones."""
    if isinstance(value, str):
        if len(value) * 4 > limits.string_bytes:
            _check_string(value, name, limits)
        return 0
    if isinstance(value, list):
        if len(value) > limits.array_elements:
            problem = f"number of elements an indexable Array (field '{name}') has ({len(value)}) exceeds maximum"
            raise too_large(f"{problem} allowed ({limits.array_elements})")
        return sum(_count_properties(element, name, limits) for element in value)
    if not isinstance(value, dict) or extended_key(value) is not None:
        return 0
    if len(value) > limits.object_properties:
        problem = f"number of properties an indexable Object (field '{name}') has ({len(value)}) exceeds maximum"
        raise too_large(f"{problem} allowed ({limits.object_properties})")
    return len(value) + sum(_count_properties(member, member_name, limits) for member_name, member in value.items())


def _check_string(value: str, name: str, limits: Limits) -> None:
    # Half of a surrogate pair can be sent in JSON and has no UTF-8 form.
    size = len(value.encode("utf-8", "surrogatepass"))
    if size > limits.string_bytes:
        problem = f"indexed String value (field '{name}') length ({size} bytes) exceeds maximum allowed"
        raise too_large(f"{problem} ({limits.string_bytes} bytes)")


def check_vector_use(document: dict[str, Any], options: CollectionOptions) -> None:
    """Refuse vectors where the collection has none, and text for a vector, which would need a service.

    Raises:
        CommandFailure: as it says.
    """
    text = document.get("$vectorize")
    if text is not None:
        _refuse_vectorize(text, document, options)
    if document.get("$vector") is not None and options.vector is None:
        raise no_vectors()


def _vector(document: dict[str, Any], options: CollectionOptions, limits: Limits) -> Vector | None:
    check_vector_use(document, options)
    if options.vector is None or document.get("$vector") is None:
        return None
    vector = document_vector(document["$vector"], limits.vector_dimension)
    check_vector(vector, options.vector.dimension, options.vector.metric)
    return vector


def no_vectors() -> CommandFailure:
    """The error for a vector sent to a collection without them."""
    message = "Vector search is not enabled for the collection. Create the collection with vector options."
    return CommandFailure("VECTOR_SEARCH_NOT_SUPPORTED", message)


def _refuse_vectorize(text: Any, document: dict[str, Any], options: CollectionOptions) -> None:
    if not isinstance(text, str):
        message = f"$vectorize value needs to be text value, not {json_type(text)}."
        raise CommandFailure("INVALID_VECTORIZE_VALUE_TYPE", message)
    if document.get("$vector") is not None:
        message = "The `$vectorize` and `$vector` can't be used together. Send one of them."
        raise CommandFailure("INVALID_USAGE_OF_VECTORIZE", message)
    raise vectorize_unavailable(options)


def vectorize_unavailable(options: CollectionOptions) -> CommandFailure:
    """The error for text that an embedding service would have to turn into a vector."""
    if options.vector is None or options.vector.service is None:
        message = "Unable to vectorize data: no embedding service is configured for the collection. Send `$vector`."
        return CommandFailure("EMBEDDING_SERVICE_NOT_CONFIGURED", message)
    message = "The emulator has no embedding services. Send `$vector` instead of `$vectorize`."
    return CommandFailure("EMBEDDING_GATEWAY_NOT_AVAILABLE", message)


def _check_lexical(document: dict[str, Any], options: CollectionOptions, limits: Limits) -> None:
    text = document.get("$lexical")
    if text is None:
        return
    if not options.has_lexical:
        message = "Lexical search is not enabled for the collection. Leave `$lexical` out."
        raise CommandFailure("LEXICAL_NOT_ENABLED_FOR_COLLECTION", message)
    if not isinstance(text, str):
        message = f"'$lexical' must be a String or null, not {json_type(text)}."
        raise CommandFailure("SHRED_BAD_DOCUMENT_LEXICAL_TYPE", message)
    if len(text.encode("utf-8", "surrogatepass")) > limits.string_bytes:
        message = f"'$lexical' is longer than {limits.string_bytes} bytes. Shorten it."
        raise CommandFailure("LEXICAL_CONTENT_TOO_LONG", message)
