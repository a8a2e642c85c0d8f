"""Folders: order, labels, formats, links, and what cannot be read."""

from __future__ import annotations

import io
import os
import pickle
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geovlm import FolderSource, Record
from geovlm._files import nearest
from geovlm.errors import ImageError, UsageError
from geovlm.sources.folder import image_extensions


def _encoded(file_format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, format=file_format)
    return buffer.getvalue()


PNG = _encoded()


def _fill(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PNG)
    return root


def _ids(source) -> list[str]:
    return [record.id for record in source]


def test_class_folders_give_labels(tmp_path):
    source = FolderSource(_fill(tmp_path, "Port/1.png", "Beach/1.png", "Beach/2024/2.png", "loose.png"))
    assert [(r.id, r.label) for r in source] == [
        ("Beach/1.png", "Beach"),
        ("Beach/2024/2.png", "Beach"),
        ("Port/1.png", "Port"),
        ("loose.png", None),
    ]
    assert source.labels == ["Beach", "Port"]
    assert len(source) == 4


def test_labels_can_be_left_out(tmp_path):
    source = FolderSource(_fill(tmp_path, "2024/1.png"), class_folders=False)
    assert [record.label for record in source] == [None]
    assert source.labels == []


def test_flat_folder_has_no_labels(tmp_path):
    source = FolderSource(_fill(tmp_path, "b.png", "a.png"))
    assert [(r.id, r.label) for r in source] == [("a.png", None), ("b.png", None)]
    assert source.labels == []


def test_a_folder_without_images_is_no_label(tmp_path):
    _fill(tmp_path, "Beach/1.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "x.txt").write_text("x")
    assert FolderSource(tmp_path).labels == ["Beach"]


def test_not_recursive(tmp_path):
    source = FolderSource(_fill(tmp_path, "a.png", "deep/b.png"), recursive=False)
    assert _ids(source) == ["a.png"]
    assert len(source) == 1
    assert source.labels == []


def test_hidden_and_other_files_are_left_out(tmp_path):
    _fill(tmp_path, "a.PNG", ".hidden.png", ".thumbs/b.png", "__MACOSX/._a.png", "a.png.aux.xml", "notes.txt", "png")
    assert _ids(FolderSource(tmp_path)) == ["a.PNG"]


def test_records_open(tmp_path):
    [record] = FolderSource(_fill(tmp_path, "a.png"))
    assert record.uri == str(tmp_path / "a.png")
    assert record.open().size == (4, 4)


def test_broken_files_are_yielded(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    [record] = FolderSource(tmp_path)
    with pytest.raises(ImageError, match="not an image"):
        record.open()


@pytest.mark.parametrize(
    "ending", [".jpg", ".jpeg", ".png", ".tif", ".tiff", ".jp2", ".avif", ".webp", ".gif", ".mpo", ".ppm"]
)
def test_formats_of_imagery_are_known(ending):
    assert ending in image_extensions()


@pytest.mark.parametrize("ending", [".h5", ".grib", ".mpg", ".pdf", ".txt", ".xml", ""])
def test_what_pillow_does_not_decode_is_no_image(ending):
    assert ending not in image_extensions()


def test_every_extension_that_pillow_writes_and_reads_is_found(tmp_path):
    Image.init()
    both = set(Image.SAVE) & set(Image.OPEN) & {"BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP"}
    endings = [ending for ending, name in Image.registered_extensions().items() if name in both]
    for ending in endings:
        (tmp_path / f"x{ending}").write_bytes(_encoded(Image.registered_extensions()[ending]))
    records = list(FolderSource(tmp_path))
    assert len(records) == len(endings) > 15
    assert all(record.open().size == (4, 4) for record in records)


names = st.text(st.sampled_from("ab-.é0 "), min_size=1, max_size=4).filter(lambda name: not name.startswith("."))


@settings(max_examples=30, deadline=None)
@given(paths=st.sets(st.lists(names, min_size=1, max_size=3).map("/".join), min_size=1, max_size=8))
def test_order_is_that_of_whole_paths(tmp_path_factory, paths):
    root = tmp_path_factory.mktemp("order")
    expected = {f"{path}.png" for path in paths}
    _fill(root, *expected)
    source = FolderSource(root)
    assert _ids(source) == sorted(expected)
    assert len(source) == len(expected)
    shutil.rmtree(root)


def test_links_are_followed_but_not_in_circles(tmp_path):
    outside = _fill(tmp_path / "outside", "o.png")
    root = _fill(tmp_path / "root", "a/1.png")
    (root / "a" / "up").symlink_to(root)
    (root / "b").symlink_to(outside)
    (root / "itself").symlink_to(root / "itself")
    (root / "link.png").symlink_to(outside / "o.png")
    assert _ids(FolderSource(root)) == ["a/1.png", "b/o.png", "link.png"]


def test_a_link_to_nothing_fails_where_it_is_used(tmp_path):
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    [record] = FolderSource(tmp_path)
    with pytest.raises(ImageError, match="does not exist"):
        record.open()


def test_pipes_are_no_images(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "pipe.png")
    _fill(tmp_path, "a.png")
    assert _ids(FolderSource(tmp_path)) == ["a.png"]


def test_a_folder_that_vanishes_is_a_failure_and_the_rest_goes_on(tmp_path):
    source = FolderSource(_fill(tmp_path, "a/1.png", "b/1.png", "c/1.png"))
    records = iter(source)
    assert next(records).id == "a/1.png"
    shutil.rmtree(tmp_path / "b")
    lost, last = records
    assert (lost.id, last.id) == ("b/", "c/1.png")
    with pytest.raises(ImageError, match="could not be listed"):
        pickle.loads(pickle.dumps(lost)).open()


def test_names_that_are_not_utf8(tmp_path):
    _fill(tmp_path, os.fsdecode(b"caf\xe9/\xff.png"))
    [record] = FolderSource(tmp_path)
    assert (record.id, record.label) == ("caf\\xe9/\\xff.png", "caf\\xe9")
    assert record.open().size == (4, 4)
    assert FolderSource(tmp_path).labels == ["caf\\xe9"]


def test_relative_and_home_paths(tmp_path, monkeypatch):
    _fill(tmp_path / "scenes", "a.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for root in ("scenes", Path("scenes/"), "~/scenes"):
        assert next(iter(FolderSource(root))).uri == str(tmp_path / "scenes" / "a.png")


def test_missing_folder_names_the_nearest(tmp_path):
    _fill(tmp_path, "Scenes/2024/a.png")
    with pytest.raises(UsageError, match=r"scnes/2042 does not exist\. Did you mean .*/Scenes/2024\?"):
        FolderSource(tmp_path / "scnes" / "2042")


def test_nearest_of_something_quite_different_is_none(tmp_path):
    (tmp_path / "alpha").mkdir()
    assert nearest(tmp_path / "zzzz") is None
    with pytest.raises(UsageError, match=r"zzzz does not exist\.$"):
        FolderSource(tmp_path / "zzzz")


def test_a_file_is_not_a_folder(tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text("filepath\n")
    with pytest.raises(UsageError, match="TableSource"):
        FolderSource(table)


def test_empty_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(UsageError, match=r"holds no image in it or below\. .* \.jpg .* \.tif "):
        FolderSource(tmp_path)
    _fill(tmp_path, "deep/a.png")
    with pytest.raises(UsageError, match="recursive=True"):
        FolderSource(tmp_path, recursive=False)


def test_survives_pickling(tmp_path):
    source = FolderSource(_fill(tmp_path, "a.png"))
    assert pickle.loads(pickle.dumps(source)) == source


def test_real_scenes(shared_data):
    source = FolderSource(shared_data / "aid" / "images")
    records = list(source)
    assert len(records) == len(source) == 2395
    assert len(source.labels) == 30
    assert all(isinstance(r, Record) and r.id.startswith(f"{r.label}/") for r in records)


def test_every_odd_image_is_yielded(shared_data):
    folder = shared_data / "odd_images"
    others = {"PROVENANCE.md", "SOURCES.tsv", "OUTCOMES.tsv"}
    assert set(_ids(FolderSource(folder))) == {path.name for path in folder.iterdir()} - others
