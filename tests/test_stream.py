"""Decoding ahead under trouble: reads that hang, pictures too large to decode side by side, memory that runs out."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest
from PIL import Image

from geovlm import _workers
from geovlm._stream import map_batches
from geovlm._workers import Workers, as_one, claim
from geovlm.embedding import embed
from geovlm.errors import ImageError, StorageError, UsageError
from geovlm.records import Failure, Record
from geovlm.sources import FolderSource
from tests.light import Light
from tests.models import save_pictures

SCENE = np.full((9, 9, 3), 90, np.uint8)


def records(names):
    return [Record(id=name, image=SCENE) for name in names]


def outcomes(names, prepare, model=lambda batch, items: items, **settings):
    pairs = map_batches(records(names), prepare=prepare, run=model, batch_size=4, stage="model", **settings)
    return {r.id: o.reason if isinstance(o, Failure) else o for r, o in pairs}


# --- what hangs ---


def test_a_pipe_that_nobody_writes_to_is_one_failure_of_decoding(tmp_path):
    """Opening it never returns, as reading from a mount that is gone; the others pass, and nothing waits at the end."""
    os.mkfifo(tmp_path / "pipe.jpg")
    scenes = records(f"{number}" for number in range(12))
    scenes.insert(5, Record(id="stuck", image=(tmp_path / "pipe.jpg").read_bytes))
    made = embed(scenes, Light(), batch_size=4, timeout=0.3)
    assert (made.report.done, [failure.id for failure in made.report.failures]) == (12, ["stuck"])
    failure = made.report.failures[0]
    assert failure.stage == "decode"
    assert "no answer within 0.3 seconds" in failure.reason
    assert "allow a larger timeout" in failure.reason
    with (tmp_path / "pipe.jpg").open("wb"):
        pass  # lets the thread that was given up go


def test_more_hanging_reads_than_threads_and_late_ones_count_once():
    release = threading.Event()

    def prepare(record):
        if record.id.startswith("x"):
            release.wait(20)
        return record.id

    names = [f"x{n}" if n % 2 else f"{n}" for n in range(16)]
    found = outcomes(names, prepare, timeout=0.2)
    release.set()
    assert list(found) == names
    assert [name for name, value in found.items() if value == name] == names[::2]


def test_a_disk_that_is_gone_stops_the_run_with_a_sentence(monkeypatch):
    monkeypatch.setattr(_workers, "MOST_HANGING", 3)
    monkeypatch.setattr(_workers, "PATIENCE", 0.1)
    release = threading.Event()
    with pytest.raises(StorageError, match=r"4 images at once gave no answer.*repeat the same call"):
        outcomes([str(n) for n in range(40)], lambda record: release.wait(20), timeout=0.1)
    release.set()


def test_a_slow_source_is_waited_for():
    assert outcomes("abcdef", lambda record: time.sleep(0.02) or record.id, timeout=5.0) == {c: c for c in "abcdef"}
    assert outcomes("ab", lambda record: time.sleep(0.05) or 1, timeout=None) == {"a": 1, "b": 1}


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_that_cannot_be_right(timeout):
    with pytest.raises(UsageError, match="timeout"):
        embed(records("a"), Light(), timeout=timeout)


# --- decoders that break ---


def test_a_decoder_that_ends_its_thread_costs_one_image():
    def prepare(record):
        if record.id == "c":
            raise SystemExit("a decoder that gives up for all")
        if record.id == "d":
            raise ZeroDivisionError
        return record.id

    found = outcomes("abcdefgh", prepare)
    assert found["c"] == "SystemExit: a decoder that gives up for all"
    assert found["d"] == "ZeroDivisionError: "
    assert [found[c] for c in "abefgh"] == list("abefgh")


def test_what_breaks_every_image_is_raised():
    def broken(record):
        raise ZeroDivisionError("no fault of the images")

    with pytest.raises(ZeroDivisionError):
        outcomes("abcdef", broken)

    def full(record):
        if record.id == "b":
            raise StorageError("the disk is full")

    with pytest.raises(StorageError):
        outcomes("abcdef", full)


# --- memory ---


class OutOfMemoryError(RuntimeError):
    """By its name, as torch's."""


def test_a_batch_that_does_not_fit_is_halved_and_nobody_is_blamed():
    sizes = []

    def model(batch, items):
        sizes.append(len(items))
        if len(items) > 1:
            raise OutOfMemoryError("CUDA out of memory")
        return items

    assert outcomes("abcd", lambda record: record.id, model) == {c: c for c in "abcd"}
    assert sizes == [4, 2, 1, 1, 2, 1, 1]


def test_an_image_that_does_not_fit_alone_is_no_failure_of_the_image():
    def model(batch, items):
        if "c" in items:
            raise MemoryError
        return items

    with pytest.raises(MemoryError):
        outcomes("abcd", lambda record: record.id, model)


def test_large_pictures_are_decoded_one_after_the_other(monkeypatch):
    monkeypatch.setattr(_workers, "LARGE", 100)
    monkeypatch.setattr(_workers, "ROOM", 1000)
    lock, now, most = threading.Lock(), [0], [0]

    def work(pixels):
        claim(pixels)
        claim(1)
        with lock:
            now[0] += pixels
            most[0] = max(most[0], now[0])
        time.sleep(0.002)
        with lock:
            now[0] -= pixels
        return pixels

    workers = Workers(work, count=6, timeout=30.0)
    sizes = [400, 50, 900, 5000, 300] * 8
    assert workers.wait(workers.submit(sizes)) == sizes
    workers.close()
    assert most[0] <= 5000 + 6 * 50
    claim(10**9)  # elsewhere it is nobody's business


def test_waiting_for_room_is_not_counted_as_hanging(monkeypatch):
    monkeypatch.setattr(_workers, "LARGE", 1)
    monkeypatch.setattr(_workers, "ROOM", 10)

    def work(number):
        claim(10)
        time.sleep(0.1)
        return number

    workers = Workers(work, count=5, timeout=0.35)
    assert workers.wait(workers.submit(range(5))) == list(range(5))
    workers.close()


def test_a_read_that_hangs_gives_its_room_to_the_others(monkeypatch):
    monkeypatch.setattr(_workers, "LARGE", 1)
    monkeypatch.setattr(_workers, "ROOM", 10)
    release = threading.Event()

    def work(number):
        claim(10)
        return release.wait(20) if number == 1 else number

    workers = Workers(work, count=2, timeout=0.3)
    found = workers.wait(workers.submit([0, 1, 2, 3]))
    release.set()
    workers.close()
    assert isinstance(found[1], ImageError)
    assert [found[0], *found[2:]] == [0, 2, 3]


def test_tiny_and_huge_pictures_together(tmp_path):
    Image.new("RGB", (50, 50), "red").save(tmp_path / "a.png")
    Image.new("RGB", (12_000, 12_000), "red").save(tmp_path / "b.jpg")
    Image.new("L", (12_000, 12_000), 90).save(tmp_path / "c.png")
    Image.new("RGB", (50, 12_000), "red").save(tmp_path / "d.jpg")
    made = embed(FolderSource(tmp_path), Light(), batch_size=2)
    assert (made.report.done, made.report.failed) == (4, 0)


def test_a_hundredth_of_a_folder_is_broken(tmp_path):
    paths = save_pictures(tmp_path / "in", 200)
    paths[7].write_bytes(b"")
    paths[113].write_bytes(paths[113].read_bytes()[:200])
    made = embed(FolderSource(tmp_path / "in"), Light(), out=tmp_path / "out")
    assert (made.report.done, made.report.failed, made.report.total) == (198, 2, 200)
    assert [failure.uri for failure in made.report.failures] == [str(paths[7]), str(paths[113])]
    assert all(failure.reason for failure in made.report.failures)


def test_the_pixels_of_a_batch_come_as_one_array_without_a_copy():
    """Also where one is missing, where shapes differ, and in the batch that is left."""
    bases = []

    def prepare(record):
        if record.id == "x":
            raise ImageError("broken")
        return np.full((2, 3) if record.id != "y" else (1, 3), ord(record.id), np.uint8)

    def model(batch, items):
        if any(record.id == "y" for record in batch):
            return [int(item[0, 0]) for item in items]
        one = as_one(items)
        bases.append(one is items[0].base)
        return one[:, 0, 0].tolist()

    found = outcomes("abcdefxgyhijkl", prepare, model)
    assert found == {c: "broken" if c == "x" else ord(c) for c in "abcdefxgyhijkl"}
    assert bases == [True, False, True]


# --- the size of batches ---


class Hinting(Light):
    """Asks for batches of a size, and notes those that come."""

    def __init__(self, hint):
        super().__init__()
        self.batch_size_hint = hint
        self.sizes = []

    def encode_pixels(self, pixels):
        self.sizes.append(len(pixels))
        return super().encode_pixels(pixels)


def test_auto_asks_the_encoder_and_cuts_parts_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("geovlm.embedding.PART_SIZE", 16)
    scenes = records(f"{n}" for n in range(40))
    parts = {}
    for hint, sizes in ((5, [5, 5, 5, 1, 5, 5, 5, 1, 5, 3]), (16, [16, 16, 8]), (4096, [16, 16, 8])):
        encoder = Hinting(hint)
        embed(scenes, encoder, out=tmp_path / f"{hint}")
        assert encoder.sizes == sizes
        parts[hint] = [path.read_bytes() for path in sorted((tmp_path / f"{hint}").glob("part-*"))]
    assert parts[5] == parts[16] == parts[4096]
    assert len(parts[5]) == 3
    one = Light()
    assert embed(scenes, one).report.done == 40  # says nothing: 64
