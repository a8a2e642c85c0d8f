"""WebDataset shards: read in every usual layout, cut at every byte, written so that a killed call goes on."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geovlm import FolderSource, ShardSource, TableSource, write_shards
from geovlm.errors import ConfigMismatch, ImageError, StorageError, UnknownName, UsageError
from geovlm.records import Footprint, Record
from geovlm.sources._shard_names import expand_braces, find_shards
from geovlm.sources._tar import samples


def jpeg(number=0, *, side=8, kind="JPEG"):
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (number % 256, 0, 0)).save(buffer, format=kind)
    return buffer.getvalue()


def write_tar(path, files, **options):
    with tarfile.open(path, "w", **options) as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def img2dataset(path, numbers):
    """As img2dataset writes: the caption is in the text and in the JSON, whose key is the name."""
    files = []
    for number in numbers:
        key = f"{number:09d}"
        about = {"key": key, "caption": f"scene {number}", "status": "success", "sha256": "0" * 64, "width": 8}
        files += [(f"{key}.jpg", jpeg(number)), (f"{key}.txt", f"scene {number}".encode())]
        files.append((f"{key}.json", json.dumps(about).encode()))
    return write_tar(path, files)


def failing(records):
    reasons = {}
    for record in records:
        try:
            record.open()
        except ImageError as error:
            reasons[record.id] = error.reason
    return reasons


def test_img2dataset_layout(tmp_path):
    img2dataset(tmp_path / "00000.tar", range(3))
    img2dataset(tmp_path / "00001.tar", range(3, 5))
    source = ShardSource(tmp_path)
    records = list(source)
    assert [record.id for record in records] == [f"{number:09d}" for number in range(5)]
    assert records[4].captions == ("scene 4",)
    assert records[4].meta == {"status": "success", "sha256": "0" * 64, "width": 8}
    assert records[4].open().getpixel((0, 0))[0] in range(3, 6)
    assert source.sizes == [3, 2]
    assert len(source) == 5
    assert pickle.loads(pickle.dumps(records[4].image))() == jpeg(4)


@pytest.mark.parametrize(
    ("fields", "text", "options", "captions"),
    [
        ({}, "one line\n\nanother line\n", {}, ("one line", "another line")),
        ({"captions": ["a", "b"]}, "c", {}, ("a", "b")),
        ({"captions": []}, "c", {}, ("c",)),
        ({"caption": None}, "c", {}, ("c",)),
        ({"title": "a", "text": "b"}, "c", {"caption": ["text", "title"]}, ("b", "a")),
        ({"title": "a"}, "c", {"caption": "txt"}, ("c",)),
        ({"caption": " "}, None, {}, ()),
        ({"caption": "x " * 2000}, None, {}, ("x " * 2000,)),
        ({}, b"caf\xe9", {}, ("caf�",)),
    ],
)
def test_captions(tmp_path, fields, text, options, captions):
    files = [("0.jpg", jpeg()), ("0.json", json.dumps(fields).encode())]
    if text is not None:
        files.append(("0.txt", text if isinstance(text, bytes) else text.encode()))
    [record] = ShardSource(write_tar(tmp_path / "a.tar", files), **options)
    assert record.captions == captions


def test_labels_footprints_ids_and_what_else_is_in_an_archive(tmp_path):
    about = {"scene": 7, "label": "Port", "lon": 8.5, "lat": 47.0, "year": 2024}
    files = [
        ("._a.jpg", b"what a desktop leaves behind"),
        ("./part/a.seg.png", jpeg(kind="PNG")),
        ("./part/a.JPG", jpeg(9)),
        ("./part/a.json", json.dumps(about).encode()),
        ("part/b.json", json.dumps({**about, "scene": None, "lat": 147}).encode()),
        ("part/b.png", jpeg(kind="PNG")),
        ("part/c.txt", b"text alone"),
    ]
    path = write_tar(tmp_path / "a.tar", files)
    with pytest.warns(RuntimeWarning, match="no footprint"):
        first, second, third = ShardSource(path, id="scene")
    assert (first.id, first.label, first.meta) == ("7", "Port", {"year": 2024})
    assert first.footprint.center == (8.5, 47.0)
    assert (second.id, second.footprint) == ("part/b", None)
    assert failing([first, second, third]) == {"part/c": "the record 'part/c' has no image"}
    with pytest.warns(RuntimeWarning, match="no footprint"):
        assert ShardSource(path).labels == ["Port"]


def test_classes_as_web_dataset_has_them(tmp_path):
    files = [("a.jpg", jpeg()), ("a.cls", b"3\n"), ("b.jpg", jpeg()), ("b.cls", b"5")]
    assert [record.label for record in ShardSource(write_tar(tmp_path / "a.tar", files))] == ["3", "5"]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("key", ["a", "f" * 60 + "/" + "k" * 80, "düne/küste"])
def test_names_of_every_length_in_every_format(tmp_path, kind, key):
    files = [(f"{key}.jpg", jpeg()), (f"{key}.txt", b"dune"), ("z.jpg", jpeg()), ("z.txt", b"end")]
    records = list(ShardSource(write_tar(tmp_path / "a.tar", files, format=kind)))
    assert [(record.id, record.captions) for record in records] == [(key, ("dune",)), ("z", ("end",))]
    assert not failing(records)


def test_links_and_folders_in_archives_are_not_followed(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("a.txt", tarfile.SYMTYPE), ("b.txt", tarfile.LNKTYPE), ("c", tarfile.DIRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, str(secret)
            archive.addfile(member)
        for name, data in (("../../d.jpg", jpeg()), ("../../d.txt", b"outside")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    before = sorted(tmp_path.rglob("*"))
    [record] = ShardSource(tmp_path / "a.tar")
    assert (record.id, record.captions) == ("../../d", ("outside",))
    assert sorted(tmp_path.rglob("*")) == before


def test_broken_json_fails_alone(tmp_path):
    files = []
    for number, about in enumerate([b"{}", b"{", b"[1]", b"\xff", b"[" * 100_000]):
        files += [(f"{number}.jpg", jpeg()), (f"{number}.json", about), (f"{number}.txt", b"x")]
    records = list(ShardSource(write_tar(tmp_path / "a.tar", files)))
    assert failing(records) == dict.fromkeys("1234", "its .json is not valid JSON")


def test_a_shard_cut_at_any_byte(tmp_path):
    """What is before the cut is read, and the cut is told, wherever it is."""
    whole = img2dataset(tmp_path / "whole.tar", range(4)).read_bytes()
    every = list(samples(tmp_path / "whole.tar"))
    starts = [sample.start for sample in every]
    offset, size = every[-1].parts["json"]
    end = -(-(offset + size) // 512) * 512
    path = tmp_path / "cut.tar"
    for length in [*range(1, len(whole), 397), *starts[1:], starts[1] - 512, starts[2] + 512, end, end + 512]:
        path.write_bytes(whole[:length])
        found, reason = [], None
        try:
            found.extend(samples(path))
        except ImageError as error:
            reason = error.reason
        complete = sum(start <= length for start in starts[1:])
        if length >= end + 512:
            assert (len(found), reason) == (4, None)
            continue
        assert len(found) >= complete
        assert reason.startswith(("the shard is cut off", "the shard is damaged")), reason
        assert all(offset + size <= length for sample in found for offset, size in sample.parts.values())
        if reason.startswith("the shard is cut off in"):
            assert reason.split()[-1].split(".")[0] not in {sample.key for sample in found}


def test_a_cut_shard_ends_in_a_failure_that_says_where(tmp_path):
    path = img2dataset(tmp_path / "a.tar", range(4))
    path.write_bytes(path.read_bytes()[: [s.start for s in samples(path)][2] + 700])
    img2dataset(tmp_path / "b.tar", range(4, 6))
    records = list(ShardSource(tmp_path))
    assert [record.id for record in records] == ["000000000", "000000001", "a.tar", "000000004", "000000005"]
    assert failing(records) == {"a.tar": "the shard is cut off in 000000002.jpg"}


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_bytes_that_are_anything(tmp_path_factory, data):
    """Damage never hangs, never raises anything else, and never leads outside the file."""
    folder = tmp_path_factory.mktemp("shards")
    content = bytearray(img2dataset(folder / "a.tar", range(3)).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        piece = data.draw(st.binary(min_size=1, max_size=16))
        content[at : at + len(piece)] = piece
    (folder / "a.tar").write_bytes(content)
    try:
        found = list(samples(folder / "a.tar"))
    except ImageError:
        return
    assert all(offset + size <= len(content) for sample in found for offset, size in sample.parts.values())


def test_a_negative_length_is_no_way_back(tmp_path):
    header = bytearray(tarfile.TarInfo("a.jpg").tobuf())
    header[124:136] = b"-0000001000\0"
    header[148:156] = b"%06o\0 " % (sum(header) - sum(header[148:156]) + 256)
    (tmp_path / "a.tar").write_bytes(bytes(header) * 3)
    with pytest.raises(ImageError, match="damaged"):
        list(samples(tmp_path / "a.tar"))


def test_patterns(tmp_path):
    for number in range(12):
        (tmp_path / f"{number:02d}.tar").touch()
    every = [tmp_path / f"{number:02d}.tar" for number in range(12)]
    assert find_shards(tmp_path) == every
    assert find_shards(f"{tmp_path}/{{00..11}}.tar") == every
    assert find_shards(f"{tmp_path}/*.tar") == every
    assert find_shards([every[3], f"{tmp_path}/{{02,03}}.tar"]) == [every[3], every[2]]
    assert list(expand_braces("{a,b}{1..2}")) == ["a1", "a2", "b1", "b2"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("{00..02}.tar", r"02\.tar does not exist"),
        ("{02..00}.tar", r"counts down; write \{00\.\.02\}"),
        ("x*.tar", "No file matches"),
        ("00.tat", r"Did you mean .*00\.tar"),
        ("a.tar.gz", r"not a plain tar file \(\.tar\)"),
        ("empty", "holds no shard"),
        ("00.tar", "has no sample"),
    ],
)
def test_shards_that_are_not_there(tmp_path, name, words):
    for file in ("00.tar", "01.tar", "a.tar.gz"):
        (tmp_path / file).touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=words):
        ShardSource(f"{tmp_path}/{name}")


def test_addresses_are_refused():
    for name in ("https://example.com/{0..9}.tar", "pipe:cat a.tar"):
        with pytest.raises(UsageError, match="is an address: download them first"):
            ShardSource(name)
    with pytest.raises(UsageError, match="No shards were given"):
        ShardSource([])


def test_names_that_no_sample_has(tmp_path):
    path = img2dataset(tmp_path / "a.tar", range(2))
    with pytest.raises(UnknownName, match="Did you mean caption"):
        ShardSource(path, caption="captoin")


def test_sizes_are_taken_from_where_they_are_written(tmp_path):
    img2dataset(tmp_path / "a.tar", range(3))
    img2dataset(tmp_path / "b.tar", range(2))
    (tmp_path / "sizes.json").write_text('{"a.tar": 30}')
    assert ShardSource(tmp_path).sizes == [30, 2]
    (tmp_path / "sizes.json").write_text("[]")
    with pytest.raises(UsageError, match=r"sizes\.json does not give a number for each shard"):
        len(ShardSource(tmp_path))


def test_the_fingerprint_follows_counts_and_what_is_read(tmp_path):
    path = img2dataset(tmp_path / "a.tar", range(3))
    first = ShardSource(path).fingerprint
    assert ShardSource(path).fingerprint == first
    assert ShardSource(path, caption="txt").fingerprint != first
    img2dataset(path, range(4))
    assert ShardSource(path).fingerprint != first


# Writing


def scenes(count, **more):
    return [
        Record(
            id=f"scene {number}",
            image=jpeg(number),
            captions=[f"a scene {number}", "from above"],
            label="ab"[number % 2],
            footprint=Footprint(west=number / 10, south=0.1, east=number / 10 + 0.05, north=0.2),
            meta={"year": 2000 + number, "names": ["ü", None]},
            **more,
        )
        for number in range(count)
    ]


def test_records_come_back_as_they_were(tmp_path):
    records = scenes(7)
    report = write_shards(records, tmp_path, images_a_shard=3, progress=False)
    assert (report.done, report.failed) == (7, 0)
    assert sorted(path.name for path in tmp_path.glob("*.tar")) == ["00000.tar", "00001.tar", "00002.tar"]
    assert json.loads((tmp_path / "sizes.json").read_text()) == {"00000.tar": 3, "00001.tar": 3, "00002.tar": 1}
    back = list(ShardSource(tmp_path))
    assert back == records  # images are compared next
    assert [record.image() for record in back] == [record.image for record in records]


def test_others_find_what_they_look_for(tmp_path):
    """open_clip's reader takes .jpg or .png and .txt; names have no dots or folders."""
    write_shards(scenes(2), tmp_path, progress=False)
    with tarfile.open(tmp_path / "00000.tar") as archive:
        names = archive.getnames()
        assert archive.extractfile("000000001.txt").read() == b"a scene 1"
    assert names == [f"00000000{n}.{ending}" for n in (0, 1) for ending in ("jpg", "json", "txt")]


def test_only_what_others_cannot_read_is_encoded_again(tmp_path):
    Image.new("RGB", (6, 5)).save(tmp_path / "a.tif")
    Image.new("I;16", (6, 5)).save(tmp_path / "b.png")
    Image.new("RGB", (6, 5)).save(tmp_path / "c.webp")
    (tmp_path / "d.jpeg").write_bytes(jpeg(3))
    records = [*FolderSource(tmp_path), Record(id="e", image=np.zeros((5, 6, 3), dtype=np.uint8))]
    out = tmp_path / "out"
    assert write_shards(records, out, progress=False).done == 5
    with tarfile.open(out / "00000.tar") as archive:
        images = {name: archive.extractfile(name).read() for name in archive.getnames() if "json" not in name}
    assert list(images) == ["000000000.png", "000000001.png", "000000002.webp", "000000003.jpg", "000000004.png"]
    assert images["000000002.webp"] == (tmp_path / "c.webp").read_bytes()
    assert images["000000003.jpg"] == jpeg(3)
    assert Image.open(io.BytesIO(images["000000001.png"])).mode == "RGB"


def test_what_cannot_be_read_is_told_and_left_out(tmp_path):
    records = [
        *scenes(2),
        Record(id="none"),
        Record(id="broken", image=jpeg()[:200]),
        Record(id="gone", image="/no/such.jpg"),
        Record(id="scene 0", image=jpeg()),
    ]
    report = write_shards(records, tmp_path, progress=False)
    assert report.done == 2
    assert {failure.id: failure.stage for failure in report.failures} == {
        "none": "decode",
        "broken": "decode",
        "gone": "decode",
        "scene 0": "read",
    }
    assert len(ShardSource(tmp_path)) == 2


def test_a_shard_is_closed_before_it_is_too_large(tmp_path):
    report = write_shards(scenes(9), tmp_path, images_a_shard=6, max_bytes=20_000, progress=False)
    assert report.done == 9
    shards = sorted(tmp_path.glob("*.tar"))
    assert len(shards) > 2
    assert all(path.stat().st_size <= 20_000 for path in shards)
    assert [record.id for record in ShardSource(tmp_path)] == [f"scene {number}" for number in range(9)]


def test_a_repeated_call_adds_what_is_new(tmp_path):
    write_shards(scenes(4), tmp_path, images_a_shard=3, progress=False)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.tar")}
    report = write_shards(scenes(6), tmp_path, images_a_shard=3, progress=False)
    assert (report.done, report.skipped) == (2, 4)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in before} == before
    assert [record.id for record in ShardSource(tmp_path)] == [f"scene {number}" for number in range(6)]


def test_folders_of_others_are_left_alone(tmp_path):
    img2dataset(tmp_path / "00000.tar", range(2))
    before = (tmp_path / "00000.tar").read_bytes()
    with pytest.raises(ConfigMismatch, match="shards that geovlm did not write"):
        write_shards(scenes(2), tmp_path, progress=False)
    assert (tmp_path / "00000.tar").read_bytes() == before
    with pytest.raises(UsageError, match="images_a_shard is a whole number of at least 1, not 0"):
        write_shards(scenes(2), tmp_path / "out", images_a_shard=0)
    write_shards(scenes(2), tmp_path / "out", images_a_shard=3, progress=False)
    with pytest.raises(ConfigMismatch, match="images_a_shard: 3 then, 4 now"):
        write_shards(scenes(2), tmp_path / "out", images_a_shard=4, progress=False)


def test_killed_again_and_again_it_ends_the_same(tmp_path):
    records = scenes(23)
    options = {"images_a_shard": 5, "max_bytes": 18_000, "progress": False}
    write_shards(records, tmp_path / "whole", **options)

    def killed(moments):
        pid = os.fork()
        if pid == 0:
            left = [moments]

            def counted(function):
                def call(*args, **kwargs):
                    left[0] -= 1
                    if left[0] == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return function(*args, **kwargs)

                return call

            os.replace, os.fsync = counted(os.replace), counted(os.fsync)
            tarfile.TarFile.addfile = counted(tarfile.TarFile.addfile)
            write_shards(records, tmp_path / "killed", **options)
            os._exit(0)
        return os.WIFSIGNALED(os.waitpid(pid, 0)[1])

    kills = 0
    for moments in (3, 7, 11, 19, 26, 31, 37, 100, 10_000):
        kills += killed(moments)
    assert kills >= 5
    kept = [{p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("whole", "killed")]
    assert kept[0] == kept[1]


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "addfile", full)
        with pytest.raises(StorageError, match="No space left on device"):
            write_shards(scenes(3), tmp_path, progress=False)
    assert not list(tmp_path.glob("*.tar*"))
    assert not list(tmp_path.glob(".*.part"))
    assert write_shards(scenes(3), tmp_path, progress=False).done == 3


def test_skyscript_to_shards(tmp_path):
    """SkyScript: a table of captions, polished or not, and images in several folders beside it."""
    lines = ["filepath,title_raw,title"]
    for number in range(4):
        path = f"images{number % 2 + 2}/a{number}_CH_19.jpg"
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(jpeg(number))
        lines.append(f'{path},"building, office {number}",An office building {number}.')
    table = tmp_path / "SkyScript_train_language_polished.csv"
    table.write_text("\n".join(lines) + "\n")
    source = TableSource(table)
    assert write_shards(source, tmp_path / "shards", progress=False).done == 4
    back = list(ShardSource(tmp_path / "shards"))
    assert [record.id for record in back] == [record.id for record in source]
    assert back[3].captions == ("An office building 3.",)
    assert back[3].meta == {"title_raw": "building, office 3"}
    assert back[3].image() == jpeg(3)
