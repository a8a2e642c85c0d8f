"""Vectors in the emulator: forms, errors, and search against NumPy."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from astrapy import DataAPIClient
from astrapy.api_options import APIOptions, SerdesOptions
from astrapy.data_types import DataAPIVector
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geovlm.testing.data_api import DataAPIEmulator, Limits
from tests.testing.data_api_raw import Raw, code

METRICS = ("cosine", "dot_product", "euclidean")


@pytest.fixture(scope="module")
def api():
    with DataAPIEmulator() as running:
        for metric in METRICS:
            Raw(running, collection=metric).create(vector={"dimension": 3, "metric": metric})
        Raw(running, collection="plain").create()
        yield running


@pytest.fixture
def raw(api):
    cleared = Raw(api, collection="cosine")
    cleared("deleteMany")
    return cleared


def binary(*values):
    return {"$binary": base64.b64encode(np.asarray(values, ">f4").tobytes()).decode()}


def expected_similarities(rows, query, metric):
    rows, query = rows.astype(np.float64), query.astype(np.float64)
    if metric == "euclidean":
        return 1 / (1 + ((rows - query) ** 2).sum(axis=1))
    if metric == "cosine":
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        query = query / np.linalg.norm(query)
    return (1 + rows @ query) / 2


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("packed", [True, False], ids=["binary", "array"])
def test_search_through_astrapy_equals_numpy(api, metric, packed):
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(300, 3)).astype(np.float32)
    query = generator.normal(size=3).astype(np.float32)
    options = APIOptions(serdes_options=SerdesOptions(binary_encode_vectors=packed))
    database = DataAPIClient().get_database(api.endpoint, token=api.token, spawn_api_options=options)
    collection = database.get_collection(metric)
    collection.delete_many({})
    collection.insert_many([{"_id": n, "$vector": row.tolist(), "even": n % 2 == 0} for n, row in enumerate(rows)])
    scores = expected_similarities(rows, query, metric)
    found = collection.find({}, sort={"$vector": query.tolist()}, limit=25, include_similarity=True).to_list()
    assert [one["_id"] for one in found] == np.argsort(-scores, kind="stable")[:25].tolist()
    np.testing.assert_allclose([one["$similarity"] for one in found], np.sort(scores)[::-1][:25], rtol=1e-6)
    everything = collection.find({}, sort={"$vector": query.tolist()}).to_list()
    assert len(everything) == 300
    assert "$similarity" not in everything[0]
    even = collection.find({"even": True}, sort={"$vector": query.tolist()}, limit=5).to_list()
    assert [one["_id"] for one in even] == [n for n in np.argsort(-scores) if n % 2 == 0][:5]
    nearest = collection.find_one({}, sort={"$vector": query.tolist()}, include_similarity=True, projection={"*": 1})
    assert nearest["_id"] == int(scores.argmax())
    assert isinstance(nearest["$vector"], DataAPIVector)
    assert list(nearest["$vector"]) == rows[scores.argmax()].tolist()


VECTORS = st.lists(st.integers(-5, 5), min_size=3, max_size=3).filter(any)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(vectors=st.lists(VECTORS, min_size=1, max_size=10), query=VECTORS, metric=st.sampled_from(METRICS))
def test_search_is_in_the_order_of_similarity_then_age(api, vectors, query, metric):
    raw = Raw(api, collection=metric)
    raw("deleteMany")
    raw.insert(*({"_id": n, "$vector": vector} for n, vector in enumerate(vectors)), {"_id": "none"})
    found = raw.documents(sort={"$vector": query}, options={"includeSimilarity": True})
    scores = expected_similarities(np.asarray(vectors), np.asarray(query), metric).astype(np.float32)
    assert [one["_id"] for one in found] == np.argsort(-scores, kind="stable").tolist()
    assert [np.float32(one["$similarity"]) for one in found] == sorted(scores, reverse=True)


def test_the_sort_vector_comes_back_on_demand(api, raw):
    raw.insert(*({"_id": n, "$vector": [n, 1, 1]} for n in range(60)))
    for command in ("find", "findOne"):
        for sent in ([1.0, 0.5, 0.1], binary(1, 0.5, 0.1)):
            answer = raw(command, sort={"$vector": sent}, options={"includeSortVector": True})
            assert answer["status"] == {"sortVector": [1.0, 0.5, 0.1]}
            assert any(answer["data"].values())
    answer = raw("find", options={"includeSortVector": True})
    assert answer["status"] == {"sortVector": None}
    assert answer["data"]["nextPageState"] is None
    collection = DataAPIClient().get_database(api.endpoint, token=api.token).get_collection("cosine")
    cursor = collection.find({}, sort={"$vector": [1, 0.5, 0.25]}, include_sort_vector=True)
    assert list(cursor.get_sort_vector()) == [1, 0.5, 0.25]
    assert len(cursor.to_list()) == 60


def test_vectors_come_back_in_the_form_they_were_stored(raw):
    raw.insert({"_id": 1, "$vector": [0.1, 2, -3.25]}, {"_id": 2, "$vector": binary(0.1, 2, -3.25)}, {"_id": 3})
    assert raw.documents(projection={"$vector": 1}) == [
        {"_id": 1, "$vector": [0.1, 2, -3.25]},
        {"_id": 2, "$vector": binary(0.1, 2, -3.25)},
        {"_id": 3},
    ]
    assert raw.documents() == [{"_id": 1}, {"_id": 2}, {"_id": 3}]
    assert raw.documents(projection={"$vector": 1, "_id": 0})[0] == {"$vector": [0.1, 2, -3.25]}
    assert raw.ids({"$vector": {"$exists": True}}) == [1, 2]
    assert raw.ids({"$vector": {"$exists": False}}) == [3]


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("vector", "expected"),
    [
        ([], "SHRED_BAD_VECTOR_SIZE"),
        ({"$binary": ""}, "SHRED_BAD_VECTOR_SIZE"),
        (["a", 1, 2], "SHRED_BAD_VECTOR_VALUE"),
        ([[1, 2, 3]], "SHRED_BAD_VECTOR_VALUE"),
        ([True, 1, 2], "SHRED_BAD_VECTOR_VALUE"),
        ([None, 1, 2], "SHRED_BAD_VECTOR_VALUE"),
        ({"$binary": "no base64!"}, "SHRED_BAD_BINARY_VECTOR_VALUE"),
        ({"$binary": 3}, "SHRED_BAD_BINARY_VECTOR_VALUE"),
        ({"$binary": base64.b64encode(b"12345").decode()}, "SHRED_BAD_BINARY_VECTOR_VALUE"),
        ("text", "SHRED_BAD_DOCUMENT_VECTOR_TYPE"),
        (1.5, "SHRED_BAD_DOCUMENT_VECTOR_TYPE"),
        ({"values": [1, 2, 3]}, "SHRED_BAD_DOCUMENT_VECTOR_TYPE"),
        ([1, 2], "INVALID_VECTOR_LENGTH"),
        (binary(1, 2, 3, 4), "INVALID_VECTOR_LENGTH"),
        ([1] * 4097, "SHRED_DOC_LIMIT_VIOLATION"),
        (binary(1, NAN, 2), "INVALID_DATABASE_QUERY"),
        (binary(1, INFINITY, 2), "INVALID_DATABASE_QUERY"),
        ([1e300, 1, 1], "INVALID_DATABASE_QUERY"),
        ([0, 0, 0], "INVALID_DATABASE_QUERY"),
        ([1e-30, 0, 0], "INVALID_DATABASE_QUERY"),
        (binary(0, 0, 0), "INVALID_DATABASE_QUERY"),
    ],
)
def test_bad_vectors(raw, vector, expected):
    answer = raw("insertMany", documents=[{"_id": 1, "$vector": vector}, {"_id": 2, "$vector": [1, 2, 3]}])
    assert answer["status"] == {"insertedIds": [2]}
    (error,) = answer["errors"]
    assert (error["errorCode"], error["documentIds"]) == (expected, [1])
    assert code(raw("findOneAndReplace", filter={"_id": 2}, replacement={"$vector": vector})) == expected


@pytest.mark.parametrize(
    ("vector", "expected"),
    [
        ([], "SHRED_BAD_VECTOR_SIZE"),
        ("text", "SHRED_BAD_VECTOR_VALUE"),
        ([[1, 2, 3]], "SHRED_BAD_VECTOR_VALUE"),
        ({"$binary": "no base64!"}, "SORT_CLAUSE_VALUE_INVALID"),
        ([1, 2], "INVALID_VECTOR_LENGTH"),
        ([0, 0, 0], "INVALID_DATABASE_QUERY"),
        (binary(1, 2, NAN), "INVALID_DATABASE_QUERY"),
    ],
)
def test_bad_vectors_to_sort_by(raw, vector, expected):
    assert code(raw("find", sort={"$vector": vector})) == expected


def test_what_does_not_go_with_a_vector_sort(raw):
    vector = [1, 2, 3]
    assert code(raw("find", sort={"$vector": vector, "a": 1})) == "SORT_CLAUSE_INVALID"
    assert code(raw("find", sort={"$vector": vector}, options={"skip": 1})) == "COMMAND_FIELD_VALUE_INVALID"
    assert code(raw("find", sort={"$vector": vector}, options={"limit": 1001})) == "COMMAND_FIELD_VALUE_INVALID"
    assert raw.ids(sort={"$vector": vector}, options={"limit": 1000}) == []
    state = "WzEsIG51bGxd"
    assert code(raw("find", sort={"$vector": vector}, options={"pageState": state})) == "SORT_CLAUSE_INVALID"
    assert code(raw("find", sort={"$vectorize": "text"})) == "UNSUPPORTED_VECTORIZE_SORT_FOR_COLLECTION"
    assert code(raw("find", sort={"$lexical": "text"})) == "LEXICAL_NOT_AVAILABLE_FOR_DATABASE"


def test_a_search_returns_a_thousand_at_most():
    with DataAPIEmulator(limits=Limits(vector_limit=10)) as api:
        raw = Raw(api).create(vector={"dimension": 2, "metric": "euclidean"})
        raw.insert(*({"_id": n, "$vector": [n, 0]} for n in range(12)))
        assert raw.ids(sort={"$vector": [0, 0]}) == list(range(10))
        assert raw.ids(sort={"$vector": [0, 0]}, options={"limit": 3}) == [0, 1, 2]


def test_zero_vectors_are_fine_without_cosine(api):
    raw = Raw(api, collection="euclidean")
    raw("deleteMany")
    raw.insert({"_id": 1, "$vector": [0, 0, 0]}, {"_id": 2, "$vector": None})
    (found,) = raw.documents(sort={"$vector": [0, 0, 2]}, options={"includeSimilarity": True})
    assert found == {"_id": 1, "$similarity": 0.2}


def test_collections_without_vectors_take_none(api):
    raw = Raw(api, collection="plain")
    documents = [{"_id": 1}, {"_id": 2, "$vector": [1.0]}]
    assert code(raw("insertMany", documents=documents)) == "VECTOR_SEARCH_NOT_SUPPORTED"
    assert raw.ids() == []
    assert code(raw("insertOne", document={"$vectorize": "text"})) == "EMBEDDING_SERVICE_NOT_CONFIGURED"


def test_text_for_an_embedding_service(api):
    service = {"provider": "nvidia", "modelName": "NV-Embed-QA"}
    raw = Raw(api, collection="served").create(vector={"service": service})
    (described,) = [
        one["options"]["vector"]
        for one in raw.schema("findCollections", options={"explain": True})["status"]["collections"]
        if one["name"] == "served"
    ]
    assert described["service"] == service
    assert code(raw("insertOne", document={"$vectorize": "text"})) == "EMBEDDING_GATEWAY_NOT_AVAILABLE"
    both = {"$vectorize": "text", "$vector": [1.0]}
    assert code(raw("insertOne", document=both)) == "INVALID_USAGE_OF_VECTORIZE"
    assert code(raw("insertOne", document={"$vectorize": 3})) == "INVALID_VECTORIZE_VALUE_TYPE"
    assert code(raw("find", sort={"$vectorize": "text"})) == "EMBEDDING_GATEWAY_NOT_AVAILABLE"
