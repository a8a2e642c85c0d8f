"""The emulator of Mistral's API under the real client: chat, files, batch jobs, models."""

from __future__ import annotations

import datetime as dt
import json
import urllib.error
import urllib.request
from collections import Counter

import pytest

from geovlm.imaging import to_data_url
from geovlm.testing.mistral_api import Fault, MistralEmulator, Refused, text_of
from tests.mistral import ABSENT, find_contract, scene

pytest.importorskip("mistralai")

from geovlm.pixtral._compat import library

ENDPOINT = "/v1/chat/completions"
MODEL = "pixtral-12b-2409"


@pytest.fixture
def api():
    with MistralEmulator(contract=find_contract()) as emulator:
        yield emulator
    assert emulator.log.problems == []


@pytest.fixture
def mistral(api):
    return connect(api)


def connect(api):
    return library().open(api_key=api.api_key, server_url=api.url, timeout=20)


def body_for(text):
    return {"messages": [{"role": "user", "content": text}]}


def jsonl(count, **more):
    lines = [
        json.dumps({"custom_id": str(place), "body": body_for(f"scene {place}"), **more}) for place in range(count)
    ]
    return ("\n".join(lines) + "\n").encode()


def upload(mistral, content, *, name="requests.jsonl", purpose="batch"):
    return mistral.files.upload(file={"file_name": name, "content": content}, purpose=purpose)


def start(mistral, content=None, **settings):
    file = upload(mistral, content or jsonl(6))
    return mistral.batch.jobs.create(input_files=[file.id], model=MODEL, endpoint=ENDPOINT, **settings)


def finished(mistral, job):
    for _ in range(9):
        job = mistral.batch.jobs.get(job_id=job.id)
        if job.status not in ("QUEUED", "RUNNING", "CANCELLATION_REQUESTED"):
            return job
    raise AssertionError(job.status)


def lines_of(mistral, file_id):
    response = mistral.files.download(file_id=file_id)
    return [json.loads(line) for line in response.read().splitlines()]


def raw(api, method, path, body=None, **headers):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {api.api_key}", "Content-Type": "application/json", **headers}
    request = urllib.request.Request(api.url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


# Chat.


def test_chat_answers_the_same_to_the_same(api, mistral):
    def ask(text):
        url = to_data_url(scene(1))
        chunks = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]
        return mistral.chat.complete(model=MODEL, messages=[{"role": "user", "content": chunks}])

    first, second = ask("what?"), ask("what?")
    assert first.choices[0].message.content == second.choices[0].message.content
    assert first.id == second.id
    # 64×48 px are 4×3 cells: (4 + 1) · 3 tokens; the text is counted roughly.
    assert first.usage.prompt_tokens == 15 + 2 + 4
    assert [charge.model for charge in api.log.charges] == [MODEL] * 2


def test_a_schema_is_kept_to(mistral):
    schema = {"type": "object", "properties": {"label": {"enum": ["a", "b"]}}}
    shape = {"type": "json_schema", "json_schema": {"name": "label", "schema": schema, "strict": True}}
    answer = mistral.chat.complete(model="ministral-8b-2512", **body_for("which?"), response_format=shape)
    assert json.loads(answer.choices[0].message.content)["label"] in ("a", "b")
    loose = mistral.chat.complete(model=MODEL, **body_for("which?"), response_format={"type": "json_object"})
    assert json.loads(loose.choices[0].message.content)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"model": "none", **body_for("x")}, 400, "Invalid model"),
        ({"model": MODEL, "messages": []}, 422, "at least one"),
        ({"model": MODEL, **body_for("x"), "max_completion_tokens": 5}, 422, "Extra inputs"),
        ({"model": MODEL, **body_for("x"), "stream": True}, 422, "does not stream"),
        (
            {"model": MODEL, **body_for([{"type": "image_url", "image_url": "data:image/png;base64,AAAA"}])},
            400,
            "loaded",
        ),
        ({"model": MODEL, **body_for([{"type": "image_url", "image_url": "https://x/y.png"}])}, 400, "data URLs"),
        (
            {"model": MODEL, **body_for([{"type": "image_url", "image_url": "data:image/png;base64,A"}] * 9)},
            400,
            "Too many",
        ),
    ],
)
def test_chat_refuses(body, status, reason):
    with MistralEmulator() as api:
        code, answer = raw(api, "POST", ENDPOINT, body)
        assert code == status
        assert reason in answer["message"]
        assert answer["object"] == "error"
        assert api.log.charges == []


def test_a_brain_that_fails_is_an_answer():
    def brain(body):
        raise ZeroDivisionError

    with MistralEmulator(brain=brain) as api:
        assert raw(api, "POST", ENDPOINT, {"model": MODEL, **body_for("x")})[0] == 500


def test_a_wrong_key_is_refused(api):
    status, answer = raw(api, "GET", "/v1/models", Authorization="Bearer other")
    assert (status, answer["message"]) == (401, "Unauthorized")


def test_a_server_of_ones_own_is_like_vllm():
    with MistralEmulator(hosted=False, serves=["mine"]) as api:
        text = [{"type": "image_url", "image_url": to_data_url(scene(1))}]
        assert raw(api, "POST", ENDPOINT, {"model": "mine", **body_for(text)})[0] == 400
        assert raw(api, "POST", ENDPOINT, {"model": "mine", **body_for("x"), "vllm_only": 1})[0] == 200
        assert raw(api, "POST", ENDPOINT, {"model": "other", **body_for("x")})[0] == 404
        assert raw(api, "GET", "/v1/batch/jobs")[0] == 404
        assert raw(api, "GET", "/v1/files")[0] == 404
        assert [card["id"] for card in raw(api, "GET", "/v1/models")[1]["data"]] == ["mine"]


# Models.


def test_models_go_with_the_day(api):
    ids = [card["id"] for card in raw(api, "GET", "/v1/models")[1]["data"]]
    assert MODEL in ids
    assert connect(api).models.retrieve(model_id="pixtral-12b-latest").deprecation is None
    api.models.today = dt.date(2025, 12, 5)
    card = connect(api).models.retrieve(model_id=MODEL)
    assert card.deprecation.date() == dt.date(2025, 12, 31)
    assert card.deprecation_replacement_model == "ministral-14b-2512"
    api.models.today = dt.date(2026, 1, 1)
    assert MODEL not in [card.id for card in connect(api).models.list().data]
    assert raw(api, "GET", f"/v1/models/{MODEL}")[0] == 404
    assert raw(api, "POST", ENDPOINT, {"model": MODEL, **body_for("x")})[0] == 404


# Files.


def test_files_go_up_and_come_down(api, mistral, tmp_path):
    path = tmp_path / "requests.jsonl"
    path.write_bytes(jsonl(3))
    with path.open("rb") as file:
        made = upload(mistral, file)
    assert (made.filename, made.size_bytes, made.num_lines) == ("requests.jsonl", path.stat().st_size, 3)
    assert (made.purpose, made.sample_type) == ("batch", "batch_request")
    assert mistral.files.download(file_id=made.id).read() == path.read_bytes()
    assert mistral.files.retrieve(file_id=made.id).deleted is False
    other = upload(mistral, b"--boundary\r\n\r\n", name="odd", purpose="ocr")
    listed = mistral.files.list()
    assert ([file.id for file in listed.data], listed.total) == ([other.id, made.id], 2)
    assert [file.id for file in mistral.files.list(purpose="ocr").data] == [other.id]
    assert [file.id for file in mistral.files.list(page=1, page_size=1).data] == [made.id]
    assert [file.id for file in mistral.files.list(search="request").data] == [made.id]
    assert mistral.files.delete(file_id=made.id).deleted
    assert raw(api, "GET", f"/v1/files/{made.id}/content")[0] == 404


def test_signed_urls_need_no_key(api, mistral):
    made = upload(mistral, jsonl(2))
    url = mistral.files.get_signed_url(file_id=made.id, expiry=1).url
    with urllib.request.urlopen(url) as response:
        assert response.read() == jsonl(2)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(url + "0")


def test_training_files_are_kept_once(mistral):
    same = [upload(mistral, b"{}\n", purpose="fine-tune").id for _ in range(2)]
    assert same[0] == same[1]
    assert upload(mistral, jsonl(1)).id != upload(mistral, jsonl(1)).id


def test_large_and_empty_files_are_refused():
    with MistralEmulator(most_bytes=1000) as api:
        for content, status in [(b"x" * 1001, 413), (b"", 422)]:
            with pytest.raises(library().answered) as caught:
                upload(connect(api), content)
            assert caught.value.status_code == status
        assert api.files.stored == {}


# Batch jobs.


def test_a_batch_job_runs_and_mixes_the_order(api, mistral):
    api.chat.brain = lambda body: text_of(body).upper()
    job = start(mistral, jsonl(20), metadata={"run": "7"})
    assert (job.status, job.total_requests, job.completed_requests) == ("QUEUED", 20, 0)
    assert mistral.batch.jobs.get(job_id=job.id).status == "RUNNING"
    done = mistral.batch.jobs.get(job_id=job.id)
    assert (done.status, done.succeeded_requests, done.failed_requests) == ("SUCCESS", 20, 0)
    assert done.error_file is None
    lines = lines_of(mistral, done.output_file)
    ids = [line["custom_id"] for line in lines]
    assert ids != sorted(ids, key=int)
    assert sorted(ids, key=int) == [str(place) for place in range(20)]
    for line in lines:
        assert line["response"]["status_code"] == 200
        assert line["error"] is None
        text = line["response"]["body"]["choices"][0]["message"]["content"]
        assert text == f"SCENE {line['custom_id']}"
        assert line["id"].startswith(f"batch-{job.id[:8]}-")
    billed = Counter((charge.job, charge.custom_id) for charge in api.log.charges)
    assert set(billed.values()) == {1}
    assert len(billed) == 20


def test_failed_requests_are_in_the_error_file(api, mistral):
    def brain(body):
        if "scene 2" in text_of(body):
            raise Refused(422, "no such thing")
        if "scene 3" in text_of(body):
            raise Refused(0, "lost on the way")
        return "x"

    api.chat.brain = brain
    done = finished(mistral, start(mistral))
    assert (done.status, done.succeeded_requests, done.failed_requests) == ("SUCCESS", 4, 2)
    assert len(lines_of(mistral, done.output_file)) == 4
    errors = {line["custom_id"]: line for line in lines_of(mistral, done.error_file)}
    assert errors["2"]["response"]["status_code"] == 422
    assert errors["2"]["response"]["body"]["message"] == "no such thing"
    assert errors["3"]["response"] is None
    assert errors["3"]["error"] == {"message": "lost on the way"}
    assert len(api.log.charges) == 4


@pytest.mark.parametrize("ending", ["FAILED", "TIMEOUT_EXCEEDED", "CANCELLED"])
def test_jobs_that_end_early_keep_what_they_have(api, mistral, ending):
    if ending != "CANCELLED":
        api.batches.end_with(ending)
    job = start(mistral)
    if ending == "CANCELLED":
        assert mistral.batch.jobs.cancel(job_id=job.id).status == "CANCELLATION_REQUESTED"
    done = finished(mistral, job)
    assert (done.status, done.completed_requests, done.total_requests) == (ending, 3, 6)
    assert len(lines_of(mistral, done.output_file)) == 3
    assert raw(api, "POST", f"/v1/batch/jobs/{job.id}/cancel")[0] == 400
    assert finished(mistral, start(mistral)).status == "SUCCESS"


def test_jobs_are_listed_by_metadata_and_status(api, mistral):
    first, second = start(mistral, metadata={"run": "a"}), start(mistral, metadata={"run": "b"})
    finished(mistral, second)
    assert [job.id for job in mistral.batch.jobs.list().data] == [second.id, first.id]
    assert [job.id for job in mistral.batch.jobs.list(metadata={"run": "a"}).data] == [first.id]
    assert [job.id for job in mistral.batch.jobs.list(status=["SUCCESS"]).data] == [second.id]
    assert [job.id for job in mistral.batch.jobs.list(page=1, page_size=1).data] == [first.id]


def test_results_can_be_spoilt(api, mistral):
    """Missing, doubled and unknown ids, as a test of a reader wants them."""

    def spoil(lines):
        return [*lines[1:], lines[2], {**lines[3], "custom_id": "nobody"}]

    api.batches.edit_results = spoil
    done = finished(mistral, start(mistral))
    ids = Counter(line["custom_id"] for line in lines_of(mistral, done.output_file))
    assert ids["nobody"] == 1
    assert max(ids.values()) == 2
    assert len(ids) == 6


def test_inline_requests(api):
    lines = [{"custom_id": str(place), "body": body_for(str(place))} for place in range(3)]
    order = {"endpoint": ENDPOINT, "model": MODEL, "requests": lines}
    _, job = raw(api, "POST", "/v1/batch/jobs", order)
    api.batches.looks = 0
    _, done = raw(api, "GET", f"/v1/batch/jobs/{job['id']}?inline=true")
    assert done["status"] == "SUCCESS"
    assert sorted(line["custom_id"] for line in done["outputs"]) == ["0", "1", "2"]
    assert raw(api, "GET", f"/v1/batch/jobs/{job['id']}")[1]["outputs"] is None
    assert raw(api, "DELETE", f"/v1/batch/jobs/{job['id']}")[1]["deleted"]
    assert raw(api, "GET", f"/v1/batch/jobs/{job['id']}")[0] == 404


def test_a_file_with_broken_lines_fails():
    with MistralEmulator() as api:
        mistral = connect(api)
        job = finished(mistral, start(mistral, jsonl(4) + b"not JSON\n"))
        assert job.status == "FAILED"
        assert job.errors[0].message == "Invalid JSON line"


@pytest.mark.parametrize(
    "order",
    [
        {"input_files": None},
        {"endpoint": "/v1/ocr"},
        {"timeout_hours": 169},
        {"metadata": {"x" * 33: "a"}},
        {"metadata": {"x": ""}},
        {"input_files": ["00000000-0000-4000-8000-000000000000"]},
        {"requests": [{"body": {}}] * 10_001, "input_files": None},
    ],
)
def test_jobs_that_are_not_taken(order):
    with MistralEmulator() as api:
        file = upload(connect(api), jsonl(1))
        body = {"input_files": [file.id], "endpoint": ENDPOINT, "model": MODEL, **order}
        assert raw(api, "POST", "/v1/batch/jobs", body)[0] in (404, 422)
        assert api.batches.jobs == {}


# Faults and the log.


def test_a_truncated_download(api, mistral):
    made = upload(mistral, jsonl(2000))
    api.faults.add(Fault.truncated(), operation="files.download")
    with pytest.raises(library().no_answer[0]):
        mistral.files.download(file_id=made.id).read()
    assert mistral.files.download(file_id=made.id).read() == jsonl(2000)


def test_a_lost_acknowledgement_leaves_a_job_behind(api, mistral):
    file = upload(mistral, jsonl(1))
    api.faults.add(Fault.acknowledgement_lost(), operation="batch.jobs.create")
    with pytest.raises(library().no_answer[0]):
        mistral.batch.jobs.create(input_files=[file.id], model=MODEL, endpoint=ENDPOINT, metadata={"run": "x"})
    assert len(mistral.batch.jobs.list(metadata={"run": "x"}).data) == 1
    api.faults.add(Fault.dropped(), operation="batch.jobs.create")
    with pytest.raises(library().no_answer[0]):
        mistral.batch.jobs.create(input_files=[file.id], model=MODEL, endpoint=ENDPOINT, metadata={"run": "y"})
    assert mistral.batch.jobs.list(metadata={"run": "y"}).data in ([], None)


def test_retry_after_is_seconds_or_a_date():
    later = dt.datetime(2027, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    for given, told in [(2, "2"), (0.5, "0.5"), (later, "Sat, 02 Jan 2027 03:04:05 GMT"), (None, None)]:
        assert Fault.rate_limited(retry_after=given).response.headers.get("Retry-After") == told


def test_faults_at_random_are_repeatable():
    def names(seed):
        with MistralEmulator() as api:
            api.faults.at_random([Fault.server_error(), Fault.unavailable()], share=0.5, seed=seed)
            return [api.faults.draw("chat.complete") is None for _ in range(50)]

    assert names(1) == names(1) != names(2)


def test_the_log_tells_what_came(api, mistral):
    upload(mistral, jsonl(3))
    mistral.chat.complete(model=MODEL, **body_for("Hello"))
    first, second = api.log.records
    assert first.body.items() >= {"purpose": "batch", "filename": "requests.jsonl", "size": len(jsonl(3))}.items()
    assert second.body["messages"][0]["content"] == "Hello"
    assert (second.operation, second.method, second.path, second.status) == ("chat.complete", "POST", ENDPOINT, 200)
    assert api.log.operations == {"files.upload": 1, "chat.complete": 1}


def test_departures_from_the_contract_are_told():
    """The comparison can fail: in a body, in a line of a file, in a path, in a query."""
    contract = find_contract()
    if contract is None:
        pytest.skip(ABSENT)
    with MistralEmulator(contract=contract) as api:
        raw(api, "POST", ENDPOINT, {"model": MODEL, "messages": "Hello"})
        raw(api, "GET", "/v1/elsewhere")
        raw(api, "GET", "/v1/files?color=red")
        upload(connect(api), jsonl(1, method="POST"))
        upload(connect(api), b'{"custom_id": "1", "body": {"messages": 3}}\n')
        problems = [record.problems for record in api.log.records]
    assert all(problems)
    assert len(problems) == 5
