"""Fine-tuning at a service, over real HTTP: with a mistralai that still can, and what is told by one that cannot."""

from __future__ import annotations

import json

import pytest

from geovlm import PixtralClient, Record
from geovlm.errors import ConfigMismatch, JobFailed, RequestRefused, ServiceUnavailable, UsageError
from geovlm.pixtral._compat import library
from geovlm.pixtral.chat_data import read_chat_data
from geovlm.pixtral.tuning import FineTuningConfig
from geovlm.testing.mistral_api import Fault, MistralEmulator
from geovlm.testing.mistral_api.server import FINE_TUNING_ENDED
from tests.mistral import scene
from tests.pixtral.test_chat_data import assistant, save, user

LABELS = ["Airport", "Beach", "Forest"]
can = pytest.mark.skipif(not library().has_fine_tuning, reason="this mistralai cannot fine-tune; 1.9.11 can")
cannot = pytest.mark.skipif(library().has_fine_tuning, reason="this mistralai can fine-tune; 3.7.0 cannot")


def records(count=6):
    return [Record(id=f"r{n}", image=scene(n), label=LABELS[n % 3]) for n in range(count)]


@pytest.fixture
def tune(connect, tmp_path):
    client = connect("pixtral-12b-latest")

    def make(source=None, *, out=tmp_path / "run", labels=LABELS, **settings):
        config = FineTuningConfig(epochs=3, suffix="aid")
        return client.fine_tune(
            source or records(), labels=labels, out=out, config=config, backend="hosted", **settings
        )

    return make


@cannot
def test_a_client_that_cannot_says_why_and_keeps_the_files(tune, api, tmp_path):
    with pytest.raises(RequestRefused, match=r"withdrew hosted fine-tuning in July 2026.*backend='local'") as caught:
        tune()
    folder = tmp_path / "run" / "data"
    assert str(folder) in str(caught.value)
    assert len(list(read_chat_data(folder))) == 6
    assert api.log.count("files.upload") == 0


@can
def test_a_job_runs_from_files_to_model(tune, api, tmp_path, connect):
    tuning = tune()
    assert tuning.backend == "hosted"
    estimate = tuning.estimate(interval=0)
    assert (tuning.status, api.log.count("fine_tuning.jobs.start")) == ("VALIDATED", 0)
    assert estimate.cost == 4.0
    assert estimate.currency == "USD"
    assert estimate.train_tokens == pytest.approx(3 * estimate.data_tokens, abs=2)
    result = tuning.wait(max_cost=5, interval=0)
    assert result.model.startswith("ft:pixtral-12b-latest:aid:")
    assert (result.backend, result.report.done) == ("hosted", 6)
    assert [point.step for point in result.losses] == list(range(1, 11))
    assert result.losses[-1].train < result.losses[0].train
    assert [event.data["status"] for event in tuning.events][-3:] == ["STARTED", "RUNNING", "SUCCESS"]
    job = next(iter(api.fine_tuning.jobs.values()))
    assert job.hyperparameters["epochs"] == 3
    assert job.hyperparameters["learning_rate"] == 1e-4
    stored = api.files.stored[job.training_files[0]]
    assert stored.content == (tmp_path / "run" / "data" / "train-00000.jsonl").read_bytes()
    answer = connect(result.model).classify(scene(1), LABELS)
    assert answer.model == result.model


@can
def test_the_same_call_goes_on_with_the_same_job(tune, api):
    first = tune()
    again = tune()
    assert again.job_id == first.job_id
    again.wait(interval=0)
    assert tune().wait(interval=0).model == again.wait(interval=0).model
    assert len(api.fine_tuning.jobs) == 1
    assert api.log.count("files.upload") == 1
    assert api.log.count("fine_tuning.jobs.start") == 1
    with pytest.raises(ConfigMismatch):
        tune(records(4))


@can
@pytest.mark.parametrize("operation", ["files.upload", "fine_tuning.jobs.create", "fine_tuning.jobs.start"])
@pytest.mark.parametrize("crash", [False, True])
def test_an_answer_that_is_lost_makes_no_second_job(api, tmp_path, operation, crash):
    """The request is carried out, the answer is not read; then the call is repeated, or the program."""
    api.faults.add(Fault.acknowledgement_lost(), operation=operation, times=1)
    settings = {"base_url": api.url, "api_key": api.api_key, "pause": 0.0, "max_retries": 0 if crash else 3}

    def run():
        with PixtralClient("pixtral-12b-latest", **settings) as client:
            tuning = client.fine_tune(records(), labels=LABELS, out=tmp_path, backend="hosted")
            return tuning.wait(interval=0)

    if crash:
        with pytest.raises(ServiceUnavailable):
            run()
    assert run().model.startswith("ft:")
    assert len(api.fine_tuning.jobs) == 1
    assert sum(job.status == "SUCCESS" for job in api.fine_tuning.jobs.values()) == 1


@can
def test_a_job_with_other_settings_is_another_job(connect, tmp_path, api):
    client = connect("pixtral-12b-latest")
    for epochs in (1, 2):
        config = FineTuningConfig(epochs=epochs)
        client.fine_tune(records(), labels=LABELS, out=tmp_path / str(epochs), config=config, backend="hosted")
    assert [job.hyperparameters["epochs"] for job in api.fine_tuning.jobs.values()] == [1, 2]


@can
def test_polling_survives_errors(tune, api):
    tuning = tune()
    api.faults.add(Fault.unavailable(), operation="fine_tuning.jobs.get", times=12)
    assert tuning.wait(interval=0).model


@can
def test_a_job_that_is_too_dear_is_not_started(tune, api):
    tuning = tune()
    with pytest.raises(UsageError, match=r"would cost 4\.00 USD.*max_cost=1, and was not started"):
        tuning.wait(max_cost=1, interval=0)
    assert api.log.count("fine_tuning.jobs.start") == 0
    assert tuning.cancel() == "CANCELLATION_REQUESTED"
    with pytest.raises(JobFailed, match="CANCELLED"):
        tuning.wait(interval=0)


@can
def test_bad_files_are_told_before_they_are_sent(tune, api, tmp_path):
    path = save(tmp_path / "a.jsonl", [user(), assistant()], [user()])
    with pytest.raises(UsageError, match=r"a\.jsonl:2"):
        tune(path, labels=None)
    assert api.log.count("files.upload") == 0
    good = save(tmp_path / "b.jsonl", [user(), assistant()])
    assert tune(good, labels=None, out=tmp_path / "good").wait(interval=0).report.done == 1


@can
def test_held_out_files_are_small(tune, tmp_path):
    with pytest.raises(UsageError, match="5 % of the training files"):
        tune(val=records(3))
    path = save(tmp_path / "val.jsonl", [user(), assistant()])
    assert tune(records(30), val=path, out=tmp_path / "with").data.val.report.done == 1


@can
def test_a_service_that_withdrew_it_says_what_to_do(tmp_path):
    with (
        MistralEmulator(today=FINE_TUNING_ENDED) as api,
        PixtralClient("ministral-14b-2512", base_url=api.url, api_key=api.api_key, pause=0) as client,
        pytest.raises(RequestRefused, match=r"backend='local'"),
    ):
        client.fine_tune(records(), labels=LABELS, out=tmp_path, backend="hosted")
    assert len(list(read_chat_data(tmp_path / "data"))) == 6


@can
def test_a_model_that_cannot_be_tuned_says_what_to_do(connect, tmp_path, api):
    client = connect("ministral-14b-2512")
    with pytest.raises(RequestRefused, match=r"not available for this type.*backend='local'"):
        client.fine_tune(records(), labels=LABELS, out=tmp_path, backend="hosted")
    assert json.loads((tmp_path / "job.json").read_text())["job"] is None
