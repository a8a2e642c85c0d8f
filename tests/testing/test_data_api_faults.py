"""Faults of the emulator as astrapy meets them."""

from __future__ import annotations

import http.client
import json

import httpx
import pytest
from astrapy import DataAPIClient
from astrapy.exceptions import (
    CollectionInsertManyException,
    DataAPIHttpException,
    DataAPIResponseException,
    DataAPITimeoutException,
    UnexpectedDataAPIResponseException,
)

from geovlm.testing.data_api import DataAPIEmulator, Fault
from tests.testing.data_api_raw import Raw, code


@pytest.fixture
def api():
    with DataAPIEmulator() as running:
        Raw(running).create()
        yield running


@pytest.fixture
def things(api):
    return DataAPIClient().get_database(api.endpoint, token=api.token).get_collection("things")


def written(api):
    api.faults.clear()
    return Raw(api).ids()


@pytest.mark.parametrize(
    ("fault", "error", "status", "lands"),
    [
        (Fault.rate_limited(), DataAPIHttpException, 429, False),
        (Fault.rate_limited(json=False), DataAPIHttpException, 429, False),
        (Fault.unavailable(), DataAPIHttpException, 503, False),
        (Fault.unavailable(written=True), DataAPIHttpException, 503, True),
        (Fault.dropped(), httpx.RemoteProtocolError, None, False),
        (Fault.acknowledgement_lost(), httpx.RemoteProtocolError, None, True),
        (Fault.truncated(), httpx.RemoteProtocolError, 200, True),
        (Fault.timed_out(), DataAPIResponseException, 200, False),
        (Fault.timed_out(written=True), DataAPIResponseException, 200, True),
        (Fault.unauthorized(), DataAPIHttpException, 401, False),
        (Fault.html(), UnexpectedDataAPIResponseException, 200, False),
        (Fault.html(502, written=True), DataAPIHttpException, 502, True),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else None,
)
def test_each_fault_once(api, fault, error, status, lands):
    things = DataAPIClient().get_database(api.endpoint, token=api.token).get_collection("things")
    api.log.clear()
    api.faults.add(fault, command="insertOne")
    with pytest.raises(error):
        things.insert_one({"_id": 1})
    assert api.faults.pending == 0
    assert api.log.count("insertOne", fault=fault.name) == 1
    assert api.log.records[0].status == status
    expected = {"timed_out": ("TIMEOUT_WRITING_DATA",), "unauthorized": ("UNAUTHENTICATED_REQUEST",)}
    assert api.log.records[0].error_codes == expected.get(fault.name, ())
    assert (written(api) == [1]) == lands
    things.insert_one({"_id": 2})
    assert 2 in written(api)


def test_a_slow_answer_comes_after_the_write(api):
    api.faults.add(Fault.slow(1.0), command="insertOne")
    database = DataAPIClient().get_database(api.endpoint, token=api.token)
    with pytest.raises(DataAPITimeoutException):
        database.get_collection("things").insert_one({"_id": 1}, request_timeout_ms=200)
    assert written(api) == [1]


def test_leaving_does_not_wait_for_slow_answers(api):
    with DataAPIEmulator() as other:
        Raw(other).create()
        other.faults.add(Fault.slow(600))
        connection = http.client.HTTPConnection("127.0.0.1", int(other.endpoint.rsplit(":", 1)[1]), timeout=20)
        headers = {"Token": other.token, "Content-Type": "application/json"}
        connection.request("POST", "/v1/default_keyspace/things", b'{"countDocuments": {}}', headers)
    connection.close()


def test_rate_limits_say_when_to_come_back(api):
    raw = Raw(api)
    api.faults.add(Fault.rate_limited(retry_after=2.5))
    api.faults.add(Fault.rate_limited(retry_after=None, json=False))
    answers = []
    for _ in range(2):
        with pytest.raises(AssertionError) as failure:
            raw("find")
        answers.append(failure.value.args[0])
    assert [status for status, _ in answers] == [429, 429]
    assert "errors" in json.loads(answers[0][1])
    assert b"{" not in answers[1][1]


def test_the_header_of_a_rate_limit(api, things):
    api.faults.add(Fault.rate_limited(retry_after=2.5))
    with pytest.raises(DataAPIHttpException) as failure:
        things.find_one({})
    assert failure.value.response.headers["Retry-After"] == "2.5"


@pytest.mark.parametrize("lands", [False, True])
def test_some_documents_of_a_request_fail(api, things, lands):
    api.faults.add(Fault.some_documents([0, 3], "UNAVAILABLE_DATABASE", written=lands), command="insertMany")
    with pytest.raises(CollectionInsertManyException) as failure:
        things.insert_many([{"_id": n} for n in range(5)])
    assert sorted(failure.value.inserted_ids) == [1, 2, 4]
    told = [one for error in failure.value.exceptions for one in error.error_descriptors]
    assert [one.error_code for one in told] == ["UNAVAILABLE_DATABASE"] * 2
    assert [one.attributes["documentIds"] for one in told] == [[0], [3]]
    assert written(api) == ([0, 1, 2, 3, 4] if lands else [1, 2, 4])


def test_faults_are_for_their_command_and_their_turn(api):
    raw = Raw(api)
    api.faults.add(Fault.timed_out("TIMEOUT_READING_DATA"), command="find", skip=1, times=2)
    assert raw("countDocuments") == {"status": {"count": 0}}
    assert raw.ids() == []
    assert code(raw("find")) == code(raw("find")) == "TIMEOUT_READING_DATA"
    assert raw.ids() == []
    api.faults.add(Fault.timed_out(), times=5)
    assert code(raw("countDocuments")) == "TIMEOUT_WRITING_DATA"
    api.faults.clear()
    assert raw.ids() == []


def test_random_faults_are_a_share_and_repeat_with_their_seed(api):
    def run(seed):
        api.faults.clear()
        api.faults.at_random([Fault.timed_out(), Fault.unavailable()], share=0.3, seed=seed, commands=["find"])
        api.log.clear()
        raw = Raw(api)
        for _ in range(100):
            raw.send("/v1/default_keyspace/things", {"find": {}})
            assert raw("countDocuments") == {"status": {"count": 0}}
        return [record.fault for record in api.log.records if record.command == "find"]

    first = run(1)
    assert first == run(1)
    assert first != run(2)
    assert 15 <= 100 - first.count(None) <= 45
    assert {"timed_out", "unavailable"} <= set(first)


def test_faults_that_cannot_be(api):
    with pytest.raises(ValueError, match="TIMEOUT_WRITING_DATA"):
        Fault.timed_out("TIMEOUT")
    with pytest.raises(ValueError, match="share"):
        api.faults.at_random([Fault.dropped()], share=1.5)
