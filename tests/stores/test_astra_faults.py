"""`AstraStore` against a service that fails: nothing lost, nothing twice, every id accounted for."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import format_datetime

import numpy as np
import pytest

from geovlm.errors import AuthError, RateLimited, StoreError
from geovlm.stores._astra_send import Again, Policy, _retry_after, checked
from geovlm.stores.astra import AstraStore, AsyncAstraStore, IncompleteUpsert, RateLimitedUpsert
from geovlm.testing.data_api import DataAPIEmulator, Fault, Limits

DIM = 8
FAULTS = {
    "429": Fault.rate_limited(retry_after=0.01),
    "429 as text": Fault.rate_limited(retry_after=None, json=False),
    "503": Fault.unavailable(),
    "503 after the write": Fault.unavailable(written=True),
    "502 page": Fault.html(502, written=True),
    "200 page": Fault.html(written=True),
    "slow": Fault.slow(0.8),
    "dropped": Fault.dropped(),
    "acknowledgement lost": Fault.acknowledgement_lost(),
    "cut": Fault.truncated(),
    "timeout": Fault.timed_out(),
    "timeout after the write": Fault.timed_out(written=True),
    "timeout of some": Fault.some_documents([0, 3, 99]),
    "timeout of some after the write": Fault.some_documents([0, 3, 99], written=True),
}


@pytest.fixture
def api():
    with DataAPIEmulator() as running:
        yield running


def connected(api, name="scenes", **settings):
    quick = {"timeout": 0.5, "pause": 0.005, "attempts": 10} | settings
    return AstraStore(name, endpoint=api.endpoint, token=api.token, **quick)


def rows(count, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return [f"row-{i:05d}" for i in range(count)], vectors, [{"i": i, "seed": seed} for i in range(count)]


def assert_holds(api, ids, vectors, metadata):
    """The collection has exactly these rows."""
    api.faults.clear()
    with connected(api, timeout=30) as store:
        read = [
            (key, vector, row)
            for keys, some, found in store.scan()
            for key, vector, row in zip(keys, some, found, strict=True)
        ]
        assert sorted(key for key, _, _ in read) == sorted(ids)
        assert store.count() == len(ids)
    place = {key: i for i, key in enumerate(ids)}
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for key, vector, row in read:
        assert row == metadata[place[key]]
        np.testing.assert_allclose(vector, unit[place[key]], atol=1e-6)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_nothing_is_lost_and_nothing_comes_twice(api, fault):
    count = 600 if fault.name == "slow" else 2000
    ids, vectors, metadata = rows(count)
    store = connected(api)
    store.bind(dim=DIM, fingerprint="a")
    api.faults.at_random([fault], share=0.4 if fault.name == "slow" else 0.2, seed=1)
    assert store.upsert(ids, vectors, metadata) == ["inserted"] * count
    assert api.log.count(fault=fault.name) > 2
    assert_holds(api, ids, vectors, metadata)


@pytest.mark.parametrize("rule", ["replace", "skip"])
def test_rows_that_exist_are_told_apart_from_rows_that_a_lost_attempt_wrote(api, rule):
    ids, vectors, metadata = rows(300)
    store = connected(api)
    store.upsert(ids[::3], vectors[::3], metadata[::3])
    _, newer, changed = rows(300, seed=1)
    api.faults.at_random(list(FAULTS.values()), share=0.2, seed=2)
    old = "replaced" if rule == "replace" else "skipped"
    assert store.upsert(ids, newer, changed, on_conflict=rule) == [
        "inserted" if place % 3 else old for place in range(300)
    ]
    if rule == "skip":
        newer[::3], changed[::3] = vectors[::3], metadata[::3]
    assert_holds(api, ids, newer, changed)


def test_a_row_that_was_there_with_the_same_content_is_no_write_of_ours(api):
    store = connected(api)
    store.upsert(["a"], np.ones((1, DIM)), [{"x": 1}])
    api.faults.add(Fault.acknowledgement_lost(), command="insertMany")
    assert store.upsert(["a", "b"], np.ones((2, DIM)), [{"x": 1}, {}]) == ["replaced", "inserted"]
    api.faults.add(Fault.acknowledgement_lost(), command="insertMany")
    assert store.upsert(["a", "c"], np.ones((2, DIM)), on_conflict="skip") == ["skipped", "inserted"]


def test_the_rule_error_survives_lost_answers(api):
    ids, vectors, metadata = rows(120)
    store = connected(api)
    for _ in range(3):
        api.faults.add(Fault.acknowledgement_lost(), command="insertMany")
    assert store.upsert(ids, vectors, metadata, on_conflict="error") == ["inserted"] * 120
    with pytest.raises(StoreError, match="nothing was written"):
        store.upsert(["new", ids[3]], vectors[:2], on_conflict="error")
    assert_holds(api, ids, vectors, metadata)


@pytest.mark.parametrize("kind", ["429", "503", "dropped", "timeout"])
def test_attempts_end_and_say_what_became_of_each_row(api, kind):
    ids, vectors, metadata = rows(2000)
    store = connected(api, attempts=3, workers=2)
    store.bind(dim=DIM, fingerprint="a")
    api.log.clear()
    api.faults.add(FAULTS[kind], command="insertMany", skip=3, times=10_000)
    with pytest.raises(IncompleteUpsert, match="of 2000 rows were not written") as caught:
        store.upsert(ids, vectors, metadata)
    error = caught.value
    limited = kind == "429"
    assert isinstance(error, RateLimitedUpsert) == isinstance(error, RateLimited) == limited
    written = [row for row, outcome in enumerate(error.outcomes) if outcome == "inserted"]
    assert len(written) == 300
    assert list(error.reasons) == [key for row, key in enumerate(ids) if row not in written]
    # The others are not tried one by one against a service that is down.
    assert len(api.log) < 40
    api.faults.clear()
    assert store.get(ids) == [row if place in written else None for place, row in enumerate(metadata)]
    assert [row for row, outcome in enumerate(store.upsert(ids, vectors, metadata)) if outcome == "replaced"] == written
    assert_holds(api, ids, vectors, metadata)


def test_one_bad_document_stops_no_other():
    with DataAPIEmulator(limits=Limits(string_bytes=100)) as api:
        store = connected(api)
        ids, vectors, metadata = rows(60)
        metadata[7] = {"text": "x" * 200}
        with pytest.raises(IncompleteUpsert, match="1 of 60 rows were not written, the first is 'row-00007'") as caught:
            store.upsert(ids, vectors, metadata)
        assert caught.value.outcomes == ["inserted"] * 7 + [None] + ["inserted"] * 52
        assert "SHRED_DOC_LIMIT_VIOLATION" in caught.value.reasons["row-00007"]
        assert store.count() == 59


def test_a_token_that_is_withdrawn_ends_the_call(api):
    ids, vectors, metadata = rows(2000)
    store = connected(api, workers=2)
    api.faults.add(Fault.unauthorized(), command="insertMany", times=100)
    with pytest.raises(AuthError, match="ASTRA_DB_APPLICATION_TOKEN"):
        store.upsert(ids, vectors, metadata)
    assert api.log.count("insertMany") == 1
    api.faults.clear()
    api.faults.add(Fault.unauthorized(), command="insertMany", skip=2, times=100)
    with pytest.raises(IncompleteUpsert, match="ASTRA_DB_APPLICATION_TOKEN") as caught:
        store.upsert(ids, vectors, metadata)
    assert caught.value.outcomes.count("inserted") == 200


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_what_is_not_an_upsert_survives_too(api, fault):
    ids, vectors, metadata = rows(250)
    plain = connected(api, timeout=30)
    plain.upsert(ids, vectors, metadata)
    api.faults.at_random([fault], share=0.3, seed=3)
    store = connected(api)
    store.bind(dim=DIM, fingerprint="a")
    assert store.count({"i": {"$lt": 40}}) == 40
    assert store.get([ids[5], "nobody"]) == [metadata[5], None]
    assert [found.ids[0] for found in store.query(vectors[:5], 1)] == ids[:5]
    assert store.query(vectors[:2], 1, exact=True)[1].ids == ids[1:2]
    assert store.delete(ids[:30]) == 30
    assert store.delete(where={"i": {"$lt": 60}}) == 30
    assert sum(len(keys) for keys, _, _ in store.scan()) == 190
    assert store.delete(where={}) == 190
    assert store.count() == 0
    store.bind(dim=DIM, fingerprint="a")


def test_retry_after_is_waited_for(api, monkeypatch):
    waited = []
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: waited.append(seconds) if seconds > 1 else sleep(seconds))
    store = connected(api)
    store.bind(dim=DIM, fingerprint="a")
    api.faults.add(Fault.rate_limited(retry_after=7), command="insertMany")
    api.faults.add(Fault.rate_limited(retry_after=100_000), command="insertMany")
    assert store.upsert(["a"], np.ones((1, DIM))) == ["inserted"]
    assert [int(seconds) for seconds in waited] == [7, 60]


def test_retry_after_may_be_a_date():
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=30)
    assert 25 < _retry_after(format_datetime(soon, usegmt=True)) <= 30
    assert [_retry_after(text) for text in (None, "", "soon", "-3")] == [0, 0, 0, 0]


def test_pauses_grow():
    policy = Policy(attempts=3, seconds=1, pause=0.5)
    assert [policy.before(attempt) for attempt in (1, 2, 3, 4, 50)] == [0, 0.5, 1, 2, 20]


@pytest.mark.parametrize("body", [None, [], "x", {"errors": [{"errorCode": "TIMEOUT_WRITING_DATA"}]}], ids=str)
def test_answers_after_which_a_request_is_sent_again(body):
    with pytest.raises(Again):
        checked(body)


def test_an_error_of_another_kind_is_told_before_one_that_passes():
    errors = [{"errorCode": "TIMEOUT_WRITING_DATA"}, {"errorCode": "SHRED_BAD_DOCID_TYPE", "message": "no"}, "?"]
    with pytest.raises(StoreError, match="SHRED_BAD_DOCID_TYPE"):
        checked({"errors": errors})


def test_a_service_that_is_not_there(api):
    endpoint = api.endpoint
    store = AstraStore("scenes", endpoint=endpoint, token="t", attempts=2, pause=0.001)
    api.__exit__(None, None, None)
    with pytest.raises(StoreError, match=r"in 2 attempts.*ConnectError.*endpoint"):
        store.count()
    api.__enter__()


def test_a_collection_that_was_dropped_says_so(api):
    store = connected(api)
    store.upsert(["a"], np.ones((1, DIM)))
    store._database.drop_collection("scenes")
    with pytest.raises(StoreError, match="UNKNOWN_COLLECTION"):
        store.count()
    with pytest.raises(IncompleteUpsert, match="UNKNOWN_COLLECTION"):
        store.upsert(["a"], np.ones((1, DIM)))


def test_many_threads_and_stores_write_the_same_rows(api):
    ids, vectors, metadata = rows(400)
    stores = [connected(api, workers=4, timeout=30) for _ in range(2)]
    api.faults.at_random([FAULTS["503"], FAULTS["acknowledgement lost"]], share=0.05, seed=4)
    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(lambda i: stores[i % 2].upsert(ids, vectors, metadata), range(6)))
    assert all(sum(outcomes[row] == "inserted" for outcomes in told) == 1 for row in range(400))
    assert all(outcome in ("inserted", "replaced") for outcomes in told for outcome in outcomes)
    assert_holds(api, ids, vectors, metadata)


def test_event_loops_survive_the_same(api):
    ids, vectors, metadata = rows(1000)

    async def main():
        store = AsyncAstraStore(
            "scenes", endpoint=api.endpoint, token=api.token, timeout=0.5, pause=0.005, attempts=10, workers=4
        )
        await store.bind(dim=DIM, fingerprint="a")
        api.faults.at_random(list(FAULTS.values()), share=0.15, seed=5)
        return await store.upsert(ids, vectors, metadata)

    assert asyncio.run(main()) == ["inserted"] * 1000
    assert_holds(api, ids, vectors, metadata)
