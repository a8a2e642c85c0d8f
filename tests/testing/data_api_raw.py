"""The Data API by bare HTTP, for tests of the emulator."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geovlm.testing.data_api import DataAPIEmulator


class Raw:
    """Posts commands and returns what comes back."""

    def __init__(self, api: DataAPIEmulator, keyspace: str = "default_keyspace", collection: str = "things") -> None:
        self.api = api
        self.keyspace = keyspace
        self.collection = collection
        self._connection = http.client.HTTPConnection("127.0.0.1", int(api.endpoint.rsplit(":", 1)[1]), timeout=20)

    def __del__(self) -> None:
        self._connection.close()

    def send(self, path: str, body: Any, *, method: str = "POST", **headers: str | None) -> tuple[int, bytes]:
        """Status and body of the answer; a header of None is left out."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Token": self.api.token, "Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, path, content, {k: v for k, v in sent.items() if v is not None})
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def post(self, path: str, command: Any) -> dict[str, Any]:
        """The answer's JSON; the status must be 200."""
        status, body = self.send(path, command)
        assert status == 200, (status, body)
        return json.loads(body)

    def general(self, command: str, /, **fields: Any) -> dict[str, Any]:
        return self.post("/v1", {command: fields})

    def schema(self, command: str, /, **fields: Any) -> dict[str, Any]:
        return self.post(f"/v1/{self.keyspace}", {command: fields})

    def __call__(self, command: str, /, **fields: Any) -> dict[str, Any]:
        """A command on the collection."""
        return self.post(f"/v1/{self.keyspace}/{self.collection}", {command: fields})

    def create(self, **options: Any) -> Raw:
        """Create the collection."""
        assert self.schema("createCollection", name=self.collection, options=options) == {"status": {"ok": 1}}
        return self

    def insert(self, *documents: dict[str, Any]) -> Raw:
        """Insert documents, all of them."""
        answer = self("insertMany", documents=list(documents), options={"ordered": True})
        assert "errors" not in answer, answer
        return self

    def documents(self, **fields: Any) -> list[dict[str, Any]]:
        """The documents of one find."""
        return self("find", **fields)["data"]["documents"]

    def ids(self, filter_: Any = None, **fields: Any) -> list[Any]:
        """The ids that a find returns."""
        return [found["_id"] for found in self.documents(filter=filter_ or {}, **fields)]


def code(answer: dict[str, Any]) -> str:
    """The code of the only error of an answer that has nothing but errors."""
    assert list(answer) == ["errors"], answer
    (error,) = answer["errors"]
    return error["errorCode"]
