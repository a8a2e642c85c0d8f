"""The workflow: what it redoes and what it leaves, what it loses and says, and that it can be killed anywhere."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from attrs import evolve
from PIL import Image

import geovlm as gv
from geovlm.agents import CaptionAgent, DataAgent, QueryAgent, TrainingAgent, Workflow
from geovlm.errors import UsageError
from geovlm.testing import HashEncoder
from tests import models

ROOT = Path(__file__).parents[1]
COLOURS = ("red", "green", "blue", "tan")


class CountingCaptioner:
    """Five lines of a user's own captioner, and a tally."""

    name = "counting"

    def __init__(self, fingerprint="1"):
        self.fingerprint = fingerprint
        self.seen = []

    def caption(self, records, images):
        self.seen += [record.id for record in records]
        return [[f"a {record.label} field from above"] for record in records]


def write_fields(folder, per_colour):
    """Class folders of plain fields, with a little noise so that no two files are equal."""
    rng = np.random.default_rng(0)
    for colour in COLOURS:
        (folder / colour).mkdir(parents=True, exist_ok=True)
        base = np.asarray(Image.new("RGB", (40, 40), colour), dtype=np.int16)
        for number in range(per_colour):
            noisy = (base + rng.integers(-20, 20, base.shape)).clip(0, 255).astype(np.uint8)
            if not (folder / colour / f"{number}.png").exists():
                Image.fromarray(noisy).save(folder / colour / f"{number}.png")
    return gv.FolderSource(folder)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return gv.load_encoder(models.openclip_folder(tmp_path_factory.mktemp("encoder")), device="cpu", dtype="float32")


def make(out, encoder, **changes):
    settings = {
        "out": out,
        "encoder": encoder,
        "caption": CaptionAgent(captioner=CountingCaptioner()),
        "data": DataAgent(val=0.25),
        "training": TrainingAgent(config=gv.TrainingConfig(epochs=2, batch_size=8, learning_rate=1e-3)),
    }
    return Workflow(**{**settings, **changes})


def steps(result):
    return {step.name: (step.report.done, step.report.skipped, step.report.failed) for step in result.steps}


def test_the_whole_loop(tmp_path, encoder):
    before = encoder.fingerprint
    result = make(tmp_path / "run", encoder).run(write_fields(tmp_path / "in", 4), queries=["a red field", "<script>"])
    assert steps(result) == {
        "captions": (16, 0, 0),
        "data": (16, 0, 0),
        "training": (16, 0, 0),
        "embed": (16, 0, 0),
    }
    assert len(result.index) == len(result.pairs) == 16
    assert encoder.fingerprint == before
    page = result.page.read_text()
    assert page.count("<figure") == 24
    assert "<script>" not in page
    assert "a red field from above" in page
    assert "mean recall" in page
    assert str(result).splitlines()[0].startswith("captions")


def test_the_tuned_encoder_is_kept_only_if_it_is_better(tmp_path, encoder):
    """A learning rate of next to nothing cannot raise recall; the base stays in use."""
    idle = TrainingAgent(config=gv.TrainingConfig(epochs=1, batch_size=8, learning_rate=1e-12))
    with pytest.warns(RuntimeWarning, match="cannot move"):
        result = make(tmp_path / "run", encoder, training=idle).run(write_fields(tmp_path / "in", 4))
    assert not result.training.improved
    assert result.encoder is encoder
    assert result.embeddings.encoder_fingerprint == encoder.fingerprint
    assert "base kept" in str(result)


def test_repeating_does_nothing_and_gives_the_same(tmp_path, encoder):
    source, workflow = write_fields(tmp_path / "in", 4), make(tmp_path / "run", encoder)
    first = workflow.run(source, queries=["a blue field"])
    workflow.caption.captioner.seen.clear()
    files = digests(tmp_path / "run")
    again = workflow.run(source, queries=["a blue field"])
    assert workflow.caption.captioner.seen == []
    assert steps(again) == dict.fromkeys(steps(first), (0, 16, 0))
    changed = {name for name, value in digests(tmp_path / "run").items() if files[name] != value}
    assert changed <= {"report.html", "report.json"}


def test_a_folder_that_grew(tmp_path, encoder):
    """Only the new images are captioned and embedded; the encoder stays until retraining is asked for."""
    workflow = make(tmp_path / "run", encoder)
    first = workflow.run(write_fields(tmp_path / "in", 4))
    workflow.caption.captioner.seen.clear()
    grown = workflow.run(write_fields(tmp_path / "in", 5))
    assert sorted(workflow.caption.captioner.seen) == sorted(f"{colour}/4.png" for colour in COLOURS)
    assert steps(grown)["captions"] == steps(grown)["embed"] == (4, 16, 0)
    assert grown.encoder.fingerprint == first.encoder.fingerprint
    assert "4 pairs came later" in str(grown)
    retrained = workflow.run(gv.FolderSource(tmp_path / "in"), retrain=True)
    assert steps(retrained)["training"] == (20, 0, 0)
    assert "came later" not in str(retrained)
    assert "came later" not in str(workflow.run(gv.FolderSource(tmp_path / "in")))


def test_a_changed_step_is_redone_with_what_rests_on_it(tmp_path, encoder):
    source = write_fields(tmp_path / "in", 4)
    make(tmp_path / "run", encoder).run(source)
    longer = gv.TrainingConfig(epochs=3, batch_size=8, learning_rate=1e-3)
    result = make(tmp_path / "run", encoder, training=TrainingAgent(config=longer)).run(source)
    assert steps(result)["captions"] == (0, 16, 0)
    assert steps(result)["data"] == (0, 16, 0)
    assert steps(result)["training"] == (16, 0, 0)
    other = CaptionAgent(captioner=CountingCaptioner(fingerprint="2"))
    result = make(tmp_path / "run", encoder, caption=other).run(source)
    assert steps(result)["captions"] == steps(result)["training"] == (16, 0, 0)


def test_losses_are_told_with_their_stage(tmp_path):
    """A broken file is lost to captioning and embedding; a caption of one word is lost to the data."""
    source = write_fields(tmp_path / "in", 2)
    (tmp_path / "in" / "red" / "broken.png").write_bytes(b"no picture")

    class OneWord(CountingCaptioner):
        def caption(self, records, images):
            return [["field"] if record.id == "tan/0.png" else ["a field"] for record in records]

    workflow = Workflow(out=tmp_path / "run", encoder=HashEncoder(), caption=CaptionAgent(captioner=OneWord()))
    result = workflow.run(source)
    assert [(f.stage, f.id) for f in result.failures] == [("decode", "red/broken.png"), ("decode", "red/broken.png")]
    train, val, report = DataAgent(val=0.5).run(result.pairs, out=tmp_path / "data")
    assert (report.done, [f.id for f in report.failures]) == (7, ["tan/0.png"])
    assert len(train) + len(val) == 7


def test_captions_that_the_source_brings(tmp_path):
    records = [gv.Record(id=c, image=Image.new("RGB", (8, 8), c), captions=f"a {c} field", label=c) for c in COLOURS]
    result = Workflow(out=tmp_path / "run", encoder=HashEncoder()).run(iter(records), queries=["x"])
    assert sorted(r.captions for r in result.pairs) == sorted((f"a {c} field",) for c in COLOURS)
    assert len(result.index) == 4


def test_too_little_to_train_on(tmp_path, encoder):
    class Silent(CountingCaptioner):
        def caption(self, records, images):
            return [[] for _ in records]

    workflow = make(tmp_path / "run", encoder, caption=CaptionAgent(captioner=Silent()))
    with pytest.raises(UsageError, match="pairs have a caption"):
        workflow.run(write_fields(tmp_path / "in", 1))


@pytest.mark.parametrize("val", [0, 1, -0.1, 3])
def test_impossible_share(val):
    with pytest.raises(UsageError, match="between 0 and 1"):
        DataAgent(val=val)


def test_an_encoder_by_name_and_an_empty_source(tmp_path):
    with pytest.raises(UsageError, match=r"load_encoder\('b32'\)"):
        Workflow(out=tmp_path, encoder="b32")
    with pytest.raises(UsageError, match="has no images"):
        Workflow(out=tmp_path, encoder=HashEncoder()).run([])


def test_query_agent_writes_a_page(tmp_path):
    index = gv.Index(HashEncoder())
    index.add([gv.Record(id=c, image=Image.new("RGB", (8, 8), c), meta={"year": y}) for y, c in enumerate(COLOURS)])
    agent = QueryAgent(index=index, limit=2)
    assert len(agent.ask("something red", where={"year": {"$gt": 2}})) == 1
    hits = agent.run(["something red", "something blue"], out=tmp_path / "page.html")
    assert [len(answer) for answer in hits] == [2, 2]
    assert "something blue" in (tmp_path / "page.html").read_text()


def digests(folder):
    """What is in the files, but for the name of the folder itself: an encoder is called by its path."""
    name = str(folder).encode()
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes().replace(name, b"")).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock" and "checkpoints" not in path.parts
    }


KILLED = '''
"""Fork a child for each run; each is killed after so many notable calls to the operating system."""
import os, random, signal, sys
from pathlib import Path
import torch
import geovlm as gv
import geovlm.encoders.openclip, geovlm.training
from tests.test_agents import make

folder, images, out = map(Path, sys.argv[1:4])

def run(where, moments):
    torch.set_num_threads(1)
    left = [moments]
    def counted(function):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)
        return call
    os.fsync, Path.replace, Path.unlink = counted(os.fsync), counted(Path.replace), counted(Path.unlink)
    encoder = gv.load_encoder(folder, device="cpu", dtype="float32")
    make(where, encoder).run(gv.FolderSource(images), queries=["a red field"])

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
chance, kills = random.Random(0), 0
while child(out / "killed", chance.randint(9, 24)):
    kills += 1
print(kills)
'''


def test_killed_anywhere_ends_the_same(tmp_path):
    """Again and again, a few file operations further each time, until it is done: the same files, byte for byte."""
    models.openclip_folder(tmp_path / "encoder")
    write_fields(tmp_path / "in", 4)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "encoder"), str(tmp_path / "in"), str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) >= 2, "the kills missed the run"
    whole, killed = digests(tmp_path / "out" / "whole"), digests(tmp_path / "out" / "killed")
    # The report tells how much was done in the last run, which is what differs; the title is the directory's name; and
    # metrics tell how fast each step was.
    for files in (whole, killed):
        for name in [
            name for name in files if name in ("report.json", "report.html") or name.endswith("metrics.jsonl")
        ]:
            del files[name]
    assert whole == killed


def test_settings_travel_by_value(tmp_path, encoder):
    """Agents are values: a workflow with one thing changed is made from another."""
    workflow = make(tmp_path, encoder)
    assert evolve(workflow, data=DataAgent(val=0.5)).data.val == 0.5
    assert workflow.data.val == 0.25
