"""Training on shards: each pair once an epoch, in an order of its own, whatever is broken."""

from __future__ import annotations

import io
import json
import tarfile
import threading

import numpy as np
import pytest
from PIL import Image

from geovlm import ShardSource, write_shards
from geovlm.errors import UnknownName, UsageError
from geovlm.records import Record
from geovlm.training import Augmentation, TrainingConfig
from geovlm.training.data import Batches, Pairs, make_batches, read_pairs
from geovlm.training.pairs import ShardPairs
from geovlm.training.streaming import ShardBatches


def resized(image, size=6):
    return np.asarray(image.resize((size, size)))


def record(number, **more):
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9), (number % 256, number // 256, 0)).save(buffer, format="PNG")
    fields = {"image": buffer.getvalue(), "captions": [f"scene {number}", f"picture {number}"], **more}
    return Record(id=f"r{number}", **fields)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """48 pairs in 10 shards."""
    folder = tmp_path_factory.mktemp("shards")
    write_shards([record(n, label=str(n % 3)) for n in range(48)], folder, images_a_shard=5, progress=False)
    return folder


@pytest.fixture
def copied(shards, tmp_path):
    for path in shards.glob("0*.tar"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "sizes.json").write_bytes((shards / "sizes.json").read_bytes())
    return tmp_path


def batches(folder, *, rank=0, ranks=1, window=12, **settings):
    config = TrainingConfig(**{"augmentation": Augmentation(crop=(1.0, 1.0)), "batch_size": 7, **settings})
    source = ShardSource(folder)
    return ShardBatches(source, prepare=resized, side=6, size=6, config=config, rank=rank, ranks=ranks, window=window)


def flat(epoch):
    return [(key, int(p[0, 0, 0]), c) for b in epoch for key, p, c in zip(b.ids, b.pixels, b.captions, strict=True)]


@pytest.mark.parametrize("window", [1, 12, 1000])
def test_an_epoch_sees_every_pair_once(shards, window):
    source = batches(shards, window=window)
    assert source.count == 7
    epoch = list(source.epoch(0))
    assert [len(batch.ids) for batch in epoch] == [7] * 6 + [6]
    assert sorted(key for key, _, _ in flat(epoch)) == sorted(f"r{n}" for n in range(48))
    assert all(key == f"r{number}" and caption.endswith(f" {number}") for key, number, caption in flat(epoch))
    assert not source.failures


def test_draws_follow_from_seed_and_epoch(shards):
    first = flat(batches(shards, seed=1).epoch(0))
    assert flat(batches(shards, seed=1).epoch(0)) == first
    assert [key for key, _, _ in flat(batches(shards, seed=1).epoch(1))] != [key for key, _, _ in first]
    assert [key for key, _, _ in flat(batches(shards, seed=2).epoch(0))] != [key for key, _, _ in first]
    assert {caption.split()[0] for _, _, caption in first} == {"scene", "picture"}


def test_windows_are_shuffled_each_in_its_own_way(shards):
    """Nine of ten shards have five pairs, and each is a window."""
    keys = [int(key[1:]) for key, _, _ in flat(batches(shards, window=1).epoch(0))]
    orders = {tuple(key % 5 for key in keys if key // 5 == shard) for shard in range(9)}
    assert len(orders) > 5


def test_pairs_of_many_shards_meet_in_a_batch(shards):
    [first, *_] = batches(shards, window=1000, batch_size=24).epoch(0)
    assert len({int(key[1:]) // 5 for key in first.ids}) >= 7


@pytest.mark.parametrize("start", [1, 4, 6])
def test_entered_in_the_middle_it_reads_nothing_that_comes_before(shards, start, monkeypatch):
    whole = [batch.pixels.tobytes() for batch in batches(shards, window=5).epoch(3)]
    opened = []
    starts = ShardSource.starts
    monkeypatch.setattr(ShardSource, "starts", lambda self, n: opened.append(n) or starts(self, n))
    again = batches(shards, window=5)
    assert [batch.pixels.tobytes() for batch in again.epoch(3, start=start)] == whole[start:]
    assert len(opened) <= 10 - start * 7 // 5 + 1
    assert list(again.epoch(3, start=7)) == []


@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_share_the_batches_of_one(shards, ranks):
    whole = list(batches(shards).epoch(1))
    shares = [list(batches(shards, rank=rank, ranks=ranks).epoch(1)) for rank in range(ranks)]
    for number, batch in enumerate(whole):
        mine = [share[number] for share in shares]
        assert [key for share in mine for key in share.ids] == batch.ids
        assert np.concatenate([share.pixels for share in mine]).tobytes() == batch.pixels.tobytes()
        assert (np.concatenate([share.groups for share in mine]) == batch.groups).all()


def test_groups_tell_equal_images_and_labels(tmp_path):
    same = record(0).image
    records = [record(n, image=same if n < 3 else record(n).image, label=str(n % 2)) for n in range(6)]
    write_shards(records, tmp_path, progress=False)
    [batch] = batches(tmp_path, batch_size=6, positives="label").epoch(0)
    order = np.argsort(batch.ids)
    _, images, labels = batch.groups[order].T
    assert len(set(images[:3])) == 1
    assert len(set(images)) == 4
    assert labels.tolist() == [labels[n % 2] for n in range(6)]


def test_a_shard_cut_in_half_costs_its_end_only(copied):
    good = flat(batches(copied).epoch(0))
    path = copied / "00003.tar"
    (copied.parent / "whole.tar").write_bytes(path.read_bytes())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = batches(copied)
    rest = flat(source.epoch(0))
    lost = [pair for pair in good if pair not in rest]
    assert [pair for pair in good if pair in rest] == rest
    assert {int(key[1:]) // 5 for key, _, _ in lost} == {3}
    assert 1 <= len(lost) <= 4
    assert len(source.failures) == len(lost)
    assert source.failures["3#4"].reason.startswith("it is lost: the shard is cut off after 00003000")
    list(source.epoch(1))
    assert len(source.failures) == len(lost)
    path.write_bytes((copied.parent / "whole.tar").read_bytes())
    assert flat(source.epoch(0)) == good
    assert not source.failures


def test_without_a_count_the_lost_end_of_a_shard_is_one_failure(copied):
    (copied / "sizes.json").unlink()
    path = copied / "00003.tar"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    source = batches(copied)
    seen = flat(source.epoch(0))
    assert len(source.failures) >= 1
    assert len(seen) + len(source.failures) == len(ShardSource(copied)) == len(list(ShardSource(copied)))


def test_a_shard_that_goes_away_or_grows(copied):
    source = batches(copied)
    assert source.count == 7
    (copied / "00001.tar").unlink()
    write_shards([record(n) for n in range(100, 109)], copied / "more", progress=False)
    (copied / "00002.tar").write_bytes((copied / "more" / "00000.tar").read_bytes())
    with pytest.warns(RuntimeWarning, match=r"00002\.tar holds 9 pairs, and 5 were counted"):
        seen = [key for key, _, _ in flat(source.epoch(0))]
    assert len(seen) == 43
    assert {key for key in seen if int(key[1:]) >= 100} == {f"r{n}" for n in range(100, 105)}
    assert {failure.id: failure.reason for failure in source.failures.values()} == {
        f"00001.tar#{n}": "it is lost: the shard cannot be read (No such file or directory)" for n in range(5)
    }


def test_bad_pairs_leave_their_places_empty(tmp_path):
    files = []
    for number in range(8):
        about = {"captions": [f"scene {number}"]}
        parts = {"png": record(number).image, "json": json.dumps(about).encode()}
        if number == 2:
            parts["png"] = b"no image"
        if number == 3:
            del parts["png"]
        if number == 4:
            parts["json"] = b'{"captions": [" ", ""]}'
        if number == 5:
            parts["json"] = b"{"
        files += [(f"{number}.{ending}", data) for ending, data in parts.items()]
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    source = batches(tmp_path, batch_size=8)
    [batch] = source.epoch(0)
    assert sorted(batch.ids) == ["0", "1", "6", "7"]
    assert {failure.id: failure.reason for failure in source.failures.values()} == {
        "2": "not an image, or of a format that Pillow does not know",
        "3": "it has no image",
        "4": "it has no caption",
        "5": "its .json is not valid JSON",
    }
    assert all(failure.uri == f"{tmp_path}/a.tar#{failure.id}" for failure in source.failures.values())


def test_a_failure_of_an_earlier_call_is_taken_back(shards):
    source = batches(shards)
    number = 0
    start = int(source._source.starts(number)[0][0])
    key = f"{number}:{start}"
    source.failures[key] = source.failures["x"] = "the network was down"
    list(source.epoch(0))
    assert list(source.failures) == ["x"]


def test_all_images_broken_in_all_batches(tmp_path):
    write_shards([record(n) for n in range(6)], tmp_path, progress=False)
    path = tmp_path / "00000.tar"
    path.write_bytes(path.read_bytes().replace(b"\x89PNG", b"\x89XXX"))
    source = batches(tmp_path, batch_size=3)
    assert [batch.pixels.shape for batch in source.epoch(0)] == [(0, 6, 6, 3)] * 2
    assert [batch.groups.shape for batch in source.epoch(0)] == [(0, 2)] * 2
    assert len(source.failures) == 6


def test_an_epoch_left_early_leaves_no_threads(shards):
    before = threading.active_count()
    epoch = batches(shards, window=5).epoch(0)
    next(epoch)
    epoch.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("sampling", ["balanced", "hard-negatives"])
def test_samplings_that_need_all_pairs(shards, sampling):
    with pytest.raises(UsageError, match=f"sampling='{sampling}' needs all captions in memory"):
        batches(shards, sampling=sampling)


def test_the_source_decides_how_pairs_are_read(shards):
    config = TrainingConfig(batch_size=16)
    shard_pairs = read_pairs(ShardSource(shards), what="train", at_least=2, positives=None)
    assert isinstance(shard_pairs, ShardPairs)
    assert (len(shard_pairs), shard_pairs.failures) == (48, ())
    pairs = read_pairs(list(ShardSource(shards)), what="train", at_least=2, positives="label")
    assert isinstance(pairs, Pairs)
    assert len(pairs) == 48
    made = [make_batches(p, prepare=resized, size=6, config=config) for p in (shard_pairs, pairs)]
    assert [type(one) for one in made] == [ShardBatches, Batches]
    ids = [sorted(key for batch in one.epoch(0) for key in batch.ids) for one in made]
    assert ids[0] == ids[1]
    assert [one.count for one in made] == [3, 3]
    assert [one.failures for one in made] == [{}, {}]
    assert (made[0].nbytes, made[1].nbytes > 0) == (0, True)


def test_too_little_to_train_on(tmp_path, shards):
    write_shards([record(0)], tmp_path, progress=False)
    with pytest.raises(UsageError, match="train has 1 pairs in its shards, and at least 2 are needed"):
        read_pairs(ShardSource(tmp_path), what="train", at_least=2, positives=None)
    for source in ([record(0), record(1)], ShardSource(shards)):
        with pytest.raises(UnknownName, match="No value for positives"):
            read_pairs(source, what="train", at_least=2, positives="scene")
