"""Hugging Face data sets: in memory, on disk, streamed, and in the wrong shape."""

from __future__ import annotations

import io
import pickle
import sys
import zipfile

import datasets
import numpy as np
import pytest
from PIL import Image

from geovlm import Dataset, HuggingFaceSource
from geovlm.errors import ImageError, MissingExtra, UnknownName, UsageError


def _png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), (shade,) * 3).save(buffer, format="PNG")
    return buffer.getvalue()


FEATURES = datasets.Features(
    image=datasets.Image(),
    label=datasets.ClassLabel(names=["Port", "Beach"]),
    captions=datasets.Sequence(datasets.Value("string")),
    year=datasets.Value("int32"),
)


@pytest.fixture
def data():
    rows = {
        "image": [{"bytes": _png(10 * i), "path": f"{i}.png"} for i in range(5)],
        "label": [0, 1, 0, 1, -1],
        "captions": [["a", "b"], ["c"], [], ["d"], ["e"]],
        "year": [2020, None, 2022, 2023, 2024],
    }
    return datasets.Dataset.from_dict(rows, features=FEATURES)


def _shade(record) -> int:
    return record.open().getpixel((0, 0))[0]


@pytest.mark.parametrize("streamed", [False, True])
def test_rows_become_records(data, streamed):
    source = HuggingFaceSource(data.to_iterable_dataset() if streamed else data)
    records = list(source)
    assert [r.id for r in records] == list("01234")
    assert [r.label for r in records] == ["Port", "Beach", "Port", "Beach", None]
    assert [r.captions for r in records] == [("a", "b"), ("c",), (), ("d",), ("e",)]
    assert [r.meta for r in records] == [{"year": 2020}, {}, {"year": 2022}, {"year": 2023}, {"year": 2024}]
    assert [_shade(r) for r in records] == [0, 10, 20, 30, 40]
    assert source.labels == ["Beach", "Port"]
    assert list(source) == records


def test_length(data):
    assert len(HuggingFaceSource(data)) == 5
    stream = HuggingFaceSource(data.to_iterable_dataset())
    with pytest.raises(TypeError, match="no length"):
        len(stream)
    assert len(Dataset.from_records(stream)) == 5


def test_order_and_pixels_of_a_shuffled_selection(data):
    chosen = data.shuffle(seed=3).select(range(3))
    assert [_shade(r) for r in HuggingFaceSource(chosen)] == [image.getpixel((0, 0))[0] for image in chosen["image"]]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_broken_image_fails_where_it_is_used(streamed):
    rows = {"image": [{"bytes": b"no image", "path": None}, {"bytes": _png(7), "path": None}, None]}
    data = datasets.Dataset.from_dict(rows, features=datasets.Features(image=datasets.Image()))
    broken, good, missing = HuggingFaceSource(data.to_iterable_dataset() if streamed else data)
    assert _shade(good) == 7
    for record in (broken, missing):
        with pytest.raises(ImageError):
            record.open()


def test_files_are_named_by_their_paths(tmp_path):
    (tmp_path / "a.png").write_bytes(_png(3))
    data = datasets.Dataset.from_dict({"image": [str(tmp_path / "a.png")]}).cast_column("image", datasets.Image())
    for each in (data, data.to_iterable_dataset()):
        [record] = HuggingFaceSource(each)
        assert (record.id, record.uri) == ("0", str(tmp_path / "a.png"))
        assert _shade(record) == 3


def test_columns_of_paths_and_of_bytes(tmp_path):
    (tmp_path / "a.png").write_bytes(_png(3))
    data = datasets.Dataset.from_dict({"filepath": [str(tmp_path / "a.png")], "raw": [_png(4)]})
    assert [_shade(r) for r in HuggingFaceSource(data)] == [3]
    assert [_shade(r) for r in HuggingFaceSource(data, image="raw")] == [4]
    assert [_shade(r) for r in HuggingFaceSource(data.to_iterable_dataset(), image="raw")] == [4]


def test_a_stream_without_features():
    def rows():
        for i in range(3):
            yield {"picture": Image.new("RGB", (6, 4), (i, i, i)), "text": f"scene {i}"}

    stream = datasets.IterableDataset.from_generator(rows)
    records = list(HuggingFaceSource(stream, image="picture"))
    assert [(_shade(r), r.captions) for r in records] == [(0, ("scene 0",)), (1, ("scene 1",)), (2, ("scene 2",))]


def test_a_stream_out_of_an_archive(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    with zipfile.ZipFile(tmp_path / "scenes.zip", "w") as archive:
        archive.writestr("a.png", _png(6))
    stream = datasets.load_dataset("imagefolder", data_files=str(tmp_path / "scenes.zip"), streaming=True)
    assert [_shade(r) for r in HuggingFaceSource(stream)] == [6]


def test_neighbours_of_one_id_are_one_record(data):
    flat = data.add_column("scene", [7, 7, 8, 8, 8]).remove_columns("captions").add_column("text", list("abcde"))
    source = HuggingFaceSource(flat, id="scene")
    assert [(r.id, r.captions) for r in source] == [("7", ("a", "b")), ("8", ("c", "d", "e"))]
    assert len(source) == 2


def test_formats_and_other_columns_do_not_matter(data):
    depth = [np.zeros((2, 2)).tolist()] * 5
    extra = data.add_column("depth", depth).add_column("mask", [{"bytes": b"broken", "path": None}] * 5)
    extra = extra.cast_column("mask", datasets.Image())
    for each in (extra.with_format("numpy"), extra.to_iterable_dataset()):
        first = next(iter(HuggingFaceSource(each)))
        assert first.meta == {"year": 2020, "depth": [[0.0, 0.0], [0.0, 0.0]]}
        assert _shade(first) == 0


def test_splits(data):
    both = datasets.DatasetDict(train=data, test=data.select([0]))
    assert len(HuggingFaceSource(both, split="test")) == 1
    assert len(HuggingFaceSource(datasets.DatasetDict(train=data))) == 5
    with pytest.raises(UsageError, match=r"splits train, test; choose one with split="):
        HuggingFaceSource(both)
    with pytest.raises(UnknownName, match="Did you mean train"):
        HuggingFaceSource(both, split="trian")
    with pytest.raises(UsageError, match="one split already"):
        HuggingFaceSource(data, split="train")


def test_local_paths(data, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    data.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict(train=data).save_to_disk(tmp_path / "splits")
    (tmp_path / "folder" / "Port").mkdir(parents=True)
    (tmp_path / "folder" / "Beach").mkdir()
    for name in ("Port/a.png", "Beach/b.png"):
        (tmp_path / "folder" / name).write_bytes(_png(9))
    assert len(HuggingFaceSource(tmp_path / "saved")) == 5
    assert len(HuggingFaceSource(str(tmp_path / "splits"), split="train")) == 5
    assert [(r.label, _shade(r)) for r in HuggingFaceSource(tmp_path / "folder")] == [("Beach", 9), ("Port", 9)]


@pytest.mark.parametrize("name", ["nobody/nothing", "/no/such/folder"])
def test_what_cannot_be_loaded(name):
    with pytest.raises(UsageError, match="could not be loaded"):
        HuggingFaceSource(name)


@pytest.mark.parametrize(
    ("argument", "match"), [("image", "imag"), ("caption", "caption"), ("label", "labels"), ("id", "yaer")]
)
def test_unknown_columns_name_the_nearest(data, argument, match):
    with pytest.raises(UnknownName, match=f"No column of the data set is called '{match}'. Did you mean"):
        HuggingFaceSource(data, **{argument: match})


def test_things_that_are_no_data_sets(data):
    with pytest.raises(UsageError, match="not a list"):
        HuggingFaceSource([1])
    with pytest.raises(UsageError, match="no rows"):
        HuggingFaceSource(data.select([]))
    with pytest.raises(UsageError, match="its columns are year"):
        HuggingFaceSource(data.select_columns(["year"]))


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"geovlm\[datasets\]"):
        HuggingFaceSource("x")


def test_records_can_go_to_other_processes(data):
    records = pickle.loads(pickle.dumps(list(HuggingFaceSource(data))))
    assert [_shade(r) for r in records] == [0, 10, 20, 30, 40]


def test_listing_a_data_set_does_not_hold_its_pixels(data):
    """What is stored as bytes is fetched when it is opened, so that a list of records stays small."""
    assert all(callable(record.image) for record in HuggingFaceSource(data))


def test_of_our_own_data_set(shared_data):
    from geovlm import TableSource

    data = Dataset.from_records(TableSource(shared_data / "aid" / "captions.json", split="val"))
    source = HuggingFaceSource(data.to_huggingface(), id="id")
    assert [(r.id, r.uri, r.captions, r.label) for r in source] == [(r.id, r.uri, r.captions, r.label) for r in data]
