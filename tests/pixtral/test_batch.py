"""Batches over the loopback server: what is sent, what comes back, and how they stop and go on."""

from __future__ import annotations

import json
import math

import pytest

import geovlm as gv
from geovlm import Record
from geovlm.errors import AuthError, ConfigMismatch, RequestRefused, RunLocked, ServiceUnavailable, UsageError
from geovlm.pixtral import Price
from geovlm.pixtral.batch import BatchOptions, BatchPlan, BatchRun
from geovlm.pixtral.batch.service import JobService
from geovlm.pixtral.images import ImageEncoding
from geovlm.testing.mistral_api import Fault, MistralEmulator, Refused, images_of
from tests.mistral import scene
from tests.pixtral.batches import LABELS, brain, expected, records

pytestmark = pytest.mark.usefixtures("quick_disk")

ONCE = BatchOptions(max_attempts=1)


@pytest.fixture(autouse=True)
def answers(api):
    api.chat.brain = brain
    api.batches.looks = 0


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def classify(connect, folder):
    """Sends records as a batch into one directory."""

    def send(source, *, client=None, **settings):
        return (client or connect()).batch_classify(source, labels=LABELS, out=folder, **settings)

    return send


def refuse(status, wrong):
    """A brain that fails for one image."""
    bad = images_of(body_of(wrong))

    def answer(body):
        if images_of(body) == bad:
            raise Refused(status, "this one not")
        return brain(body)

    return answer


def body_of(record):
    return {"messages": [{"content": [{"type": "image_url", "image_url": {"url": encoded(record)}}]}]}


def encoded(record):
    return ImageEncoding().encode(record).url


def test_every_input_gets_its_own_answer(api, classify):
    inputs = records(9)
    result = classify(inputs, options=BatchOptions(max_requests=4)).wait(poll=0)
    assert [row.id for row in result] == [r.id for r in inputs]
    assert result.predictions == list(expected(inputs).values())
    assert result.truth == ["Beach"] * 9
    assert (result.counts, result.coverage, len(api.batches.jobs)) == ({"ok": 9}, 1.0, 3)
    charged = sum(charge.prompt_tokens for charge in api.log.charges)
    assert result.usage.prompt_tokens == charged
    assert result.cost == pytest.approx((charged + result.usage.completion_tokens) * 0.15e-6 / 2)
    frame = result.to_pandas()
    assert (len(frame), frame["hallucinated"].any(), frame["state"].unique().tolist()) == (9, False, ["ok"])
    assert result[-1].id == inputs[-1].id
    with pytest.raises(IndexError):
        result[9]


def test_what_is_sent(api, classify, tmp_path):
    classify(records(5), options=BatchOptions(max_requests=2, timeout_hours=7)).wait(poll=0)
    lines = [json.loads(text) for file in api.files.stored.values() for text in file.content.splitlines()]
    sent = [line for line in lines if "body" in line]
    assert len({line["custom_id"] for line in sent}) == 5
    assert all(line["custom_id"].replace("-", "").isalnum() and "model" not in line["body"] for line in sent)
    created = [record.body for record in api.log.of("batch.jobs.create")]
    assert {(body["model"], body["timeout_hours"]) for body in created} == {("pixtral-12b-2409", 7)}
    run = created[0]["metadata"]["geovlm_run"]
    told = [{"geovlm_run": run, "geovlm_shipment": str(n), "geovlm_attempt": "1"} for n in range(3)]
    assert [body["metadata"] for body in created] == told
    raw = sorted(path.name for path in (tmp_path / "run" / "results").iterdir())
    assert raw == [f"0000{n}-output.jsonl" for n in range(3)]
    assert "emulator-key" not in "".join(p.read_text() for p in (tmp_path / "run").rglob("*.json*"))


def test_files_are_split_by_bytes(api, classify):
    size = len(encoded(records(1)[0])) + 1200
    classify(records(6), options=BatchOptions(max_bytes=size * 2)).wait(poll=0)
    uploads = [file for file in api.files.stored.values() if file.source == "upload"]
    assert len(uploads) >= 3
    assert all(len(file.content) <= size * 2 for file in uploads)


def test_a_request_that_fits_no_file_is_a_failed_input(classify):
    big = Record(id="big", image=scene(3, (900, 900)))
    limit = len(encoded(records(1)[0])) + 2000
    result = classify([*records(1), big], options=BatchOptions(max_bytes=limit)).wait(poll=0)
    assert (result.counts, "more than a request file takes" in result[1].reason) == ({"ok": 1, "failed_input": 1}, True)


def test_a_dry_run_tells_all_and_sends_nothing(api, classify, connect, monkeypatch, folder):
    inputs = [Record(id=str(n), image=scene(n, size)) for n, size in enumerate([(300, 300), (64, 48), (1500, 700)])]
    plan = classify([*inputs, Record(id="x", image=b"")], dry_run=True)
    assert isinstance(plan, BatchPlan)
    grid = connect().requests.encoding.grid
    assert plan.image_tokens == sum(grid.tokens(*size) for size in [(300, 300), (64, 48), (1500, 700)])
    assert (plan.requests, plan.jobs, plan.means, len(plan.failures)) == (3, 1, "jobs", 1)
    read = plan.image_tokens + plan.text_tokens
    assert plan.cost == pytest.approx(read * 0.15e-6 / 2)
    assert plan.most_cost == pytest.approx((read + 3 * 256) * 0.15e-6 / 2)
    assert set(api.log.operations) == {"batch.jobs.list"}
    with pytest.raises(UsageError, match=r"only prepared \(dry_run\)"):
        BatchRun.open(folder, client=connect()).wait()
    with monkeypatch.context() as patch:
        patch.setattr(ImageEncoding, "encode", None)  # nothing is encoded a second time
        result = classify(inputs).wait(poll=0)
    assert result.usage.prompt_tokens <= plan.image_tokens + plan.text_tokens
    assert plan.bytes == sum(len(file.content) for file in api.files.stored.values() if file.source == "upload")


def test_an_unknown_price_is_told(classify, connect, folder):
    client = connect("ministral-8b-2512")
    options = BatchOptions(price=Price(prompt=1, completion=2))
    assert classify(records(1), client=client, dry_run=True, options=options).most_cost > 0
    with MistralEmulator(hosted=False) as own:
        vllm = gv.PixtralClient("mistralai/Pixtral-12B-2409", base_url=own.url)
        plan = vllm.batch_caption(records(1), out=folder / "own", dry_run=True)
        assert (plan.cost, plan.means) == (None, "requests")
        assert "cost unknown" in str(plan)
        with pytest.raises(UsageError, match=r"needs a price.*Nothing was sent"):
            vllm.batch_caption(records(1), out=folder / "own", max_cost=1)


def test_max_cost_stops_before_spending(api, classify):
    with pytest.raises(UsageError, match=r"more than max_cost=1e-06.*Nothing was sent"):
        classify(records(2), max_cost=1e-6)
    assert "files.upload" not in api.log.operations
    with pytest.raises(UsageError, match="amount of US dollars"):
        classify(records(2), max_cost=math.nan)
    assert classify(records(2), max_cost=1).wait(poll=0).counts == {"ok": 2}


def test_max_cost_holds_for_repetitions(api, classify):
    api.batches.edit_results = lambda lines: lines[1:]
    plan = classify(records(2), dry_run=True)
    result = classify(records(2), max_cost=plan.most_cost * 1.05).wait(poll=0)
    assert (result.counts, len(api.batches.jobs)) == ({"ok": 1, "missing": 1}, 1)


def test_captions(api, connect, tmp_path):
    api.chat.brain = lambda body: " " if images_of(body) == images_of(body_of(records(2)[1])) else "A harbour."
    result = connect().batch_caption(records(2), out=tmp_path / "captions").wait(poll=0)
    assert [(row.state, row.text, row.label) for row in result] == [
        ("ok", "A harbour.", None),
        ("parse_error", " ", None),
    ]


def test_labels_are_never_guessed(api, classify):
    told = iter(['{"label": "Vineyard"}', "Beach or forest?", "beach", ""])
    api.chat.brain = lambda _: next(told)
    result = classify(records(4)).wait(poll=0)
    assert [row.state for row in result] == ["ok", "parse_error", "ok", "parse_error"]
    assert [row.claimed for row in result] == ["Vineyard", None, None, None]
    assert result.predictions == [None, None, "Beach", None]
    assert (result.hallucinated, result.coverage) == (1, 0.5)
    assert [row.text for row in result][:2] == ['{"label": "Vineyard"}', "Beach or forest?"]
    assert len(api.log.charges) == 4  # answers that cannot be read are not paid for again


@pytest.mark.parametrize(("status", "jobs"), [(400, 1), (429, 3), (500, 3), (0, 3)])
def test_only_what_may_pass_is_sent_again(api, classify, status, jobs):
    inputs = records(4)
    api.chat.brain = refuse(status, inputs[2])
    result = classify(inputs).wait(poll=0)
    assert (result.counts, result[2].state) == ({"ok": 3, "request_error": 1}, "request_error")
    assert "this one not" in result[2].reason
    assert (len(api.batches.jobs), result[2].attempts, result[0].attempts) == (jobs, jobs, 1)
    assert [len(job.lines) for job in api.batches.jobs.values()] == [4, *[1] * (jobs - 1)]


def test_a_missing_line_is_asked_for_again(api, classify):
    lost = []

    def lose(lines):
        if not lost:
            lost.append(lines.pop()["custom_id"])
        return lines

    api.batches.edit_results = lose
    inputs = records(5)
    result = classify(inputs).wait(poll=0)
    assert result.predictions == list(expected(inputs).values())
    assert [line["custom_id"] for line in list(api.batches.jobs.values())[1].lines] == lost


ENDINGS = [("FAILED", "missing"), ("TIMEOUT_EXCEEDED", "expired"), ("CANCELLED", "cancelled")]


@pytest.mark.parametrize(("ending", "state"), ENDINGS)
def test_partial_results_are_read_in_every_final_state(api, classify, ending, state):
    inputs = records(6)
    api.chat.brain = refuse(400, inputs[0])
    api.batches.end_with(ending)
    result = classify(inputs, options=ONCE).wait(poll=0)
    assert [row.state for row in result] == ["request_error", "ok", "ok", state, state, state]
    assert result.report.total == 6
    again = classify(inputs).resume().wait(poll=0)
    assert again.counts == {"ok": 5, "request_error": 1}
    assert len(api.log.charges) == 5


def test_strays_are_set_aside(api, classify):
    def mix(lines):
        wrong = {**lines[0], "response": {"status_code": 500, "body": "no"}}
        return [wrong, {**lines[0], "custom_id": "00000007-00000000"}, *reversed(lines), lines[1]]

    api.batches.edit_results = mix
    inputs = records(4)
    result = classify(inputs).wait(poll=0)
    assert result.predictions == list(expected(inputs).values())
    assert (result.strays.unknown, result.strays.duplicate, result.strays.broken) == (1, 2, 0)


def test_an_interrupt_detaches(api, classify, monkeypatch, connect):
    def interrupted(*_):
        raise KeyboardInterrupt

    run = classify(records(3))
    with monkeypatch.context() as patch:
        patch.setattr(JobService, "get", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.wait(poll=0)
    assert "batch.jobs.cancel" not in api.log.operations
    assert BatchRun.open(run.out, client=connect()).wait(poll=0).counts == {"ok": 3}
    assert len(api.log.charges) == 3


def test_cancel_and_resume(api, classify, connect):
    api.batches.looks = 50
    inputs = records(6)
    run = classify(inputs, options=BatchOptions(max_requests=3))
    assert [job.status for job in run.status().jobs] == ["RUNNING", "RUNNING"]
    run.cancel()
    assert run.status().cancelled
    result = run.wait(poll=0)
    assert result.counts == {"cancelled": 4, "ok": 2}
    assert classify(inputs, options=BatchOptions(max_requests=3)).wait(poll=0).counts == result.counts  # it stays so
    api.batches.looks = 0
    assert run.resume().wait(poll=0).counts == {"ok": 6}
    assert len(api.log.charges) == 6
    assert run.status().finished
    run.cancel()  # nothing is left to cancel
    assert BatchRun.open(run.out, client=connect()).wait(poll=0).counts == {"ok": 6}


def test_cancelling_what_is_not_sent(api, classify, connect, folder):
    api.faults.add(Fault.unavailable(), operation="files.upload", skip=1, times=20)
    with pytest.raises(ServiceUnavailable):
        classify(records(4), options=BatchOptions(max_requests=2))
    api.faults.clear()
    run = BatchRun.open(folder, client=connect())
    run.cancel()
    assert run.wait(poll=0).counts == {"ok": 1, "cancelled": 3}
    assert len(api.batches.jobs) == 1


def test_waiting_outlasts_a_service_that_is_away(api, classify):
    run = classify(records(2))
    api.faults.add(Fault.unavailable(), times=30)
    assert run.wait(poll=0).counts == {"ok": 2}
    run = classify([*records(2), *records(1, start=7)])
    api.faults.add(Fault.dropped(), times=500)
    with pytest.raises(ServiceUnavailable):
        run.wait(poll=0, patience=0)
    api.faults.clear()
    assert run.wait(poll=0).counts == {"ok": 3}


def test_a_job_that_was_deleted_is_not_paid_for_again(api, classify):
    run = classify(records(2))
    api.batches.jobs.clear()
    assert [job.status for job in run.status().jobs] == ["GONE"]
    result = run.wait(poll=0)
    assert (result.counts, len(api.batches.jobs)) == ({"missing": 2}, 0)
    assert "no longer has the job" in result[0].reason
    assert run.resume().wait(poll=0).counts == {"ok": 2}  # on purpose


def test_results_that_were_deleted(api, classify):
    run = classify(records(2))
    api.faults.add(Fault.unavailable(), operation="files.download", times=5)
    with pytest.raises(ServiceUnavailable):
        run.wait(poll=0, patience=0)
    for name in [key for key, file in api.files.stored.items() if file.source == "mistral"]:
        del api.files.stored[name]
    assert run.wait(poll=0).counts == {"missing": 2}


@pytest.mark.parametrize("fault", [Fault.truncated(), Fault.shortened()], ids=lambda fault: fault.name)
def test_truncated_downloads_are_repeated(api, classify, fault, tmp_path):
    api.faults.add(fault, operation="files.download", times=3)
    assert classify(records(5)).wait(poll=0).counts == {"ok": 5}
    kept = (tmp_path / "run" / "results" / "00000-output.jsonl").read_bytes()
    assert kept == next(file.content for file in api.files.stored.values() if file.source == "mistral")
    assert not list((tmp_path / "run" / "results").glob(".*"))


@pytest.mark.parametrize("operation", ["files.upload", "batch.jobs.create"])
@pytest.mark.parametrize(
    "fault",
    [Fault.acknowledgement_lost(), Fault.html(written=True), Fault.html(503, written=True)],
    ids=["closed", "html-200", "html-503"],
)
def test_lost_acknowledgements_make_no_second_job(api, classify, operation, fault):
    api.faults.add(fault, operation=operation)
    try:
        run = classify(records(3))
    except gv.errors.ServiceError:
        run = classify(records(3))
    assert run.wait(poll=0).counts == {"ok": 3}
    assert len(api.batches.jobs) == 1
    assert sum(file.source == "upload" for file in api.files.stored.values()) == 1


def test_a_second_job_by_mishap_is_cancelled(api, classify):
    """As when the service lists a job only after it was created again."""
    api.batches.looks = 50
    api.faults.add(Fault.acknowledgement_lost(), operation="batch.jobs.create", times=1)
    run = classify(records(2), options=ONCE)
    first = next(iter(api.batches.jobs.values()))
    twin = type(first)(**{**vars(first), "id": "twin", "created_at": first.created_at + 1})
    api.batches.jobs["twin"] = twin
    ledger = (run.out / "ledger.jsonl").read_text().splitlines(keepends=True)
    (run.out / "ledger.jsonl").write_text("".join(ledger[:-1]))  # the process died before it knew of its job
    api.batches.looks = 0
    assert run.wait(poll=0).counts == {"ok": 2}
    assert [record.path for record in api.log.of("batch.jobs.cancel")] == ["/v1/batch/jobs/twin/cancel"]


def test_a_finished_batch_needs_no_server(api, classify, folder):
    whole = classify(records(3)).wait(poll=0)
    api.log.clear()
    again = BatchRun.open(folder).wait()
    assert (again.table.equals(whole.table), len(api.log)) == (True, 0)


def test_a_source_that_has_grown(api, classify):
    classify(records(3)).wait(poll=0)
    result = classify(records(5)).wait(poll=0)
    assert (result.counts, len(api.log.charges)) == ({"ok": 5}, 5)
    assert [len(job.lines) for job in api.batches.jobs.values()] == [3, 2]


def test_an_image_that_was_mended(api, classify, tmp_path):
    path = tmp_path / "late.png"
    inputs = [*records(2), Record(id="late", image=path)]
    assert classify(inputs).wait(poll=0).counts == {"ok": 2, "failed_input": 1}
    scene(9, (16, 16)).save(path)
    result = classify(inputs).wait(poll=0)
    assert (result.counts, len(result)) == ({"ok": 3}, 3)


def test_failed_inputs_are_told_later_too(classify, folder):
    first, *_ = records(2)
    inputs = iter([first, Record(id=first.id, image=scene(5), label="Port"), Record(id="void", image=b"")])
    result = classify(inputs).wait(poll=0)
    assert result.counts == {"ok": 1, "failed_input": 2}
    assert BatchRun.open(folder).wait().table.equals(result.table)
    assert [(failure.id, failure.stage) for failure in result.report.failures] == [
        ("void", "failed_input"),
        (first.id, "failed_input"),
    ]


def test_nothing_to_send(api, classify):
    result = classify([Record(id="void", image=b"")]).wait()
    assert (result.counts, result.coverage, len(api.log.of("files.upload"))) == ({"failed_input": 1}, 0.0, 0)


def test_other_settings_are_refused(api, classify, connect, tmp_path):
    run = classify(records(1))
    for change in ({"client": connect(temperature=0.5)}, {"context": "Of Ticino."}):
        with pytest.raises(ConfigMismatch, match="other settings"):
            classify(records(1), **change)
    with pytest.raises(ConfigMismatch, match="for 'pixtral-12b-2409'"):
        BatchRun.open(run.out, client=connect("ministral-8b-2512"))
    with MistralEmulator() as other, pytest.raises(ConfigMismatch, match="only that server"):
        BatchRun.open(run.out, client=connect(base_url=other.url))
    with MistralEmulator() as other, pytest.raises(ConfigMismatch, match="only that server"):
        classify(records(1), client=connect(base_url=other.url))
    with pytest.raises(ConfigMismatch, match="goes on in the same way"):
        classify(records(1), options=BatchOptions(via="requests"))
    with pytest.raises(UsageError, match="holds no batch"):
        BatchRun.open(tmp_path / "elsewhere")


def test_options_are_checked(classify):
    for wrong in ({"via": "post"}, {"max_attempts": 0}, {"timeout_hours": 169}, {"max_bytes": 0}):
        with pytest.raises(UsageError):
            BatchOptions(**wrong)
    with pytest.raises(UsageError, match="options is a BatchOptions"):
        classify(records(1), options={"via": "jobs"})
    with pytest.raises(UsageError, match="labels is empty"):
        gv.PixtralClient("m", base_url="http://localhost:1").batch_classify([], labels=[], out="x")


def test_two_processes_do_not_send_at_once(classify):
    from geovlm._files import locked

    run = classify(records(1))
    with locked(run.out), pytest.raises(RunLocked):
        run.wait()


def test_a_wrong_key_and_a_refusal_are_raised(api, classify, connect):
    with pytest.raises(AuthError):
        classify(records(1), client=connect(api_key="wrong"), options=BatchOptions(via="jobs"))
    api.files.most_bytes = 100
    with pytest.raises(RequestRefused, match="HTTP 413"):
        classify(records(1))
    api.files.most_bytes = 10_000_000
    assert classify(records(1)).wait(poll=0).counts == {"ok": 1}


def test_status_and_progress(api, classify, capsys):
    run = classify(records(2))
    assert "attempt 1" in str(run.status())
    assert not run.status().finished
    run.wait(poll=0, progress=True)
    assert "2/2" in capsys.readouterr().err
    assert [job.status for job in run.status().jobs] == ["SUCCESS"]
