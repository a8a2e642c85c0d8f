"""The emulator through astrapy: documents, cursors, projections, updates, deletes."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from astrapy import DataAPIClient
from astrapy.authentication import UsernamePasswordTokenProvider
from astrapy.constants import Environment
from astrapy.exceptions import (
    CollectionInsertManyException,
    DataAPIHttpException,
    DataAPIResponseException,
    TooManyDocumentsToCountException,
)
from astrapy.ids import UUID, ObjectId, uuid4, uuid7
from astrapy.info import CollectionDefinition

from geovlm.testing.data_api import DataAPIEmulator, Limits
from tests.testing.data_api_raw import Raw, code


@pytest.fixture
def api():
    with DataAPIEmulator() as running:
        yield running


@pytest.fixture
def database(api):
    return DataAPIClient().get_database(api.endpoint, token=api.token)


@pytest.fixture
def things(database):
    return database.create_collection("things")


@pytest.fixture
def raw(api, things):
    return Raw(api)


def codes(failure):
    return [descriptor.error_code for descriptor in failure.value.error_descriptors]


def test_a_document_from_birth_to_death(things):
    inserted = things.insert_one({"_id": "a", "name": "quay", "tags": ["sea"]})
    assert inserted.inserted_id == "a"
    assert things.find_one({"_id": "a"}) == {"_id": "a", "name": "quay", "tags": ["sea"]}
    assert things.update_one({"_id": "a"}, {"$push": {"tags": "port"}}).update_info["nModified"] == 1
    assert things.replace_one({"_id": "a"}, {"name": "pier"}).update_info["n"] == 1
    assert things.find_one({"name": "pier"}) == {"_id": "a", "name": "pier"}
    assert things.delete_one({"_id": "a"}).deleted_count == 1
    assert things.find_one({"_id": "a"}) is None


def test_the_same_from_an_asynchronous_client(api):
    async def run():
        database = DataAPIClient().get_async_database(api.endpoint, token=api.token)
        things = await database.create_collection("things")
        await things.insert_many([{"_id": n, "even": n % 2 == 0} for n in range(230)])
        await things.update_many({"even": True}, {"$set": {"half": True}})
        found = [document async for document in things.find({"half": True}, projection={"_id": True, "half": True})]
        deleted = await things.delete_many({"even": True})
        return found, deleted.deleted_count, await things.count_documents({}, upper_bound=1000)

    found, deleted, left = asyncio.run(run())
    assert sorted(document["_id"] for document in found) == list(range(0, 230, 2))
    assert all(document == {"_id": document["_id"], "half": True} for document in found)
    assert (deleted, left) == (115, 115)


def test_a_client_of_another_environment(api):
    token = UsernamePasswordTokenProvider(api.username, api.password)
    database = DataAPIClient(environment=Environment.HCD).get_database(api.endpoint, token=token, keyspace="own")
    admin = database.get_database_admin()
    admin.create_keyspace("own")
    assert set(admin.list_keyspaces()) == {"default_keyspace", "own"}
    database.create_collection("things").insert_one({"_id": 1})
    assert database.list_collection_names() == ["things"]
    assert api.log.records[-1].keyspace == "own"
    admin.drop_keyspace("own")
    assert admin.list_keyspaces() == ["default_keyspace"]


def test_a_wrong_token(api):
    database = DataAPIClient().get_database(api.endpoint, token="AstraCS:other")
    with pytest.raises(DataAPIHttpException) as failure:
        database.list_collection_names()
    assert failure.value.response.status_code == 401
    assert codes(failure) == ["UNAUTHENTICATED_REQUEST"]


def test_options_of_a_collection_come_back(database):
    definition = (
        CollectionDefinition.builder()
        .with_vector_dimension(3)
        .with_vector_metric("dot_product")
        .with_vector_source_model("other")
        .with_indexing("allow", ["metadata"])
        .with_default_id("objectId")
        .with_lexical(enabled=False)
        .with_rerank(enabled=False)
        .build()
    )
    database.create_collection("images", definition=definition)
    database.create_collection("images", definition=definition)
    (descriptor,) = database.list_collections()
    assert descriptor.name == "images"
    assert descriptor.definition.as_dict() == definition.as_dict()
    with pytest.raises(DataAPIResponseException) as failure:
        database.create_collection("images", definition={"vector": {"dimension": 4}})
    assert codes(failure) == ["EXISTING_COLLECTION_DIFFERENT_SETTINGS"]
    database.drop_collection("images")
    assert database.list_collection_names() == []


@pytest.mark.parametrize("kind", [None, "uuid", "uuidv6", "uuidv7", "objectId"])
def test_ids_are_made_as_the_collection_says(database, kind):
    things = database.create_collection("things", definition={"defaultId": {"type": kind}} if kind else None)
    first, second = things.insert_many([{"n": 1}, {"n": 2}]).inserted_ids
    assert first != second
    expected = {None: str, "objectId": ObjectId}.get(kind, UUID)
    assert isinstance(first, expected)
    if kind not in {None, "objectId"}:
        assert first.version == {"uuid": 4, "uuidv6": 6, "uuidv7": 7}[kind]
    if kind is None:
        assert uuid.UUID(first).version == 4
    assert things.find_one({"_id": first})["n"] == 1


def test_ids_of_different_types_are_different(things):
    moment = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
    identities = [5, "5", True, "true", None, 5.5, moment, uuid4(), ObjectId()]
    things.insert_many([{"_id": identity, "n": n} for n, identity in enumerate(identities)])
    for n, identity in enumerate(identities):
        assert things.find_one({"_id": identity})["n"] == n
    assert len(things.find({"_id": {"$in": identities}}).to_list()) == len(identities)


def test_equal_ids_written_differently_are_the_same(raw):
    raw.insert({"_id": 5})
    (error,) = raw("insertOne", document={"_id": 5.0})["errors"]
    assert error["errorCode"] == "DOCUMENT_ALREADY_EXISTS"


def test_extended_values_survive(things):
    moment = dt.datetime(2024, 5, 1, 12, 30, tzinfo=dt.UTC)
    identity, other = uuid7(), ObjectId()
    things.insert_one({"_id": 1, "at": moment, "who": identity, "what": [other]})
    found = things.find_one({"at": {"$gte": moment}})
    assert found["at"].to_datetime(tz=dt.UTC) == moment
    assert (found["who"], found["what"]) == (identity, [other])
    assert things.find_one({"who": identity})["_id"] == things.find_one({"what": other})["_id"] == 1


def test_inserting_many_tells_what_failed(things):
    things.insert_one({"_id": 7})
    with pytest.raises(CollectionInsertManyException) as failure:
        things.insert_many([{"_id": n} for n in range(120)], ordered=False)
    assert sorted(failure.value.inserted_ids) == [n for n in range(120) if n != 7]
    assert [error.error_descriptors[0].error_code for error in failure.value.exceptions] == ["DOCUMENT_ALREADY_EXISTS"]


def test_twenty_threads_lose_nothing(api, things):
    def insert(thread):
        return things.insert_many([{"thread": thread, "n": n} for n in range(60)], chunk_size=20, concurrency=1)

    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(insert, range(20)))
    ids = {identity for result in results for identity in result.inserted_ids}
    assert len(ids) == 1200
    assert things.estimated_document_count() == 1200
    assert {document["_id"] for document in things.find({})} == ids
    assert api.log.count("insertMany") == 60


def test_twenty_threads_counting_on_one_document(things):
    things.insert_one({"_id": 1, "n": 0})

    def count(_):
        for _ in range(5):
            things.update_one({"_id": 1}, {"$inc": {"n": 1}})

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(count, range(20)))
    assert things.find_one()["n"] == 100


def test_cursors_go_over_pages(api, things):
    things.insert_many([{"_id": n} for n in range(170)], ordered=True)
    api.log.clear()
    assert [document["_id"] for document in things.find({})] == list(range(170))
    assert api.log.count("find") == 4
    assert [document["_id"] for document in things.find({}, limit=120)] == list(range(120))
    page = things.find({"_id": {"$gte": 100}}).fetch_next_page()
    assert [document["_id"] for document in page.results] == list(range(100, 150))
    rest = things.find({"_id": {"$gte": 100}}, initial_page_state=page.next_page_state)
    assert [document["_id"] for document in rest] == list(range(150, 170))


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (49, 1), (50, 1), (51, 2), (100, 2), (101, 3)])
def test_there_is_no_empty_page_at_the_end(api, things, count, pages):
    things.insert_many([{"_id": n} for n in range(count)]) if count else None
    api.log.clear()
    assert len(things.find({}).to_list()) == count
    assert api.log.count("find") == pages


def test_documents_written_and_deleted_between_pages(things, raw):
    things.insert_many([{"_id": n} for n in range(60)], ordered=True)
    first = raw("find")
    things.delete_one({"_id": 0})
    things.delete_one({"_id": 55})
    things.insert_one({"_id": 60})
    second = raw("find", options={"pageState": first["data"]["nextPageState"]})
    assert [one["_id"] for one in second["data"]["documents"]] == [50, 51, 52, 53, 54, 56, 57, 58, 59, 60]
    assert second["data"]["nextPageState"] is None
    things.delete_many({})
    things.insert_one({"_id": "new"})
    late = raw("find", options={"pageState": first["data"]["nextPageState"]})
    assert [one["_id"] for one in late["data"]["documents"]] == ["new"]


def test_sorted_finds_return_one_page(things):
    things.insert_many([{"_id": n, "group": n % 3, "name": f"{n:03}"} for n in range(90)])
    found = things.find({}, sort={"group": -1, "name": 1}).to_list()
    everything = sorted(range(90), key=lambda n: (-(n % 3), n))
    assert [document["_id"] for document in found] == everything[:50]
    found = things.find({}, sort={"group": -1, "name": 1}, skip=80, limit=5).to_list()
    assert [document["_id"] for document in found] == everything[80:85]
    assert things.find_one({}, sort={"name": -1})["_id"] == 89


def test_values_of_all_types_are_sorted(things):
    values = [{"$date": 5}, True, [1], {"x": 1}, "text", 2, None]
    raw_documents = [{"_id": n, "v": value} for n, value in enumerate(values)]
    things.command({"insertMany": {"documents": [*raw_documents, {"_id": 7}]}})
    assert [found["_id"] for found in things.find({}, sort={"v": 1})] == [7, 6, 5, 4, 3, 2, 1, 0]
    assert [found["_id"] for found in things.find({}, sort={"v": -1})] == [0, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"sort": [1]}, "SORT_CLAUSE_INVALID"),
        ({"sort": {"a": 2}}, "SORT_CLAUSE_VALUE_INVALID"),
        ({"sort": {"a": "asc"}}, "SORT_CLAUSE_VALUE_INVALID"),
        ({"sort": {"": 1}}, "SORT_CLAUSE_PATH_INVALID"),
        ({"sort": {"$a": 1}}, "SORT_CLAUSE_PATH_INVALID"),
        ({"sort": {"a&b": 1}}, "SORT_CLAUSE_PATH_INVALID"),
        ({"sort": {"$vector": [1.0]}}, "VECTOR_SEARCH_NOT_SUPPORTED"),
        ({"options": {"skip": 1}}, "COMMAND_FIELD_VALUE_INVALID"),
        ({"sort": {"a": 1}, "options": {"pageState": "WzEsIG51bGxd"}}, "SORT_CLAUSE_INVALID"),
    ],
)
def test_bad_sorts(raw, fields, expected):
    assert code(raw("find", **fields)) == expected


def test_counts_stop_at_a_thousand(things):
    things.insert_many([{"n": n} for n in range(1000)], chunk_size=100)
    assert things.count_documents({}, upper_bound=1000) == 1000
    things.insert_one({"n": 1000})
    assert things.count_documents({"n": {"$gt": 500}}, upper_bound=1000) == 500
    with pytest.raises(TooManyDocumentsToCountException) as failure:
        things.count_documents({}, upper_bound=2000)
    assert failure.value.server_max_count_exceeded
    assert things.estimated_document_count() == 1001


DOCUMENT = {
    "_id": "a",
    "name": "quay",
    "size": {"width": 3, "height": 4, "unit": {"name": "m"}},
    "parts": [{"kind": "crane", "n": 1}, {"kind": "ship", "n": 2}, 3],
    "years": [2019, 2020, 2021, 2022],
    "price.usd": 5,
}


def without(*names):
    return {name: value for name, value in DOCUMENT.items() if name not in names}


@pytest.mark.parametrize(
    ("projection", "expected"),
    [
        ({}, DOCUMENT),
        ({"*": 1}, DOCUMENT),
        ({"*": True}, DOCUMENT),
        ({"*": 0}, {}),
        ({"name": 1}, {"_id": "a", "name": "quay"}),
        ({"name": True, "_id": False}, {"name": "quay"}),
        ({"name": 0}, without("name")),
        ({"_id": 0}, without("_id")),
        # The service takes special fields alone as no choice among the others.
        ({"_id": 1}, DOCUMENT),
        ({"_id": 1, "name": 0}, without("name")),
        ({"size.width": 1}, {"_id": "a", "size": {"width": 3}}),
        ({"size": {"width": 1, "unit": {"name": 1}}}, {"_id": "a", "size": {"width": 3, "unit": {"name": "m"}}}),
        ({"size.width": 0, "parts": 0}, {**without("parts"), "size": {"height": 4, "unit": {"name": "m"}}}),
        ({"parts.kind": 1}, {"_id": "a", "parts": [{"kind": "crane"}, {"kind": "ship"}]}),
        ({"parts.kind": 0}, {**DOCUMENT, "parts": [{"n": 1}, {"n": 2}, 3]}),
        ({"price&.usd": 1}, {"_id": "a", "price.usd": 5}),
        ({"nothing": 1}, {"_id": "a"}),
        ({"years": {"$slice": 2}}, {**DOCUMENT, "years": [2019, 2020]}),
        ({"years": {"$slice": -1}}, {**DOCUMENT, "years": [2022]}),
        ({"years": {"$slice": [1, 2]}}, {**DOCUMENT, "years": [2020, 2021]}),
        ({"years": {"$slice": [-2, 1]}}, {**DOCUMENT, "years": [2021]}),
        ({"years": {"$slice": [-9, 2]}}, {**DOCUMENT, "years": [2019, 2020]}),
        ({"years": {"$slice": [9, 2]}}, {**DOCUMENT, "years": []}),
        ({"name": 1, "years": {"$slice": 1}}, {"_id": "a", "name": "quay", "years": [2019]}),
    ],
)
def test_projections(things, projection, expected):
    things.insert_one(DOCUMENT)
    assert things.find_one({}, projection=projection) == expected
    assert things.find({}, projection=projection).to_list() == [expected]


@pytest.mark.parametrize(
    "projection",
    [
        {"name": 1, "size": 0},
        {"*": 1, "name": 1},
        {"*": "yes"},
        {"name": "yes"},
        {"name": {}},
        {"name": {"$first": 1}},
        {"years": {"$slice": "1"}},
        {"years": {"$slice": [1, -1]}},
        {"size": 1, "size.width": 1},
        {"$name": 1},
        {"": 1},
        {"a&b": 1},
    ],
)
def test_bad_projections(raw, projection):
    assert code(raw("find", projection=projection)) == "UNSUPPORTED_PROJECTION_PARAM"


@pytest.mark.parametrize("projection", [None, [], "name"])
def test_projections_of_other_types(raw, projection):
    assert code(raw("find", projection=projection)) == "UNSUPPORTED_PROJECTION_DEFINITION"


def test_find_one_and_update_returns_before_or_after(things):
    things.insert_many([{"_id": n, "n": n, "kind": "x"} for n in range(3)])
    assert things.find_one_and_update({"kind": "x"}, {"$inc": {"n": 10}}, sort={"n": -1})["n"] == 2
    after = things.find_one_and_update(
        {"kind": "x"}, {"$inc": {"n": 10}}, sort={"n": -1}, return_document="after", projection={"n": True}
    )
    assert after == {"_id": 2, "n": 22}
    assert things.find_one_and_update({"kind": "y"}, {"$set": {"n": 0}}) is None
    made = things.find_one_and_update({"kind": "y"}, {"$set": {"n": 0}}, upsert=True)
    assert made is None
    made = things.find_one_and_update({"_id": 9}, {"$set": {"n": 0}}, upsert=True, return_document="after")
    assert made == {"_id": 9, "n": 0}
    assert things.count_documents({"n": 0}, upper_bound=10) == 3


def test_find_one_and_replace(things):
    things.insert_one({"_id": 1, "a": 1, "b": 2})
    assert things.find_one_and_replace({"a": 1}, {"c": 3}) == {"_id": 1, "a": 1, "b": 2}
    assert things.find_one_and_replace({"c": 3}, {"_id": 1, "d": 4}, return_document="after") == {"_id": 1, "d": 4}
    with pytest.raises(DataAPIResponseException) as failure:
        things.find_one_and_replace({"d": 4}, {"_id": 2})
    assert codes(failure) == ["DOCUMENT_REPLACE_DIFFERENT_DOCID"]
    assert things.find_one_and_replace({"_id": 5}, {"e": 5}) is None
    assert things.find_one_and_replace({"_id": 5}, {"e": 5}, upsert=True) is None
    assert things.find_one({"_id": 5}) == {"_id": 5, "e": 5}
    with pytest.raises(DataAPIResponseException) as failure:
        things.find_one_and_replace({"_id": 7}, {"_id": 8}, upsert=True)
    assert codes(failure) == ["DOCUMENT_REPLACE_DIFFERENT_DOCID"]
    info = things.replace_one({"_id": 5}, {"e": 5}).update_info
    assert (info["n"], info["nModified"], info["updatedExisting"]) == (1, 0, False)
    info = things.replace_one({"_id": 6}, {"f": 6}, upsert=True).update_info
    assert (info["n"], info["upserted"]) == (1, 6)


def test_find_one_and_delete(things):
    things.insert_many([{"_id": n} for n in range(3)])
    assert things.find_one_and_delete({}, sort={"_id": -1}) == {"_id": 2}
    assert things.find_one_and_delete({"_id": {"$gt": 5}}) is None
    assert things.find_one_and_delete({"_id": 0}, projection={"*": False}) == {}
    assert [found["_id"] for found in things.find({})] == [1]


def test_update_many_and_delete_many_go_on_until_the_end(api, things):
    things.insert_many([{"_id": n, "even": n % 2 == 0} for n in range(110)], ordered=True)
    api.log.clear()
    info = things.update_many({"even": True}, {"$set": {"even": "yes"}}).update_info
    assert (info["n"], info["nModified"], api.log.count("updateMany")) == (55, 55, 3)
    info = things.update_many({"even": "yes"}, {"$set": {"even": "yes"}}).update_info
    assert (info["n"], info["nModified"]) == (55, 0)
    info = things.update_many({"even": "no"}, {"$set": {"x": 1}, "$setOnInsert": {"_id": "new"}}, upsert=True)
    assert info.update_info["upserted"] == "new"
    assert things.find_one({"_id": "new"}) == {"_id": "new", "even": "no", "x": 1}
    assert things.delete_many({"even": "yes"}).deleted_count == 55
    assert api.log.count("deleteMany") == 3
    assert things.delete_one({"even": False}, sort={"_id": -1}).deleted_count == 1
    assert things.find_one({"_id": 109}) is None
    assert things.delete_many({}).deleted_count == -1
    assert things.estimated_document_count() == 0


def test_update_many_tells_the_documents_that_fail(raw):
    raw.insert({"_id": 1, "n": 1}, {"_id": 2, "n": "text"}, {"_id": 3, "n": 3})
    answer = raw("updateMany", filter={}, update={"$inc": {"n": 1}})
    assert answer["status"] == {"matchedCount": 3, "modifiedCount": 2}
    (error,) = answer["errors"]
    assert (error["errorCode"], error["documentIds"]) == ("UNSUPPORTED_UPDATE_OPERATION_TARGET", [2])


def test_pages_can_be_made_small():
    with DataAPIEmulator(limits=Limits(page=2, update_page=3, delete_page=4)) as api:
        things = DataAPIClient().get_database(api.endpoint, token=api.token).create_collection("things")
        things.insert_many([{"_id": n} for n in range(9)])
        assert len(things.find({}).to_list()) == 9
        things.update_many({}, {"$set": {"x": 1}})
        things.delete_many({"x": 1})
        commands = api.log.commands
        assert (commands["find"], commands["updateMany"], commands["deleteMany"]) == (5, 3, 3)


def test_distinct_values(things):
    things.insert_many([{"kind": kind} for kind in ["a", "b", "a", ["c", "b"]]])
    assert set(things.distinct("kind")) == {"a", "b", "c"}
