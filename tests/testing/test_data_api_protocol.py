"""The emulator's HTTP: paths, tokens, envelopes, errors, keyspaces and collections."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import uuid

import pytest

from geovlm.testing.data_api import DataAPIEmulator, Limits
from tests.testing.data_api_raw import Raw, code


@pytest.fixture
def api():
    with DataAPIEmulator() as running:
        yield running


@pytest.fixture
def raw(api):
    return Raw(api).create()


def test_paths_of_astra_and_of_others_reach_the_same_data(raw):
    raw.insert({"_id": "a"})
    command = {"findOne": {}}
    for path in ("/v1/default_keyspace/things", "/api/json/v1/default_keyspace/things"):
        assert raw.post(path, command) == {"data": {"document": {"_id": "a"}}}
    assert raw.post("/api/json/v1", {"findKeyspaces": {}}) == {"status": {"keyspaces": ["default_keyspace"]}}


@pytest.mark.parametrize("path", ["/", "/v2", "/v1/a/b/c", "/api/v1"])
def test_other_paths_are_not_found(raw, path):
    assert raw.send(path, {"findKeyspaces": {}})[0] == 404


def test_getting_the_base_path_shows_that_the_service_lives(raw):
    for path in ("/v1", "/api/json/v1"):
        assert raw.send(path, b"", method="GET")[0] < 500


def test_both_kinds_of_token_open(raw):
    pair = [base64.b64encode(part.encode()).decode() for part in (raw.api.username, raw.api.password)]
    status, _ = raw.send("/v1", {"findKeyspaces": {}}, Token="Cassandra:" + ":".join(pair))
    assert status == 200


@pytest.mark.parametrize("token", [None, "AstraCS:other", "Cassandra:Y2Fzc2FuZHJh:bm8="])
def test_other_tokens_do_not(raw, token):
    status, body = raw.send("/v1", {"findKeyspaces": {}}, Token=token)
    assert status == 401
    assert code(json.loads(body)) == "UNAUTHENTICATED_REQUEST"


def test_content_type_must_be_json(raw):
    for content_type in ("text/plain", None):
        status, body = raw.send("/v1", {"findKeyspaces": {}}, Content_Type=content_type)
        assert status == 415
        assert code(json.loads(body)) == "UNSUPPORTED_CONTENT_TYPE"
    assert raw.send("/v1", {"findKeyspaces": {}}, Content_Type="application/json; charset=utf-8")[0] == 200


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{", "REQUEST_NOT_JSON"),
        (b"\xff\xfe", "REQUEST_NOT_JSON"),
        (b'{"find": {}, "find": {}}', "REQUEST_NOT_JSON"),
        (b'{"insertOne": {"document": {"x": NaN}}}', "REQUEST_NOT_JSON"),
        (b"[]", "REQUEST_STRUCTURE_MISMATCH"),
        (b"", "COMMAND_FIELD_VALUE_INVALID"),
        (b"{}", "COMMAND_FIELD_VALUE_INVALID"),
        (b'{"find": {}, "findOne": {}}', "REQUEST_STRUCTURE_MISMATCH"),
        (b'{"find": 3}', "REQUEST_STRUCTURE_MISMATCH"),
        (b'{"lookFor": {}}', "COMMAND_UNKNOWN"),
        (b'{"createCollection": {"name": "x"}}', "COMMAND_UNKNOWN"),
        (b'{"createVectorIndex": {}}', "UNSUPPORTED_COLLECTION_COMMAND"),
        (b'{"find": {"filters": {}}}', "COMMAND_FIELD_UNKNOWN"),
        (b'{"find": {"options": {"limits": 3}}}', "COMMAND_FIELD_UNKNOWN"),
        (b'{"find": {"options": {"limit": "3"}}}', "REQUEST_STRUCTURE_MISMATCH"),
        (b'{"find": {"options": {"limit": -1}}}', "COMMAND_FIELD_VALUE_INVALID"),
        (b'{"find": {"options": {"pageState": "x"}}}', "COMMAND_FIELD_VALUE_INVALID"),
        (b'{"find": {"options": {"pageState": "WzEwLCAtNV0="}}}', "COMMAND_FIELD_VALUE_INVALID"),
        (b'{"find": {"options": {"pageState": "bnVsbA=="}}}', "COMMAND_FIELD_VALUE_INVALID"),
        (b'{"find": {"filter": ' + b'{"$and": [' * 400 + b"]}" * 400 + b"}}", "REQUEST_STRUCTURE_MISMATCH"),
        (b"[" * 100_000 + b"]" * 100_000, "SHRED_DOC_LIMIT_VIOLATION"),
        (b'{"countDocuments": {"options": {"limit": 1}}}', "COMMAND_ACCEPTS_NO_OPTIONS"),
        (b'{"insertOne": {}}', "COMMAND_FIELD_VALUE_INVALID"),
        (b'{"insertOne": {"document": 3}}', "REQUEST_STRUCTURE_MISMATCH"),
        (b'{"insertMany": {"documents": []}}', "COMMAND_FIELD_VALUE_INVALID"),
        (b'{"insertMany": {"documents": {}}}', "REQUEST_STRUCTURE_MISMATCH"),
        (b'{"insertMany": {"documents": [{}], "options": {"ordered": 1}}}', "REQUEST_STRUCTURE_MISMATCH"),
        (b'{"insertMany": {"documents": [{}], "options": []}}', "REQUEST_STRUCTURE_MISMATCH"),
        (b'{"deleteOne": {}}', "COMMAND_FIELD_VALUE_INVALID"),
        (b'{"findOneAndReplace": {"filter": {}}}', "COMMAND_FIELD_VALUE_INVALID"),
        (b'{"findOneAndReplace": {"filter": {}, "replacement": []}}', "REQUEST_STRUCTURE_MISMATCH"),
        (b'{"updateOne": {"filter": {}}}', "COMMAND_FIELD_VALUE_INVALID"),
        (b'{"findAndRerank": {"sort": {"$hybrid": "a"}}}', "RERANKING_FEATURE_NOT_ENABLED"),
    ],
)
def test_what_is_wrong_with_a_request_is_told_with_http_200(raw, body, expected):
    status, answer = raw.send("/v1/default_keyspace/things", body)
    assert status == 200
    assert code(json.loads(answer)) == expected


def test_options_that_are_empty_or_null_are_taken_by_all_commands(raw):
    for options in ({}, None):
        assert raw("countDocuments", options=options) == {"status": {"count": 0}}


def test_an_error_names_itself_in_full(raw):
    (error,) = raw("findOne", filter={"x": {"$near": 1}})["errors"]
    assert error.keys() == {"id", "family", "scope", "errorCode", "title", "message"}
    assert str(uuid.UUID(error["id"])) == error["id"]
    assert (error["family"], error["scope"]) == ("REQUEST", "FILTER")
    assert "$near" in error["message"]


def test_envelopes(raw):
    assert raw("insertOne", document={"_id": 1}) == {"status": {"insertedIds": [1]}}
    assert raw("find") == {"data": {"documents": [{"_id": 1}], "nextPageState": None}}
    assert raw("findOne", filter={"_id": 2}) == {"data": {"document": None}}
    assert raw("updateOne", filter={"_id": 1}, update={"$set": {"a": 1}}) == {
        "status": {"matchedCount": 1, "modifiedCount": 1}
    }
    partial = raw("insertMany", documents=[{"_id": 1}, {"_id": 2}])
    assert list(partial) == ["status", "errors"]
    assert partial["status"] == {"insertedIds": [2]}
    (error,) = partial["errors"]
    assert (error["errorCode"], error["documentIds"]) == ("DOCUMENT_ALREADY_EXISTS", [1])
    assert raw("deleteOne", filter={"_id": 1}) == {"status": {"deletedCount": 1}}
    assert raw("countDocuments") == {"status": {"count": 1}}


def test_document_responses_tell_each_document(raw):
    raw.insert({"_id": "b"})
    options = {"returnDocumentResponses": True}
    documents = [{"_id": "a"}, {"_id": "b"}, {"_id": "c"}, {"$bad": 1, "_id": "d"}]
    answer = raw("insertMany", documents=documents, options=options)
    assert answer["status"] == {
        "documentResponses": [
            {"_id": "a", "status": "OK"},
            {"_id": "b", "status": "ERROR", "errorsIdx": 0},
            {"_id": "c", "status": "OK"},
            {"_id": "d", "status": "ERROR", "errorsIdx": 1},
        ]
    }
    assert [error["errorCode"] for error in answer["errors"]] == ["DOCUMENT_ALREADY_EXISTS", "SHRED_BAD_FIELD_NAME"]


def test_ordered_inserts_skip_what_follows_a_failure(raw):
    raw.insert({"_id": 2})
    options = {"returnDocumentResponses": True, "ordered": True}
    answer = raw("insertMany", documents=[{"_id": n} for n in (1, 2, 3)], options=options)
    statuses = [(one["_id"], one["status"]) for one in answer["status"]["documentResponses"]]
    assert statuses == [(1, "OK"), (2, "ERROR"), (3, "SKIPPED")]
    assert raw.ids() == [2, 1]


def test_keyspaces(raw):
    assert raw.general("createKeyspace", name="other") == {"status": {"ok": 1}}
    assert raw.general("createKeyspace", name="other") == {"status": {"ok": 1}}
    assert raw.general("findKeyspaces")["status"]["keyspaces"] == ["default_keyspace", "other"]
    assert raw.post("/v1/other", {"findCollections": {}}) == {"status": {"collections": []}}
    assert code(raw.post("/v1/other/things", {"find": {}})) == "UNKNOWN_COLLECTION_OR_TABLE"
    assert raw.general("dropKeyspace", name="other") == {"status": {"ok": 1}}
    assert code(raw.post("/v1/other/things", {"find": {}})) == "UNKNOWN_KEYSPACE"
    assert code(raw.post("/v1/other", {"listTables": {}})) == "UNKNOWN_KEYSPACE"
    assert code(raw.general("createKeyspace", name="no-dash")) == "UNSUPPORTED_SCHEMA_NAME"


def test_collections_are_listed_created_and_deleted(raw):
    assert raw.schema("listTables") == {"status": {"tables": []}}
    assert raw.schema("findCollections") == {"status": {"collections": ["things"]}}
    vector = {"dimension": 3, "metric": "dot_product", "sourceModel": "other"}
    options = {
        "defaultId": {"type": "uuidv7"},
        "vector": vector,
        "indexing": {"allow": ["metadata"]},
        "lexical": {"enabled": False},
        "rerank": {"enabled": False},
    }
    Raw(raw.api, collection="images").create(**options)
    described = raw.schema("findCollections", options={"explain": True})["status"]["collections"]
    assert described[1] == {"name": "images", "options": options}
    assert raw.schema("deleteCollection", name="images") == {"status": {"ok": 1}}
    assert raw.schema("deleteCollection", name="images") == {"status": {"ok": 1}}
    assert raw.schema("findCollections") == {"status": {"collections": ["things"]}}


BASE = {
    "vector": {"dimension": 3, "metric": "cosine"},
    "indexing": {"deny": ["a", "b"]},
    "defaultId": {"type": "uuid"},
    "lexical": {"enabled": False},
    "rerank": {"enabled": False},
}


@pytest.mark.parametrize(
    "same",
    [
        BASE,
        {**BASE, "indexing": {"deny": ["b", "a"]}},
        {**BASE, "vector": {"dimension": 3, "sourceModel": "other"}},
        {name: value for name, value in BASE.items() if name not in {"lexical", "rerank"}},
    ],
)
def test_creating_a_collection_again_with_the_same_options_is_fine(raw, same):
    other = Raw(raw.api, collection="other").create(**BASE).insert({"_id": 1})
    other.create(**same)
    assert other.ids() == [1]


@pytest.mark.parametrize(
    "change",
    [
        {"vector": {"dimension": 4, "metric": "cosine"}},
        {"vector": {"dimension": 3, "metric": "euclidean"}},
        {"vector": {"dimension": 3, "metric": "cosine", "sourceModel": "bert"}},
        {"vector": None},
        {"indexing": {"deny": ["a"]}},
        {"indexing": {"allow": ["a", "b"]}},
        {"indexing": None},
        {"defaultId": {"type": "objectId"}},
        {"lexical": {"enabled": True}},
        {"rerank": {"enabled": True}},
    ],
)
def test_creating_a_collection_again_with_other_options_is_refused(raw, change):
    Raw(raw.api, collection="other").create(**BASE)
    answer = raw.schema("createCollection", name="other", options={**BASE, **change})
    assert code(answer) == "EXISTING_COLLECTION_DIFFERENT_SETTINGS"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"vectors": {}}, "INVALID_CREATE_COLLECTION_FIELD"),
        ({"vector": {"dimension": 3, "distance": "cosine"}}, "INVALID_CREATE_COLLECTION_FIELD"),
        ({"vector": {"metric": "cosine"}}, "INVALID_CREATE_COLLECTION_OPTIONS"),
        ({"vector": {"dimension": 0}}, "COMMAND_FIELD_VALUE_INVALID"),
        ({"vector": {"dimension": 4097}}, "VECTOR_SEARCH_TOO_BIG_VALUE"),
        ({"vector": {"dimension": 3, "metric": "manhattan"}}, "COMMAND_FIELD_VALUE_INVALID"),
        ({"vector": {"dimension": 3, "sourceModel": "clip"}}, "VECTOR_SEARCH_UNRECOGNIZED_SOURCE_MODEL_NAME"),
        ({"indexing": {}}, "INVALID_INDEXING_DEFINITION"),
        ({"indexing": {"allow": ["a"], "deny": ["b"]}}, "INVALID_INDEXING_DEFINITION"),
        ({"indexing": {"allow": []}}, "INVALID_INDEXING_DEFINITION"),
        ({"indexing": {"allow": ["a", "a"]}}, "INVALID_INDEXING_DEFINITION"),
        ({"indexing": {"deny": ["$other"]}}, "INVALID_INDEXING_DEFINITION"),
        ({"indexing": {"deny": [""]}}, "INVALID_INDEXING_DEFINITION"),
        ({"indexing": {"deny": [1]}}, "INVALID_INDEXING_DEFINITION"),
        ({"indexing": {"deny": ["a&b"]}}, "INVALID_INDEXING_DEFINITION"),
        ({"vector": [3]}, "REQUEST_STRUCTURE_MISMATCH"),
        ({"vector": {"dimension": "3"}}, "REQUEST_STRUCTURE_MISMATCH"),
        ({"vector": {"service": {"modelName": "x"}}}, "COMMAND_FIELD_VALUE_INVALID"),
        ({"defaultId": {"type": "serial"}}, "COMMAND_FIELD_VALUE_INVALID"),
        ({"lexical": {}}, "INVALID_CREATE_COLLECTION_OPTIONS"),
        ({"rerank": {}}, "INVALID_CREATE_COLLECTION_OPTIONS"),
    ],
)
def test_bad_options_of_a_collection(raw, options, expected):
    assert code(raw.schema("createCollection", name="other", options=options)) == expected
    assert raw.schema("findCollections") == {"status": {"collections": ["things"]}}


@pytest.mark.parametrize("name", ["", "a-b", "a b", "é", "x" * 49])
def test_bad_names_of_a_collection(raw, name):
    assert code(raw.schema("createCollection", name=name)) == "UNSUPPORTED_SCHEMA_NAME"


def test_names_must_be_text(raw):
    assert code(raw.schema("createCollection")) == "COMMAND_FIELD_VALUE_INVALID"
    assert code(raw.schema("createCollection", name=3)) == "REQUEST_STRUCTURE_MISMATCH"


def test_what_needs_lexical_search_in_a_collection_without_it(raw):
    other = Raw(raw.api, collection="other").create(lexical={"enabled": False})
    expected = "LEXICAL_NOT_ENABLED_FOR_COLLECTION"
    assert code(other("find", filter={"$lexical": {"$match": "x"}})) == expected
    assert code(other("find", sort={"$lexical": "x"})) == expected
    assert other("insertOne", document={"_id": 1, "$lexical": "x"})["errors"][0]["errorCode"] == expected
    raw.insert({"_id": 1, "$lexical": "text", "a": 1})
    assert raw.documents() == [{"_id": 1, "a": 1}]
    assert raw.documents(projection={"*": 1}) == [{"_id": 1, "$lexical": "text", "a": 1}]


def test_asking_for_the_id_alone_leaves_nothing_out(raw):
    """So the service's own reading of projections: only other names make one that includes."""
    raw.insert({"_id": 1, "a": 1, "b": 2})
    assert raw.documents(projection={"_id": 1}) == [{"_id": 1, "a": 1, "b": 2}]
    assert raw.documents(projection={"_id": 0}) == [{"a": 1, "b": 2}]
    assert raw.documents(projection={"_id": 1, "a": 1}) == [{"_id": 1, "a": 1}]
    assert raw.documents(projection={"_id": 0, "a": 1}) == [{"a": 1}]


def test_the_largest_collection(raw):
    Raw(raw.api, collection="x" * 48).create(vector={"dimension": 4096})


def test_number_of_collections_can_be_limited():
    with DataAPIEmulator(limits=Limits(collections=1)) as api:
        raw = Raw(api).create()
        raw.create()
        assert code(raw.schema("createCollection", name="second")) == "TOO_MANY_COLLECTIONS"


def test_body_that_is_too_large_is_refused_with_413():
    with DataAPIEmulator(limits=Limits(body_bytes=1000)) as api:
        raw = Raw(api).create()
        empty = json.dumps({"insertOne": {"document": {"_id": 1, "x": ""}}})
        fits = empty.replace('""', '"' + "x" * (1000 - len(empty)) + '"').encode()
        assert len(fits) == 1000
        assert raw.send("/v1/default_keyspace/things", fits)[0] == 200
        assert raw.send("/v1/default_keyspace/things", fits + b" ")[0] == 413
        assert raw.ids() == [1]
        assert api.log.count(status=413) == 1


def test_chunked_bodies_are_read(raw):
    connection = http.client.HTTPConnection("127.0.0.1", int(raw.api.endpoint.rsplit(":", 1)[1]), timeout=20)
    headers = {"Token": raw.api.token, "Content-Type": "application/json"}
    parts = [b'{"insertOne": {"docu', b'ment": {"_id": 1}}}']
    connection.request("POST", "/v1/default_keyspace/things", iter(parts), headers, encode_chunked=True)
    assert json.load(connection.getresponse()) == {"status": {"insertedIds": [1]}}
    connection.close()


def exchange(api, sent):
    """What comes back for bytes, when the client sends no more."""
    with socket.create_connection(("127.0.0.1", int(api.endpoint.rsplit(":", 1)[1])), timeout=20) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"POST /v1 HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"HTTP/1.1 400 "),
        (b"POST /v1 HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"HTTP/1.1 400 "),
        (b"POST /v1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", b"HTTP/1.1 400 "),
        (b"POST /v1 HTTP/1.1\r\nContent-Length: 50\r\n\r\n{}", b""),
        (b"POST /v1 HTTP/1.1\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n", b"HTTP/1.1 413 "),
        (b"POST /v1 HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n{}", b"HTTP/1.1 100 "),
        (b"nonsense\r\n\r\n", b"<!DOCTYPE"),
    ],
)
def test_odd_clients_do_no_harm(raw, sent, answer):
    assert exchange(raw.api, sent)[: len(answer) or None] == answer
    assert raw("countDocuments") == {"status": {"count": 0}}


def test_chunks_that_grow_too_large_are_refused():
    with DataAPIEmulator(limits=Limits(body_bytes=10)) as api:
        sent = b"POST /v1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n6\r\n"
        assert exchange(api, sent).startswith(b"HTTP/1.1 413 ")


def test_a_mistake_in_the_emulator_is_told_and_logged(raw, monkeypatch, caplog):
    monkeypatch.setattr("geovlm.testing.data_api.store.Collection.__len__", lambda self: 1 / 0)
    assert code(raw("estimatedDocumentCount")) == "UNEXPECTED_SERVER_ERROR"
    assert "ZeroDivisionError" in caplog.text


def test_a_connection_serves_many_requests(raw):
    connection = http.client.HTTPConnection("127.0.0.1", int(raw.api.endpoint.rsplit(":", 1)[1]), timeout=20)
    headers = {"Token": raw.api.token, "Content-Type": "application/json"}
    sockets = set()
    for _ in range(3):
        connection.request("POST", "/v1/default_keyspace/things", b'{"countDocuments": {}}', headers)
        assert connection.getresponse().read() == b'{"status":{"count":0}}'
        sockets.add(connection.sock)
    assert len(sockets) == 1
    connection.close()


def test_leaving_closes_the_port_and_keeps_the_data():
    emulator = DataAPIEmulator()
    with emulator as api:
        Raw(api).create().insert({"_id": 1})
        port = int(api.endpoint.rsplit(":", 1)[1])
        idle = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        idle.request("POST", "/v1", b"{}")
        idle.getresponse().read()
    assert idle.sock.recv(1) == b""
    idle.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with pytest.raises(RuntimeError, match="not running"):
        _ = emulator.endpoint
    with emulator as api:
        assert Raw(api).ids() == [1]


def test_numbers_come_back_as_they_were_sent(raw):
    sent = b'{"insertOne": {"document": {"_id": 1, "a": 12345678901234567890123, "b": 0.12345678901234567890123}}}'
    raw.send("/v1/default_keyspace/things", sent)
    _, body = raw.send("/v1/default_keyspace/things", {"findOne": {}})
    assert b"12345678901234567890123" in body
    assert b"0.12345678901234567890123" in body
    assert raw.ids({"a": 12345678901234567890123}) == [1]


def test_the_log_tells_requests(raw):
    raw.api.log.clear()
    raw("insertOne", document={"_id": 1})
    raw("insertOne", document={"_id": 1})
    raw.send("/v1", {"findKeyspaces": {}}, Token="AstraCS:other")
    first, second, third = raw.api.log.records
    assert (first.command, first.keyspace, first.collection) == ("insertOne", "default_keyspace", "things")
    assert (first.status, first.error_codes, first.fault) == (200, (), None)
    assert first.request_bytes == len(json.dumps({"insertOne": {"document": {"_id": 1}}}))
    assert first.response_bytes == len('{"status":{"insertedIds":[1]}}')
    assert second.error_codes == ("DOCUMENT_ALREADY_EXISTS",)
    assert (third.status, third.command) == (401, "")
    assert raw.api.log.commands["insertOne"] == 2
    assert raw.api.log.count("insertOne", status=200) == 2
    assert raw.api.log.count(status=401) == 1


def test_limits_must_be_positive():
    with pytest.raises(ValueError, match="page"):
        Limits(page=0)
