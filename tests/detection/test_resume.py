"""A scan that was killed goes on, does no finished work twice, and ends with the same bytes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from geovlm.detection import scan
from geovlm.errors import ConfigMismatch, RunLocked
from tests.detection.oracle import Oracle, paint, write

ROOT = Path(__file__).resolve().parents[2]
BOXES = [(100, 40, 180, 130, "blue"), (330, 500, 400, 640, "blue"), (20, 800, 90, 900, "red")]


@pytest.fixture
def tall(tmp_path):
    pixels = paint(420, 1400, BOXES)
    noise = np.random.default_rng(0).integers(0, 60, pixels.shape, dtype=np.uint8)
    return write(tmp_path / "tall.tif", np.where(pixels > 180, pixels, pixels + noise).astype(np.uint8))


RUN = """
import os, signal, sys
from geovlm.detection import scan
from tests.detection.oracle import Oracle

raster, out, log, passes = sys.argv[1:]
left = int(passes)

class Mortal(Oracle):
    def encode_dense(self, pixels):
        global left
        left -= 1
        found = super().encode_dense(pixels)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

scan(raster, ["blue", "red"], Mortal(log=log), against=["green"], out=out, batch_size=4)
os._exit(0)
"""


def run(raster, out, log, passes):
    command = [sys.executable, "-c", RUN, *map(str, (raster, out, log, passes))]
    return subprocess.run(command, cwd=ROOT, timeout=300, check=False).returncode


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != ".lock"}


def test_killed_it_ends_with_the_same_bytes(tmp_path, tall):
    assert run(tall, tmp_path / "whole", tmp_path / "whole.log", -1) == 0
    passes = (tmp_path / "whole.log").read_text().count("\n")
    chance = random.Random(5)
    for kill in range(3):
        assert run(tall, tmp_path / "killed", tmp_path / "log", chance.randint(5, 12)) == -signal.SIGKILL, kill
    assert run(tall, tmp_path / "killed", tmp_path / "log", -1) == 0
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")
    # A band is two batches here, so a kill costs two passes at most.
    assert (tmp_path / "log").read_text().count("\n") <= passes + 3 * 2


def test_stopped_between_bands_nothing_is_scored_twice(tmp_path, tall):
    class Stopping(Oracle):
        passes = 0

        def encode_dense(self, pixels):
            Stopping.passes += 1
            if Stopping.passes == 9:
                raise KeyboardInterrupt
            return super().encode_dense(pixels)

    options = {"against": ["green"], "batch_size": 9}
    with pytest.raises(KeyboardInterrupt):
        scan(tall, "blue", Stopping(log=tmp_path / "log"), out=tmp_path / "out", **options)
    found = scan(tall, "blue", Oracle(log=tmp_path / "log"), out=tmp_path / "out", **options)
    whole = scan(tall, "blue", Oracle(log=tmp_path / "whole"), **options)
    assert (tmp_path / "log").read_text() == (tmp_path / "whole").read_text()
    np.testing.assert_array_equal(found.heat_maps["blue"].scores, whole.heat_maps["blue"].scores)
    assert (found.report.done + found.report.skipped, found.report.total) == (whole.report.done, whole.report.total)


def test_another_threshold_costs_no_pass(tmp_path, tall):
    options = {"against": ["green"], "out": tmp_path / "out"}
    first = scan(tall, "blue", Oracle(), **options)
    strict = scan(tall, "blue", Oracle(log=tmp_path / "log"), threshold=0.999999, batch_size=5, **options)
    assert not (tmp_path / "log").exists()
    assert sum(one.polygon.area for one in strict) < sum(one.polygon.area for one in first)
    assert (strict.report.done, strict.report.skipped) == (0, first.report.done)


@pytest.mark.parametrize(
    "changed",
    [
        {"query": "red"},
        {"against": ["yellow"]},
        {"overlap": 0.5},
        {"templates": "clip"},
        {"dense": False},
        {"temperature": 7.0},
        {"debias": 0.3},
        {"gate": 0.0},
        {"window": 128},
        {"gsd": 4.0},
        {"bands": (3, 2, 1)},
        {"encoder": Oracle(fingerprint="oracle-2")},
    ],
)
def test_other_settings_in_the_same_directory_are_refused(tmp_path, changed):
    raster = write(tmp_path / "a.tif", paint(100, 100, []))
    call = {"query": "blue", "encoder": Oracle(), "against": ["green"], "out": tmp_path / "out"}
    scan(raster, **call)
    with pytest.raises(ConfigMismatch, match="other settings"):
        scan(raster, **{**call, **changed})


def test_another_raster_in_the_same_directory_is_refused(tmp_path):
    for number in (0, 1):
        raster = write(tmp_path / f"{number}.tif", paint(100, 100, []))
        if number:
            with pytest.raises(ConfigMismatch, match="raster"):
                scan(raster, "blue", Oracle(), against=["green"], out=tmp_path / "out")
        else:
            scan(raster, "blue", Oracle(), against=["green"], out=tmp_path / "out")


def test_two_scans_cannot_write_in_one_directory(tmp_path):
    raster = write(tmp_path / "a.tif", paint(100, 100, []))

    class Twin(Oracle):
        def encode_dense(self, pixels):
            with pytest.raises(RunLocked):
                scan(raster, "blue", Oracle(), against=["green"], out=tmp_path / "out")
            return super().encode_dense(pixels)

    scan(raster, "blue", Twin(), against=["green"], out=tmp_path / "out")


FULL = """
import resource, signal, sys
from geovlm.detection import scan
from geovlm.errors import StorageError
from tests.detection.oracle import Oracle
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
raster, out = sys.argv[1:]

class Filling(Oracle):
    passes = 0
    def encode_dense(self, pixels):
        Filling.passes += 1
        if Filling.passes == 9:
            resource.setrlimit(resource.RLIMIT_FSIZE, (BYTES, resource.RLIM_INFINITY))
        return super().encode_dense(pixels)

try:
    scan(raster, "blue", Filling(), against=["green"], out=out, batch_size=4)
except StorageError as error:
    assert "finished before is kept" in str(error), error
else:
    raise AssertionError("the disk was not full")
"""


@pytest.mark.parametrize("limit", [900, 2000])  # the scores are refused, and the state
def test_a_full_disk_is_a_storage_error_and_the_call_can_be_repeated(tmp_path, tall, limit):
    command = [sys.executable, "-c", FULL.replace("BYTES", str(limit)), str(tall), str(tmp_path / "out")]
    subprocess.run(command, cwd=ROOT, timeout=300, check=True)
    for out in ("out", "whole"):
        scan(tall, "blue", Oracle(), against=["green"], out=tmp_path / out, batch_size=4)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


def test_large_maps_lie_on_disk_and_are_the_same(tmp_path, tall, monkeypatch):
    small = scan(tall, ["blue", "red"], Oracle(), against=["green"])
    monkeypatch.setattr("geovlm.detection._ledger.MEMORY_BYTES", 0)
    large = scan(tall, ["blue", "red"], Oracle(), against=["green"])
    assert isinstance(large.heat_maps["red"].scores, np.memmap)
    for query in ("blue", "red"):
        np.testing.assert_array_equal(large.heat_maps[query].scores, small.heat_maps[query].scores)
    assert [one.polygon for one in large] == [one.polygon for one in small]
