"""What becomes of every record, and that every draw follows from seed, epoch and place."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from geovlm.errors import ImageError, UsageError
from geovlm.records import Failure, Record
from geovlm.training import Augmentation, TrainingConfig
from geovlm.training.data import Batches, Pairs, Pixels


def record(number, **more):
    colour = (number % 256, number // 256, 0)
    fields = {"image": Image.new("RGB", (9, 9), colour), "captions": [f"scene {number}", f"picture {number}"], **more}
    return Record(id=f"r{number}", **fields)


def batches(records, *, budget=1 << 20, **settings):
    config = TrainingConfig(augmentation=Augmentation(crop=(1.0, 1.0)), **settings)
    pixels = Pixels(records, prepare=lambda image: np.asarray(image.resize((6, 6))), side=6, budget=budget)
    return Batches(records, pixels, size=6, config=config), pixels


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
