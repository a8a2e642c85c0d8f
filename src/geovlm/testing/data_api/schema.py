"""What a collection is: its options, as createCollection takes them and findCollections tells them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geovlm.testing.data_api import checks
from geovlm.testing.data_api.errors import CommandFailure
from geovlm.testing.data_api.indexing import parse_indexing
from geovlm.testing.data_api.vectors import METRICS

if TYPE_CHECKING:
    from geovlm.testing.data_api.limits import Limits

SOURCE_MODELS = ("ada002", "bert", "cohere-v3", "gecko", "nv-qa-4", "openai-v3-large", "openai-v3-small", "other")
ID_TYPES = ("objectId", "uuid", "uuidv6", "uuidv7")

# With an embedding service a dimension may be left out; the service's models are not emulated, only their place.
_SERVICE_DIMENSION = 1024
_LEXICAL: dict[str, Any] = {"enabled": True, "analyzer": "standard"}
_RERANK: dict[str, Any] = {
    "enabled": True,
    "service": {"provider": "nvidia", "modelName": "nvidia/llama-3.2-nv-rerankqa-1b-v2"},
}


@dataclass(frozen=True)
class VectorOptions:
    """The vectors of a collection."""

    dimension: int
    metric: str
    source_model: str
    service: dict[str, Any] | None

    def describe(self) -> dict[str, Any]:
        """The options as findCollections tells them."""
        told = {"dimension": self.dimension, "metric": self.metric, "sourceModel": self.source_model}
        return told if self.service is None else {**told, "service": self.service}


@dataclass(frozen=True)
class CollectionOptions:
    """All options of a collection; ``lexical`` and ``rerank`` are None when the request leaves them out."""

    default_id: str | None
    vector: VectorOptions | None
    indexing: dict[str, list[str]] | None
    lexical: dict[str, Any] | None
    rerank: dict[str, Any] | None

    @property
    def has_lexical(self) -> bool:
        """Whether documents may have a ``$lexical``."""
        return bool(self.lexical and self.lexical["enabled"])

    def completed(self, existing: CollectionOptions | None = None) -> CollectionOptions:
        """With what was left out taken from the existing collection, or from the defaults of the service."""
        lexical = existing.lexical if existing else _LEXICAL
        rerank = existing.rerank if existing else _RERANK
        return dataclasses.replace(self, lexical=self.lexical or lexical, rerank=self.rerank or rerank)

    def describe(self) -> dict[str, Any]:
        """The options as findCollections tells them."""
        told: dict[str, Any] = {}
        if self.default_id:
            told["defaultId"] = {"type": self.default_id}
        if self.vector:
            told["vector"] = self.vector.describe()
        if self.indexing:
            told["indexing"] = self.indexing
        return {**told, "lexical": self.lexical, "rerank": self.rerank}

    def same_as(self, other: CollectionOptions) -> bool:
        """Whether two collections would be the same; the order of indexed paths does not matter."""
        return self._comparable() == other._comparable()

    def _comparable(self) -> tuple[Any, ...]:
        indexing = {kind: set(paths) for kind, paths in (self.indexing or {}).items()}
        return (self.default_id, self.vector, indexing, self.lexical, self.rerank)


def parse_options(options: dict[str, Any], limits: Limits) -> CollectionOptions:
    """The options of a createCollection command.

    Raises:
        CommandFailure: an option is not known or has a value that is not.
    """
    _known(options, "options", ("vector", "indexing", "defaultId", "lexical", "rerank"))
    default_id = _object(options, "defaultId")
    vector = _object(options, "vector")
    indexing = _object(options, "indexing")
    return CollectionOptions(
        default_id=None if default_id is None else _default_id(default_id),
        vector=None if vector is None else _vector(vector, limits),
        indexing=None if indexing is None else _indexing(indexing),
        lexical=_lexical(_object(options, "lexical")),
        rerank=_rerank(_object(options, "rerank")),
    )


def _known(given: dict[str, Any], where: str, names: tuple[str, ...]) -> None:
    for name in given:
        if name not in names:
            message = f"No option '{name}' exists as a {where} field. Known: {', '.join(sorted(names))}."
            raise CommandFailure("INVALID_CREATE_COLLECTION_FIELD", message)


def _object(options: dict[str, Any], name: str) -> dict[str, Any] | None:
    return checks.object_or_none(options.get(name), f"options.{name}")


def _default_id(given: dict[str, Any]) -> str:
    _known(given, "options.defaultId", ("type",))
    kind = given.get("type")
    if kind not in ID_TYPES:
        raise checks.invalid("command.options.idConfig.idType", kind, f"must be one of: {', '.join(ID_TYPES)}")
    return str(kind)


def _vector(given: dict[str, Any], limits: Limits) -> VectorOptions:
    names = ("dimension", "size", "metric", "function", "sourceModel", "service")
    _known(given, "options.vector", names)
    service = _service(checks.object_or_none(given.get("service"), "options.vector.service"))
    model = _source_model(given.get("sourceModel"))
    default = "cosine" if model == "other" else "dot_product"
    metric = given.get("metric", given.get("function")) or default
    if metric not in METRICS:
        where = "command.options.vector.metric"
        raise checks.invalid(where, metric, "function name can only be 'dot_product', 'cosine' or 'euclidean'")
    dimension = _dimension(given.get("dimension", given.get("size")), service is not None, limits)
    return VectorOptions(dimension, str(metric), model, service)


def _dimension(given: Any, has_service: bool, limits: Limits) -> int:
    if given is None:
        if has_service:
            return _SERVICE_DIMENSION
        message = "The 'dimension' can not be null if 'service' is not provided. Give the vectors' dimension."
        raise CommandFailure("INVALID_CREATE_COLLECTION_OPTIONS", message)
    dimension = checks.integer(given, "options.vector.dimension")
    if dimension <= 0:
        raise checks.invalid("command.options.vector.dimension", dimension, "dimension should be greater than `0`")
    if dimension > limits.vector_dimension:
        message = f"Vector dimension {dimension} is too big, the largest is {limits.vector_dimension}."
        raise CommandFailure("VECTOR_SEARCH_TOO_BIG_VALUE", f"{message} Use smaller vectors.")
    return dimension


def _source_model(given: Any) -> str:
    if given is None:
        return "other"
    if given not in SOURCE_MODELS:
        message = f"Source model '{given}' is not known. Known: {', '.join(SOURCE_MODELS)}."
        raise CommandFailure("VECTOR_SEARCH_UNRECOGNIZED_SOURCE_MODEL_NAME", message)
    return str(given)


def _service(given: dict[str, Any] | None) -> dict[str, Any] | None:
    if given is None:
        return None
    _known(given, "options.vector.service", ("provider", "modelName", "authentication", "parameters"))
    if not isinstance(given.get("provider"), str):
        raise checks.invalid("command.options.vector.vectorizeConfig.provider", None, "must not be null")
    return {name: value for name, value in given.items() if value is not None}


def _indexing(given: dict[str, Any]) -> dict[str, list[str]]:
    _known(given, "options.indexing", ("allow", "deny"))
    return parse_indexing(given)


def _lexical(given: dict[str, Any] | None) -> dict[str, Any] | None:
    if given is None:
        return None
    _known(given, "options.lexical", ("enabled", "analyzer"))
    if not _enabled(given, "lexical"):
        return {"enabled": False}
    analyzer = given.get("analyzer")
    return {"enabled": True, "analyzer": "standard" if analyzer is None else analyzer}


def _rerank(given: dict[str, Any] | None) -> dict[str, Any] | None:
    if given is None:
        return None
    _known(given, "options.rerank", ("enabled", "service"))
    if not _enabled(given, "rerank"):
        return {"enabled": False}
    return {"enabled": True, "service": given.get("service") or _RERANK["service"]}


def _enabled(given: dict[str, Any], name: str) -> bool:
    if not isinstance(given.get("enabled"), bool):
        message = f"'enabled' is required property for '{name}' Object value. Send true or false."
        raise CommandFailure("INVALID_CREATE_COLLECTION_OPTIONS", message)
    return bool(given["enabled"])
