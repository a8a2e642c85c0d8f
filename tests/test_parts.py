"""The loop behind every long call: accounting, resuming, isolation of what fails, the same bytes after a kill."""

from __future__ import annotations

import errno
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geovlm import _files
from geovlm._files import locked, read_json, write_atomically
from geovlm._parts import IdSet, Parts, fill, stored_report
from geovlm._stream import map_batches
from geovlm._tables import to_table
from geovlm.errors import ConfigMismatch, ImageError, RunLocked, StorageError, UsageError
from geovlm.records import Failure, Record


def records(names):
    return [Record(id=name) for name in names]


def run(out, source, *, part_size=4, bad=(), on_error="skip", seen=None, config=None, stop_after=None):
    """A stage whose result for a record is nothing but its row."""

    def process(items):
        for record in items:
            if seen is not None:
                seen.append(record.id)
            if stop_after is not None and len(seen) > stop_after:
                raise KeyboardInterrupt
            reason = Failure(id=record.id, stage="decode", reason="broken") if record.id in bad else None
            yield record, reason if reason else True

    def to_part(chunk):
        return to_table([r for r, _ in chunk], [o if isinstance(o, Failure) else None for _, o in chunk])

    parts = Parts(out, kind="test", config=config or {"x": 1})
    report = fill(
        parts,
        source,
        stage="test",
        part_size=part_size,
        process=process,
        to_part=to_part,
        on_error=on_error,
        progress=False,
    )
    return parts, report


def contents(out):
    return {path.name: path.read_bytes() for path in Path(out).iterdir() if path.name != ".lock"}


@settings(deadline=None, max_examples=40)
@given(
    names=st.lists(st.sampled_from("abcdefghijklmnop"), max_size=24),
    bad=st.sets(st.sampled_from("abcdefghijklmnop")),
    part_size=st.integers(1, 6),
    stop=st.integers(0, 24),
)
def test_interrupted_equals_undisturbed(tmp_path_factory, names, bad, part_size, stop):
    """Wherever a run stops, repeating it ends with the same bytes, and each input is in exactly one state."""
    whole, broken = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("broken")
    _, undisturbed = run(whole, records(names), part_size=part_size, bad=bad)
    with suppress(KeyboardInterrupt):
        run(broken, records(names), part_size=part_size, bad=bad, seen=[], stop_after=stop)
    parts, resumed = run(broken, records(names), part_size=part_size, bad=bad)
    assert contents(whole) == contents(broken)
    assert undisturbed.total == resumed.total == len(names)
    assert undisturbed.done == resumed.done + resumed.skipped == len(set(names) - bad)
    assert sorted(f.id for f in undisturbed.failures) == sorted(f.id for f in resumed.failures)
    assert stored_report(parts, "test").skipped == undisturbed.done


def test_finished_work_is_not_done_twice(tmp_path):
    run(tmp_path, records("abcdef"))
    seen = []
    _, report = run(tmp_path, records("abcdef"), seen=seen)
    assert (seen, report.done, report.skipped) == ([], 0, 6)


def test_a_source_that_grew_in_the_middle(tmp_path):
    run(tmp_path, records("aceg"))
    seen = []
    parts, report = run(tmp_path, records("abcdefg"), seen=seen)
    assert seen == ["b", "d", "f"]
    assert (report.done, report.skipped) == (3, 4)
    assert sorted(key for table in parts.tables(["id"]) for key in table["id"].to_pylist()) == list("abcdefg")


def test_failures_are_tried_again_and_mended(tmp_path):
    run(tmp_path, records("abc"), bad={"b"})
    before = contents(tmp_path)
    _, still = run(tmp_path, records("abc"), bad={"b"})
    assert [f.id for f in still.failures] == ["b"]
    assert contents(tmp_path) == before
    parts, mended = run(tmp_path, records("abc"))
    assert (mended.done, mended.skipped, mended.failed) == (1, 2, 0)
    assert stored_report(parts, "test").failures == ()


def test_duplicates_are_counted_not_lost(tmp_path):
    _, report = run(tmp_path, records("aba"))
    assert (report.done, [f.reason for f in report.failures]) == (2, ["another input has the same id"])


def test_raise_stops_at_the_first_failure(tmp_path):
    with pytest.raises(ImageError, match="b: decode: broken"):
        run(tmp_path, records("abc"), bad={"b"}, on_error="raise")
    with pytest.raises(UsageError, match="on_error"):
        run(tmp_path, records("abc"), on_error="ignore")


def test_other_settings_are_refused_with_the_difference(tmp_path):
    run(tmp_path, records("ab"), config={"model": "one"})
    with pytest.raises(ConfigMismatch, match="model: 'one' then, 'two' now"):
        run(tmp_path, records("ab"), config={"model": "two"})
    with pytest.raises(UsageError, match="holds 'test'"):
        Parts.open(tmp_path, kind="embeddings")
    with pytest.raises(UsageError, match="nothing that geovlm wrote"):
        Parts.open(tmp_path / "none", kind="embeddings")


def test_in_memory_run_leaves_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parts, report = run(None, records("abcde"), part_size=2)
    assert report.done == 5
    assert [table.num_rows for table in parts.tables()] == [2, 2, 1]
    assert list(tmp_path.iterdir()) == []


def test_not_a_record(tmp_path):
    with pytest.raises(UsageError, match=r"yields geovlm.Record, not str: 'a.jpg'; wrap each image"):
        run(tmp_path, ["a.jpg"])


def test_full_disk_keeps_finished_parts_and_says_so(tmp_path, monkeypatch):
    """The third part does not fit; the first two stay, and the same call goes on when there is room."""
    real = _files.write_atomically
    room = {"parts": 2}

    def full(path, write):
        def failing(temporary):
            temporary.write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")

        if path.name.startswith("part-"):
            room["parts"] -= 1
        real(path, failing if room["parts"] < 0 else write)

    monkeypatch.setattr("geovlm._parts.write_atomically", full)
    with pytest.raises(StorageError, match=r"No space left on device.*repeat the same call"):
        run(tmp_path, records("abcdefghij"))
    assert sorted(p.name for p in tmp_path.glob("*part*")) == ["part-00000.parquet", "part-00001.parquet"]
    monkeypatch.undo()
    _, report = run(tmp_path, records("abcdefghij"))
    assert (report.done, report.skipped) == (2, 8)


def test_two_writers(tmp_path):
    with locked(tmp_path), pytest.raises(RunLocked, match="Another process"):
        run(tmp_path, records("a"))
    run(tmp_path, records("a"))


def test_broken_manifest_names_the_file(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(StorageError, match=r"manifest\.json is not valid JSON"):
        run(tmp_path, records("a"))


def test_unusable_directory(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be used for results"):
        run(tmp_path / "file" / "out", records("a"))


def test_atomic_write_never_shows_half_a_file(tmp_path):
    target = tmp_path / "x.json"
    write_atomically(target, lambda path: path.write_text("old"))

    def crash(path):
        path.write_text("ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(target, crash)
    assert target.read_text() == "old"
    with pytest.raises(StorageError):
        read_json(target)


@settings(deadline=None)
@given(st.sets(st.text(max_size=4), max_size=60), st.sets(st.text(max_size=4), max_size=20), st.integers(1, 8))
def test_id_set_is_a_set(inside, outside, limit):
    """Also past the point where drawers are split."""
    ids = IdSet()
    ids.IDS_A_DRAWER = limit
    for key in inside:
        assert ids.add(key)
        assert not ids.add(key)
    assert len(ids) == len(inside)
    assert all(key in ids for key in inside)
    assert all((key in ids) == (key in inside) for key in outside)


def prepare(record):
    if record.id.startswith("x"):
        raise ImageError("unreadable")
    return record.id.upper()


def outcomes(names, model, batch_size=3):
    pairs = map_batches(records(names), prepare=prepare, run=model, batch_size=batch_size, stage="model")
    return [(r.id, o.reason if isinstance(o, Failure) else o) for r, o in pairs]


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "c", "x1", "x2"]), max_size=20), st.integers(1, 7))
def test_order_and_places_are_kept(names, batch_size):
    """Whatever fails to decode, the others keep their order, and a batch is made of consecutive inputs."""
    batches = []

    def model(batch, items):
        batches.append([r.id for r in batch])
        return items

    result = outcomes(names, model, batch_size)
    assert result == [(n, "unreadable" if n.startswith("x") else n.upper()) for n in names]
    windows = [names[i : i + batch_size] for i in range(0, len(names), batch_size)]
    assert batches == [kept for w in windows if (kept := [n for n in w if not n.startswith("x")])]


def test_one_bad_item_does_not_take_its_batch_along():
    def model(batch, items):
        if "B" in items:
            raise RuntimeError("shape mismatch")
        return [item * 2 for item in items]

    assert outcomes("abc", model) == [("a", "AA"), ("b", "RuntimeError: shape mismatch"), ("c", "CC")]


def test_a_broken_model_is_raised_not_counted():
    """If nothing passes it is no fault of the images."""

    def model(batch, items):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        outcomes("abc", model)
    with pytest.raises(RuntimeError):
        outcomes("a", model)


def test_a_model_that_refuses_images_by_name_is_counted():
    def model(batch, items):
        raise ImageError("too small for this model")

    assert outcomes("ab", model) == [("a", "too small for this model"), ("b", "too small for this model")]


def test_reading_ahead_is_bounded():
    """A million inputs must not be decoded before the first result is taken."""
    read = []

    def endless():
        for number in range(10**6):
            read.append(number)
            yield Record(id=str(number))

    stream = map_batches(endless(), prepare=prepare, run=lambda batch, items: items, batch_size=4, stage="model")
    next(stream)
    assert len(read) <= 4 * 4
    stream.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("geovlm-decode")]


def test_write_error_of_a_folder_in_the_way(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageError):
        write_atomically(tmp_path / "taken", partial(Path.write_text, data="x"))
