"""What is on disk: the ledger, the request files, and how result lines are read."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geovlm import PixtralClient
from geovlm._parts import Parts
from geovlm.errors import StorageError
from geovlm.pixtral import LabelSet
from geovlm.pixtral.batch import STATES, BatchOptions
from geovlm.pixtral.batch.ledger import Ledger, ranges_of
from geovlm.pixtral.batch.reading import _Reader, read_line
from geovlm.pixtral.batch.spool import Spool, custom_id_of
from geovlm.testing.mistral_api import MistralEmulator
from tests.pixtral.batches import LABELS, Killed, brain, deaths, records

pytestmark = pytest.mark.usefixtures("quick_disk")

SHIPMENT = {"attempt": 1, "places": [[0, 3]], "requests": 4, "bytes": 100, "image_tokens": 8}


def filled(folder):
    with Ledger.open(folder) as ledger:
        ledger.append("shipment", number=0, **SHIPMENT)
        ledger.step(ledger.shipments[0], "uploading")
        ledger.step(ledger.shipments[0], "uploaded", file="f", uploaded_at=3)
        return ledger.run


def test_a_ledger_comes_back(tmp_path):
    run = filled(tmp_path)
    with Ledger.open(tmp_path) as again:
        (shipment,) = again.shipments
        assert (again.run, shipment.step, shipment.file, shipment.job) == (run, "uploaded", "f", None)
        assert list(shipment.each()) == [0, 1, 2, 3]


def test_any_beginning_of_a_ledger_is_one(tmp_path):
    """However the last write was cut off, the whole lines before it count, and writing goes on."""
    run = filled(tmp_path)
    path = tmp_path / "ledger.jsonl"
    content = path.read_bytes()
    first = content.index(b"\n") + 1
    for end in range(first, len(content) + 1):
        path.write_bytes(content[:end])
        whole = content[:end].count(b"\n")
        with Ledger.open(tmp_path) as ledger:
            assert ledger.run == run
            ledger.append("resumed", shipments=0)
        assert len(path.read_bytes().splitlines()) == whole + 1
        assert Ledger.read(tmp_path).run == run


@pytest.mark.parametrize("tail", [b"\0\0\0\0\n", b"{\n", b'{"event": "st', b"\xff\n"])
def test_rubbish_at_the_end_is_cut_off(tmp_path, tail):
    filled(tmp_path)
    path = tmp_path / "ledger.jsonl"
    content = path.read_bytes()
    path.write_bytes(content + tail)
    Ledger.open(tmp_path).close()
    assert path.read_bytes() == content


def test_damage_in_the_middle_is_told(tmp_path):
    filled(tmp_path)
    path = tmp_path / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"{rubbish\n", *lines[2:]]))
    with pytest.raises(StorageError, match=r"Line 3 of .* others follow it"):
        Ledger.open(tmp_path)


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    with Ledger.open(tmp_path) as ledger:
        monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(StorageError, match="No space left"):
            ledger.append("resumed", shipments=0)


@given(st.sets(st.integers(0, 200)))
def test_ranges_keep_all_numbers(places):
    ranges = ranges_of(sorted(places))
    assert [place for first, last in ranges for place in range(first, last + 1)] == sorted(places)
    assert all(later[0] > earlier[1] + 1 for earlier, later in pairwise(ranges))


@given(st.text(min_size=1), st.integers(0, 10**7))
def test_custom_ids_fit_any_service(key, place):
    name = custom_id_of(place, key)
    assert name.replace("-", "").isalnum()
    assert name.isascii()
    assert len(name) == 17
    assert name == custom_id_of(place, key)


@pytest.mark.parametrize("at", [1, 2, 7, 40, 111])
def test_requests_are_the_same_bytes_after_a_kill(tmp_path, monkeypatch, at):
    """Killed at any line, the files end as if nothing had been."""
    monkeypatch.setattr("geovlm.pixtral.batch.planning.PART_SIZE", 16)
    options, inputs, steps = BatchOptions(max_requests=25), records(60), [0]

    def strike(name):
        steps[0] += "request line" in name
        return steps[0] == at and "request line" in name

    def kill():
        raise Killed

    with MistralEmulator(brain=brain) as api:
        client = PixtralClient("pixtral-12b-2409", base_url=api.url, api_key=api.api_key, pause=0)

        def prepare(name):
            return client.batch_classify(inputs, labels=LABELS, out=tmp_path / name, dry_run=True, options=options)

        whole = prepare("whole")
        with deaths(monkeypatch, strike, kill=kill), pytest.raises(Killed):
            prepare("killed")
        assert prepare("killed") == whole
    files = sorted(path.name for path in (tmp_path / "whole" / "requests").iterdir())
    assert files == ["00000.jsonl", "00001.jsonl", "00002.jsonl"]
    assert sorted(path.name for path in (tmp_path / "killed" / "requests").iterdir()) == files
    for name in files:
        one, other = (tmp_path / run / "requests" / name for run in ("whole", "killed"))
        assert one.read_bytes() == other.read_bytes()


def test_lines_that_no_part_knows_are_cut_off(tmp_path):
    parts = Parts(tmp_path, kind="batch", config={})
    spool = Spool(parts, max_requests=9, max_bytes=10_000)
    spool.open()
    spool.add("a", b"{}", 1)
    spool.close()
    after = Spool(parts, max_requests=9, max_bytes=10_000)
    after.open()
    assert after.add("b", b"{}", 1).offset == 0
    after.close()
    (line,) = (tmp_path / "requests" / "00000.jsonl").read_text().splitlines()
    assert json.loads(line) == {"custom_id": custom_id_of(0, "b"), "body": {}}


ANSWER = {"model": "m", "choices": [{"finish_reason": "stop", "message": {"content": "Beach"}}], "usage": {}}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 700) | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
)
NAMES = st.sampled_from(["choices", "message", "model", "usage", "x"])
BODIES = st.just(ANSWER) | st.dictionaries(NAMES, VALUES) | VALUES
LINES = st.fixed_dictionaries(
    {},
    optional={
        "custom_id": st.sampled_from(["a", "b", "z", None, 3]),
        "response": st.fixed_dictionaries({}, optional={"status_code": VALUES, "body": BODIES}) | VALUES,
        "error": VALUES | st.just({"message": "no"}),
    },
)


@given(LINES)
def test_any_line_has_one_outcome(line):
    outcome = read_line(line, LabelSet(LABELS))
    assert outcome.state in STATES
    assert (outcome.state == "ok") == (outcome.label is not None or outcome.claimed is not None)
    assert (outcome.reason is None) == (outcome.state == "ok")
    if outcome.label:
        assert line["response"]["body"] == ANSWER


@given(st.lists(LINES | VALUES, max_size=8))
def test_any_lines_are_read_and_counted(lines):
    reader = _Reader(expected={"a": 0, "b": 1}, labels=LabelSet(LABELS))
    texts = [json.dumps(line).encode() + b"\n" for line in lines]
    reader.read([*texts, b"\n", b"\xff{\n", b'{"custom_id": "a"'])
    assert reader.unknown + reader.duplicate + reader.broken + len(reader.found) == len(lines) + 2


@pytest.mark.parametrize(
    ("line", "reason", "may_pass"),
    [
        ({"response": None, "error": {"message": "timed out"}}, "timed out", True),
        ({"response": {"status_code": 422, "body": "plain text"}, "error": None}, "HTTP 422: plain text", False),
        ({"response": {"status_code": 503, "body": {"message": "busy"}}}, "HTTP 503: busy", True),
        ({"response": {"status_code": 400, "body": {"detail": [1]}}}, 'HTTP 400: {"detail": [1]}', False),
        ({}, "null", True),
    ],
)
def test_failed_lines_keep_the_reason(line, reason, may_pass):
    outcome = read_line(line, None)
    assert (outcome.state, outcome.reason, outcome.may_pass) == ("request_error", reason, may_pass)
