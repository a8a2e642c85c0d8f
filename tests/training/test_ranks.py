"""Two processes against one: the same losses and weights, however the batch is shared out."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from geovlm.training._ranks import Ranks
from tests.training.ranks_program import CASES, encoder_for, train

ROOT = Path(__file__).parents[2]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def results(encoders):
    """What two processes, started as torchrun starts them, have computed."""
    encoders.folder("open_clip"), encoders.folder("siglip")
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    call = [sys.executable, "-X", "faulthandler", "-m", "tests.training.ranks_program", str(encoders.root)]
    processes = [
        subprocess.Popen(
            call,
            cwd=ROOT,
            env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in "01"
    ]
    try:
        said = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    return [torch.load(encoders.root / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_learn_what_one_does(case, results, encoders):
    first, second = (result[case] for result in results)
    alone = train(encoder_for(case.split()[0], encoders.root), CASES[case], Ranks(device="cpu"))
    assert first["losses"] == second["losses"]
    assert first["losses"] == pytest.approx(alone["losses"], rel=1e-5)
    for name, tensor in alone["weights"].items():
        assert torch.equal(first["weights"][name], second["weights"][name]), name
        torch.testing.assert_close(first["weights"][name], tensor, rtol=1e-6, atol=1e-6, msg=name)


def test_all_processes_make_their_parts_smaller_together(results):
    assert [result["memory runs out"]["micro"] for result in results] == [3, 3]


def test_alone_nothing_is_launched(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert Ranks.find("cpu") == Ranks(device="cpu")
    assert not torch.distributed.is_initialized()
