"""SIGKILL at any moment, then the same call: the same weights, bit for bit, and the same manifest.

`GEOVLM_KILLS=20` asks for more kills than the few that every test run makes.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

PROGRAM = '''
"""Fork a child for each run, so that the libraries are imported once; nothing of torch runs before the forks."""
import os, random, signal, sys
from pathlib import Path

import open_clip, torch, torch._dynamo
import geovlm.encoders.openclip
from geovlm import load_encoder
from geovlm.training import ContrastiveTrainer, TrainingConfig
from geovlm.training.learner import Learner
from tests.training.conftest import fields

folder, out, wanted = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])


def run(where, moments):
    """Train; killed when so many notable calls have begun."""
    torch.set_num_threads(1)
    left = [moments]

    def counted(function):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)
        return call

    os.replace, os.fsync, os.mkdir = counted(os.replace), counted(os.fsync), counted(os.mkdir)
    Path.unlink, Learner.step, torch.save = counted(Path.unlink), counted(Learner.step), counted(torch.save)
    encoder = load_encoder(folder, device="cpu", dtype="float32")
    config = TrainingConfig(epochs=3, batch_size=8, learning_rate=1e-3, checkpoint_interval=1, average=0.9)
    ContrastiveTrainer(encoder, config).fit(fields(16), val=fields(4), out=where)


def child(where, moments):
    pid = os.fork()
    if pid == 0:
        try:
            run(where, moments)
            os._exit(0)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
    return os.WIFSIGNALED(status)


assert not child(out / "whole", 0)
kills = seed = 0
while kills < wanted and seed < wanted:
    draw = random.Random(seed)
    while child(out / f"killed-{seed}", draw.randint(5, 25)):
        kills += 1
    seed += 1
print(kills)
'''


def state_of(out):
    files = [out / "manifest.json", *sorted(p for p in (out / "encoder").rglob("*") if p.is_file())]
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_killed_again_and_again_it_ends_the_same(encoders, tmp_path):
    root, wanted = Path(__file__).parents[2], int(os.environ.get("GEOVLM_KILLS", "4"))
    call = [sys.executable, "-c", PROGRAM, str(encoders.folder("open_clip")), str(tmp_path), str(wanted)]
    result = subprocess.run(call, capture_output=True, text=True, check=False, cwd=root)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) >= wanted, "the kills missed the runs"
    for killed in tmp_path.glob("killed-*"):
        assert state_of(killed) == state_of(tmp_path / "whole"), killed.name
        assert not list(killed.glob(".*tmp"))
