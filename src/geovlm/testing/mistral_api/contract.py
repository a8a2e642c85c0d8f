"""Checks real traffic against Mistral's public OpenAPI description."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from geovlm._optional import require
from geovlm.testing.mistral_api.multipart import read_form

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from geovlm.testing._loopback import Response
    from geovlm.testing.mistral_api.wire import Request

MOST_PROBLEMS = 5


class Contract:
    """An OpenAPI 3.1 description, to compare requests and answers with; needs jsonschema.

    Args:
        path: Of the JSON file.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "openapi.json"
        ...     bytes_written = path.write_text('{"paths": {}}', encoding="utf-8")
        ...     contract = Contract(path)  # MistralEmulator(contract=contract) compares all traffic with it
    """

    def __init__(self, path: Path) -> None:
        jsonschema: Any = require("jsonschema", extra="mistral", purpose="checks against an OpenAPI description")
        self._document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self._validator = jsonschema.Draft202012Validator
        self._paths = [(_pattern(path), operations) for path, operations in self._document["paths"].items()]

    def problems(self, request: Request, response: Response | None) -> tuple[str, ...]:
        """Where a request or its answer departs from the description; an answer only where it is a success."""
        operation = self._operation(request)
        if operation is None:
            return () if request.path.startswith("/signed/") else (f"no {request.method} {request.path}",)
        found = [*self._query(operation, request), *self._body(operation, request)]
        if response is not None and response.status == 200:
            found += self._answer(operation, response)
        return tuple(found[:MOST_PROBLEMS])

    def _operation(self, request: Request) -> dict[str, Any] | None:
        for pattern, operations in self._paths:
            if pattern.fullmatch(request.path):
                found: dict[str, Any] | None = operations.get(request.method.lower())
                return found
        return None

    def _query(self, operation: dict[str, Any], request: Request) -> Iterator[str]:
        known = {one["name"]: one for one in operation.get("parameters", []) if one["in"] == "query"}
        # The clients send an object as a parameter for each of its names.
        if "metadata" not in known:
            yield from (f"query: {name} is not known" for name, _ in request.query if name not in known)
        for name, one in known.items():
            if one.get("required") and not request.many(name):
                yield f"query: {name} is needed"

    def _body(self, operation: dict[str, Any], request: Request) -> Iterator[str]:
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" in content:
            value = _json(request.body)
            yield from self._compare(content["application/json"]["schema"], value, "body")
            yield from self._batch_bodies(value.get("requests") if isinstance(value, dict) else None, request)
        elif "multipart/form-data" in content:
            form = read_form(request.headers.get("content-type", ""), request.body)
            if form.fields.get("purpose") == "batch":
                yield from self._batch_bodies([_json(line) for line in form.content.splitlines() if line], request)

    def _batch_bodies(self, lines: list[Any] | None, request: Request) -> Iterator[str]:
        job_model = _json(request.body).get("model") if lines and request.path.endswith("/jobs") else "any"
        for place, line in enumerate(lines or []):
            if not isinstance(line, dict) or set(line) - {"custom_id", "body"}:
                yield f"line {place}: has custom_id and body, nothing else"
                continue
            body = {"model": job_model, **(line.get("body") or {})}
            yield from self._compare({"$ref": "#/components/schemas/ChatCompletionRequest"}, body, f"line {place}")

    def _answer(self, operation: dict[str, Any], response: Response) -> Iterator[str]:
        content = operation["responses"]["200"].get("content", {})
        if "application/json" in content:
            schema = content["application/json"]["schema"]
            yield from self._compare(_mended(schema), _json(response.body), "answer")

    def _compare(self, schema: dict[str, Any], value: Any, where: str) -> Iterator[str]:
        whole = {**schema, "components": self._document["components"]}
        for error in self._validator(whole).iter_errors(value):
            place = "/".join(map(str, error.absolute_path))
            yield f"{where} {place}: {error.message[:200]}"


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)))


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _mended(schema: dict[str, Any]) -> dict[str, Any]:
    # The description demands a field "data" of chat completions, which the service does not send: a slip in it.
    if schema.get("$ref", "").endswith("/ChatCompletionResponse"):
        return {
            "allOf": [{"$ref": "#/components/schemas/ChatCompletionResponseBase"}],
            "properties": {
                "choices": {"type": "array", "items": {"$ref": "#/components/schemas/ChatCompletionChoice"}}
            },
            "required": ["id", "object", "model", "usage", "created", "choices"],
        }
    return schema
