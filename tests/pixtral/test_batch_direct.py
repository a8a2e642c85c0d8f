"""The same call over servers without batch jobs."""

from __future__ import annotations

import random
import threading
from collections import Counter

import pytest

import geovlm as gv
from geovlm import Record
from geovlm.errors import RequestRefused, ServiceError, ServiceUnavailable
from geovlm.pixtral.batch import BatchOptions, BatchRun
from geovlm.testing.mistral_api import Fault, MistralEmulator, Refused, images_of
from tests.pixtral.batches import LABELS, Killed, brain, deaths, expected, records

pytestmark = pytest.mark.usefixtures("quick_disk")

MODEL = "mistralai/Pixtral-12B-2409"


@pytest.fixture
def server():
    with MistralEmulator(hosted=False, brain=brain) as emulator:
        yield emulator


def client_of(server, **settings):
    return gv.PixtralClient(MODEL, base_url=server.url, **{"pause": 0, "max_retries": 1, "timeout": 20, **settings})


def test_the_result_is_that_of_jobs(server, api, connect, tmp_path):
    api.chat.brain = brain
    inputs = [*records(7), Record(id="void", image=b"")]
    options = BatchOptions(max_requests=3)
    ours = client_of(server).batch_classify(inputs, labels=LABELS, out=tmp_path / "a", options=options).wait(poll=0)
    jobs = connect().batch_classify(inputs, labels=LABELS, out=tmp_path / "b", options=options).wait(poll=0)
    drop = ["model"]
    assert ours.table.drop_columns(drop).equals(jobs.table.drop_columns(drop))
    assert (ours.cost, jobs.cost is None) == (None, False)
    assert set(server.log.operations) == {"batch.jobs.list", "chat.complete"}
    assert server.log.count("batch.jobs.list", status=404) == 1


def test_requests_are_under_way_at_a_time(server, tmp_path):
    both = threading.Barrier(3, timeout=20)

    def wait_for_others(body):
        both.wait()
        return brain(body)

    server.chat.brain = wait_for_others
    run = client_of(server, concurrency=3).batch_classify(records(6), labels=LABELS, out=tmp_path)
    assert run.wait(poll=0).counts == {"ok": 6}


def test_refusals_and_what_may_pass(server, tmp_path):
    seen = Counter()

    def answer(body):
        key = images_of(body)[0]
        seen[key] += 1
        place = list(seen).index(key)
        if place == 1:
            raise Refused(400, "this one not")
        if place == 2 and seen[key] <= 3:
            raise Refused(500, "not yet")
        return brain(body)

    server.chat.brain = answer
    result = client_of(server, concurrency=1).batch_classify(records(5), labels=LABELS, out=tmp_path).wait(poll=0)
    assert result.counts == {"ok": 4, "request_error": 1}
    assert [row.attempts for row in result] == [1, 1, 2, 1, 1]
    assert "this one not" in result[1].reason


def test_a_server_that_goes_away(server, tmp_path):
    run = client_of(server, concurrency=1).batch_classify(records(6), labels=LABELS, out=tmp_path)
    server.faults.add(Fault.dropped(), operation="chat.complete", skip=2, times=1000)
    with pytest.raises(ServiceUnavailable):
        run.wait(poll=0, patience=0)
    server.faults.clear()
    assert run.wait(poll=0).counts == {"ok": 6}
    assert len(server.log.charges) == 6


def test_a_model_that_is_not_served_ends_it(server, tmp_path):
    run = gv.PixtralClient("other", base_url=server.url).batch_classify(records(40), labels=LABELS, out=tmp_path)
    with pytest.raises(RequestRefused, match="does not exist"):
        run.wait(poll=0)
    assert server.log.count("chat.complete") < 10


def test_an_interrupt_keeps_what_is_paid(server, tmp_path, monkeypatch):
    from geovlm.pixtral.batch import direct

    append, written = direct._append, []

    def interrupted(file, line):
        append(file, line)
        written.append(line)
        if len(written) == 2:
            raise KeyboardInterrupt

    run = client_of(server, concurrency=2).batch_classify(records(8), labels=LABELS, out=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(direct, "_append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.wait(poll=0)
    assert run.wait(poll=0).counts == {"ok": 8}
    assert len(server.log.charges) == 8


def test_cancel_and_resume(server, tmp_path):
    def answer(body):
        if len(server.log.charges) == 1:
            BatchRun.open(tmp_path / "run").cancel()
        return brain(body)

    server.chat.brain = answer
    client = client_of(server, concurrency=1)
    run = client.batch_classify(records(6), labels=LABELS, out=tmp_path / "run")
    counts = run.wait(poll=0).counts
    assert counts["cancelled"] >= 2
    server.chat.brain = brain
    assert run.resume().wait(poll=0).counts == {"ok": 6}
    assert len(server.log.charges) == 6


@pytest.mark.parametrize("seed", range(6))
def test_kills_and_faults(seed, server, tmp_path, monkeypatch):
    """Killed between requests and hit by faults that undo a request, each is paid once and answered rightly."""
    chance, inputs = random.Random(seed), records(9)
    left = [6]

    def strike(name):
        if left[0] and name != "after complete" and chance.random() < 0.04:
            left[0] -= 1
            return True
        return False

    def kill():
        raise Killed

    faults = [Fault.rate_limited(retry_after=0), Fault.unavailable(), Fault.dropped(), Fault.server_error(500)]
    server.faults.at_random(faults, share=0.2, seed=seed)
    client = client_of(server, concurrency=1, max_retries=2)
    result = None
    with deaths(monkeypatch, strike, kill=kill):
        for _ in range(100):
            try:
                result = client.batch_classify(
                    inputs, labels=LABELS, out=tmp_path, options=BatchOptions(max_attempts=9, max_requests=5)
                ).wait(poll=0)
                break
            except (Killed, ServiceError):
                continue
    assert result is not None
    assert result.predictions == list(expected(inputs).values())
    assert len(server.log.charges) == 9


def test_a_local_model(pixtral_folder, tmp_path):
    pytest.importorskip("torch")
    client = gv.PixtralClient(str(pixtral_folder), dtype="float32", max_tokens=4, temperature=0)
    inputs = records(2)
    result = client.batch_caption(inputs, out=tmp_path).wait(poll=0)
    assert [row.text for row in result] == [client.caption(record).text for record in inputs]
    assert all(row.usage.completion_tokens > 0 for row in result)
    assert BatchRun.open(tmp_path).wait().table.equals(result.table)
    assert BatchRun.open(tmp_path).resume().wait().report.total == 2  # makes its own client
