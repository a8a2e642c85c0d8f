"""Update operators of the emulator: what each makes of a document, and what it refuses."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geovlm.testing.data_api import DataAPIEmulator
from tests.testing.data_api_raw import Raw, code


@pytest.fixture(scope="module")
def api():
    with DataAPIEmulator() as running:
        Raw(running).create(vector={"dimension": 2}, lexical={"enabled": True})
        yield running


@pytest.fixture
def raw(api):
    cleared = Raw(api)
    cleared("deleteMany")
    return cleared


def updated(raw, document, update):
    """What an update makes of a document, and whether it says that it changed it."""
    raw("deleteMany")
    raw.insert({"_id": 1, **document})
    answer = raw("updateOne", filter={"_id": 1}, update=update)
    assert answer.keys() == {"status"}, answer
    assert answer["status"]["matchedCount"] == 1
    (found,) = raw.documents(projection={"*": 1})
    assert found.pop("_id") == 1
    return found, bool(answer["status"]["modifiedCount"])


@pytest.mark.parametrize(
    ("document", "update", "expected"),
    [
        ({"a": 1}, {"$set": {"b": 2}}, {"a": 1, "b": 2}),
        ({"a": 1}, {"$set": {"a": None}}, {"a": None}),
        ({}, {"$set": {"a.b.c": 2}}, {"a": {"b": {"c": 2}}}),
        ({"a": [1, 2]}, {"$set": {"a.1": 3}}, {"a": [1, 3]}),
        ({"a": [1]}, {"$set": {"a.3": 4}}, {"a": [1, None, None, 4]}),
        ({"a": [{"b": 1}]}, {"$set": {"a.0.c": 2}}, {"a": [{"b": 1, "c": 2}]}),
        ({"a": 1}, {"$set": {"b&.c": 2}}, {"a": 1, "b.c": 2}),
        ({"a": {"x": 1}}, {"$set": {"a": {"y": 2}}}, {"a": {"y": 2}}),
        ({}, {"$set": {"$vector": [1, 2]}}, {"$vector": [1, 2]}),
        ({"$vector": [1, 2]}, {"$unset": {"$vector": ""}}, {}),
        ({"a": 1, "b": 2}, {"$unset": {"a": ""}}, {"b": 2}),
        ({"a": {"b": 1, "c": 2}}, {"$unset": {"a.b": 1}}, {"a": {"c": 2}}),
        ({"a": [1, 2]}, {"$unset": {"a.0": 1}}, {"a": [None, 2]}),
        ({"a": 1}, {"$inc": {"a": 2}}, {"a": 3}),
        ({"a": 0.1}, {"$inc": {"a": 0.2}}, {"a": 0.3}),
        ({}, {"$inc": {"a.b": 5}}, {"a": {"b": 5}}),
        ({"a": 3}, {"$mul": {"a": -2}}, {"a": -6}),
        ({"a": 1.1}, {"$mul": {"a": 1.1}}, {"a": 1.21}),
        ({}, {"$mul": {"a": 7}}, {"a": 0}),
        ({"a": 5}, {"$min": {"a": 3}}, {"a": 3}),
        ({}, {"$min": {"a": 3}}, {"a": 3}),
        ({"a": 5}, {"$max": {"a": 7}}, {"a": 7}),
        ({"a": "b"}, {"$max": {"a": "c"}}, {"a": "c"}),
        ({"a": "text"}, {"$min": {"a": 3}}, {"a": 3}),
        ({"a": {"$date": 5}}, {"$max": {"a": {"$date": 9}}}, {"a": {"$date": 9}}),
        ({"a": [1]}, {"$push": {"a": 2}}, {"a": [1, 2]}),
        ({"a": [1]}, {"$push": {"a": [2]}}, {"a": [1, [2]]}),
        ({}, {"$push": {"a": 1}}, {"a": [1]}),
        ({"a": [1]}, {"$push": {"a": {"$each": [2, 3]}}}, {"a": [1, 2, 3]}),
        ({"a": [1, 4]}, {"$push": {"a": {"$each": [2, 3], "$position": 1}}}, {"a": [1, 2, 3, 4]}),
        ({"a": [1, 4]}, {"$push": {"a": {"$each": [3], "$position": -1}}}, {"a": [1, 3, 4]}),
        ({"a": [1]}, {"$push": {"a": {"$each": [0], "$position": -9}}}, {"a": [0, 1]}),
        ({"a": [1]}, {"$push": {"a": {"$each": [2], "$position": 9}}}, {"a": [1, 2]}),
        ({"a": []}, {"$push": {"a": {"$date": 5}}}, {"a": [{"$date": 5}]}),
        ({"a": [1]}, {"$addToSet": {"a": 2}}, {"a": [1, 2]}),
        ({"a": [1]}, {"$addToSet": {"a": {"$each": [1, 2, 2]}}}, {"a": [1, 2]}),
        (
            {"a": [{"x": 1, "y": 2}]},
            {"$addToSet": {"a": {"y": 2, "x": 1}}},
            {"a": [{"x": 1, "y": 2}, {"y": 2, "x": 1}]},
        ),
        ({}, {"$addToSet": {"a": 2}}, {"a": [2]}),
        ({"a": [1, 2, 3]}, {"$pop": {"a": 1}}, {"a": [1, 2]}),
        ({"a": [1, 2, 3]}, {"$pop": {"a": -1}}, {"a": [2, 3]}),
        ({"a": 1}, {"$rename": {"a": "b"}}, {"b": 1}),
        ({"a": 1, "b": 2}, {"$rename": {"a": "b"}}, {"b": 1}),
        ({"a": {"b": 1}}, {"$rename": {"a.b": "c.d"}}, {"a": {}, "c": {"d": 1}}),
        ({"a": 1, "b": [1]}, {"$set": {"a": 2}, "$push": {"b": 2}, "$inc": {"c": 3}}, {"a": 2, "b": [1, 2], "c": 3}),
    ],
)
def test_what_operators_do(raw, document, update, expected):
    assert updated(raw, document, update) == (expected, True)


@pytest.mark.parametrize(
    ("document", "update"),
    [
        ({"a": 1}, {}),
        ({"a": 1}, {"$set": {"a": 1}}),
        ({"a": {"b": [1]}}, {"$set": {"a.b": [1]}}),
        ({"a": 1}, {"$unset": {"b": ""}}),
        ({"a": 1}, {"$unset": {"a.b": ""}}),
        ({"a": 1}, {"$inc": {"a": 0}}),
        ({"a": 3}, {"$min": {"a": 5}}),
        ({"a": 3}, {"$min": {"a": "text"}}),
        ({"a": 3}, {"$max": {"a": 1}}),
        ({"a": [1]}, {"$addToSet": {"a": 1}}),
        ({"a": []}, {"$pop": {"a": 1}}),
        ({"a": []}, {"$pop": {"b": 1}}),
        ({"a": 1}, {"$rename": {"b": "c"}}),
        ({"a": 1}, {"$setOnInsert": {"a": 2}}),
    ],
)
def test_what_changes_nothing(raw, document, update):
    assert updated(raw, document, update) == (document, False)


@pytest.mark.parametrize("value", [True, {"$type": "date"}])
def test_the_date_of_now(raw, value):
    before = time.time() * 1000
    document, changed = updated(raw, {"a": 1}, {"$currentDate": {"b.c": value}})
    assert changed
    assert before - 1 <= document["b"]["c"]["$date"] <= time.time() * 1000


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        (None, "COMMAND_FIELD_VALUE_INVALID"),
        ([], "UNSUPPORTED_UPDATE_DATA_TYPE"),
        ({"a": 1}, "UNSUPPORTED_UPDATE_OPERATION"),
        ({"$pull": {"a": 1}}, "UNSUPPORTED_UPDATE_OPERATION"),
        ({"$set": 1}, "UNSUPPORTED_UPDATE_DATA_TYPE"),
        ({"$set": {"_id": 2}}, "UNSUPPORTED_UPDATE_OPERATOR_FOR_DOC_ID"),
        ({"$rename": {"a": "_id"}}, "UNSUPPORTED_UPDATE_OPERATOR_FOR_DOC_ID"),
        ({"$inc": {"$vector": 1}}, "UNSUPPORTED_UPDATE_OPERATOR_FOR_VECTOR"),
        ({"$push": {"$vectorize": "a"}}, "UNSUPPORTED_UPDATE_OPERATOR_FOR_VECTORIZE"),
        ({"$min": {"$lexical": "a"}}, "UNSUPPORTED_UPDATE_OPERATOR_FOR_LEXICAL"),
        ({"$set": {"$other": 1}}, "UNSUPPORTED_UPDATE_OPERATION_PATH"),
        ({"$set": {"a..b": 1}}, "UNSUPPORTED_UPDATE_OPERATION_PATH"),
        ({"$set": {"": 1}}, "UNSUPPORTED_UPDATE_OPERATION_PATH"),
        ({"$set": {"text.b": 1}}, "UNSUPPORTED_UPDATE_OPERATION_PATH"),
        ({"$set": {"list.b": 1}}, "UNSUPPORTED_UPDATE_OPERATION_PATH"),
        ({"$set": {"list.99999999999": 1}}, "UNSUPPORTED_UPDATE_OPERATION_PATH"),
        ({"$rename": {"text": "text"}}, "UNSUPPORTED_UPDATE_OPERATION_PATH"),
        ({"$rename": {"list.0": "b"}}, "UNSUPPORTED_UPDATE_OPERATION_PATH"),
        ({"$rename": {"text": "list.0"}}, "UNSUPPORTED_UPDATE_OPERATION_PATH"),
        ({"$rename": {"text": 1}}, "UNSUPPORTED_UPDATE_OPERATION_PARAM"),
        ({"$inc": {"n": "1"}}, "UNSUPPORTED_UPDATE_OPERATION_PARAM"),
        ({"$mul": {"n": True}}, "UNSUPPORTED_UPDATE_OPERATION_PARAM"),
        ({"$pop": {"list": 2}}, "UNSUPPORTED_UPDATE_OPERATION_PARAM"),
        ({"$currentDate": {"n": False}}, "UNSUPPORTED_UPDATE_OPERATION_PARAM"),
        ({"$push": {"list": {"$each": 1}}}, "UNSUPPORTED_UPDATE_OPERATION_PARAM"),
        ({"$push": {"list": {"$each": [], "$position": "1"}}}, "UNSUPPORTED_UPDATE_OPERATION_PARAM"),
        ({"$push": {"list": {"$position": 1}}}, "UNSUPPORTED_UPDATE_OPERATION_MODIFIER"),
        ({"$push": {"list": {"$each": [], "$sort": 1}}}, "UNSUPPORTED_UPDATE_OPERATION_MODIFIER"),
        ({"$addToSet": {"list": {"$each": [], "$position": 1}}}, "UNSUPPORTED_UPDATE_OPERATION_MODIFIER"),
        ({"$set": {"a": 1}, "$unset": {"a": 1}}, "UNSUPPORTED_UPDATE_OPERATION_PARAM"),
        ({"$set": {"a.b": 1, "a": 1}}, "UNSUPPORTED_UPDATE_OPERATION_PARAM"),
        ({"$rename": {"a": "b"}, "$inc": {"b.c": 1}}, "UNSUPPORTED_UPDATE_OPERATION_PARAM"),
        ({"$inc": {"text": 1}}, "UNSUPPORTED_UPDATE_OPERATION_TARGET"),
        ({"$mul": {"list": 1}}, "UNSUPPORTED_UPDATE_OPERATION_TARGET"),
        ({"$push": {"text": 1}}, "UNSUPPORTED_UPDATE_OPERATION_TARGET"),
        ({"$addToSet": {"n": 1}}, "UNSUPPORTED_UPDATE_OPERATION_TARGET"),
        ({"$pop": {"n": 1}}, "UNSUPPORTED_UPDATE_OPERATION_TARGET"),
        ({"$set": {"a": {"$bad": 1}}}, "SHRED_BAD_FIELD_NAME"),
        ({"$set": {"a": "x" * 8001}}, "SHRED_DOC_LIMIT_VIOLATION"),
        ({"$set": {"$vector": [1, 2, 3]}}, "INVALID_VECTOR_LENGTH"),
        ({"$set": {"$vectorize": "a"}}, "EMBEDDING_SERVICE_NOT_CONFIGURED"),
    ],
)
def test_what_is_refused_leaves_the_document(raw, update, expected):
    document = {"_id": 1, "text": "a", "list": [1], "n": 1}
    raw.insert(document)
    for command in ("updateOne", "findOneAndUpdate"):
        assert code(raw(command, filter={"_id": 1}, update=update)) == expected
    assert raw.documents() == [document]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.decimals(-1000, 1000, places=3),
    steps=st.lists(st.tuples(st.sampled_from(["$inc", "$mul"]), st.decimals(-9, 9, places=2)), max_size=4),
)
def test_arithmetic_is_that_of_decimals(raw, start, steps):
    raw("deleteMany")
    raw.insert({"_id": 1, "n": float(start)})
    for operator, by in steps:
        raw("updateOne", filter={}, update={operator: {"n": float(by)}})
        start = start + by if operator == "$inc" else start * by
    (found,) = raw.documents()
    assert found["n"] == float(start)


@pytest.mark.parametrize("command", ["updateOne", "updateMany", "findOneAndUpdate"])
def test_upserts_begin_with_what_the_filter_says(raw, command):
    clause = {"a.b": 1, "c": {"$gt": 2}, "$and": [{"d": "x"}], "e": {"$in": [1]}}
    update = {"$set": {"f": 1}, "$setOnInsert": {"_id": "new", "g": 2}}
    answer = raw(command, filter=clause, update=update, options={"upsert": True})
    assert answer["status"] == {"matchedCount": 0, "modifiedCount": 0, "upsertedId": "new"}
    assert raw.documents() == [{"_id": "new", "a": {"b": 1}, "d": "x", "f": 1, "g": 2}]


def test_upserts_take_the_id_of_the_filter(raw):
    options = {"upsert": True, "returnDocument": "after"}
    update = {"$setOnInsert": {"a": 1}, "$inc": {"n": 1}}
    for n in (1, 2):
        answer = raw("findOneAndUpdate", filter={"_id": 7}, update=update, options=options)
        assert answer["data"]["document"] == {"_id": 7, "a": 1, "n": n}
    answer = raw("updateOne", filter={"_id": 8}, update={"$setOnInsert": {"_id": 9}}, options=options | {})
    assert code(answer) == "COMMAND_FIELD_UNKNOWN"
    answer = raw("updateOne", filter={"_id": 8}, update={"$setOnInsert": {"_id": 9}}, options={"upsert": True})
    assert code(answer) == "UNSUPPORTED_UPDATE_OPERATOR_FOR_DOC_ID"


def test_which_document_is_returned_must_be_before_or_after(raw):
    answer = raw("findOneAndUpdate", filter={}, update={}, options={"returnDocument": "old"})
    assert code(answer) == "COMMAND_FIELD_VALUE_INVALID"


def test_updated_vectors_are_searched(raw):
    raw.insert({"_id": 1, "$vector": [1, 0]}, {"_id": 2, "$vector": [0, 1]})
    assert raw.ids(sort={"$vector": [1, 0.1]}) == [1, 2]
    raw("updateOne", filter={"_id": 1}, update={"$set": {"$vector": [-1, 0]}})
    assert raw.ids(sort={"$vector": [1, 0.1]}) == [2, 1]
    raw("updateOne", filter={}, update={"$set": {"a": 1}}, sort={"$vector": [-1, 0]})
    assert raw.ids({"a": 1}) == [1]


def test_documents_do_not_share_what_one_update_gave_them(raw):
    raw.insert({"_id": 1}, {"_id": 2})
    raw("updateMany", filter={}, update={"$set": {"list": [1]}})
    raw("updateOne", filter={"_id": 1}, update={"$push": {"list": 2}})
    assert raw.documents() == [{"_id": 1, "list": [1, 2]}, {"_id": 2, "list": [1]}]
