"""The guard rails of the Data API, as settings."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the emulated Data API refuses or cuts; the defaults are those of the service.

    Small values make a test of paging or of a limit fast.

    Args:
        page: documents in a page of ``find`` (and in the single page of a sorted ``find``).
        update_page: documents that one ``updateMany`` request changes.
        delete_page: documents that one ``deleteMany`` request deletes.
        insert: documents in one ``insertMany``.
        count: where ``countDocuments`` stops and says ``moreData``.
        vector_limit: documents that a search by vector returns.
        sorted_documents: documents that can be sorted in memory.
        in_values: values in one ``$in`` or ``$nin``.
        filter_fields: comparisons in one filter.
        body_bytes: bytes in a request's body; above it the answer is HTTP 413.
        document_chars: characters in one document's JSON.
        depth: levels of objects and arrays in a document, the document itself being the first.
        object_properties: properties in one indexed object.
        document_properties: indexed properties in one document.
        array_elements: elements in one indexed array (``$vector`` apart).
        path_chars: characters in the path to a field.
        number_chars: characters in a number.
        string_bytes: UTF-8 bytes in one indexed string.
        vector_dimension: dimension of a collection's vectors.
        name_chars: characters in the name of a keyspace or collection.
        collections: collections in the database; None for any number.

    Examples:
        >>> Limits(page=3).page
        3
        >>> Limits().string_bytes
        8000
    """

    page: int = 50
    update_page: int = 20
    delete_page: int = 20
    insert: int = 100
    count: int = 1000
    vector_limit: int = 1000
    sorted_documents: int = 10_000
    in_values: int = 100
    filter_fields: int = 64
    body_bytes: int = 20 * 1024 * 1024
    document_chars: int = 4_000_000
    depth: int = 16
    object_properties: int = 1000
    document_properties: int = 2000
    array_elements: int = 1000
    path_chars: int = 1000
    number_chars: int = 100
    string_bytes: int = 8000
    vector_dimension: int = 4096
    name_chars: int = 48
    collections: int | None = None

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value}")
