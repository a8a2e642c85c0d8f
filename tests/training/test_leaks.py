"""Held-out records that training has seen are found, whatever they are called."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from geovlm import FolderSource, Record, ShardSource, write_shards
from geovlm.training import find_leaks


def encoded(number, *, side=9):
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (number, 0, 0)).save(buffer, format="PNG")
    return buffer.getvalue()


def scene(name, number, **more):
    return Record(id=name, image=encoded(number), captions="a field", label="Field", **more)


def test_nothing_in_common_but_captions_and_labels():
    leaks = find_leaks([scene("a", 1), scene("b", 2)], [scene("c", 3)])
    assert not leaks
    assert str(leaks) == "Nothing of 1 held-out records is in the training data."
    assert not find_leaks([], [])


def test_the_same_image_under_another_name(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    for number in range(300):
        (tmp_path / "train" / f"t{number}.png").write_bytes(encoded(number % 250, side=9 + number // 250))
    (tmp_path / "val" / "v1.png").write_bytes(encoded(17))
    (tmp_path / "val" / "v2.png").write_bytes(encoded(40, side=10))
    (tmp_path / "val" / "v3.png").write_bytes(encoded(40, side=11))
    leaks = find_leaks(FolderSource(tmp_path / "train"), FolderSource(tmp_path / "val"))
    assert leaks.images.examples == (("t17.png", "v1.png"), ("t290.png", "v2.png"))
    assert (leaks.images.count, leaks.ids.count, leaks.scenes.count, leaks.unread) == (2, 0, 0, 0)
    assert str(leaks) == (
        "2 of 3 held-out records have the same image as a training record, such as v1.png (t17.png in training)."
    )


def test_images_of_every_kind(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(1))
    pixels = np.random.default_rng(0).integers(0, 255, (9, 9, 3)).astype(np.uint8)
    train = [
        Record(id="file", image=tmp_path / "a.png"),
        Record(id="reader", image=lambda: encoded(2)),
        Record(id="array", image=pixels),
    ]
    write_shards([scene("s", 3)], tmp_path / "shards", progress=False)
    [sharded] = ShardSource(tmp_path / "shards")
    val = [
        Record(id="v1", image=encoded(1)),
        Record(id="v2", image=encoded(2)),
        Record(id="v3", image=Image.fromarray(pixels)),
        Record(id="v4", image=Image.fromarray(pixels[::-1])),
        Record(id="v5", image=lambda: encoded(3)),
    ]
    leaks = find_leaks([*train, sharded], val)
    assert leaks.images.examples == (("file", "v1"), ("reader", "v2"), ("array", "v3"), ("s", "v5"))


def test_scenes_and_ids():
    train = [scene(f"t{n}", n, meta={"scene": n // 2, "strip": "x"}) for n in range(4)]
    val = [
        scene("v0", 10, meta={"scene": 1}),
        scene("t3", 11, meta={"scene": "1"}),
        scene("v2", 12, meta={"strip": "x"}),
        scene("v3", 13),
    ]
    leaks = find_leaks(train, val)
    assert leaks.scenes.examples == (("t2", "v0"),)
    assert leaks.ids.examples == (("t3", "t3"),)
    assert str(leaks).splitlines() == [
        "1 of 4 held-out records have the same scene as a training record, such as v0 (t2 in training).",
        "1 of 4 held-out records have the id of a training record, such as t3.",
    ]
    assert find_leaks(train, val, scene="strip").scenes.examples == (("t0", "v2"),)
    assert leaks.to_json()["scenes"] == {"count": 1, "examples": (("t2", "v0"),)}


def test_each_is_counted_once_and_few_are_named():
    train = [scene(f"t{n}", n % 8) for n in range(40)]
    val = [scene(f"v{n}", n) for n in range(20)]
    leaks = find_leaks(train, val)
    assert leaks.images.count == 8
    assert leaks.images.examples == tuple((f"t{n}", f"v{n}") for n in range(5))


def test_what_cannot_be_read_is_told(tmp_path):
    train = [Record(id="gone", image=tmp_path / "gone.png"), Record(id="none"), scene("a", 1)]
    leaks = find_leaks(train, [scene("b", 1), Record(id="broken", image=np.zeros((0, 3, 3)))])
    assert (leaks.images.count, leaks.unread) == (1, 3)
    assert str(leaks).endswith("3 images could not be read and were not compared.")


def test_only_images_of_equal_length_are_read(tmp_path, monkeypatch):
    from geovlm.training.leaks import _Contents

    read = []
    code = _Contents.code
    monkeypatch.setattr(_Contents, "code", lambda self: read.append(self.id) or code(self))
    train = [Record(id=f"t{n}", image=b"x" * n) for n in range(100)]
    assert find_leaks(train, [Record(id="v", image=b"x" * 50)]).images.count == 1
    assert set(read) == {"t50", "v"}


def test_generators_are_read_once():
    assert find_leaks((scene("a", n) for n in [1]), (scene("b", n) for n in [1])).images.count == 1


@pytest.mark.parametrize("count", [1, 256, 257, 700])
def test_every_training_record_is_compared(count):
    train = [Record(id=f"t{n}", image=n.to_bytes(4, "big")) for n in range(count)]
    leaks = find_leaks(train, [Record(id="v", image=(count - 1).to_bytes(4, "big"))])
    assert leaks.images.examples == ((f"t{count - 1}", "v"),)
