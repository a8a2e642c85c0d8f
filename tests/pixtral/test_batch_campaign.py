"""Seeded runs in which everything goes wrong: no input is lost, none is billed twice, none gets another's answer.

`GEOVLM_CAMPAIGN=240` runs so many seeds; a plain test run does a few.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter

import pytest

from geovlm import PixtralClient, Record
from geovlm.errors import ServiceError
from geovlm.pixtral.batch import STATES, BatchOptions, BatchRun
from geovlm.testing.mistral_api import Fault, MistralEmulator
from tests.pixtral.batches import LABELS, Killed, billed_twice, brain, deaths, expected, records, shipped_twice

SEEDS = int(os.environ.get("GEOVLM_CAMPAIGN", "40"))
KILLS = max(4, SEEDS // 10)
FAULTS = [
    Fault.rate_limited(retry_after=0),
    Fault.server_error(500),
    Fault.server_error(500, written=True),
    Fault.unavailable(),
    Fault.unavailable(written=True),
    Fault.dropped(),
    Fault.acknowledgement_lost(),
    Fault.truncated(),
]


class Mischief:
    """What the service does to result lines; what it loses for good is counted."""

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.dropped = chance, Counter()
        self.most = chance.choice([0, 1, 3])

    def __call__(self, lines):
        chance = self.chance
        if lines and self.most and chance.random() < 0.4:
            self.most -= 1
            self.dropped[lines.pop(chance.randrange(len(lines)))["custom_id"]] += 1
        if lines and chance.random() < 0.4:
            lines = [*lines, dict(chance.choice(lines))]
        if lines and chance.random() < 0.4:
            lines = [*lines, {**chance.choice(lines), "custom_id": chance.choice(["", "0", "nobody", None, 7])}]
        chance.shuffle(lines)
        return lines


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_is_lost_or_paid_twice_or_mixed_up(seed, tmp_path, monkeypatch):
    chance = random.Random(seed)
    mischief = Mischief(chance)
    good = records(chance.randint(3, 14))
    inputs = [*good, Record(id="broken", image=b"no image"), Record(id=good[0].id, image=good[1].image)]
    options = BatchOptions(max_requests=chance.randint(2, 6))
    kills = [chance.choice([0.0, 0.02, 0.08])]
    left = [12]

    def strike(_):
        if left[0] and chance.random() < kills[0]:
            left[0] -= 1
            return True
        return False

    def kill():
        raise Killed

    with MistralEmulator(brain=brain) as api:
        client = client_of(api)
        api.batches.edit_results = mischief
        api.batches.looks = chance.choice([0, 1, 2])
        for _ in range(chance.choice([0, 0, 1, 2])):
            api.batches.end_with(chance.choice(["FAILED", "TIMEOUT_EXCEEDED", "CANCELLED"]))
        share = chance.choice([0.0, 0.1, 0.25])
        api.faults.at_random(FAULTS, share=share, seed=seed)
        api.faults.at_random([Fault.shortened()], share=share, seed=seed, operations=["files.download"])
        with deaths(monkeypatch, strike, kill=kill):
            result = until_done(client, inputs, tmp_path / "run", options)
        check(result, inputs, good)
        assert set(result.counts) <= {"ok", "cancelled", "missing", "expired", "failed_input"}
        assert all(row.attempts == 3 for row in result if row.state in {"missing", "expired"})

        api.faults.clear()
        mischief.most = 0
        again = BatchRun.open(tmp_path / "run", client=client).resume().wait(poll=0)
        check(again, inputs, good)
        assert again.counts == {"ok": len(good), "failed_input": 2}
        assert billed_twice(api, mischief.dropped) == []
        assert shipped_twice(api) == []
        assert len(api.log.charges) == len(good) + sum(mischief.dropped.values())


def check(result, inputs, good):
    answers = expected(good)
    assert len(result) == len(inputs) == sum(result.counts.values()) == result.report.total
    assert set(result.counts) <= set(STATES)
    assert [row.id for row in result] == [r.id for r in inputs]
    assert all(row.label == answers[row.id] for row in result if row.state == "ok")
    assert all(row.label is None for row in result if row.state != "ok")


def client_of(api):
    return PixtralClient("pixtral-12b-2409", base_url=api.url, api_key=api.api_key, pause=0, max_retries=2, timeout=20)


def until_done(client, inputs, out, options):
    for _ in range(300):
        try:
            return client.batch_classify(inputs, labels=LABELS, out=out, options=options).wait(poll=0)
        except (Killed, ServiceError):
            continue
    raise AssertionError("it never ended")


PROGRAM = """
import json, os, signal, sys
from contextlib import nullcontext
import pytest
from geovlm.pixtral.batch import BatchOptions
from tests.pixtral.batches import LABELS, deaths, records
from tests.pixtral.test_batch_campaign import client_of

pytestmark = pytest.mark.usefixtures("quick_disk")

class Api: pass
api = Api()
api.url, api.api_key, out, at = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
steps = [0]

def strike(name):
    steps[0] += 1
    return steps[0] == at

with deaths(pytest.MonkeyPatch(), strike, kill=lambda: os.kill(os.getpid(), signal.SIGKILL)):
    options = BatchOptions(max_requests=4)
    client_of(api).batch_classify(records(9), labels=LABELS, out=out, options=options).wait(poll=0)
"""


def test_a_real_kill_anywhere(tmp_path):
    """SIGKILL in other processes, one after the other, each a little further; the last one goes through."""
    chance = random.Random(0)
    with MistralEmulator(brain=brain) as api:
        codes = []
        for _ in range(KILLS):
            arguments = [api.url, api.api_key, str(tmp_path / "run"), str(chance.randint(5, 30))]
            command = [sys.executable, "-c", PROGRAM, *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
            codes.append(done.returncode)
            assert done.returncode in {0, -signal.SIGKILL}, done.stderr
        assert -signal.SIGKILL in codes
        options = BatchOptions(max_requests=4)
        run = client_of(api).batch_classify(records(9), labels=LABELS, out=tmp_path / "run", options=options)
        result = run.wait(poll=0)
        check(result, records(9), records(9))
        assert result.counts == {"ok": 9}
        assert billed_twice(api, Counter()) == shipped_twice(api) == []
        assert len(api.log.charges) == 9
        assert json.loads((tmp_path / "run" / "manifest.json").read_text())["state"] == "complete"
