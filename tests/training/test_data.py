"""What becomes of every record, and that every draw follows from seed, epoch and place."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from geovlm.errors import ImageError, UnknownName, UsageError
from geovlm.records import Failure, Record
from geovlm.training import Augmentation, TrainingConfig
from geovlm.training.data import Batches, Pairs, Pixels
from geovlm.training.groups import caption_numbers, number_of


def record(number, **more):
    colour = (number % 256, number // 256, 0)
    fields = {"image": Image.new("RGB", (9, 9), colour), "captions": [f"scene {number}", f"picture {number}"], **more}
    return Record(id=f"r{number}", **fields)


def batches(records, *, budget=1 << 20, rank=0, ranks=1, vectors=None, **settings):
    config = TrainingConfig(augmentation=Augmentation(crop=(1.0, 1.0)), **settings)
    pixels = Pixels(records, prepare=lambda image: np.asarray(image.resize((6, 6))), side=6, budget=budget)
    return Batches(records, pixels, size=6, config=config, rank=rank, ranks=ranks, vectors=vectors), pixels


def flat(epoch):
    return [(int(p[0, 0, 0]), c) for batch in epoch for p, c in zip(batch.pixels, batch.captions, strict=True)]


def test_every_record_is_used_or_a_failure():
    records = [
        record(0),
        record(1, captions=[]),
        record(2, captions=[" ", "\n", "a field"]),
        record(3, captions=["  "]),
        record(0),
        record(4),
    ]
    pairs = Pairs.read(iter(records), what="train", at_least=2)
    assert [r.id for r in pairs.records] == ["r0", "r2", "r4"]
    assert pairs.records[1].captions == ("a field",)
    assert [(f.id, f.reason) for f in pairs.failures] == [
        ("r1", "it has no caption"),
        ("r3", "it has no caption"),
        ("r0", "another input has the same id"),
    ]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ([], "The source is empty: is the path right"),
        ([record(0)], "train has 1 records with a caption, and at least 2 are needed"),
        ([record(0, captions=[]), record(1)], r"1 were left out, the first because it has no caption \(r0\)"),
        (["a.jpg", "b.jpg"], "must yield geovlm.Record, not str"),
        (
            [record(n, captions=["A field.", "a  field."]) for n in range(9)],
            "All 9 records of train have the same capt",
        ),
        ("scenes/", "must be an image source or records, not str"),
        (3, "must be an image source or records, not int"),
    ],
)
def test_sources_that_cannot_be_trained_on(source, words):
    with pytest.raises(UsageError, match=words):
        Pairs.read(source, what="train", at_least=2)


def test_the_fingerprint_follows_ids_captions_and_order():
    def of(*records):
        return Pairs.read(records, what="train", at_least=1).fingerprint

    assert of(record(0), record(1)) == of(record(0), record(1))
    different = {
        of(record(0), record(1)),
        of(record(1), record(0)),
        of(record(0)),
        of(record(0, captions="a"), record(1)),
    }
    assert len(different) == 4


@pytest.mark.parametrize(("count", "batch_size", "sizes"), [(10, 4, [4, 3, 3]), (3, 100, [3]), (8, 4, [4, 4])])
def test_an_epoch_sees_every_image_once(count, batch_size, sizes):
    source, _ = batches([record(n) for n in range(count)], batch_size=batch_size)
    epoch = list(source.epoch(0))
    assert [len(batch.captions) for batch in epoch] == sizes
    assert sorted(number for number, _ in flat(epoch)) == list(range(count))
    assert all(caption.endswith(f" {number}") for number, caption in flat(epoch))


def test_draws_follow_from_seed_epoch_and_place():
    records = [record(n) for n in range(40)]
    source, _ = batches(records, batch_size=8, seed=1)
    first = flat(source.epoch(0))
    assert flat(source.epoch(0)) == first
    assert flat(source.epoch(1)) != first
    assert {caption for _, caption in flat(source.epoch(1))} != {caption for _, caption in first}
    assert flat(batches(records, batch_size=8, seed=2)[0].epoch(0)) != first


def test_entered_in_the_middle_or_without_memory_it_is_the_same():
    records = [record(n) for n in range(21)]
    source, kept = batches(records, batch_size=5)
    whole = [batch.pixels.tobytes() for batch in source.epoch(3)]
    assert [batch.pixels.tobytes() for batch in source.epoch(3, start=2)] == whole[2:]
    without, not_kept = batches(records, batch_size=5, budget=100)
    assert [batch.pixels.tobytes() for batch in without.epoch(3)] == whole
    assert (kept.nbytes, not_kept.nbytes) == (21 * 6 * 6 * 3, 0)


def test_images_are_decoded_once():
    opened = []

    def reader(number):
        def read():
            opened.append(number)
            if number == 2:
                raise OSError("gone")
            return Image.new("RGB", (9, 9))

        return read

    source, pixels = batches([record(n, image=reader(n)) for n in range(6)], batch_size=3)
    for epoch in range(3):
        assert sorted(len(batch.captions) for batch in source.epoch(epoch)) == [2, 3]
    assert sorted(opened) == list(range(6))
    assert [(f.id, f.stage, f.reason) for f in pixels.failures.values()] == [("r2", "decode", "OSError: gone")]
    with pytest.raises(ImageError, match="gone"):
        pixels[2]


def test_an_image_that_failed_in_an_earlier_call_is_tried_again():
    _, pixels = batches([record(0)])
    pixels.failures[0] = Failure(id="r0", stage="decode", reason="the network was down")
    assert pixels[0].shape == (6, 6, 3)
    assert not pixels.failures


def test_a_broken_image_changes_nothing_for_the_others():
    records = [record(n) for n in range(12)]
    good = dict(flat(batches(records, batch_size=4)[0].epoch(0)))
    records[5] = record(5, image=b"not an image")
    rest = dict(flat(batches(records, batch_size=4)[0].epoch(0)))
    del good[5]
    assert rest == good


def test_a_batch_of_broken_images_is_empty():
    records = [record(n, image=None) for n in range(4)]
    epoch = list(batches(records, batch_size=4)[0].epoch(0))
    assert [batch.pixels.shape for batch in epoch] == [(0, 6, 6, 3)]
    assert epoch[0].groups.shape == (0, 2)


def test_a_batch_says_whose_pairs_it_has_and_which_belong_together():
    image = Image.new("RGB", (9, 9))
    records = [
        record(0, captions="A field", meta={"scene": 1}),
        record(1, captions="a  field", meta={"scene": 2}),
        record(2, captions="a road", meta={"scene": 1}),
        record(3, captions="a lake", meta={"scene": "1"}),
        record(4, captions="a town", image=image, meta={"scene": None}),
    ]
    [batch] = batches(records, batch_size=9, positives="scene")[0].epoch(0)
    order = np.argsort(batch.ids)
    assert [batch.ids[place] for place in order] == ["r0", "r1", "r2", "r3", "r4"]
    assert batch.groups.dtype == np.int64
    captions, images, scenes = batch.groups[order].T
    assert (captions[0] == captions[1], len(set(captions))) == (True, 4)
    assert len(set(images)) == 5
    assert scenes[0] == scenes[2]
    assert (len(set(scenes)), scenes[4]) == (4, -1)
    assert (batch.groups >= 0).sum() == batch.groups.size - 1


def test_records_of_one_file_or_of_equal_bytes_are_one_image(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (9, 9)).save(path)
    images = [path, str(path), path.read_bytes(), bytes(bytearray(path.read_bytes()))]
    records = [record(n, image=image) for n, image in enumerate(images)]
    [batch] = batches(records)[0].epoch(0)
    numbers = batch.groups[np.argsort(batch.ids), 1]
    assert (numbers[0] == numbers[1], numbers[2] == numbers[3], numbers[0] != numbers[2]) == (True, True, True)


def test_numbers_are_the_same_in_every_process():
    """Recorded: processes compare their numbers, and hashes of strings differ between them."""
    assert caption_numbers(["A river."]).tolist() == [number_of("a river.")] == [5975851698948636343]


@pytest.mark.parametrize("ranks", [2, 3, 5])
@pytest.mark.parametrize("sampling", ["shuffle", "balanced"])
def test_processes_share_the_batches_of_one(ranks, sampling):
    records = [record(n, label=str(n % 3)) for n in range(23)]
    options = {"batch_size": 6, "sampling": sampling}
    whole = list(batches(records, **options)[0].epoch(1))
    shares = [list(batches(records, rank=rank, ranks=ranks, **options)[0].epoch(1)) for rank in range(ranks)]
    for number, batch in enumerate(whole):
        mine = [share[number] for share in shares]
        assert [key for share in mine for key in share.ids] == batch.ids
        assert [text for share in mine for text in share.texts] == batch.texts
        assert np.concatenate([share.pixels for share in mine]).tobytes() == batch.pixels.tobytes()
        assert (np.concatenate([share.groups for share in mine]) == batch.groups).all()


def test_more_processes_than_pairs_leave_some_without():
    records = [record(n) for n in range(3)]
    shares = [list(batches(records, rank=rank, ranks=5)[0].epoch(0)) for rank in range(5)]
    assert [len(batch.ids) for share in shares for batch in share] == [1, 1, 1, 0, 0]


def test_long_captions_pass_through():
    [batch] = batches([record(n, captions=f"{n} " + "word " * 2000) for n in range(2)])[0].epoch(0)
    assert {len(text.split()) for text in batch.texts} == {2001}


def test_values_for_positives_must_exist():
    records = [record(0, label="Port", meta={"scene": 3}), record(1)]
    Pairs.read(records, what="train", at_least=2, positives="scene")
    Pairs.read(records, what="train", at_least=2, positives="label")
    with pytest.raises(UnknownName, match=r"No value for positives is called 'scenes'\. Did you mean scene"):
        Pairs.read(records, what="train", at_least=2, positives="scenes")
