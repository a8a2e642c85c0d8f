"""Fine-tuning in the emulator, as the service had it until July 2026."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from geovlm.pixtral._compat import library
from geovlm.testing.mistral_api import MistralEmulator
from tests.mistral import find_contract
from tests.testing.test_mistral_api import connect, raw, upload

JOBS = "/v1/fine_tuning/jobs"
LINE = {"messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A port."}]}


@pytest.fixture
def api():
    with MistralEmulator(contract=find_contract()) as emulator:
        yield emulator
    assert emulator.log.problems == []


def data(*lines):
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def order(api, *lines, **settings):
    file = upload(connect(api), data(*(lines or (LINE, LINE["messages"]))), name="train.jsonl", purpose="fine-tune")
    known = {"model": "pixtral-12b-latest", "training_files": [{"file_id": file.id, "weight": 1}], "auto_start": True}
    return {**known, "hyperparameters": {"training_steps": 5, "learning_rate": 1e-4}, **settings}


def states(api, job):
    seen = []
    while not seen or (seen[-1] not in ("SUCCESS", "VALIDATED", "CANCELLED", "FAILED_VALIDATION") and len(seen) < 9):
        seen.append(raw(api, "GET", f"{JOBS}/{job['id']}")[1]["status"])
    return seen


def test_a_job_from_file_to_model(api):
    status, job = raw(api, "POST", JOBS, order(api, suffix="mine"))
    assert (status, job["status"], job["fine_tuned_model"]) == (200, "QUEUED", None)
    assert states(api, job) == ["VALIDATING", "STARTED", "RUNNING", "SUCCESS"]
    done = raw(api, "GET", f"{JOBS}/{job['id']}")[1]
    losses = [point["metrics"]["train_loss"] for point in done["checkpoints"]]
    assert len(losses) == 5
    assert losses == sorted(losses)
    assert [event["data"]["status"] for event in done["events"]][-1] == "QUEUED"
    name = done["fine_tuned_model"]
    assert name.startswith("ft:pixtral-12b-latest:mine:")
    body = {"model": name, "messages": [{"role": "user", "content": "Hello"}]}
    assert raw(api, "POST", "/v1/chat/completions", body)[1]["model"] == name
    assert raw(api, "GET", f"/v1/models/{name}")[1]["type"] == "fine-tuned"
    assert raw(api, "POST", f"/v1/fine_tuning/models/{name}/archive")[1]["archived"]
    assert raw(api, "POST", "/v1/chat/completions", body)[0] == 400
    assert raw(api, "DELETE", f"/v1/fine_tuning/models/{name}/archive")[1]["archived"] is False
    assert raw(api, "PATCH", f"/v1/fine_tuning/models/{name}", {"name": "scenes"})[1]["name"] == "scenes"
    assert raw(api, "DELETE", f"/v1/models/{name}")[1]["deleted"]


def test_estimate_first_and_start_later(api):
    _, job = raw(api, "POST", JOBS, order(api, auto_start=False))
    assert states(api, job) == ["VALIDATING", "VALIDATED"]
    assert states(api, job) == ["VALIDATED"]
    estimate = raw(api, "GET", f"{JOBS}/{job['id']}")[1]["metadata"]
    assert estimate["cost"] >= 4.0
    assert estimate["cost_currency"] == "USD"
    assert raw(api, "POST", f"{JOBS}/{job['id']}/start")[1]["status"] == "STARTED"
    assert states(api, job) == ["RUNNING", "SUCCESS"]


def test_a_dry_run_makes_no_job(api):
    _, estimate = raw(api, "POST", f"{JOBS}?dry_run=true", order(api))
    assert estimate["object"] == "job.metadata"
    assert estimate["train_tokens"] >= 0
    assert raw(api, "GET", JOBS)[1]["total"] == 0


def test_cancelling(api):
    _, job = raw(api, "POST", JOBS, order(api))
    assert raw(api, "POST", f"{JOBS}/{job['id']}/cancel")[1]["status"] == "CANCELLATION_REQUESTED"
    assert states(api, job) == ["CANCELLED"]
    assert raw(api, "POST", f"{JOBS}/{job['id']}/cancel")[0] == 400
    assert raw(api, "GET", f"{JOBS}?status=CANCELLED")[1]["total"] == 1


def test_bad_lines_fail_or_are_skipped(api):
    bad = {"messages": [{"role": "user", "content": "and then nothing"}]}
    _, job = raw(api, "POST", JOBS, order(api, LINE, bad, LINE))
    assert states(api, job)[-1] == "FAILED_VALIDATION"
    _, job = raw(api, "POST", JOBS, order(api, LINE, bad, LINE, LINE, invalid_sample_skip_percentage=0.5))
    assert states(api, job)[-1] == "SUCCESS"


def test_other_models_are_not_tuned(api):
    status, answer = raw(api, "POST", JOBS, order(api, model="mistral-small-2506"))
    assert (status, answer["message"]) == (422, "Model not available for this type of fine-tuning (completion)")


def test_it_ended_in_july_2026():
    with MistralEmulator(today=dt.date(2026, 7, 15)) as api:
        assert raw(api, "GET", JOBS)[0] == 404
        assert raw(api, "GET", "/v1/models")[0] == 200


def test_the_client_that_still_has_it(api):
    if not library().has_fine_tuning:
        pytest.skip(f"mistralai {library().version} has no fine-tuning any more")
    mistral = connect(api)
    known = order(api)
    job = mistral.fine_tuning.jobs.create(**known)
    while mistral.fine_tuning.jobs.get(job_id=job.id).status != "SUCCESS":
        assert len(api.log) < 20
    assert mistral.fine_tuning.jobs.get(job_id=job.id).checkpoints[0].step_number == 5
    assert mistral.fine_tuning.jobs.list().total == 1
