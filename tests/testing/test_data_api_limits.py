"""Limits of the emulator: what is just at one passes, what is above it fails with the right code."""

from __future__ import annotations

import json

import pytest

from geovlm.testing.data_api import DataAPIEmulator, Limits
from tests.testing.data_api_raw import Raw, code


@pytest.fixture(scope="module")
def api():
    with DataAPIEmulator() as running:
        Raw(running).create()
        Raw(running, collection="partly").create(indexing={"allow": ["indexed"]})
        yield running


@pytest.fixture
def raw(api):
    cleared = Raw(api)
    cleared("deleteMany")
    return cleared


@pytest.fixture
def partly(api):
    return Raw(api, collection="partly")


def failure_code(answer):
    """The code of a document that was not inserted, or None."""
    return answer["errors"][0]["errorCode"] if "errors" in answer else None


def nested(depth):
    """A value of so many levels."""
    value = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def long_path(length):
    """Objects in objects down to a path of so many characters."""
    names = ["x" * 99] * (length // 100) + (["x" * (length % 100)] if length % 100 else [])
    value = 1
    for name in reversed(names):
        value = {name: value}
    return value


SHRED = "SHRED_DOC_LIMIT_VIOLATION"


@pytest.mark.parametrize(
    ("fits", "breaks"),
    [
        pytest.param({"a": "x" * 8000}, {"a": "x" * 8001}, id="indexed string"),
        pytest.param({"a": "é" * 4000}, {"a": "é" * 4000 + "x"}, id="bytes of an indexed string"),
        pytest.param({"a": ["x" * 8000]}, {"a": ["x" * 8001]}, id="indexed string in an array"),
        pytest.param({"a": list(range(1000))}, {"a": list(range(1001))}, id="array"),
        pytest.param({"a": {f"f{n}": n for n in range(1000)}}, {"a": {f"f{n}": n for n in range(1001)}}, id="object"),
        pytest.param(
            {"a": {f"f{n}": n for n in range(999)}, "b": {f"f{n}": n for n in range(998)}},
            {"a": {f"f{n}": n for n in range(999)}, "b": {f"f{n}": n for n in range(999)}},
            id="all properties",
        ),
        pytest.param({"a": nested(15)}, {"a": nested(16)}, id="depth"),
        pytest.param(
            {"a": [[[[[[[[[[[[[[[]]]]]]]]]]]]]]]}, {"a": [[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]}, id="depth of arrays"
        ),
        pytest.param(long_path(999), long_path(1001), id="path"),
        pytest.param({"a": 10**99}, {"a": 10**100}, id="number"),
    ],
)
def test_documents_at_a_limit_and_above(raw, fits, breaks):
    assert failure_code(raw("insertOne", document={"_id": 1, **fits})) is None
    answer = raw("insertOne", document={"_id": 2, **breaks})
    assert failure_code(answer) == SHRED
    if "status" in answer:
        assert answer["errors"][0]["documentIds"] == [2]
        replaced = raw("findOneAndReplace", filter={"_id": 1}, replacement=breaks)
        assert code(replaced) == SHRED
    assert raw.ids() == [1]


def test_path_of_exactly_a_thousand_characters(raw):
    names = ["x" * 100] * 9 + ["x" * 91]
    assert len(".".join(names)) == 1000
    value, above = 1, 1
    for name in reversed(names):
        value = {name: value}
        above = {name + "x" * (name == names[-1]): above}
    assert failure_code(raw("insertOne", document=value)) is None
    assert failure_code(raw("insertOne", document=above)) == SHRED


def test_what_is_not_indexed_may_be_longer(partly):
    free = {"text": "x" * 9000, "list": list(range(3000)), "object": {f"f{n}": n for n in range(3000)}}
    assert failure_code(partly("insertOne", document={"free": free})) is None
    assert failure_code(partly("insertOne", document={"indexed": {"text": "x" * 8000}})) is None
    assert failure_code(partly("insertOne", document={"indexed": {"text": "x" * 8001}})) == SHRED
    assert failure_code(partly("insertOne", document={"free": nested(16)})) == SHRED


def test_length_of_a_document(partly):
    frame = len(json.dumps({"_id": 1, "free": ""}, separators=(",", ":")))
    fits = {"_id": 1, "free": "x" * (4_000_000 - frame)}
    assert failure_code(partly("insertOne", document=fits)) is None
    assert failure_code(partly("insertOne", document={**fits, "free": fits["free"] + "x"})) == SHRED
    assert code(partly("updateOne", filter={"_id": 1}, update={"$set": {"y": 1}})) == SHRED
    partly("deleteMany")


def test_a_hundred_documents_pass_and_one_more_does_not(raw):
    documents = [{"_id": n} for n in range(101)]
    answer = raw("insertMany", documents=documents)
    assert code(answer) == "COMMAND_FIELD_VALUE_INVALID"
    assert "101" in answer["errors"][0]["message"]
    assert raw.ids() == []
    assert raw("insertMany", documents=documents[:100]) == {"status": {"insertedIds": list(range(100))}}


def test_body_of_twenty_megabytes(api, partly):
    body = json.dumps({"insertMany": {"documents": [{"_id": n, "free": "x" * 3_999_000} for n in range(5)]}}).encode()
    largest = body + b" " * (20 * 1024 * 1024 - len(body))
    assert partly.send("/v1/default_keyspace/partly", largest)[0] == 200
    assert partly.send("/v1/default_keyspace/partly", largest + b" ")[0] == 413
    assert partly("countDocuments") == {"status": {"count": 5}}
    partly("deleteMany")


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (3, "SHRED_BAD_DOCUMENT_TYPE"),
        ({"$a": 1}, "SHRED_BAD_FIELD_NAME"),
        ({"a": {"$b": 1}}, "SHRED_BAD_FIELD_NAME"),
        ({"a": [{"$b": 1}]}, "SHRED_BAD_FIELD_NAME"),
        ({"": 1}, "SHRED_BAD_FIELD_NAME"),
        ({"a": {"": 1}}, "SHRED_BAD_FIELD_NAME"),
        ({"_id": ""}, "SHRED_BAD_DOCID_VALUE"),
        ({"_id": [1]}, "SHRED_BAD_DOCID_TYPE"),
        ({"_id": {"a": 1}}, "SHRED_BAD_DOCID_TYPE"),
        ({"_id": {"$uuid": "x"}}, "SHRED_BAD_DOCID_TYPE"),
        ({"a": {"$date": "today"}}, "SHRED_BAD_EJSON_VALUE"),
        ({"a": [{"$uuid": "x"}]}, "SHRED_BAD_EJSON_VALUE"),
        ({"a": {"$objectId": 1}}, "SHRED_BAD_EJSON_VALUE"),
        ({"$lexical": 3}, "SHRED_BAD_DOCUMENT_LEXICAL_TYPE"),
        ({"$lexical": "x" * 8001}, "LEXICAL_CONTENT_TOO_LONG"),
    ],
)
def test_bad_documents(raw, document, expected):
    answer = raw("insertMany", documents=[{"_id": "good"}, document])
    assert answer["status"] == {"insertedIds": ["good"]}
    assert failure_code(answer) == expected


@pytest.mark.parametrize("name", ["a.b", "a b", "a$", "é", "a&b", "0", "x" * 900])
def test_names_that_look_odd_and_are_fine(raw, name):
    raw.insert({"_id": 1, name: {"nested": 2}})
    assert raw.documents() == [{"_id": 1, name: {"nested": 2}}]


def test_sorting_in_memory_has_a_limit():
    with DataAPIEmulator(limits=Limits(sorted_documents=5)) as api:
        raw = Raw(api).create().insert(*({"_id": n} for n in range(6)))
        assert code(raw("find", sort={"_id": 1})) == "OVERLOADED_SORT_ROW_LIMIT"
        assert raw.ids({"_id": {"$gt": 0}}, sort={"_id": -1}) == [5, 4, 3, 2, 1]


def test_limits_can_be_made_small():
    limits = Limits(insert=2, string_bytes=3, in_values=1, filter_fields=1, count=1, document_chars=40, depth=2)
    with DataAPIEmulator(limits=limits) as api:
        raw = Raw(api).create().insert({"_id": 1, "a": "xyz"}, {"_id": 2})
        assert code(raw("insertMany", documents=[{}, {}, {}])) == "COMMAND_FIELD_VALUE_INVALID"
        for document in ({"a": "wxyz"}, {"a": {"b": {}}}, {"_id": 3, **{f"f{n}": 1 for n in range(9)}}):
            assert failure_code(raw("insertOne", document=document)) == SHRED
        assert code(raw("find", filter={"_id": {"$in": [1, 2]}})) == "FILTER_INVALID_EXPRESSION"
        assert code(raw("find", filter={"a": 1, "b": 2})) == "FILTER_FIELDS_LIMIT_VIOLATION"
        assert raw("countDocuments") == {"status": {"count": 1, "moreData": True}}
