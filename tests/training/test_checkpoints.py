"""Whole or absent, the newest few, and a damaged one is passed over."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from geovlm.training.checkpoints import Checkpoints


def folder_of(path, **more):
    return Checkpoints(path, **{"keep": 2, "interval": 1, **more})


def saved(path):
    return sorted(file.name for file in path.iterdir())


def test_the_newest_stay_with_the_weights_they_know(tmp_path):
    checkpoints = folder_of(tmp_path)
    checkpoints.save_best({"w": torch.ones(1)}, epoch=1)
    checkpoints.save({"step": 1}, step=1, best=1)
    checkpoints.save_best({"w": torch.zeros(1)}, epoch=2)
    assert saved(tmp_path) == ["best-0001.pt", "best-0002.pt", "step-00000001.pt"]
    for step in (2, 3):
        checkpoints.save({"step": step}, step=step, best=2)
    assert saved(tmp_path) == ["best-0002.pt", "step-00000002.pt", "step-00000003.pt"]
    assert checkpoints.load_newest() == {"step": 3}
    assert checkpoints.load_best(2)["w"].item() == 0


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"x" * 99])
def test_a_damaged_one_is_a_warning_and_the_one_before_is_used(tmp_path, damage):
    checkpoints = folder_of(tmp_path)
    for step in (1, 2):
        checkpoints.save({"step": step, "w": torch.zeros(1000)}, step=step, best=None)
    newest = tmp_path / "step-00000002.pt"
    newest.write_bytes(damage(newest.read_bytes()))
    with pytest.warns(RuntimeWarning, match=r"step-00000002.pt cannot be read"):
        assert checkpoints.load_newest()["step"] == 1


def test_nothing_is_unpickled(tmp_path):
    torch.save({"model": torch.nn.Linear(1, 1)}, tmp_path / "step-00000001.pt")
    with pytest.warns(RuntimeWarning, match="cannot be read"):
        assert folder_of(tmp_path).load_newest() is None


def test_by_the_clock_writing_costs_a_small_share(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("geovlm.training.checkpoints.time.monotonic", lambda: clock[0])
    checkpoints = folder_of(tmp_path, interval=None)
    monkeypatch.setattr("geovlm.training.checkpoints._save", lambda *_: clock.__setitem__(0, clock[0] + 2.0))
    assert checkpoints.is_due(1)  # the first tells what one costs
    checkpoints.save({}, step=1, best=None)
    clock[0] += 39
    assert not checkpoints.is_due(2)
    clock[0] += 1
    assert checkpoints.is_due(3)


def test_a_full_disk_is_said_and_the_last_one_stays(tmp_path):
    """In a process that may write no more than 100 kB to a file, as on a disk with so much room."""
    program = """
import resource, signal, sys, torch
from pathlib import Path
from geovlm.errors import StorageError
from geovlm.training.checkpoints import Checkpoints
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
checkpoints = Checkpoints(Path(sys.argv[1]), keep=2, interval=1)
checkpoints.save({"step": 1}, step=1, best=None)
try:
    checkpoints.save({"step": 2, "w": torch.zeros(100_000)}, step=2, best=None)
except StorageError as error:
    assert "step-00000002.pt could not be written" in str(error), error
    assert "RuntimeError" not in str(error)
else:
    raise AssertionError("no error")
assert checkpoints.load_newest() == {"step": 1}
"""
    result = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert saved(tmp_path) == ["step-00000001.pt"]
