"""The errors of the Data API: their codes, and where each belongs."""

from __future__ import annotations

import uuid
from typing import Any

# Family and scope -> code -> title. A client decides by the code; the title is the short, fixed name of the error.
_TITLES: dict[tuple[str, str], dict[str, str]] = {
    ("REQUEST", ""): {
        "COMMAND_ACCEPTS_NO_OPTIONS": "Command accepts no options",
        "COMMAND_FIELD_UNKNOWN": "Command field unknown",
        "COMMAND_FIELD_VALUE_INVALID": "Command field value invalid",
        "COMMAND_UNKNOWN": "Command not known",
        "INVALID_CREATE_COLLECTION_FIELD": "Invalid field for createCollection",
        "REQUEST_NOT_JSON": "Request is not JSON",
        "REQUEST_STRUCTURE_MISMATCH": "Request structure not valid",
        "UNSUPPORTED_COLLECTION_COMMAND": "Command is not for collections",
        "UNSUPPORTED_CONTENT_TYPE": "Unsupported Content-Type",
    },
    ("REQUEST", "SECURITY"): {"UNAUTHENTICATED_REQUEST": "Authentication failed"},
    ("REQUEST", "DOCUMENT"): {
        "DOCUMENT_ALREADY_EXISTS": "A document with this _id exists",
        "DOCUMENT_REPLACE_DIFFERENT_DOCID": "The replacement has another _id",
        "INVALID_VECTOR_LENGTH": "Vector of another length",
        "INVALID_VECTORIZE_VALUE_TYPE": "Invalid $vectorize value",
        "LEXICAL_CONTENT_TOO_LONG": "Lexical content too long",
        "SHRED_BAD_BINARY_VECTOR_VALUE": "Bad binary vector",
        "SHRED_BAD_DOCID_TYPE": "Bad type of _id",
        "SHRED_BAD_DOCID_VALUE": "Bad value of _id",
        "SHRED_BAD_DOCUMENT_LEXICAL_TYPE": "Bad type of $lexical",
        "SHRED_BAD_DOCUMENT_TYPE": "Document is not an object",
        "SHRED_BAD_DOCUMENT_VECTOR_TYPE": "Bad type of $vector",
        "SHRED_BAD_EJSON_VALUE": "Bad extended JSON value",
        "SHRED_BAD_FIELD_NAME": "Field name not valid",
        "SHRED_BAD_VECTOR_SIZE": "Empty $vector",
        "SHRED_BAD_VECTOR_VALUE": "Bad value in $vector",
        "SHRED_DOC_LIMIT_VIOLATION": "Document limit violated",
    },
    ("REQUEST", "FILTER"): {
        "FILTER_FIELDS_LIMIT_VIOLATION": "Too many fields in the filter",
        "FILTER_ID_NOT_INDEXED": "_id is not indexed",
        "FILTER_INVALID_EXPRESSION": "Unsupported filter clause",
        "FILTER_MULTIPLE_ID_FILTER": "More than one _id in the filter",
        "FILTER_PATH_UNINDEXED": "Filter on a path that is not indexed",
        "FILTER_UNSUPPORTED_DATA_TYPE": "Unsupported filter data type",
        "FILTER_UNSUPPORTED_OPERATOR": "Unsupported filter operator",
    },
    ("REQUEST", "UPDATE"): {
        "UNSUPPORTED_UPDATE_DATA_TYPE": "Unsupported update data type",
        "UNSUPPORTED_UPDATE_OPERATION": "Unsupported update operation",
        "UNSUPPORTED_UPDATE_OPERATION_MODIFIER": "Unsupported update modifier",
        "UNSUPPORTED_UPDATE_OPERATION_PARAM": "Unsupported update parameter",
        "UNSUPPORTED_UPDATE_OPERATION_PATH": "Unsupported update path",
        "UNSUPPORTED_UPDATE_OPERATION_TARGET": "Unsupported update target",
        "UNSUPPORTED_UPDATE_OPERATOR_FOR_DOC_ID": "_id cannot be updated",
        "UNSUPPORTED_UPDATE_OPERATOR_FOR_LEXICAL": "Update operator not for $lexical",
        "UNSUPPORTED_UPDATE_OPERATOR_FOR_VECTOR": "Update operator not for $vector",
        "UNSUPPORTED_UPDATE_OPERATOR_FOR_VECTORIZE": "Update operator not for $vectorize",
    },
    ("REQUEST", "PROJECTION"): {
        "UNSUPPORTED_PROJECTION_DEFINITION": "Unsupported projection definition",
        "UNSUPPORTED_PROJECTION_PARAM": "Unsupported projection parameter",
    },
    ("REQUEST", "SORT"): {
        "OVERLOADED_SORT_ROW_LIMIT": "Too many documents to sort",
        "SORT_CLAUSE_INVALID": "Sort clause not valid",
        "SORT_CLAUSE_PATH_INVALID": "Path in sort clause not valid",
        "SORT_CLAUSE_PATH_UNINDEXED": "Sort on a path that is not indexed",
        "SORT_CLAUSE_VALUE_INVALID": "Value in sort clause not valid",
        "UNSUPPORTED_VECTORIZE_SORT_FOR_COLLECTION": "Vectorize sort not supported by the collection",
    },
    ("REQUEST", "SCHEMA"): {
        "EMBEDDING_SERVICE_NOT_CONFIGURED": "No embedding service",
        "EXISTING_COLLECTION_DIFFERENT_SETTINGS": "Collection exists with other settings",
        "INVALID_CREATE_COLLECTION_OPTIONS": "Invalid options for createCollection",
        "INVALID_INDEXING_DEFINITION": "Invalid indexing definition",
        "INVALID_USAGE_OF_VECTORIZE": "$vector and $vectorize together",
        "LEXICAL_NOT_AVAILABLE_FOR_DATABASE": "No lexical search in this database",
        "LEXICAL_NOT_ENABLED_FOR_COLLECTION": "Lexical search is not enabled for the collection",
        "RERANKING_FEATURE_NOT_ENABLED": "Reranking is not enabled",
        "TOO_MANY_COLLECTIONS": "Too many collections",
        "UNKNOWN_COLLECTION_OR_TABLE": "Collection or table does not exist",
        "UNKNOWN_KEYSPACE": "Keyspace does not exist",
        "UNSUPPORTED_SCHEMA_NAME": "Name not supported",
        "VECTOR_SEARCH_NOT_SUPPORTED": "Vector search is not enabled for the collection",
        "VECTOR_SEARCH_TOO_BIG_VALUE": "Vector dimension too big",
        "VECTOR_SEARCH_UNRECOGNIZED_SOURCE_MODEL_NAME": "Source model not known",
    },
    ("SERVER", ""): {"UNEXPECTED_SERVER_ERROR": "Unexpected server error"},
    ("SERVER", "DATABASE"): {
        "FAILED_COMPARE_AND_SET": "Compare and set failed",
        "FAILED_CONCURRENT_OPERATIONS": "Concurrent operations failed",
        "FAILED_READ_REQUEST": "Read request failed",
        "FAILED_TO_CONNECT_TO_DATABASE": "No connection to the database",
        "FAILED_WRITE_REQUEST": "Write request failed",
        "INVALID_DATABASE_QUERY": "Invalid database query",
        "TIMEOUT_READING_DATA": "Timeout reading data",
        "TIMEOUT_WRITING_DATA": "Timeout writing data",
        "UNAVAILABLE_DATABASE": "The database is unavailable",
        "UNEXPECTED_DRIVER_ERROR": "Unexpected driver error",
    },
    ("SERVER", "EMBEDDING_PROVIDER"): {"EMBEDDING_GATEWAY_NOT_AVAILABLE": "Embedding service not available"},
}
_KNOWN = {code: (family, scope, title) for (family, scope), codes in _TITLES.items() for code, title in codes.items()}

# Everything else that a command refuses is told with HTTP 200.
_HTTP_STATUS = {"UNAUTHENTICATED_REQUEST": 401, "UNSUPPORTED_CONTENT_TYPE": 415}

KNOWN_CODES = frozenset(_KNOWN)


class CommandFailure(Exception):
    """A command, or one document of it, that the Data API refuses.

    Args:
        code: the ``errorCode``, one of :data:`KNOWN_CODES`.
        message: what is wrong and what to do next.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message

    @property
    def http_status(self) -> int:
        """The HTTP status the failure is answered with."""
        return _HTTP_STATUS.get(self.code, 200)

    def describe(self, document_id: Any = ...) -> dict[str, Any]:
        """The error object of the response, naming the document that failed if one is given."""
        family, scope, title = _KNOWN[self.code]
        error: dict[str, Any] = {
            "message": self.message,
            "errorCode": self.code,
            "id": str(uuid.uuid4()),
            "family": family,
            "scope": scope,
            "title": title,
        }
        if document_id is not ...:
            error["documentIds"] = [document_id]
        return error


def json_type(value: Any) -> str:
    """What JSON calls the type of a value, for messages."""
    names: dict[type, str] = {
        type(None): "Null",
        bool: "Boolean",
        str: "String",
        list: "Array",
        dict: "Object",
    }
    return names.get(type(value), "Number")
