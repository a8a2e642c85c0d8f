"""`caption`: every input is accounted for, nothing is done twice, and a kill changes no byte."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geovlm.captioners import load_captioner
from geovlm.captioners.blip import GenerationOptions
from geovlm.captioners.tags import TagCaptioner
from geovlm.captioning import caption
from geovlm.dataset import Dataset
from geovlm.errors import ConfigMismatch, ImageError, StorageError, UsageError
from geovlm.records import Record
from geovlm.sources import FolderSource
from tests.blip_models import one_thread, save_blip

SHORT = GenerationOptions(max_new_tokens=4)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def blip_folder(tmp_path_factory):
    return save_blip(tmp_path_factory.mktemp("models") / "blip", talkative=True)


@pytest.fixture(scope="module")
def blip(blip_folder):
    return load_captioner(blip_folder, device="cpu", dtype="float32", options=SHORT)


class Echo:
    """A captioner as a user writes one."""

    name, fingerprint = "echo", "1"

    def caption(self, records, images):
        return [f"{record.id} of {image.width}x{image.height}" for record, image in zip(records, images, strict=True)]


class Watched:
    """Another captioner, with a list of what it was asked."""

    def __init__(self, captioner):
        self.captioner, self.asked = captioner, []
        self.name, self.fingerprint = captioner.name, captioner.fingerprint

    def caption(self, records, images):
        self.asked.append([record.id for record in records])
        return self.captioner.caption(records, images)


def noise(seed, size=(40, 32)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def scenes(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        noise(sum(name.encode())).save(folder / name)
    return FolderSource(folder)


def contents(out):
    files = (path for path in Path(out).rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def test_pairs_of_a_users_own_captioner(tmp_path):
    pairs = caption(scenes(tmp_path / "scenes", ["a.png", "b.jpg"]), Echo(), out=tmp_path / "out")
    assert isinstance(pairs, Dataset)
    assert [record.captions for record in pairs] == [("a.png of 40x32",), ("b.jpg of 40x32",)]
    assert (pairs.report.stage, pairs.report.done, pairs.report.total) == ("caption", 2, 2)
    again = Dataset.open(tmp_path / "out")
    assert list(again) == list(pairs)
    assert [record.open().size for record in again] == [(40, 32)] * 2


def test_everything_else_of_a_record_is_kept(tmp_path):
    record = Record(id="1", image=noise(0), captions="what it was", label="Port", meta={"gsd": 0.5})
    [pair] = caption([record], TagCaptioner(templates=["{subject}"]), out=tmp_path)
    assert pair.captions in {("a port",), ("a port, 0.5 m per pixel",)}
    assert (pair.label, pair.meta, pair.footprint) == ("Port", {"gsd": 0.5}, None)


@pytest.mark.parametrize("place", ["path", "bytes", "pil", "array", "function"])
def test_every_kind_of_image(tmp_path, blip, place):
    """Images without a file are kept beside the pairs, and captioned as a file would be."""
    path = tmp_path / "a.png"
    noise(1).save(path)
    kinds = {"path": path, "bytes": path.read_bytes(), "pil": noise(1), "array": np.asarray(noise(1))}
    image = kinds.get(place, path.read_bytes)
    [pair] = caption([Record(id="1", image=image)], blip, out=tmp_path / "out")
    assert pair.captions == blip.caption([Record(id="1")], [noise(1)])[0]
    assert np.array_equal(np.asarray(pair.open()), np.asarray(noise(1)))
    assert (Path(pair.uri) == path) == (place == "path")


def test_a_generator_and_an_empty_source(tmp_path):
    pairs = caption((Record(id=str(n), image=noise(n)) for n in range(5)), Echo(), out=tmp_path / "a", batch_size=2)
    assert [record.id for record in pairs] == list("01234")
    nothing = caption([], Echo(), out=tmp_path / "b")
    assert (len(nothing), nothing.report.total) == (0, 0)
    assert len(Dataset.open(tmp_path / "b")) == 0


def test_bad_images_are_failures_even_where_pixels_do_not_matter(tmp_path):
    source = scenes(tmp_path / "Port", ["a.png", "b.png"])
    (tmp_path / "Port" / "b.png").write_bytes((tmp_path / "Port" / "b.png").read_bytes()[:900])
    records = [*(Record(id=r.id, image=r.image, label="Port") for r in source), Record(id="text", label="Port")]
    pairs = caption(records, TagCaptioner(), out=tmp_path / "out")
    assert [record.id for record in pairs] == ["a.png"]
    assert [(f.id, f.stage) for f in pairs.report.failures] == [("b.png", "decode"), ("text", "decode")]


def test_all_bad_batches(tmp_path, blip):
    """The model is not asked about a batch without images, and the others are as they were."""
    bad = [Record(id=f"bad {n}", image=b"no image") for n in range(8)]
    good = [Record(id=f"good {n}", image=noise(n)) for n in range(3)]
    watched = Watched(blip)
    pairs = caption([*bad[:4], *good, *bad[4:]], watched, out=tmp_path / "out", batch_size=4)
    assert watched.asked == [["good 0", "good 1", "good 2"]]
    assert (pairs.report.done, pairs.report.failed, pairs.report.total) == (3, 8, 11)
    only_bad = caption(bad, blip, out=tmp_path / "bad")
    assert (len(only_bad), only_bad.report.failed) == (0, 8)


def test_nothing_to_say(tmp_path):
    records = [Record(id="1", image=noise(1), label="Port"), Record(id="2", image=noise(2))]
    pairs = caption(records, TagCaptioner(), out=tmp_path / "tags")
    assert [str(failure) for failure in pairs.report.failures] == ["2: caption: nothing to say: no label and no tags"]
    assert [str(failure) for failure in Dataset.open(tmp_path / "tags").report.failures] == [
        "2: caption: nothing to say: no label and no tags"
    ]

    class Mute(Echo):
        def caption(self, records, images):
            return [[], ["  ", ""]]

    mute = caption(records, Mute(), out=tmp_path / "mute")
    assert {failure.reason for failure in mute.report.failures} == {"nothing to say: the captioner wrote no caption"}
    assert mute.report.failed == 2


def test_same_ids(tmp_path):
    twins = [Record(id="a", image=noise(1)), Record(id="a", image=noise(2))]
    pairs = caption(twins, Echo(), out=tmp_path)
    assert (len(pairs), [f.reason for f in pairs.report.failures]) == (1, ["another input has the same id"])


def test_a_file_that_vanishes_midway(tmp_path):
    source = list(scenes(tmp_path / "scenes", [f"{n:02}.png" for n in range(12)]))

    def walk():
        for record in source:
            if record.id == "05.png":
                (tmp_path / "scenes" / "07.png").unlink()
            yield record

    pairs = caption(walk(), Echo(), out=tmp_path / "out", batch_size=2)
    assert pairs.report.done == 11
    assert [(f.id, f.reason) for f in pairs.report.failures] == [("07.png", "the file does not exist")]


def test_raise(tmp_path):
    records = [Record(id="a", image=noise(0)), Record(id="b", image=b"")]
    with pytest.raises(ImageError, match="b: decode: the file is empty"):
        caption(records, Echo(), out=tmp_path / "out", on_error="raise")
    with pytest.raises(ImageError, match="nothing to say"):
        caption(records[:1], TagCaptioner(), out=tmp_path / "tags", on_error="raise")
    with pytest.raises(UsageError, match="'skip' or 'raise'"):
        caption(records, Echo(), out=tmp_path / "out", on_error="ignore")


def test_an_image_that_the_model_cannot_take(tmp_path):
    class Picky(Echo):
        def caption(self, records, images):
            if any(record.id == "3" for record in records):
                raise ValueError("I do not like 3")
            return super().caption(records, images)

    pairs = caption([Record(id=str(n), image=noise(n)) for n in range(6)], Picky(), out=tmp_path)
    assert [record.id for record in pairs] == list("01245")
    assert [str(f) for f in pairs.report.failures] == ["3: caption: ValueError: I do not like 3"]


def test_a_folder_that_grows(tmp_path, blip):
    names = [f"{n:02}.png" for n in range(10)]
    caption(scenes(tmp_path / "scenes", names[::2]), blip, out=tmp_path / "out", batch_size=2)
    watched = Watched(blip)
    pairs = caption(scenes(tmp_path / "scenes", names), watched, out=tmp_path / "out", batch_size=2)
    assert sum(watched.asked, []) == names[1::2]  # noqa: RUF017 - a list of five
    assert (pairs.report.done, pairs.report.skipped, len(pairs)) == (5, 5, 10)
    nothing_new = Watched(blip)
    assert len(caption(FolderSource(tmp_path / "scenes"), nothing_new, out=tmp_path / "out")) == 10
    assert nothing_new.asked == []


def test_another_captioner_is_refused_another_name_is_not(tmp_path, blip_folder, blip):
    records = [Record(id="1", image=noise(1))]
    caption(records, blip, out=tmp_path)
    with pytest.raises(ConfigMismatch, match=r"captioner: '.*' then, '.*' now"):
        caption(records, TagCaptioner(), out=tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["config"] == {"by": "caption", "captioner": blip.fingerprint}
    assert manifest["about"] == {"captioner": str(blip_folder)}
    watched = Watched(blip)
    watched.name = "moved"
    assert caption(records, watched, out=tmp_path).report.skipped == 1


def test_large_images_come_smaller_but_never_too_small(tmp_path):
    class Sized(Echo):
        image_size = 20

    for name in ("a.jpg", "a.png"):
        noise(0, (400, 300)).save(tmp_path / name)
    images = [tmp_path / "a.jpg", tmp_path / "a.png", noise(0, (79, 500)), noise(0, (10, 10))]
    pairs = caption([Record(id=str(n), image=i) for n, i in enumerate(images)], Sized(), out=tmp_path / "out")
    sizes = [tuple(map(int, pair.captions[0].split(" of ")[1].split("x"))) for pair in pairs]
    assert sizes[2:] == [(79, 500), (10, 10)]
    assert all(40 <= min(size) < 80 for size in sizes[:2])
    assert pairs[2].open().size == (79, 500)


@pytest.mark.parametrize("answer", [["one for all"], [[1], ["two"]], ["a", "b", "c"]])
def test_a_captioner_that_breaks_its_contract(tmp_path, answer):
    class Broken(Echo):
        def caption(self, records, images):
            return answer if len(records) == 2 else answer + answer

    with pytest.raises(UsageError, match="echo returned"):
        caption([Record(id=str(n), image=noise(n)) for n in range(2)], Broken(), out=tmp_path)


def test_wrong_arguments(tmp_path):
    with pytest.raises(UsageError, match="use load_captioner"):
        caption([], "blip-base", out=tmp_path)
    with pytest.raises(UsageError, match="unlike <object"):
        caption([], object(), out=tmp_path)
    with pytest.raises(UsageError, match="batch_size is a whole number"):
        caption([], Echo(), out=tmp_path, batch_size=0)
    with pytest.raises(UsageError, match="FolderSource"):
        caption(str(tmp_path), Echo(), out=tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be used"):
        caption([], Echo(), out=tmp_path / "file")


def test_odd_images_alone_and_among_good_ones(tmp_path, blip, shared_data):
    """Each ends as done or failed with a reason, the same in company as alone, and no good image is lost."""
    odd = sorted(path for path in (shared_data / "odd_images").iterdir() if path.suffix not in (".tsv", ".md"))
    assert len(odd) == 84
    good = list(scenes(tmp_path / "good", [f"good-{n:02}.png" for n in range(21)]))
    records = [Record(id=path.name, image=path) for path in odd]
    mixed = [record for n, r in enumerate(records) for record in ([r, good[n // 4]] if n % 4 == 0 else [r])]
    pairs = caption(mixed, blip, out=tmp_path / "mixed", batch_size=8)
    failed = {failure.id: failure.reason for failure in pairs.report.failures}
    done = {record.id: record.captions for record in pairs}
    assert set(done) | set(failed) == {record.id for record in mixed}
    assert pairs.report.total == len(mixed) == len(done) + len(failed)
    assert all(failed.values())
    assert {record.id for record in good} <= set(done)
    assert {"hopper.jpg", "hopper_gray.jpg", "1_trns.png", "tiff_16bit_RGB.tiff"} <= set(done)
    assert {"zero_byte_made_here.jpg", "broken.png", "libtiff_segfault.tif"} <= set(failed)
    watched = Watched(Echo())
    watched.image_size = blip.image_size  # so that they are decoded in the same way
    for record in records:
        alone = caption([record], watched, out=tmp_path / "alone" / record.id, batch_size=1).report
        assert {failure.id: failure.reason for failure in alone.failures} == {
            key: reason for key, reason in failed.items() if key == record.id
        }
        assert alone.total == 1


# A process that captions undisturbed in one directory; in another it is killed at random moments and starts again. The
# libraries are imported once, before it forks; nothing is computed before that, so each child has its own thread pools.
PROGRAM = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from PIL import Image
from transformers import AutoProcessor, BlipForConditionalGeneration
from geovlm import GenerationOptions, Record, caption, load_captioner

model, scenes, whole, killed = map(Path, sys.argv[1:5])

def records():
    for number, path in enumerate(sorted(scenes.iterdir())):
        image = b"broken" if number % 17 == 3 else Image.open(path) if number % 17 == 5 else path
        yield Record(id=path.name, image=image)

def work(out):
    torch.set_num_threads(1)
    options = GenerationOptions(do_sample=True, num_captions=2, max_new_tokens=4)
    caption(records(), load_captioner(model, device="cpu", dtype="float32", options=options), out=out, batch_size=8)

def start(out):
    child = os.fork()
    if child == 0:
        try:
            work(out)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return child

def end(child):
    assert os.waitpid(child, 0)[1] == 0

def parts():
    return len(list(killed.glob("part-*.parquet")))

end(start(whole))
chance = random.Random(sys.argv[5])
for goal in [0, 1, 1, 2, 3]:
    child = start(killed)
    while parts() < goal or not killed.exists():
        time.sleep(0.002)
    time.sleep(chance.random() * 0.15)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(parts(), end=" ")
end(start(killed))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the test forks")
def test_killed_at_any_moment_ends_with_the_same_bytes(tmp_path, blip_folder):
    scenes(tmp_path / "scenes", [f"{number:03}.png" for number in range(200)])
    seed = str(random.randrange(1000))
    places = [blip_folder, *(tmp_path / name for name in ("scenes", "whole", "killed"))]
    result = subprocess.run([sys.executable, "-c", PROGRAM, *places, seed], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    undisturbed = contents(tmp_path / "whole")
    assert sum(name.startswith("part-") for name in undisturbed) == 4
    assert sum(name.startswith("images/") for name in undisturbed) == 12
    finished_at_kills = [int(count) for count in result.stdout.split()]
    assert any(0 < count < 4 for count in finished_at_kills), f"never killed midway: {finished_at_kills}"
    assert contents(tmp_path / "killed") == undisturbed, f"seed {seed}"
