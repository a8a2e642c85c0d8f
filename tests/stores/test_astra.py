from __future__ import annotations

import asyncio
import logging
import traceback
from typing import Any

import numpy as np
import pytest
from astrapy import DataAPIClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geovlm.errors import AuthError, ConfigMismatch, StoreError, UsageError
from geovlm.filters import compile_filter, parse_filter
from geovlm.stores import STORES, AstraStore, NumpyStore
from geovlm.stores._astra_documents import prepare, search_name
from geovlm.stores._astra_filters import push_down
from geovlm.stores._checks import json_rows
from geovlm.stores.astra import AsyncAstraStore
from geovlm.testing import VectorStoreContract
from geovlm.testing.data_api import DataAPIEmulator, Fault, Limits

DIM = 8
SECRET = "AstraCS:not-to-be-seen"


@pytest.fixture
def api(monkeypatch):
    for name in ("ASTRA_DB_API_ENDPOINT", "ASTRA_DB_APPLICATION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with DataAPIEmulator() as running:
        yield running


@pytest.fixture(scope="module")
def shared_api():
    with DataAPIEmulator() as running:
        yield running


def connected(api, name="scenes", **options) -> AstraStore:
    return AstraStore(name, **{"endpoint": api.endpoint, "token": api.token, "pause": 0.01} | options)


def astrapy_database(api):
    return DataAPIClient().get_database(api.endpoint, token=api.token)


def rows(count, dim=DIM):
    vectors = np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32)
    return [f"row-{i:05d}" for i in range(count)], vectors, [{"i": i} for i in range(count)]


class TestContract(VectorStoreContract):
    made = 0

    @pytest.fixture(autouse=True)
    def _place(self, shared_api):
        self.api = shared_api

    def make_store(self) -> AstraStore:
        TestContract.made += 1
        return connected(self.api, f"scenes_{self.made}")


class TestContractInSmallPages(VectorStoreContract):
    """The same where everything takes many pages."""

    @pytest.fixture(autouse=True)
    def _place(self):
        with DataAPIEmulator(limits=Limits(page=3, delete_page=2, count=10)) as self.api:
            yield

    def make_store(self) -> AstraStore:
        return connected(self.api)

    # Half a minute of small pages; the filters are the same above.
    test_filters_agree_with_a_plain_reading_of_the_grammar = None  # type: ignore[assignment]


# --- settings and secrets


def test_settings_come_from_the_environment_and_arguments_win(api, monkeypatch):
    monkeypatch.setenv("ASTRA_DB_API_ENDPOINT", api.endpoint)
    monkeypatch.setenv("ASTRA_DB_APPLICATION_TOKEN", api.token)
    assert AstraStore("scenes").count() == 0
    assert STORES["astra"]("scenes").count() == 0
    with pytest.raises(AuthError):
        AstraStore("scenes", token="wrong").count()
    monkeypatch.setenv("ASTRA_DB_APPLICATION_TOKEN", "wrong")
    assert AstraStore("scenes", token=api.token).count() == 0


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({}, UsageError, "set ASTRA_DB_API_ENDPOINT"),
        ({"endpoint": "http://127.0.0.1:1"}, AuthError, "set ASTRA_DB_APPLICATION_TOKEN"),
        ({"endpoint": "127.0.0.1:1", "token": "t"}, UsageError, "https://"),
        ({"endpoint": "http://u:p@host", "token": "t"}, UsageError, "https://"),
        ({"endpoint": "http://h", "environment": "cassandra"}, UsageError, "astra, hcd, dse, other"),
        ({"endpoint": "http://h", "environment": "hcd", "token": "t"}, UsageError, "keyspace="),
        ({"endpoint": "http://h", "environment": "hcd", "keyspace": "k"}, AuthError, "username= and password="),
        ({"endpoint": "http://h", "environment": "hcd", "keyspace": "k", "username": "u"}, UsageError, "together"),
        ({"endpoint": "http://h", "username": "u", "password": "p"}, AuthError, "ASTRA_DB_APPLICATION_TOKEN"),
        ({"endpoint": "http://h", "token": "t", "workers": 0}, UsageError, "workers"),
        ({"endpoint": "http://h", "token": "t", "attempts": 1.5}, UsageError, "attempts"),
        ({"endpoint": "http://h", "token": "t", "timeout": 0}, UsageError, "timeout"),
        ({"endpoint": "http://h", "token": "t", "dim": 5000}, UsageError, "4,096"),
    ],
    ids=str,
)
def test_what_is_wrong_with_the_settings_is_said_before_anything_is_sent(api, options, error, said):
    for kind in (AstraStore, AsyncAstraStore):
        with pytest.raises(error, match=said):
            kind("scenes", **options)
    assert len(api.log) == 0


@pytest.mark.parametrize("name", ["", "a-b", "1a", "a" * 49, None], ids=repr)
def test_names_that_no_collection_can_have(api, name):
    with pytest.raises(UsageError, match="letters, digits"):
        connected(api, name)


def test_the_token_is_never_seen(api, caplog):
    caplog.set_level(logging.DEBUG)
    with DataAPIEmulator(token=SECRET) as secret_api:
        store = connected(secret_api)
        store.bind(dim=DIM, fingerprint="a")
        store.upsert(["a"], np.ones((1, DIM)))
        seen = [repr(store), str(store), repr(store._connection)]
    for faults in (Fault.unauthorized(), Fault.html(400), Fault.timed_out("UNEXPECTED_DRIVER_ERROR"), Fault.dropped()):
        other = connected(api, token=SECRET, attempts=2)
        api.faults.add(faults, times=2)
        with pytest.raises(Exception, match="Astra DB") as caught:
            other.count()
        seen += ["".join(traceback.format_exception(caught.value)), repr(caught.value)]
    other = AstraStore("a", endpoint=api.endpoint, environment="hcd", keyspace="k", username="me", password=SECRET)
    with pytest.raises(AuthError) as refused:
        other.count()
    seen += [repr(other), repr(other._connection), "".join(traceback.format_exception(refused.value)), caplog.text]
    assert SECRET.partition(":")[2] not in "".join(seen)


@pytest.mark.parametrize("environment", ["hcd", "dse", "other"])
def test_other_data_apis_take_a_user_and_a_keyspace(environment):
    with DataAPIEmulator(keyspaces=("maps",)) as api:
        user = {"environment": environment, "keyspace": "maps", "username": api.username, "password": api.password}
        store = AstraStore("scenes", endpoint=api.endpoint, **user)
        assert store.upsert(["a"], np.ones((1, DIM))) == ["inserted"]
        assert {record.keyspace for record in api.log.records} == {"maps"}


# --- the collection


def test_the_collection_is_made_with_every_option(api):
    store = connected(api)
    assert store.count() == 0
    assert astrapy_database(api).list_collection_names() == []
    store.bind(dim=DIM, fingerprint="a")
    (made,) = astrapy_database(api).list_collections()
    assert made.definition.as_dict() == {
        "vector": {"dimension": DIM, "metric": "cosine", "sourceModel": "other"},
        "indexing": {"allow": ["metadata"]},
        "lexical": {"enabled": False},
        "rerank": {"enabled": False},
    }


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ({"vector": {"dimension": 8, "metric": "euclidean"}}, "euclidean.*cosine"),
        ({"vector": {"dimension": 8}, "indexing": {"deny": ["metadata"]}}, "deny.*allow"),
        ({"vector": {"dimension": 8}, "indexing": {"allow": ["metadata"]}, "lexical": {"enabled": True}}, "lexical"),
        ({}, "needed"),
    ],
    ids=str,
)
def test_a_collection_with_other_options_is_refused_and_both_are_shown(api, definition, said):
    off = {"lexical": {"enabled": False}, "rerank": {"enabled": False}}
    astrapy_database(api).create_collection("scenes", definition=off | definition)
    with pytest.raises(ConfigMismatch, match=f"(?s)scenes.*there:.*{said}"):
        connected(api).bind(dim=DIM, fingerprint="a")
    with pytest.raises(ConfigMismatch):
        connected(api, dim=DIM).upsert(["a"], np.ones((1, DIM)))
    assert astrapy_database(api).get_collection("scenes").estimated_document_count() == 0


def test_a_collection_of_another_dimension_is_refused_and_both_are_shown(api):
    connected(api, dim=16).upsert(["a"], np.ones((1, 16)))
    with pytest.raises(ConfigMismatch, match=r"16 numbers.*with 8"):
        connected(api).bind(dim=8, fingerprint="a")
    with pytest.raises(ConfigMismatch, match=r"(?s)there:.*'dimension': 16.*needed:.*'dimension': 8"):
        connected(api, dim=8).count()


def test_a_collection_made_by_another_program_with_the_same_options_is_taken(api):
    connected(api, "scenes").bind(dim=DIM, fingerprint="a")
    database = astrapy_database(api)
    definition = next(iter(database.list_collections())).definition
    database.create_collection("more", definition=definition)
    assert connected(api, "more").upsert(["a"], np.ones((1, DIM))) == ["inserted"]


def test_the_encoder_is_remembered_and_never_found(api):
    store = connected(api)
    store.bind(dim=DIM, fingerprint="encoder-a")
    assert (store.count(), store.count({"x": {"$exists": False}}), list(store.scan())) == (0, 0, [])
    assert store.query(np.ones((1, DIM)), 5)[0].ids == store.query(np.ones((1, DIM)), 5, exact=True)[0].ids == []
    store.upsert(["0", "a"], np.ones((2, DIM)))
    assert store.get(["0"]) == [{}]
    other = connected(api)
    for dim, fingerprint in ((DIM, "encoder-b"), (DIM * 2, "encoder-a")):
        with pytest.raises(ConfigMismatch):
            other.bind(dim=dim, fingerprint=fingerprint)
    assert other.delete(where={"x": {"$exists": False}}) == 2
    assert other.delete(where={}) == 0
    with pytest.raises(ConfigMismatch, match="encoder-a"):
        connected(api).bind(dim=DIM, fingerprint="encoder-b")


def test_vectors_that_came_before_the_encoder_are_tied_to_it(api):
    connected(api).upsert(["a"], np.ones((1, DIM)))
    connected(api).bind(dim=DIM, fingerprint="a")
    with pytest.raises(ConfigMismatch):
        connected(api).bind(dim=DIM, fingerprint="b")


def test_vectors_of_another_length_are_refused_though_the_store_is_new(api):
    connected(api).bind(dim=DIM, fingerprint="a")
    for call in (lambda store: store.upsert(["a"], np.ones((1, 4))), lambda store: store.query(np.ones((1, 4)))):
        with pytest.raises(UsageError, match="8 numbers"):
            call(connected(api))


def test_two_that_make_the_collection_at_once(api):
    api.faults.add(Fault.acknowledgement_lost(), command="createCollection")
    connected(api).bind(dim=DIM, fingerprint="a")
    database = astrapy_database(api)
    late = connected(api, "late")
    assert late.count() == 0
    database.create_collection("late", definition={"vector": {"dimension": 3}})
    with pytest.raises(ConfigMismatch, match=r"(?s)there:.*needed:"):
        late.bind(dim=DIM, fingerprint="a")


def test_a_collection_of_a_newer_version_is_refused(api):
    connected(api).bind(dim=DIM, fingerprint="a")
    collection = astrapy_database(api).get_collection("scenes")
    collection.update_one({"_id": 0}, {"$set": {"store.format": 2}})
    with pytest.raises(StoreError, match="newer geovlm"):
        connected(api).count()


def test_a_document_without_a_vector_is_named(api):
    store = connected(api)
    store.upsert(["a"], np.ones((1, DIM)))
    collection = astrapy_database(api).get_collection("scenes")
    collection.insert_one({"_id": "alien", "metadata": {}})
    with pytest.raises(StoreError, match="'alien' has no vector"):
        list(store.scan())
    collection.replace_one({"_id": "alien"}, {"$vector": [2.0] * DIM, "metadata": {"x": 1}})
    assert store.query(np.ones((1, DIM)), 2)[0].scores == [1.0, 1.0]


# --- what is sent


def test_vectors_go_as_big_endian_numbers_and_requests_stay_small(api):
    ids, vectors, metadata = rows(120)
    store = connected(api)
    store.upsert(ids, vectors, metadata)
    assert api.log.count("insertMany") == 2
    body = store._collection.command({"findOne": {"filter": {"_id": ids[0]}, "projection": {"*": 1}}})
    document = body["data"]["document"]
    assert sorted(document) == ["$vector", "_id", "metadata", "sha", "write"]
    assert list(document["$vector"]) == ["$binary"]
    unit = vectors[0] / np.linalg.norm(vectors[0])
    stored = next(astrapy_database(api).get_collection("scenes").find({"_id": ids[0]}, projection={"$vector": 1}))
    np.testing.assert_allclose(list(stored["$vector"]), unit, atol=1e-7)


def test_large_documents_are_spread_over_requests():
    with DataAPIEmulator(limits=Limits(body_bytes=12_000_000)) as api:
        store = connected(api)
        ids, vectors, _ = rows(20)
        long = [{"text": "é" * 500_000, "i": i} for i in range(20)]
        assert store.upsert(ids, vectors, long) == ["inserted"] * 20
        assert max(record.request_bytes for record in api.log.records) < 12_000_000
        assert store.get(ids[:1]) == long[:1]


def test_a_second_run_reads_hashes_and_writes_what_has_changed(api):
    ids, vectors, metadata = rows(2000)
    store = connected(api)
    store.upsert(ids, vectors, metadata)
    api.log.clear()
    assert store.upsert(ids, vectors, metadata) == ["replaced"] * 2000
    assert api.log.commands == {"insertMany": 1, "find": 20}
    assert sum(record.request_bytes for record in api.log.records) < 100_000
    api.log.clear()
    metadata[3], metadata[1500] = {"i": -1}, {"new": True}
    vectors[7] *= -1
    assert store.upsert([*ids, "more"], np.vstack([vectors, vectors[:1]]), [*metadata, {}])[-2:] == [
        "replaced",
        "inserted",
    ]
    assert api.log.commands == {"insertMany": 2, "find": 21, "findOneAndReplace": 3}
    assert store.get([ids[3], ids[1500], "more"]) == [{"i": -1}, {"new": True}, {}]
    assert store.query(vectors[7][None], 1)[0].ids == [ids[7]]


def test_a_replacement_brings_nothing_of_the_old_row_back(api):
    store = connected(api)
    store.upsert(["a"], np.ones((1, DIM)), [{"text": "x" * 5000}])
    store.upsert(["a"], np.ones((1, DIM)), [{}])
    (replaced,) = [record for record in api.log.records if record.command == "findOneAndReplace"]
    assert replaced.response_bytes < 200
    assert store.get(["a"]) == [{}]


@pytest.mark.parametrize(
    "bad",
    [
        {"list": list(range(1001))},
        {str(i): i for i in range(1001)},
        {str(i): {str(j): j for j in range(50)} for i in range(50)},
        {"deep": [[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]},
        {"n": 10**100},
        {"text": "\ud800"},
        {"\ud800": 1},
        {"text": "x" * 4_000_000},
        {"a" * 200: {"b" * 200: {"c" * 200: {"d" * 200: {"e" * 200: 1}}}}},
    ],
    ids=lambda bad: f"{str(bad)[:30]!a}",
)
def test_metadata_beyond_the_limits_is_refused_before_anything_is_sent(api, bad):
    store = connected(api)
    with pytest.raises(UsageError, match=r"row 1 (is beyond what Astra DB takes|holds half)"):
        store.upsert(["a", "b"], np.ones((2, DIM)), [{}, bad])
    assert len(api.log) == 0


def test_ids_that_are_no_unicode(api):
    store = connected(api)
    with pytest.raises(UsageError, match="surrogate"):
        store.upsert(["a\ud800"], np.ones((1, DIM)))
    store.upsert(["a", "x" * 10_000], np.ones((2, DIM)), [{"v": 1}, {"v": 2}])
    assert store.get(["a\ud800", "a", "a", "x" * 10_000]) == [None, {"v": 1}, {"v": 1}, {"v": 2}]
    assert store.delete(["a\ud800", "x" * 10_000]) == 1


# --- odd metadata and filters

ODD: list[dict[str, Any]] = [
    {"text": "x" * 9000, "a.b": 1, "n": 2**53, "deep": {"x": {"y": 1}}},
    {"text": "x" * 8999 + "y", "a": {"b": 2}, "n": 2**53 + 1, "": 3, "*": 4},
    {"text": "é" * 4001, "a.b": None, "a": {"b": 1}, "n": float(2**53)},
    {"text": "x" * 8000, "a&b": 1, "n": 10**23, "list": [None, ["a"], {"k": 1}, {"k": 1, "l": 2}, True, 1]},
    {"text": "x" * 7997, "~": 1, "n": 1e23, "list": [["x" * 9000]], "k" * 300: 5},
    {"text": "", "a": {"b": {"c": "x" * 9000}}, "n": -0.0, "list": {"k": 1}, "a&b": [1]},
    {"n": None, "list": [[None]], "map": {"k": 1, "l": 2}, "00": 0, "items": ["p", {"00": "q"}]},
    {"n": True, "list": [], "map": {"l": 2, "k": 1}, "~2e": 1, ".": 2, "a": {"": 7, "b.c": 8}},
    {"n": 0.1 + 0.2, "map": {}, "items": {"0": "p", "00": "r"}},
    {"n": 0.3, "_id": "x", "sha": 1},
]
OPERANDS = [
    *("x" * 9000, "x" * 8000, "x" * 7997, "x" * 7996, "é" * 4000, "", "a", "\ud800"),
    *(2**53, 2**53 + 1, float(2**53), 2**53 - 1, 10**23, 1e23, 0, 0.3, 1, 2, True, None),
    *([], ["a"], [None], {"k": 1}, {"k": 1, "l": 2}, {"l": 2, "k": 1}, {}, {"$x": 1}, {"\ud800": 1}, ["x" * 9000]),
]
NAMES = [
    *("text", "a.b", "a", "n", "list", "map", "a&b", "~", "~2e", ".", "", "*", "00", "k" * 300, "_id", "sha"),
    *("deep.x.y", "a.b.c", "a.", "list.0", "list.2.k", "items.00", "items.0", "items.1.00", "nowhere", "\ud800"),
]


@pytest.fixture(scope="module")
def odd_store(shared_api):
    with connected(shared_api, "odd") as store:
        store.upsert([f"{i}" for i in range(len(ODD))], np.eye(len(ODD), DIM) + 0.1, ODD)
        yield store


def test_odd_metadata_comes_back_as_it_was(odd_store):
    assert odd_store.get([f"{i}" for i in range(len(ODD))]) == ODD
    got = odd_store.get(["7"])[0]
    assert list(got["map"]) == ["l", "k"]


@st.composite
def conditions(draw):
    name = draw(st.sampled_from([name for name in NAMES if name]))
    op = draw(st.sampled_from(["$eq", "$ne", "$in", "$nin", "$exists", "$gt", "$gte", "$lt", "$lte"]))
    if op == "$exists":
        return {name: {op: draw(st.booleans())}}
    if op in ("$in", "$nin"):
        return {name: {op: draw(st.lists(st.sampled_from(OPERANDS), max_size=4))}}
    ordered = [value for value in OPERANDS if isinstance(value, str | int | float)]
    return {name: {op: draw(st.sampled_from(ordered if op[1] in "gl" else OPERANDS))}}


ODD_FILTERS = st.recursive(
    conditions(),
    lambda inner: st.one_of(
        st.builds(lambda parts: {"$and": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"$or": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"$not": part}, inner),
    ),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(ODD_FILTERS)
def test_odd_filters_mean_what_they_mean_everywhere(odd_store, where):
    passes = compile_filter(where)
    expected = [f"{i}" for i, row in enumerate(ODD) if passes(row)]
    assert sorted(key for keys, _, _ in odd_store.scan(where) for key in keys) == expected
    assert odd_store.count(where) == len(expected)
    assert sorted(odd_store.query(np.ones((1, DIM)), 50, where=where)[0].ids) == expected


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=12) | st.text(".&~$*a2e", max_size=6), st.text(".&~$*a2e", max_size=6))
def test_two_names_have_two_codes(one, other):
    assert (search_name(one) == search_name(other)) == (one == other)
    assert not set(search_name(one)) & set(".&")


@pytest.mark.parametrize(
    "where",
    [
        {"label": {"$in": [f"v{i}" for i in range(250)]}},
        {"label": {"$nin": [f"v{i}" for i in range(250)]}},
        {"$and": [{f"n{i}": {"$ne": 1}} for i in range(100)]},
        {"$or": [{"i": i} for i in range(100)]},
    ],
    ids=lambda where: str(where)[:40],
)
def test_filters_beyond_the_limits_of_the_service(api, where):
    store, (ids, vectors, _) = connected(api), rows(200)
    metadata = [{"label": f"v{i * 2}", "i": i, **({"n99": 1} if i < 30 else {})} for i in range(200)]
    store.upsert(ids, vectors, metadata)
    expected = [key for key, row in zip(ids, metadata, strict=True) if compile_filter(where)(row)]
    assert 0 < len(expected) < 200
    assert store.count(where) == len(expected)
    assert sorted(store.query(vectors[:1], 500, where=where)[0].ids) == expected


def test_a_filter_that_no_request_can_hold_is_answered_here(api, monkeypatch):
    monkeypatch.setattr("geovlm.stores._astra_filters.MOST_COMPARISONS", 2)
    store, (ids, vectors, metadata) = connected(api), rows(30)
    store.upsert(ids, vectors, metadata)
    for where in ({"i": {"$in": list(range(10, 400))}}, {"$and": [{"i": {"$ne": i}} for i in range(10)]}):
        assert not push_down(parse_filter(where)).exact
        assert store.count(where) == 20
        assert sorted(store.query(vectors[:1], 50, where=where)[0].ids) == ids[10:]


def test_what_can_be_pushed_down_is(api):
    for where in (
        {"label": "Port", "year": {"$gte": 2020, "$lt": 2024}},
        {"label": {"$nin": ["Port", "Beach"]}, "$or": [{"tags": "roof"}, {"camera.gsd": {"$lt": 0.5}}]},
        {"$not": {"label": "Port", "cloud": {"$exists": True}}},
        {"day": {"$gte": "2024-01-01"}, "thing": None, "tags": ["a", "b"]},
    ):
        assert push_down(parse_filter(where)).exact
    assert push_down(parse_filter({"year": {"$not": {"$gt": 2020}}})).clause is True
    store = connected(api)
    store.upsert(["a", "b"], np.eye(2, DIM), [{"year": 2020}, {"year": 2024}])
    api.log.clear()
    assert store.count({"year": {"$gt": 2021}}) == 1
    assert api.log.commands == {"countDocuments": 1}


def test_prepared_rows_know_their_size_and_whether_they_are_whole():
    whole, cut = prepare(json_rows([{"a": "é"}, {"a": "é" * 5000}], 2))
    assert (whole.whole, cut.whole) == (True, False)
    assert whole.size == len('{"a":"é"}'.encode())
    assert len(cut.searchable["a"].encode()) == 8000


# --- searching


def test_more_than_a_thousand(api):
    ids, vectors, metadata = rows(1100)
    store = connected(api)
    store.upsert(ids, vectors, metadata)
    assert store.count() == len(store) == 1100
    assert api.log.commands["countDocuments"] == 2
    query = vectors[:1]
    reference = NumpyStore()
    reference.upsert(ids, vectors, metadata)
    assert store.query(query, 1000)[0].ids == reference.query(query, 1000)[0].ids
    with pytest.raises(UsageError, match=r"at most the 1,000 nearest.*exact=True"):
        store.query(query, 1001)
    assert store.query(query, 1100, exact=True)[0].ids == reference.query(query, 1100)[0].ids
    few = {"i": {"$lt": 50}}
    assert store.query(query, 5000, where=few)[0].ids == reference.query(query, 5000, where=few)[0].ids
    # Answered here, and by none of the thousand nearest.
    far = set(reference.query(query, 1100)[0].ids[-5:])
    late = {"i": {"$not": {"$nin": [int(key[4:]) for key in far]}}, "n": {"$not": {"$gt": 0}}}
    assert set(store.query(query, 10, where=late)[0].ids) == far
    last = {"i": {"$not": {"$lt": 0}}}
    assert store.query(query, 1001, where=last)[0].ids == reference.query(query, 1001)[0].ids


def test_ties_at_the_end_are_settled_by_id(api):
    ids = [f"{position * 7919 % 100:02d}" for position in range(50)]
    store = connected(api)
    store.upsert(ids, np.ones((50, DIM)))
    assert store.query(np.ones((1, DIM)), 20)[0].ids == sorted(ids)[:20]


def test_scores_are_those_of_the_other_stores(api):
    ids, vectors, metadata = rows(300)
    queries = np.random.default_rng(5).normal(size=(20, DIM))
    store, reference = connected(api), NumpyStore()
    for one in (store, reference):
        one.upsert(ids, vectors, metadata)
    for exact in (False, True):
        for found, expected in zip(store.query(queries, 12, exact=exact), reference.query(queries, 12), strict=True):
            assert (found.ids, found.scores) == (expected.ids, expected.scores)


# --- the same with coroutines


def test_the_async_store_does_the_same(api):
    ids, vectors, metadata = rows(130)

    async def main():
        store = AsyncAstraStore("scenes", endpoint=api.endpoint, token=api.token)
        assert repr(store).startswith("AsyncAstraStore('scenes'")
        await store.bind(dim=DIM, fingerprint="a")
        assert await store.upsert(ids, vectors, metadata) == ["inserted"] * 130
        assert await store.upsert(ids[:60], -vectors[:60], on_conflict="skip") == ["skipped"] * 60
        with pytest.raises(StoreError, match="in the store already"):
            await store.upsert(ids[:1], vectors[:1], on_conflict="error")
        assert await store.count() == 130
        assert await store.get([ids[3], "nobody"]) == [metadata[3], None]
        assert [found.ids[0] for found in await store.query(vectors[:9], 3)] == ids[:9]
        assert (await store.query(vectors[:1], 3, exact=True))[0].ids[0] == ids[0]
        assert await store.delete(where={"i": {"$gte": 100}}) == 30
        with pytest.raises(UsageError):
            await store.delete()
        with pytest.raises(ConfigMismatch):
            await store.bind(dim=DIM, fingerprint="b")
        return await asyncio.gather(*(store.count({"i": i}) for i in range(20)))

    assert asyncio.run(main()) == [1] * 20
    assert connected(api).count() == 100


def test_a_store_can_be_used_after_it_was_closed(api):
    with connected(api) as store:
        store.upsert(["a"], np.ones((1, DIM)))
    assert store.count() == 1
    assert store.get(["a"] * 200) == [{}] * 200
