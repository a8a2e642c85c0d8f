"""Data sets: from every source, on disk, killed and resumed, split, and in other libraries' forms."""

from __future__ import annotations

import functools
import io
import pickle
import shutil
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.model_selection import train_test_split

from geovlm import Dataset, FolderSource, Footprint, Record, TableSource, stratified_split
from geovlm.errors import ConfigMismatch, ImageError, MissingExtra, RunLocked, UsageError


def _png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), (shade,) * 3).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def scenes(tmp_path):
    """Twelve files of three classes, with two captions each."""
    records = []
    for i in range(12):
        path = tmp_path / "scenes" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(_png(i))
        records.append(
            Record(
                id=f"{i}",
                image=str(path),
                captions=[f"scene {i}", "a field"],
                label="abc"[i % 3],
                footprint=Footprint(west=i, south=0, east=i + 1, north=1) if i % 2 else None,
                meta={"year": 2000 + i, "tags": ["x"]} if i else {},
            )
        )
    return records


def _shades(data) -> list[int]:
    return [record.open().getpixel((0, 0))[0] for record in data]


def _ids(data) -> list[str]:
    return [record.id for record in data]


class TestInMemory:
    def test_records_come_back(self, scenes):
        data = Dataset.from_records(scenes)
        assert list(data) == scenes
        assert [r.uri for r in data] == [r.uri for r in scenes]
        assert (len(data), data.labels) == (12, ["a", "b", "c"])
        assert (data.report.done, data.report.failed) == (12, 0)
        assert repr(data) == "Dataset(12 images, 24 captions, 3 labels)"

    def test_a_generator_is_a_source(self, scenes):
        assert list(Dataset.from_records(record for record in scenes)) == scenes

    def test_images_that_are_no_files_are_referred_to(self):
        image = Image.new("RGB", (6, 4), (7, 7, 7))
        held = [
            Record(id="pil", image=image),
            Record(id="bytes", image=_png(8)),
            Record(id="call", image=lambda: _png(9)),
        ]
        data = Dataset.from_records([*held, Record(id="text", captions="only words")])
        assert data[0].image is image
        assert _shades(data.subset([0, 1, 2])) == [7, 8, 9]
        assert data[3].image is None

    def test_nothing_is_read(self):
        def explode():
            raise AssertionError

        assert len(Dataset.from_records([Record(id="a", image=explode), Record(id="b", image="/no/such/file")])) == 2

    def test_one_id_twice_is_a_failure(self, scenes):
        data = Dataset.from_records([*scenes, scenes[3]])
        assert len(data) == 12
        assert [(f.id, f.reason) for f in data.report.failures] == [("3", "another input has the same id")]

    def test_wrong_sources(self):
        with pytest.raises(UsageError, match="FolderSource"):
            Dataset.from_records("scenes/")
        with pytest.raises(UsageError, match=r"yields geovlm\.Record, not str"):
            Dataset.from_records(["a.png"])

    def test_items(self, scenes):
        data = Dataset.from_records(scenes)
        assert data[2] == scenes[2]
        assert data[-1] == scenes[-1]
        assert data[np.int64(5)] == scenes[5]
        for index in (12, -13):
            with pytest.raises(IndexError, match=f"no record {index} in a data set of 12"):
                data[index]
        with pytest.raises(UsageError, match="subset"):
            data[1:3]

    def test_survives_pickling(self, scenes):
        data = Dataset.from_records(scenes)
        assert list(pickle.loads(pickle.dumps(data))) == scenes

    def test_shows_its_classes_in_notebooks(self):
        data = Dataset.from_records(Record(id=str(i), label=f"<class {i:02}>") for i in range(13))
        shown = data._repr_html_()
        assert "&lt;class 09&gt;" in shown
        assert "… and 3 more" in shown
        assert "<class" not in shown


class TestChoosing:
    def test_subset(self, scenes):
        data = Dataset.from_records(scenes)
        assert _ids(data.subset([3, 0, -1])) == ["3", "0", "11"]
        assert _ids(data.subset(np.arange(12) % 4 == 0)) == ["0", "4", "8"]
        assert _ids(data.subset(range(2))) == ["0", "1"]
        assert len(data.subset([])) == 0
        assert data.subset([1]).report.total == 1

    @pytest.mark.parametrize(
        ("indices", "match"),
        [
            ([12], "no record 12"),
            ([-13], "no record -13"),
            ([1, 1], "twice"),
            ([0, -12], "twice"),
            (3, "whole"),
            ([0.5], "whole"),
            ("a", "whole"),
            ([True], "whole"),
        ],
    )
    def test_wrong_subsets(self, scenes, indices, match):
        with pytest.raises(UsageError, match=match):
            Dataset.from_records(scenes).subset(indices)

    def test_filter(self, scenes):
        data = Dataset.from_records(scenes).filter(lambda record: record.meta.get("year", 0) > 2008)
        assert _ids(data) == ["9", "10", "11"]
        assert data.labels == ["a", "b", "c"]

    def test_sample(self, scenes):
        data = Dataset.from_records(scenes)
        drawn = _ids(data.sample(5, seed=1))
        assert drawn == _ids(data.sample(5, seed=1)) == sorted(drawn, key=int)
        assert drawn != _ids(data.sample(5, seed=2))
        assert _ids(data.sample(12)) == _ids(data)
        for n in (13, -1):
            with pytest.raises(UsageError, match=f"{n} of 12"):
                data.sample(n)

    def test_fingerprint_is_of_the_rows(self, scenes):
        data = Dataset.from_records(scenes)
        assert data.fingerprint == Dataset.from_records(iter(scenes)).fingerprint
        joined = Dataset.from_records(scenes).subset([*range(6), *range(6, 12)])
        assert data.fingerprint == joined.fingerprint
        others = [data.subset(range(11)), data.subset([1, 0, *range(2, 12)])]
        others.append(Dataset.from_records([scenes[0].with_captions("new"), *scenes[1:]]))
        assert len({data.fingerprint, *(other.fingerprint for other in others)}) == 4


class TestSplit:
    def test_two_parts_or_three(self, scenes):
        data = Dataset.from_records(scenes)
        train, val = data.split(val=0.25, seed=3)
        assert (len(train), len(val)) == (9, 3)
        assert train.labels == val.labels == ["a", "b", "c"]
        assert set(_ids(train)) | set(_ids(val)) == set(_ids(data))
        train, val, test = data.split(val=0.25, test=0.25)
        assert [part.labels for part in (train, val, test)] == [["a", "b", "c"]] * 3
        assert (len(train), len(val), len(test)) == (6, 3, 3)

    def test_without_classes(self, scenes):
        data = Dataset.from_records(scenes)
        assert [len(part) for part in data.split(val=0.1, stratify=False)] == [11, 1]
        bare = Dataset.from_records([Record(id=str(i)) for i in range(20)])
        assert [len(part) for part in bare.split(val=0.1, test=0.1)] == [16, 2, 2]

    @settings(max_examples=30, deadline=None)
    @given(rows=st.lists(st.tuples(st.sampled_from("wxyz"), st.sampled_from("ab")), min_size=8, max_size=20))
    def test_no_image_is_in_two_parts(self, rows):
        records = [Record(id=str(i), image=f"{path}.png", label=label) for i, (path, label) in enumerate(rows)]
        images = {record.uri for record in records}
        if len(images) < 2:
            return
        train, val = Dataset.from_records(records).split(val=0.3)
        assert not {r.uri for r in train} & {r.uri for r in val}
        assert len(train) + len(val) == len(records)

    @pytest.mark.parametrize("wrong", [{"val": 0}, {"val": 1}, {"val": -0.1}, {"val": 0.6, "test": 0.5}, {"test": 1.0}])
    def test_wrong_shares(self, scenes, wrong):
        with pytest.raises(UsageError, match="shares"):
            Dataset.from_records(scenes).split(**wrong)

    def test_too_few(self):
        with pytest.raises(UsageError, match="too few"):
            Dataset.from_records([Record(id="a")]).split()

    def test_real_scenes(self, shared_data):
        data = Dataset.from_records(FolderSource(shared_data / "aid" / "images"))
        _, val, test = data.split(val=0.1, test=0.1, seed=0)
        for part in (val, test):
            assert part.to_pandas()["label"].value_counts().isin([7, 8]).all()


class TestStratifiedSplit:
    @pytest.mark.parametrize("seed", [0, 42])
    @pytest.mark.parametrize("share", [0.2, 0.25])
    def test_rows_are_those_of_scikit_learn(self, scenes, share, seed):
        labels = [record.label for record in scenes]
        expected = train_test_split(range(12), test_size=share, random_state=seed, stratify=labels)
        parts = stratified_split(scenes, test=share, seed=seed)
        assert [_ids(part) for part in parts] == [[str(i) for i in rows] for rows in expected]
        assert _shades(parts[1]) == expected[1]

    def test_records_need_labels(self, scenes):
        with pytest.raises(UsageError, match="1 of 13 records have no label"):
            stratified_split([*scenes, Record(id="x")])

    @pytest.mark.parametrize("share", [0.01, 0, 1.5])
    def test_wrong_shares(self, scenes, share):
        with pytest.raises(UsageError, match="cannot be split"):
            stratified_split(scenes, test=share)

    def test_a_class_of_one(self, scenes):
        with pytest.raises(UsageError, match="cannot be split"):
            stratified_split([*scenes, Record(id="x", label="alone")])

    def test_without_scikit_learn(self, scenes, monkeypatch):
        monkeypatch.setitem(sys.modules, "sklearn.model_selection", None)
        monkeypatch.setitem(sys.modules, "sklearn", None)
        with pytest.raises(MissingExtra, match=r"geovlm\[evaluate\]"):
            stratified_split(scenes)


class TestOnDisk:
    def test_write_and_open(self, scenes, tmp_path):
        written = Dataset.write(scenes, tmp_path / "out")
        opened = Dataset.open(str(tmp_path / "out"))
        for data in (written, opened):
            assert list(data) == scenes
            assert _shades(data) == list(range(12))
        assert (written.report.done, opened.report.skipped) == (12, 12)
        assert written.fingerprint == opened.fingerprint

    def test_images_without_a_path_get_one_and_move_with_the_directory(self, tmp_path):
        images = [_png(1), Image.new("RGB", (6, 4), (2, 2, 2)), np.full((4, 6), 3, dtype=np.uint8), lambda: _png(4)]
        Dataset.write((Record(id=str(i), image=image) for i, image in enumerate(images)), tmp_path / "out")
        (tmp_path / "out").rename(tmp_path / "moved")
        moved = Dataset.open(tmp_path / "moved")
        assert _shades(moved) == [1, 2, 3, 4]
        assert all(record.uri.startswith(str(tmp_path / "moved" / "images")) for record in moved)

    def test_a_function_is_called_once(self, tmp_path):
        calls = []
        Dataset.write([Record(id="a", image=lambda: calls.append(1) or _png(5))], tmp_path / "out")
        assert calls == [1]

    def test_relative_paths_are_made_absolute(self, scenes, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Dataset.write([Record(id="a", image="scenes/5.png")], "out")
        monkeypatch.chdir("/")
        assert _shades(Dataset.open(tmp_path / "out")) == [5]

    def test_what_failed_is_told_and_tried_again(self, scenes, tmp_path):
        broken = tmp_path / "scenes" / "3.png"
        broken.write_bytes(_png(3)[:40])
        mixed = [*scenes, Record(id="gone", image=tmp_path / "gone.png"), Record(id="text"), scenes[0]]
        first = Dataset.write(mixed, tmp_path / "out")
        assert (len(first), first.report.done, first.report.failed) == (11, 11, 4)
        reasons = {failure.id: failure.reason for failure in first.report.failures}
        assert reasons["gone"] == "the file does not exist"
        assert reasons["0"] == "another input has the same id"
        assert {f.id for f in Dataset.open(tmp_path / "out").report.failures} == {"3", "gone", "text"}
        broken.write_bytes(_png(3))
        second = Dataset.write(mixed, tmp_path / "out")
        assert (second.report.done, second.report.skipped, second.report.failed) == (1, 11, 3)
        assert sorted(_shades(Dataset.open(tmp_path / "out"))) == list(range(12))

    def test_a_source_that_grew_adds_only_what_is_new(self, scenes, tmp_path):
        Dataset.write(scenes[:5], tmp_path / "out")
        report = Dataset.write(scenes, tmp_path / "out").report
        assert (report.done, report.skipped) == (7, 5)

    def test_raise_stops_at_the_first_failure(self, tmp_path):
        with pytest.raises(ImageError, match=r"gone\.png: decode: the file does not exist"):
            Dataset.write([Record(id="a", image=str(tmp_path / "gone.png"))], tmp_path / "out", on_error="raise")
        with pytest.raises(UsageError, match="'rais'"):
            Dataset.write([], tmp_path / "out", on_error="rais")

    def test_save(self, scenes, tmp_path):
        held = Record(id="held", image=lambda: _png(99), captions="x")
        data = Dataset.from_records([*scenes, held]).subset([12, 4])
        saved = data.save(tmp_path / "out")
        assert list(saved) == list(Dataset.open(tmp_path / "out")) == [held, scenes[4]]
        assert _shades(saved) == [99, 4]
        assert data.save(tmp_path / "out").report.skipped == 2
        with pytest.raises(ConfigMismatch, match="fingerprint"):
            Dataset.from_records(scenes).save(tmp_path / "out")
        with pytest.raises(ConfigMismatch):
            Dataset.write(scenes, tmp_path / "out")

    def test_saved_twice_over(self, tmp_path):
        first = Dataset.write([Record(id="a", image=_png(5))], tmp_path / "one")
        second = first.save(tmp_path / "two")
        assert second[0].uri == first[0].uri

    def test_open_what_is_not_there(self, tmp_path):
        (tmp_path / "pairs").mkdir()
        with pytest.raises(UsageError, match=r"Did you mean .*pairs"):
            Dataset.open(tmp_path / "pair")
        with pytest.raises(UsageError, match="nothing that geovlm wrote"):
            Dataset.open(tmp_path / "pairs")

    def test_only_one_writes(self, scenes, tmp_path):
        def source():
            yield scenes[0]
            with pytest.raises(RunLocked):
                Dataset.write(scenes, tmp_path / "out")

        Dataset.write(source(), tmp_path / "out")

    def test_every_odd_image_is_done_or_failed(self, shared_data, tmp_path):
        source = FolderSource(shared_data / "odd_images")
        data = Dataset.write(source, tmp_path / "out")
        failed = {failure.id for failure in data.report.failures}
        assert set(_ids(data)) | failed == set(_ids(source))
        assert not set(_ids(data)) & failed
        assert all(failure.reason for failure in data.report.failures)
        assert {"hopper.jpg", "pil123p.png", "avif_hopper.avif"} <= set(_ids(data))
        assert {"broken.png", "truncated_image.png"} <= failed


KILLED = """
import os, signal, sys
from pathlib import Path
import geovlm._pairs
from geovlm import Dataset, Record
from PIL import Image

geovlm._pairs.PART_SIZE = 4
out, deadly = Path(sys.argv[1]), int(sys.argv[2])

def image(i):
    if i == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return Image.new("RGB", (6, 4), (i, i, i))

def read(i):
    return lambda: b"" if i % 10 == 3 else image(i)

Dataset.write([Record(id=str(i), image=read(i), label="x") for i in range(100)], out)
"""


@pytest.mark.parametrize("deadly", [0, 50, 99])
def test_killed_runs_end_like_undisturbed_ones(tmp_path, deadly):
    def run(out, deadly):
        return subprocess.run([sys.executable, "-c", KILLED, out, str(deadly)], capture_output=True, check=False)

    assert run(tmp_path / "whole", -1).returncode == 0
    assert run(tmp_path / "killed", deadly).returncode == -signal.SIGKILL
    assert run(tmp_path / "killed", -1).returncode == 0
    whole, killed = (Dataset.open(tmp_path / name) for name in ("whole", "killed"))
    assert _ids(whole) == _ids(killed)
    assert (len(killed), killed.report.failed) == (90, 10)
    for path in (tmp_path / "whole").rglob("*.p*"):  # parts and pictures
        assert (tmp_path / "killed" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()
    assert len(list((tmp_path / "killed" / "images").iterdir())) == 90


class TestOtherForms:
    def test_pandas(self, scenes):
        frame = Dataset.from_records(scenes).to_pandas()
        assert list(frame.columns) == [
            "id",
            "uri",
            "captions",
            "label",
            "west",
            "south",
            "east",
            "north",
            "tags",
            "year",
        ]
        assert frame.loc[3, "captions"] == ["scene 3", "a field"]
        assert frame["west"].tolist()[1:4:2] == [1, 3]
        assert np.isnan(frame.loc[0, "west"])

    def test_a_table_reads_what_pandas_was_given(self, scenes):
        frame = Dataset.from_records(scenes).to_pandas()
        again = list(TableSource(frame, id="id"))
        assert [(r.id, r.uri, r.captions, r.label, r.footprint) for r in again] == [
            (r.id, r.uri, r.captions, r.label, r.footprint) for r in scenes
        ]
        assert [r.meta for r in again] == [r.meta for r in scenes]

    def test_metadata_never_hides_a_column(self):
        frame = Dataset.from_records([Record(id="a", meta={"label": 5, "id": 6, "x": None})]).to_pandas()
        assert frame.loc[0, ["id", "meta_label", "meta_id"]].tolist() == ["a", 5, 6]

    def test_empty(self):
        data = Dataset.from_records([])
        assert isinstance(data.to_pandas(), pd.DataFrame)
        assert len(data.to_pandas()) == len(data.to_huggingface()) == 0
        assert list(data) == []

    def test_huggingface(self, scenes):
        data = Dataset.from_records(scenes)
        converted = data.to_huggingface()
        assert list(converted.features) == ["id", "image", "captions", "label", "footprint", "meta"]
        assert converted.features["label"].names == ["a", "b", "c"]
        row = converted[5]
        assert row["image"].getpixel((0, 0)) == (5, 5, 5)
        assert (row["captions"], row["label"], row["footprint"]) == (["scene 5", "a field"], 2, [5, 0, 6, 1])
        assert row["meta"] == '{"tags": ["x"], "year": 2005}'

    def test_huggingface_leaves_out_what_there_is_not(self):
        converted = Dataset.from_records([Record(id="a", image="/a.png")]).to_huggingface()
        assert list(converted.features) == ["id", "image", "captions"]

    def test_huggingface_needs_files(self, tmp_path):
        data = Dataset.from_records([Record(id="a", image=_png(5)), Record(id="b", image="/b.png")])
        with pytest.raises(UsageError, match="Save the data set"):
            data.to_huggingface()
        assert len(data.subset([1]).to_huggingface()) == 1
        assert data.subset([0]).save(tmp_path / "out").to_huggingface()[0]["image"].getpixel((0, 0)) == (5, 5, 5)

    def test_huggingface_is_quiet(self, scenes, capfd):
        Dataset.from_records(scenes).to_huggingface()
        assert capfd.readouterr() == ("", "")


def test_a_path_that_vanishes_midway(scenes, tmp_path):
    def source():
        for i, record in enumerate(scenes):
            if i == 6:
                shutil.rmtree(tmp_path / "scenes")
            yield record

    report = Dataset.write(source(), tmp_path / "out").report
    assert report.done + report.failed == 12
    assert {failure.reason for failure in report.failures} == {"the file does not exist"}


def test_sources_that_hold_functions_can_be_saved(tmp_path):
    records = [Record(id=str(i), image=functools.partial(_png, i)) for i in range(3)]
    assert _shades(Dataset.from_records(records).save(tmp_path / "out")) == [0, 1, 2]
