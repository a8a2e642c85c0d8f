"""Copying between stores: what is written is equal, and a stopped copy goes on."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import geovlm as gv
from geovlm.errors import ConfigMismatch, IncompleteUpsert, StoreError, UsageError
from geovlm.stores import AstraStore, LanceStore, NumpyStore
from geovlm.testing import HashEncoder
from geovlm.testing.data_api import DataAPIEmulator, Fault

DIM = 8
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def api():
    with DataAPIEmulator() as running:
        yield running


@pytest.fixture
def make(tmp_path, api):
    """Makes an empty store of a kind."""
    api.faults.clear()
    made = []

    def new(kind):
        made.append(kind)
        if kind == "numpy":
            return NumpyStore()
        if kind == "lance":
            return LanceStore(tmp_path / f"{len(made)}.lance")
        return AstraStore(f"copy_{next(NUMBERS)}", endpoint=api.endpoint, token=api.token, pause=0.005, attempts=2)

    return new


def filled(store, count=250, fingerprint="encoder-a"):
    if fingerprint:
        store.bind(dim=DIM, fingerprint=fingerprint)
    ids = [f"row-{i:04d}" for i in range(count)]
    vectors = np.random.default_rng(0).normal(size=(count, DIM)).astype(np.float32)
    store.upsert(ids, vectors, [{"i": i, "uri": f"{i}.jpg", "a.b": [{"ü": None}]} for i in range(count)])
    return store


def content(store):
    return {
        key: (vector, row)
        for keys, vectors, rows in store.scan(batch_size=64)
        for key, vector, row in zip(keys, vectors, rows, strict=True)
    }


def assert_equal(one, other):
    left, right = content(one), content(other)
    assert left.keys() == right.keys()
    assert one.count() == other.count() == len(left)
    for key, (vector, row) in left.items():
        np.testing.assert_allclose(vector, right[key][0], atol=1e-6)
        assert row == right[key][1]


class Stopping(NumpyStore):
    """A source that breaks off after some batches, and tells its rows in another order each time."""

    batches = 10**9
    scans = 0

    def _batches(self, keys, size):
        self.scans += 1
        order = np.random.default_rng(self.scans).permutation(keys).tolist()
        for number, batch in enumerate(super()._batches(order, size)):
            if number == self.batches:
                raise ConnectionError("the source is gone")
            yield batch


class Counting(NumpyStore):
    """A target that remembers how often each id was written."""

    def __init__(self):
        super().__init__()
        self.written = []

    def upsert(self, ids, *arguments, **options):
        outcomes = super().upsert(ids, *arguments, **options)
        self.written += ids
        return outcomes


@pytest.mark.parametrize(
    ("one", "other"), [("numpy", "lance"), ("lance", "astra"), ("astra", "numpy"), ("astra", "lance")]
)
def test_a_copy_is_equal_and_knows_its_encoder(make, tmp_path, one, other):
    source, target = filled(make(one)), make(other)
    report = gv.copy(source, target, batch_size=70, out=tmp_path / "copy")
    assert (report.done, report.skipped, report.failed) == (250, 0, 0)
    assert (target.dim, target.fingerprint) == (DIM, "encoder-a")
    assert_equal(source, target)
    again = gv.copy(source, target, batch_size=70, out=tmp_path / "copy")
    assert (again.done, again.skipped) == (0, 250)


def test_a_part_and_the_rules_for_what_is_there(make):
    source, target = filled(make("numpy")), make("numpy")
    target.upsert(["row-0001", "mine"], np.ones((2, DIM)), [{"mine": 1}, {"mine": 2}])
    few = {"i": {"$lt": 3}}
    with pytest.raises(StoreError, match="row-0001"):
        gv.copy(source, target, where=few, on_conflict="error")
    assert target.count() == 2
    kept = gv.copy(source, target, where=few, on_conflict="skip")
    assert (kept.done, kept.skipped, target.get(["row-0001"])) == (2, 1, [{"mine": 1}])
    assert gv.copy(source, target, where=few).done == 3
    assert target.get(["row-0001"])[0]["i"] == 1
    assert target.count() == 4


def test_a_stopped_copy_goes_on_and_writes_no_row_twice(tmp_path):
    source, target = filled(Stopping()), Counting()
    source.batches = 7
    for _ in range(2):
        with pytest.raises(ConnectionError):
            gv.copy(source, target, batch_size=10, out=tmp_path / "copy")
    assert len(target.written) == len(set(target.written)) > 70
    before = len(target.written)
    source.batches = 10**9
    report = gv.copy(source, target, batch_size=10, out=tmp_path / "copy")
    assert (report.done, report.skipped) == (250 - before, before)
    assert sorted(target.written) == sorted(content(source))
    assert_equal(source, target)


def test_without_a_directory_skip_goes_on_too():
    source, target = filled(Stopping()), NumpyStore()
    source.batches = 7
    with pytest.raises(ConnectionError):
        gv.copy(source, target, batch_size=10, on_conflict="skip")
    source.batches = 10**9
    report = gv.copy(source, target, batch_size=10, on_conflict="skip")
    assert (report.done, report.skipped) == (180, 70)
    assert_equal(source, target)


def test_rows_that_the_target_has_lost_are_written_again(tmp_path):
    source = filled(NumpyStore())
    gv.copy(source, NumpyStore(), out=tmp_path / "copy")
    target = Counting()
    gv.copy(source, target, out=tmp_path / "copy")
    target.delete(["row-0007"])
    target.written.clear()
    assert gv.copy(source, target, out=tmp_path / "copy").done == 1
    assert target.written == ["row-0007"]
    source.upsert(["new"], np.ones((1, DIM)))
    assert gv.copy(source, target, out=tmp_path / "copy").done == 1
    assert_equal(source, target)


KILLED = """
import sys
from geovlm import copy
from geovlm.stores import LanceStore
copy(LanceStore(sys.argv[1]), LanceStore(sys.argv[2]), batch_size=20, out=sys.argv[3])
"""


def test_killed_copies_end_as_an_undisturbed_one(tmp_path):
    source = filled(LanceStore(tmp_path / "source.lance"), count=1500)
    source.close()
    places = [str(tmp_path / name) for name in ("source.lance", "target.lance", "copy")]
    kills, rng = 0, np.random.default_rng(0)
    for wait in rng.uniform(0.1, 0.8, size=2):
        process = subprocess.Popen([sys.executable, "-c", KILLED, *places])
        deadline = time.monotonic() + 60
        noted = len(list((tmp_path / "copy").glob("part-*")))
        while process.poll() is None and time.monotonic() < deadline:
            if len(list((tmp_path / "copy").glob("part-*"))) > noted:
                time.sleep(wait)
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills
    target = LanceStore(places[1])
    report = gv.copy(source, target, batch_size=500, out=places[2])
    assert (report.done + report.skipped, report.failed) == (1500, 0)
    assert report.skipped > 0
    assert_equal(source, target)


def test_rows_that_the_target_refuses_are_failures(make, tmp_path):
    source, target = filled(make("numpy")), make("astra")
    source.upsert(["long", "odd"], np.ones((2, DIM)), [{"list": [1] * 1001, "uri": "l.jpg"}, {"text": "\ud800"}])
    report = gv.copy(source, target, out=tmp_path / "copy")
    assert (report.done, report.failed) == (250, 2)
    assert [(failure.id, failure.uri) for failure in report.failures] == [("long", "l.jpg"), ("odd", None)]
    assert "1,000" in report.failures[0].reason
    source.upsert(["long"], np.ones((1, DIM)))
    assert (gv.copy(source, target, out=tmp_path / "copy").done, target.count()) == (1, 251)
    with pytest.raises(UsageError, match="surrogate"):
        gv.copy(source, target, on_error="raise")


def test_a_target_that_fails_stops_the_copy_and_what_it_wrote_is_noted(make, tmp_path, api):
    source, target = filled(make("numpy"), count=1000), make("astra")
    api.faults.add(Fault.unavailable(), command="insertMany", skip=5, times=10_000)
    with pytest.raises(IncompleteUpsert):
        gv.copy(source, target, batch_size=300, out=tmp_path / "copy")
    api.faults.clear()
    written = target.count()
    assert 300 < written < 1000
    report = gv.copy(source, target, batch_size=300, out=tmp_path / "copy")
    assert (report.done, report.skipped) == (1000 - written, written)
    assert_equal(source, target)


def test_what_cannot_be_right(make, tmp_path):
    source, target = filled(make("numpy")), make("numpy")
    for wrong in (
        lambda: gv.copy(source, source),
        lambda: gv.copy(source, "scenes.lance"),
        lambda: gv.copy(source, target, batch_size=0),
        lambda: gv.copy(source, target, on_conflict="update"),
        lambda: gv.copy(source, target, on_error="ignore"),
        lambda: gv.copy(source, target, where={"i": {"$lte3": 1}}),
    ):
        with pytest.raises(UsageError):
            wrong()
    assert (target.count(), target.dim) == (0, None)
    gv.copy(source, target, out=tmp_path / "copy", where={"i": 1})
    with pytest.raises(ConfigMismatch, match="where"):
        gv.copy(source, target, out=tmp_path / "copy")


def test_another_encoders_vectors_are_refused(make):
    target = filled(make("numpy"), count=3)
    with pytest.raises(ConfigMismatch, match="encoder-b"):
        gv.copy(filled(make("numpy"), fingerprint="encoder-b"), target)
    with pytest.raises(ConfigMismatch, match="does not say whose"):
        gv.copy(filled(make("numpy"), fingerprint=None), target)
    unnamed = make("numpy")
    assert gv.copy(filled(make("numpy"), fingerprint=None), unnamed).done == 250
    assert unnamed.fingerprint is None
    longer = NumpyStore()
    longer.upsert(["a"], np.ones((1, DIM + 1)))
    with pytest.raises(ConfigMismatch, match="9 numbers"):
        gv.copy(filled(make("numpy"), fingerprint=None), longer)


def test_an_empty_source_is_no_work(make):
    assert gv.copy(NumpyStore(), NumpyStore()).total == 0
    bound, target = NumpyStore(), make("lance")
    bound.bind(dim=DIM, fingerprint="a")
    assert gv.copy(bound, target).total == 0
    assert target.fingerprint == "a"


@pytest.mark.parametrize("kind", ["numpy", "lance", "astra"])
def test_embeddings_load_into_any_store(make, tmp_path, kind):
    scenes = [
        gv.Record(
            id=f"{i}",
            image=Image.new("RGB", (8, 8), (i * 20, 0, 90)),
            label="port" if i % 2 else None,
            footprint=gv.Footprint(west=i, south=0, east=i + 1, north=1),
            meta={"year": 2015 + i},
        )
        for i in range(12)
    ]
    encoder = HashEncoder(dim=16)
    gv.embed(scenes, encoder, out=tmp_path / "vectors")
    index = gv.Index(encoder, make(kind))
    assert index.add(gv.Embeddings.open(tmp_path / "vectors")).done == 12
    hits = index.search(scenes[5].open(), limit=3, where={"year": {"$gte": 2018}, "label": "port"})
    assert hits[0].id == "5"
    assert {hit.id for hit in hits} <= {"3", "5", "7", "9", "11"}
