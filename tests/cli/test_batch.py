"""The four steps of a batch, against an emulator of Mistral's API on the loopback address."""

from __future__ import annotations

import pytest

from geovlm.testing.mistral_api import MistralEmulator

KEY = "EMULATOR_KEY"


@pytest.fixture
def api(monkeypatch):
    with MistralEmulator(brain=lambda request: "port") as server:
        monkeypatch.setenv(KEY, server.api_key)
        yield server


def test_prepare_submit_status_collect(geovlm, scenes, tmp_path, api):
    run = tmp_path / "run"
    where = ("--model", "pixtral-12b-2409", "--base-url", api.url, "--key-variable", KEY)
    plan = geovlm.json("batch", "prepare", scenes, run, *where)
    assert plan["requests"] == 9
    assert not api.log.charges
    assert "prepared" in geovlm("batch", "collect", run, expect=1).stderr
    geovlm("batch", "submit", run)
    assert geovlm.json("batch", "status", run)["jobs"][0]["requests"] == 9
    answers = geovlm.json("batch", "collect", run, "--poll", 0)
    assert answers["counts"] == {"ok": 9, "failed_input": 1}
    assert answers["score"]["top1"] == pytest.approx(0.3)
    assert {row["label"] for row in answers["answers"]} == {"port", None}
    again = geovlm("batch", "collect", run, "--poll", 0, "--format", "html").stdout
    assert "&lt;b&gt;broken.jpg" in again
    assert len(api.log.charges) == 9
    secret = api.api_key.encode()
    assert not any(secret in path.read_bytes() for path in run.rglob("*") if path.is_file())


def test_captions_and_a_limit_of_cost(geovlm, scenes, tmp_path, api):
    run = tmp_path / "run"
    where = ("--model", "pixtral-12b-2409", "--base-url", api.url, "--key-variable", KEY)
    hint = geovlm("batch", "prepare", scenes / "beach", run, "--captions", *where).stderr
    assert "max_cost" in geovlm("batch", "submit", run, "--max-cost", 0, expect=1).stderr
    geovlm("batch", "submit", run, "--max-cost", hint.split()[-1])  # the limit that was proposed is enough
    geovlm("batch", "cancel", run)
    table = geovlm("batch", "collect", run, "--poll", 0).stdout
    assert table.startswith("3 inputs")


def test_what_was_forgotten_is_told(geovlm, scenes, tmp_path, monkeypatch):
    monkeypatch.delenv("MISTRAL_API_KEY", raising=False)
    assert "MISTRAL_API_KEY" in geovlm("batch", "prepare", scenes, tmp_path / "run", expect=1).stderr
    wanted = (
        "batch",
        "prepare",
        scenes,
        tmp_path / "run",
        "--base-url",
        "http://127.0.0.1:9",
        "--key-variable",
        "NONE",
    )
    assert "NONE" in geovlm(*wanted, expect=1).stderr
    assert "batch.json" in geovlm("batch", "status", tmp_path, expect=1).stderr
