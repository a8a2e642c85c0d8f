"""`embed`: every input in one state, the same bytes after any number of kills, flat memory."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
import weakref
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from geovlm import embedding
from geovlm._files import locked
from geovlm._stream import BATCHES_AHEAD
from geovlm.embedding import Embeddings, embed
from geovlm.encoders import load_encoder
from geovlm.errors import ConfigMismatch, ImageError, RunLocked, UsageError
from geovlm.records import Footprint, Record
from geovlm.sources import FolderSource
from geovlm.testing import HashEncoder
from tests import models
from tests.light import Light
from tests.models import picture, save_pictures

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    import torch

    torch.set_num_threads(1)  # a tiny model loses more to waiting for another thread than it gains
    return load_encoder(
        models.openclip_folder(tmp_path_factory.mktemp("model") / "tiny"), device="cpu", dtype="float32"
    )


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(embedding, "PART_SIZE", 8)


def records(count, start=0):
    return [Record(id=f"{number:03}", image=picture(number)) for number in range(start, start + count)]


def parts_of(out):
    return {path.name: path.read_bytes() for path in sorted(out.glob("part-*.parquet"))}


# --- what comes out ---


def test_vectors_are_those_of_the_encoder(encoder):
    scenes = records(7)
    ids, vectors = embed(scenes, encoder, batch_size=3).to_numpy()
    assert ids == [scene.id for scene in scenes]
    np.testing.assert_allclose(vectors, encoder.encode_images([scene.image for scene in scenes]), atol=1e-5)


def test_what_is_known_of_an_image_stays_with_its_vector(tmp_path):
    place = Footprint(west=7, south=46, east=8, north=47)
    scene = Record(
        id="a", image=picture(1), captions=["one", "two"], label="Port", footprint=place, meta={"year": 2024, "t": [1]}
    )
    embed([scene], Light(), out=tmp_path / "run")
    made = Embeddings.open(tmp_path / "run")
    ((ids, vectors, kept),) = made.batches()
    assert (ids, kept[0].captions, kept[0].label, kept[0].footprint) == (["a"], ("one", "two"), "Port", place)
    assert kept[0].meta == {"year": 2024, "t": [1]}
    assert (made.encoder_fingerprint, made.dim, len(made)) == ("light-1", 12, 1)
    row = made.to_pandas().iloc[0]
    assert (row["id"], row["label"], row["year"]) == ("a", "Port", 2024)
    np.testing.assert_array_equal(row["vector"], vectors[0])


def test_in_memory_and_on_disk_are_the_same(tmp_path, small_parts):
    scenes = [*records(11), Record(id="broken", image=b"?")]
    kept, written = embed(scenes, Light(), batch_size=4), embed(scenes, Light(), batch_size=4, out=tmp_path / "run")
    opened = Embeddings.open(tmp_path / "run")
    for made in (kept, written, opened):
        assert made.to_numpy()[0] == [scene.id for scene in scenes[:-1]]
        np.testing.assert_array_equal(made.to_numpy()[1], kept.to_numpy()[1])
        assert len(made) == 11
        assert [failure.id for failure in made.report.failures] == ["broken"]
        assert made.to_numpy()[1].flags.c_contiguous
    assert "11 x 12" in repr(opened)


def test_a_generator_is_a_source_and_nothing_is_a_source():
    assert embed((scene for scene in records(3)), Light()).report.done == 3
    empty = embed([], Light())
    assert (empty.report.total, len(empty), empty.to_numpy()[1].shape) == (0, 0, (0, 12))
    assert list(empty.to_pandas().columns) == ["id", "vector"]


def test_an_encoder_without_pixels_gets_whole_pictures():
    encoder = HashEncoder(dim=16)
    scenes = records(5)
    _, vectors = embed(scenes, encoder, batch_size=2).to_numpy()
    np.testing.assert_array_equal(vectors, encoder.encode_images([scene.image for scene in scenes]))


def test_large_jpegs_are_decoded_small_and_stay_close(tmp_path, encoder):
    (path,) = save_pictures(tmp_path, 1, size=(900, 700))
    _, vectors = embed(FolderSource(tmp_path), encoder).to_numpy()
    assert (vectors[0] * encoder.encode_images([Image.open(path)])[0]).sum() > 0.999


# --- bad input ---


def test_odd_images_alone_and_among_good_ones(encoder, shared_data):
    folder = shared_data / "odd_images"
    odd = [Record(id=path.name, image=path) for path in sorted(folder.iterdir()) if path.suffix not in (".tsv", ".md")]
    assert len(odd) == 84
    alone = {}
    for record in odd:
        made = embed([record], encoder, batch_size=4)
        assert made.report.total == 1
        assert all(failure.reason for failure in made.report.failures)
        alone[record.id] = made.report.done == 1
    good = records(84)
    mixed = [record for pair in zip(odd, good, strict=True) for record in pair]
    made = embed(mixed, encoder, batch_size=16)
    assert (made.report.total, made.report.failed) == (168, sum(not done for done in alone.values()))
    assert {failure.id for failure in made.report.failures} == {key for key, done in alone.items() if not done}
    vectors = dict(zip(*made.to_numpy(), strict=True))
    expected = encoder.encode_images([record.image for record in good])
    np.testing.assert_allclose(np.stack([vectors[record.id] for record in good]), expected, atol=1e-5)


def test_a_batch_of_nothing_but_bad_images(tmp_path, encoder):
    scenes = [*(Record(id=f"bad-{number}", image=b"no image") for number in range(6)), *records(2)]
    made = embed(scenes, encoder, batch_size=3, out=tmp_path / "run")
    assert (made.report.done, made.report.failed, len(made)) == (2, 6, 2)
    only_bad = embed(scenes[:6], encoder, batch_size=3)
    assert (only_bad.report.failed, len(only_bad), list(only_bad.batches())) == (6, 0, [])


def test_a_file_that_vanishes_midway_is_one_failure(tmp_path):
    paths = save_pictures(tmp_path / "scenes", 12)

    def source():
        for record in FolderSource(tmp_path / "scenes"):
            if record.id.startswith("scene-009"):
                paths[9].unlink()
            yield record

    made = embed(source(), Light(), batch_size=2)
    assert made.report.done == 11
    assert [failure.reason for failure in made.report.failures] == ["the file does not exist"]


def test_two_inputs_with_one_id_are_one_vector_and_one_failure():
    made = embed([*records(2), *records(1)], Light())
    assert (made.report.done, made.report.failed, made.to_numpy()[0]) == (2, 1, ["000", "001"])


def test_the_first_failure_can_be_an_error(tmp_path, small_parts):
    scenes = [*records(20), Record(id="broken", image=b"?"), *records(20, start=30)]
    with pytest.raises(ImageError, match="broken"):
        embed(scenes, Light(), batch_size=4, out=tmp_path / "run", on_error="raise")
    assert len(Embeddings.open(tmp_path / "run")) == 16


class Wrong(Light):
    """Returns what `change` makes of the right vectors."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def encode_pixels(self, pixels):
        return self.change(super().encode_pixels(pixels))


def test_a_vector_that_no_store_could_keep_is_a_failure():
    def spoil(vectors):
        vectors[0, 3] = np.nan
        vectors[-1, 0] = np.inf
        vectors[2] = 0
        return vectors

    made = embed(records(6), Wrong(spoil), batch_size=6)
    assert (made.report.done, [failure.id for failure in made.report.failures]) == (3, ["000", "002", "005"])
    assert made.report.failures[0].reason == "its vector is zero, or has NaN or infinity in it"
    assert np.isfinite(made.to_numpy()[1]).all()


@pytest.mark.parametrize("change", [lambda v: v[:, :5], lambda v: v[:-1], lambda v: v[0], lambda v: v[None]])
def test_vectors_of_a_wrong_shape_are_the_encoders_fault(tmp_path, change):
    with pytest.raises(UsageError, match="light returned an array of shape"):
        embed(records(6), Wrong(change), batch_size=3, out=tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"encoder": "skyclip-vit-b-32"}, "load_encoder"),
        ({"encoder": object()}, "unlike"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"on_error": "ignore"}, "on_error"),
        ({"source": "scenes/"}, "FolderSource"),
        ({"source": ["scene.jpg"]}, "Record"),
    ],
)
def test_arguments_that_cannot_be_right(arguments, words):
    call = {"source": records(1), "encoder": Light(), **arguments}
    with pytest.raises(UsageError, match=words):
        embed(call.pop("source"), call.pop("encoder"), **call)


# --- stop and go on ---

RUN = """
import os, signal, sys, threading
from geovlm import embedding
from geovlm.sources import FolderSource
from tests.light import Light
embedding.PART_SIZE = 8
scenes, out, log, deadline = sys.argv[1:]
source = FolderSource(scenes)
if float(deadline):
    threading.Timer(float(deadline), os.kill, (os.getpid(), signal.SIGKILL)).start()
embedding.embed(source, Light(log=log, pause=0.02), out=out, batch_size=4)
os._exit(0)
"""


def run(scenes, out, log, deadline):
    command = [sys.executable, "-c", RUN, *map(str, (scenes, out, log, deadline))]
    return subprocess.run(command, cwd=ROOT, timeout=120, check=False).returncode


def test_killed_at_any_moment_it_ends_with_the_same_bytes_and_repeats_no_finished_work(tmp_path):
    scenes = tmp_path / "scenes"
    save_pictures(scenes, 90)
    (scenes / "scene-041.jpg").write_bytes(b"broken")
    assert run(scenes, tmp_path / "whole", tmp_path / "whole.log", 0) == 0

    chance = random.Random(20)
    log, out, finished = tmp_path / "log", tmp_path / "killed", set()
    kills = 0
    while True:
        before = len(_in_order(log))
        code = run(scenes, out, log, chance.uniform(0.05, 0.35) if kills < 6 else 0)
        encoded = _in_order(log)[before:]
        assert not finished & set(encoded)
        assert max(Counter(encoded).values(), default=0) <= 1
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
        in_parts = sum(len(pq.read_table(path)) for path in out.glob("part-*.parquet"))
        finished |= set(_in_order(tmp_path / "whole.log")[: in_parts - (in_parts > 41)])
    assert kills >= 3
    assert parts_of(out) == parts_of(tmp_path / "whole")
    assert (out / "manifest.json").read_bytes() == (tmp_path / "whole" / "manifest.json").read_bytes()
    assert not list(out.glob(".*.tmp"))


def _in_order(log):
    if not log.exists():  # a process that was killed before its first batch
        return []
    return [one for line in log.read_text().splitlines() for one in line.split()]


def test_a_repeated_call_does_nothing(tmp_path):
    scenes = records(9)
    embed(scenes, Light(), out=tmp_path / "run")
    before = parts_of(tmp_path / "run")
    again = embed(scenes, Light(log=tmp_path / "log"), out=tmp_path / "run")
    assert (again.report.done, again.report.skipped) == (0, 9)
    assert not (tmp_path / "log").exists()
    assert parts_of(tmp_path / "run") == before


def test_a_folder_that_grew_has_only_its_new_images_embedded(tmp_path):
    save_pictures(tmp_path / "scenes", 5)
    embed(FolderSource(tmp_path / "scenes"), Light(), out=tmp_path / "run")
    save_pictures(tmp_path / "scenes", 8)
    log = tmp_path / "log"
    made = embed(FolderSource(tmp_path / "scenes"), Light(log=log), out=tmp_path / "run")
    assert (made.report.done, made.report.skipped, len(made)) == (3, 5, 8)
    assert len(_in_order(log)) == 3


def test_what_failed_is_tried_again(tmp_path):
    (path, *_) = save_pictures(tmp_path / "scenes", 3)
    whole = path.read_bytes()
    path.write_bytes(b"half")
    assert embed(FolderSource(tmp_path / "scenes"), Light(), out=tmp_path / "run").report.failed == 1
    path.write_bytes(whole)
    made = embed(FolderSource(tmp_path / "scenes"), Light(), out=tmp_path / "run")
    assert (made.report.done, made.report.skipped, made.report.failed, len(made)) == (1, 2, 0, 3)
    assert Embeddings.open(tmp_path / "run").report.failed == 0


FULL = """
import resource, signal, sys, time
from pathlib import Path
from geovlm import embedding
from geovlm.errors import StorageError
from geovlm.sources import FolderSource
from tests.light import Light
embedding.PART_SIZE = 8
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
scenes, out, limit = sys.argv[1:]

class Filling(Light):
    passes = 0
    def encode_pixels(self, pixels):
        Filling.passes += 1
        if Filling.passes == 7:
            while len(list(Path(out).glob("part-*.parquet"))) < 3:  # parts are written beside
                time.sleep(0.01)
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
        return super().encode_pixels(pixels)

try:
    embedding.embed(FolderSource(scenes), Filling(), out=out, batch_size=4)
except StorageError as error:
    assert "finished before is kept" in str(error), error
else:
    raise AssertionError("the disk was not full")
"""


def test_a_full_disk_is_a_storage_error_and_the_call_can_be_repeated(tmp_path):
    """A limit on the size of files stands for the full disk: both are refused by the system call that writes."""
    save_pictures(tmp_path / "scenes", 40)
    command = [sys.executable, "-c", FULL, str(tmp_path / "scenes"), str(tmp_path / "run"), "1000"]
    subprocess.run(command, cwd=ROOT, timeout=120, check=True)
    assert len(parts_of(tmp_path / "run")) == 3
    assert not list((tmp_path / "run").glob("*.tmp"))
    run(tmp_path / "scenes", tmp_path / "run", tmp_path / "log", 0)
    run(tmp_path / "scenes", tmp_path / "whole", tmp_path / "log", 0)
    assert parts_of(tmp_path / "run") == parts_of(tmp_path / "whole")


HOLD = """
import sys
from pathlib import Path
from geovlm._files import locked
with locked(Path(sys.argv[1])):
    input()
"""


def test_a_second_process_in_the_same_directory_is_refused(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as other:
        while not _is_held(tmp_path / "run"):
            time.sleep(0.05)
        with pytest.raises(RunLocked, match="Another process"):
            embed(records(2), Light(), out=tmp_path / "run")
        other.communicate(b"\n")
    assert embed(records(2), Light(), out=tmp_path / "run").report.done == 2


def _is_held(directory):
    try:
        with locked(directory):
            return False
    except RunLocked:
        return True


def test_another_encoder_or_another_kind_of_directory_is_refused(tmp_path):
    embed(records(2), Light(), out=tmp_path / "run")
    with pytest.raises(ConfigMismatch, match=r"light-1.*light-2"):
        embed(records(2), Light(fingerprint="light-2"), out=tmp_path / "run")
    renamed = Light()
    renamed.name = "the same encoder from another path"
    assert embed(records(3), renamed, out=tmp_path / "run").report.done == 1
    with pytest.raises(UsageError, match="holds no embeddings"):
        Embeddings.open(tmp_path)


# --- flat memory ---


def test_few_pictures_are_in_memory_at_a_time():
    living = Counter()

    class Watched(Light):
        def preprocess(self, image):
            pixels = super().preprocess(image)
            living["now"] += 1
            living["most"] = max(living["most"], living["now"])
            weakref.finalize(pixels, living.subtract, {"now": 1})
            return pixels

    scenes = (Record(id=str(number), image=np.full((9, 9), number % 256, np.uint8)) for number in range(600))
    made = embed(scenes, Watched(), batch_size=8)
    assert made.report.done == 600
    assert living["most"] <= 8 * (BATCHES_AHEAD + 2)
