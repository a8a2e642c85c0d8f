"""Tables: kinds of file, columns, several captions, splits, places, and what is broken."""

from __future__ import annotations

import gzip
import io
import json
import math
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from geovlm import Footprint, Record, TableSource
from geovlm.errors import ImageError, UnknownName, UsageError

ROWS = [
    {"filepath": "a.jpg", "title": "a port", "title_multi_objects": "a port, a quay", "similarity": 0.5, "year": 2024},
    {
        "filepath": "b/a.jpg",
        "title": "a field",
        "title_multi_objects": "a field, a road",
        "similarity": 0.25,
        "year": 7,
    },
]


def _write(folder, kind: str, rows=ROWS):
    path = folder / f"pairs.{kind}"
    frame = pd.DataFrame(rows)
    match kind:
        case "csv":
            frame.to_csv(path, index=False)
        case "tsv":
            frame.to_csv(path, index=False, sep="\t")
        case "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case "json":
            path.write_text(json.dumps(rows))
        case "parquet":
            frame.to_parquet(path)
    return path


def _text(folder, text: str, name: str = "pairs.csv"):
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_every_kind_of_table_gives_the_same_records(tmp_path, kind):
    source = TableSource(_write(tmp_path, kind))
    assert list(source) == list(TableSource(pd.DataFrame(ROWS), root=tmp_path))
    first = next(iter(source))
    assert first.id == "a.jpg"
    assert first.uri == str(tmp_path / "a.jpg")
    assert first.captions == ("a port",)
    assert first.meta == {"title_multi_objects": "a port, a quay", "similarity": 0.5, "year": 2024}
    assert len(source) == 2


def test_skyscript_with_both_captions(tmp_path):
    source = TableSource(_write(tmp_path, "csv"), caption=["title", "title_multi_objects"])
    assert [record.captions for record in source] == [("a port", "a port, a quay"), ("a field", "a field, a road")]


def test_rows_of_one_image_are_one_record(tmp_path):
    table = _text(tmp_path, "path,caption,label\na.jpg,one,\na.jpg,two,Port\nb.jpg,three,Beach\na.jpg,late,Port\n")
    source = TableSource(table)
    assert [(r.id, r.captions, r.label) for r in source] == [
        ("a.jpg", ("one", "two"), "Port"),
        ("b.jpg", ("three",), "Beach"),
        ("a.jpg", ("late",), "Port"),  # under the same id, so that the accounts show it
    ]
    assert len(source) == 3
    assert source.labels == ["Beach", "Port"]


def test_rows_of_a_frame_may_lie_anywhere():
    frame = pd.DataFrame({"path": ["b", "a", "b", "c", "a"], "caption": list("12345")}, index=[9, 9, 1, 1, 0])
    assert [(r.id, r.captions) for r in TableSource(frame)] == [("b", ("1", "3")), ("a", ("2", "5")), ("c", ("4",))]


def test_rows_of_one_image_keep_their_order():
    frame = pd.DataFrame({"path": [str(i % 7) for i in range(700)], "caption": [str(i) for i in range(700)]})
    for i, record in enumerate(TableSource(frame)):
        assert record.captions == tuple(str(place) for place in range(i, 700, 7))


@settings(max_examples=50, deadline=None)
@given(images=st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=12))
def test_no_caption_of_a_frame_is_lost(images):
    frame = pd.DataFrame({"path": images, "caption": [str(i) for i in range(len(images))]})
    records = list(TableSource(frame))
    assert sorted(caption for r in records for caption in r.captions) == sorted(frame["caption"])
    named = [record.id for record in records if record.image is not None]
    assert len(named) == len(set(named)) == len(set(images) - {None})
    assert len(TableSource(frame)) == len(records)


def test_one_id_for_two_images_is_not_merged():
    frame = pd.DataFrame({"path": ["a.jpg", "b.jpg"], "kind": [7, 7]})
    assert [(r.id, r.uri.rsplit("/")[-1]) for r in TableSource(frame, id="kind")] == [("7", "a.jpg"), ("7", "b.jpg")]


def test_named_columns_win_over_common_names():
    frame = pd.DataFrame(
        {
            "path": ["x"],
            "scene": ["a.jpg"],
            "title": ["no"],
            "words": ["yes"],
            "label": ["no"],
            "kind": ["yes"],
            "no": [5],
        }
    )
    [record] = TableSource(frame, root="/", image="scene", caption="words", label="kind", id="no")
    assert (record.id, record.uri, record.captions, record.label) == ("5", "/a.jpg", ("yes",), "yes")
    assert record.meta == {"path": "x", "title": "no", "label": "no"}


@pytest.mark.parametrize("name", ["filepath", "path", "image", "file_name", "File Name", "FILENAME", "url"])
def test_common_names_of_images(name):
    [record] = TableSource(pd.DataFrame({"n": [1], name: ["a.jpg"]}), root="/")
    assert record.uri == "/a.jpg"


def test_text_that_looks_like_numbers_stays_text(tmp_path):
    table = _text(
        tmp_path, "path,label,title,tile,zone,cloud,valid\n007,01,NA,0042,5,1e-2,True\n008,None,12,x,,nan,False\n"
    )
    first, second = TableSource(table)
    assert (first.id, first.label, first.captions) == ("007", "01", ("NA",))
    assert first.meta == {"tile": "0042", "zone": 5, "cloud": 0.01, "valid": True}
    assert (second.label, second.captions, second.meta) == ("None", ("12",), {"tile": "x", "valid": False})


def test_missing_cells():
    frame = pd.DataFrame(
        {
            "path": ["a.jpg", None],
            "title": [np.nan, "  "],
            "label": [3, np.nan],
            "when": [pd.NaT, pd.Timestamp("2024-05-01")],
            "n": pd.array([1, None], dtype="Int64"),
        }
    )
    first, second = TableSource(frame)
    assert (first.id, first.label, first.captions, first.meta) == ("a.jpg", "3", (), {"n": 1})
    assert (second.id, second.label, second.captions) == ("1", None, ())
    assert second.meta == {"when": "2024-05-01T00:00:00"}
    with pytest.raises(ImageError, match="has no image"):
        second.open()


def test_metadata_is_json_like():
    frame = pd.DataFrame({"path": ["a"], "vector": [np.arange(2)], "nested": [{"x": (1, math.nan)}], "raw": [b"x"]})
    [record] = TableSource(frame)
    assert record.meta == {"vector": [0, 1], "nested": {"x": [1, None]}}
    json.dumps(record.meta)


def test_cells_may_hold_lists_of_captions(tmp_path):
    row = {"image": "a.jpg", "captions": ["one", "", "two"], "sentences": [{"raw": "three"}]}
    table = _text(tmp_path, json.dumps(row), "pairs.jsonl")
    assert next(iter(TableSource(table))).captions == ("one", "two")
    assert next(iter(TableSource(table, caption="sentences"))).captions == ("three",)
    pd.DataFrame([row]).to_parquet(tmp_path / "pairs.parquet")
    assert next(iter(TableSource(tmp_path / "pairs.parquet"))).captions == ("one", "two")


def test_cells_may_hold_images(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4)).save(buffer, format="PNG")
    frame = pd.DataFrame({"image": [buffer.getvalue(), Image.new("L", (6, 4)), np.zeros((4, 6))], "label": list("abc")})
    records = list(TableSource(frame))
    assert [record.id for record in records] == ["0", "1", "2"]
    assert all(record.uri is None and record.open().size == (6, 4) for record in records)
    pd.DataFrame({"image": [{"bytes": buffer.getvalue(), "path": "a.png"}]}).to_parquet(tmp_path / "hub.parquet")
    [stored] = TableSource(tmp_path / "hub.parquet")
    assert stored.open().size == (6, 4)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"west": 8.0, "south": 47.0, "east": 9.0, "north": 48.0}, (8.0, 47.0, 9.0, 48.0)),
        (
            {"min_lon": 8.0, "min_lat": 47.0, "max_lon": 9.0, "max_lat": 48.0, "lon": 0.0, "lat": 0.0},
            (8.0, 47.0, 9.0, 48.0),
        ),
        ({"Longitude": 8.5, "Latitude": 47.5}, (8.5, 47.5, 8.5, 47.5)),
    ],
)
def test_coordinates_give_footprints(columns, expected):
    [record] = TableSource(pd.DataFrame([{"path": "a", **columns}]))
    assert record.footprint.bounds == expected
    assert not set(record.meta) - {"lon", "lat"}


def test_rows_without_coordinates_have_no_footprint():
    first, second = TableSource(pd.DataFrame({"path": ["a", "b"], "lon": [8.5, np.nan], "lat": [47.5, 47.5]}))
    assert first.footprint == Footprint(west=8.5, south=47.5, east=8.5, north=47.5)
    assert (second.footprint, second.meta) == (None, {"lat": 47.5})


def test_coordinates_that_are_not_degrees_are_kept_as_metadata():
    frame = pd.DataFrame({"path": ["a"], "west": [500000], "south": [1], "east": [500100], "north": [2]})
    with pytest.warns(RuntimeWarning, match="the DataFrame: rows whose west, south, east, north"):
        [record] = TableSource(frame)
    assert (record.footprint, record.meta["west"]) == (None, 500000)


def test_root_is_the_folder_of_the_table_or_given(tmp_path, monkeypatch):
    table = _write(tmp_path, "csv")
    (tmp_path / "images").mkdir()
    assert next(iter(TableSource(table, root=tmp_path / "images"))).uri == str(tmp_path / "images" / "a.jpg")
    monkeypatch.chdir(tmp_path)
    assert next(iter(TableSource("pairs.csv"))).uri == str(tmp_path / "a.jpg")
    assert next(iter(TableSource(pd.DataFrame({"path": ["/x/a.jpg"]})))).uri == "/x/a.jpg"


def test_split_takes_its_rows(tmp_path):
    table = _text(tmp_path, "path,Split\na,train\nb,val\nc,train\n")
    source = TableSource(table, split="train")
    assert [record.id for record in source] == ["a", "c"]
    assert len(source) == 2
    assert next(iter(source)).meta == {"Split": "train"}
    with pytest.raises(UnknownName, match=r"No split of pairs\.csv is called 'trian'\. Did you mean train\?"):
        TableSource(table, split="trian")
    with pytest.raises(UsageError, match="no column called split"):
        TableSource(_write(tmp_path, "tsv"), split="train")


def test_karpathy_file(tmp_path):
    images = [
        {"filename": "1.jpg", "filepath": "val2014", "sentids": [0], "sentences": [{"raw": "one"}, {"raw": "two"}]},
        {"filename": "2.jpg", "split": "test", "imgid": 2, "sentences": [{"raw": "three"}]},
        {"filename": "3.jpg", "filepath": "x/3.jpg", "class": "Port"},
    ]
    source = TableSource(_text(tmp_path, json.dumps({"images": images, "dataset": "x"}), "captions.json"))
    assert [(r.id, r.captions, r.label, r.meta) for r in source] == [
        ("val2014/1.jpg", ("one", "two"), None, {}),
        ("2.jpg", ("three",), None, {"split": "test", "imgid": 2}),
        ("x/3.jpg", (), "Port", {}),
    ]


def test_real_captions(shared_data):
    file = shared_data / "aid" / "captions.json"
    sizes = {split: len(TableSource(file, split=split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 1920, "val": 240, "test": 235}
    source = TableSource(file)
    assert len(source.labels) == 30
    first = next(iter(source))
    assert len(first.captions) == 5
    assert first.open().size == (150, 150)


@pytest.mark.parametrize(
    ("argument", "value", "match"),
    [
        ("image", "filpath", "Did you mean filepath"),
        ("caption", "titel", "Did you mean title"),
        ("caption", ["title", "title_multi_object"], "Did you mean title_multi_objects"),
        ("label", "yaer", "Did you mean year"),
        ("id", "similarty", "Did you mean similarity"),
    ],
)
def test_unknown_columns_name_the_nearest(tmp_path, argument, value, match):
    with pytest.raises(UnknownName, match=match):
        TableSource(_write(tmp_path, "csv"), **{argument: value})


def test_unknown_arguments_and_things(tmp_path):
    with pytest.raises(TypeError, match="captions"):
        TableSource(_write(tmp_path, "csv"), captions="title")
    with pytest.raises(UsageError, match="not a list"):
        TableSource(ROWS)


def test_no_column_of_images(tmp_path):
    with pytest.raises(UsageError, match=r"no column of images .* its columns are one, two\. Name it: image="):
        TableSource(_text(tmp_path, "one,two\n1,2\n"))


def test_addresses_are_not_files():
    with pytest.raises(UsageError, match=r"'url' of the DataFrame holds addresses \(https://x/a\.jpg\)"):
        TableSource(pd.DataFrame({"url": ["https://x/a.jpg"]}))


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("t.csv", "path,title\na,b\nc,d,e\n", r"t\.csv, line 3: 3 cells, but 2 in the header"),
        ("t.csv", "path,title\na,b\nc\n", r"t\.csv, line 3: 1 cells, but 2 in the header"),
        ("t.csv", 'path,title\na,"b\nc,d\n', r"t\.csv, line 3: unexpected end of data"),
        ("t.csv", 'path,title\na,"b"c\n', r"t\.csv, line 2: ',' expected after"),
        ("t.csv", "path,path\na,b\n", r"more than one column called path"),
        ("t.csv", "path,title\n", r"t\.csv has no rows"),
        ("t.csv", "", r"t\.csv is empty"),
        ("t.csv", "path\ncaf\xe9\n".encode("latin-1"), r"not UTF-8 text"),
        ("t.jsonl", '{"path": "a"}\n{"path": }\n', r"t\.jsonl, line 2, column 10: not valid JSON"),
        ("t.jsonl", '{"path": "a"}\n["b"]\n', r"t\.jsonl, line 2: a row is an object"),
        ("t.jsonl", b'{"path": "a"}\n\xff\n', r"t\.jsonl, after line .: not UTF-8"),
        ("t.json", '[{"path": "a"},\n', r"t\.json, line 2, column 1: not valid JSON"),
        ("t.json", '{"a": 1}', r"neither a list of rows nor a Karpathy file"),
        (
            "t.json",
            '{"images": [{"file_name": "a"}], "annotations": []}',
            r"neither a list of rows nor a Karpathy file",
        ),
        ("t.json", "[1]", r"entry 0: a row is an object"),
        ("t.json", b"\xff", r"not UTF-8"),
        ("t.json", "[]", r"its columns are none"),
        ("t.parquet", "no parquet", r"t\.parquet is not a Parquet file"),
        ("t.xlsx", "x", r"ends in one of \.csv"),
    ],
)
def test_broken_tables_say_where(tmp_path, name, content, match):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=match):
        list(TableSource(path))


def test_broken_in_the_middle_says_the_line(tmp_path):
    lines = ["path,title", *(f"{i}.jpg,x" for i in range(5000))]
    lines[4000] += ",more"
    with pytest.raises(UsageError, match="line 4001: 3 cells"):
        list(TableSource(_text(tmp_path, "\n".join(lines))))


def test_a_cut_parquet_file(tmp_path):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"path": [f"{i * 7919 % 10007}.jpg" for i in range(3000)]}).to_parquet(path)
    data = bytearray(path.read_bytes())
    data[200:400] = bytes(200)
    path.write_bytes(data)
    with pytest.raises(UsageError, match="is broken"):
        list(TableSource(path))


def test_missing_tables_folders_and_roots(tmp_path):
    table = _write(tmp_path, "csv")
    with pytest.raises(UsageError, match=r"Did you mean .*pairs\.csv"):
        TableSource(tmp_path / "pair.csv")
    with pytest.raises(UsageError, match="FolderSource"):
        TableSource(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(UsageError, match=r"Did you mean .*images\?"):
        TableSource(table, root=tmp_path / "imges")
    with gzip.open(tmp_path / "pairs.csv.gz", "wb") as file:
        file.write(table.read_bytes())
    with pytest.raises(UsageError, match="ends in one of"):
        TableSource(tmp_path / "pairs.csv.gz")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_quotes_marks_and_blank_lines(tmp_path, separator):
    text = f'path{separator}title\r\n\r\na.jpg{separator}"a ""port""{separator}\nwith ships"\r\n'
    table = tmp_path / "pairs.csv"
    table.write_bytes(b"\xef\xbb\xbf" + text.encode())
    [record] = TableSource(table)
    assert (record.id, record.captions) == ("a.jpg", (f'a "port"{separator}\nwith ships',))


def test_a_saved_index_is_no_metadata(tmp_path):
    path = tmp_path / "pairs.csv"
    pd.DataFrame({"path": ["a"]}).to_csv(path)
    assert next(iter(TableSource(path))).meta == {}


def test_json_lines_that_are_called_json(tmp_path):
    table = _text(tmp_path, '{"path": "a"}\n\n{"path": "b", "title": "late"}\n', "pairs.json")
    assert [record.id for record in TableSource(table)] == ["a", "b"]


def test_survives_pickling(tmp_path):
    source = TableSource(_write(tmp_path, "csv"))
    assert list(pickle.loads(pickle.dumps(source))) == list(source)
    assert repr(source) == "TableSource(pairs.csv)"


def test_records_are_records(tmp_path):
    assert all(isinstance(record, Record) for record in TableSource(_write(tmp_path, "parquet")))


MEMORY = """
import resource, sys
from geovlm import TableSource
source = TableSource(sys.argv[1])
for i, record in enumerate(source):
    if i == 2000:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_memory_does_not_grow_with_the_table(tmp_path, kind):
    table = _write(tmp_path, kind, [{"path": f"{i}.jpg", "title": f"{i} " * 250} for i in range(40_000)])
    assert table.stat().st_size > 50_000_000
    run = subprocess.run([sys.executable, "-c", MEMORY, table], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 20
