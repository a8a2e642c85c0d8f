"""Every layout on the disk is found and read as it is meant, and what contradicts itself is refused."""

from __future__ import annotations

import pytest

from geovlm.errors import UnknownName, UsageError
from geovlm.evaluation._bench_find import sets_in
from geovlm.evaluation._bench_read import match_labels, read_set
from geovlm.evaluation.benchmark_data import BenchmarkData, prepare
from geovlm.evaluation.benchmark_sets import BENCHMARK_SETS
from geovlm.records import Record
from geovlm.sources import FolderSource
from tests.evaluation.bench_layouts import class_folders, karpathy, paint, scenes, write_table

AID, RSICD, CB = BENCHMARK_SETS["AID"], BENCHMARK_SETS["RSICD"], BENCHMARK_SETS["RSI-CB256"]


def readable(data):
    return [record.open().size for record in data.source]


def test_skyscripts_layout(tmp_path):
    data = read_set(AID, scenes(tmp_path))
    assert data.classes == ("red", "gray", "white", "black")  # in the order of classnames.txt
    assert [record.label for record in data.source] == [name for name in reversed(data.classes) for _ in range(3)]
    assert len(readable(data)) == 12
    assert data.verbatim
    assert data.comparable
    assert not data.notes


def test_an_archive_unpacked_into_a_folder_of_its_name(tmp_path):
    scenes(tmp_path / "aid")
    data = read_set(AID, tmp_path / "aid")
    assert len(readable(data)) == 12


@pytest.mark.parametrize(
    ("set_name", "folder", "table"),
    [
        ("EuroSAT", "eurosat", "eurosat_img_txt_pairs_test.csv"),
        ("fMoW", "fmow", "fmow_img_txt_pairs_val.csv"),
        ("RESISC45", "nwpu", "img_txt_pairs_train.csv"),
        ("RSI-CB256", "rsicb256", "img_txt_pairs_train.csv"),
        ("SkyScript_cls", "SkyScript_cls", "img_txt_pairs_val.csv"),
    ],
)
def test_each_sets_own_table_is_taken(tmp_path, set_name, folder, table):
    """AID and EuroSAT are tested on "test", fMoW on "val", most others on "train"; tables beside it do not count."""
    home = scenes(tmp_path, folder=folder, table=table)
    for other in ("img_txt_pairs_test.csv", "img_txt_pairs_train.csv", "img_txt_pairs_val.csv"):
        if other != table:
            write_table(home / other, [(f"{folder}/images/none.png", "red")])
    data = read_set(BENCHMARK_SETS[set_name], home)
    assert data.layout == f"table {table}"
    assert len(data.source) == 12


def test_another_split_in_the_folder_is_not_the_published_one(tmp_path):
    data = read_set(AID, class_folders(tmp_path / "aid"))
    assert not data.comparable
    assert "aid_img_txt_pairs_test.csv" in data.notes[-1]


def test_labels_as_numbers_are_places_in_classnames(tmp_path):
    home = scenes(tmp_path)
    rows = [(f"aid/images/{name}/{name}_0.png", number) for number, name in enumerate(["red", "gray"])]
    write_table(home / AID.tables[0], rows)
    assert [record.label for record in read_set(AID, home).source] == ["red", "gray"]
    write_table(home / AID.tables[0], [(rows[0][0], 4)])
    with pytest.raises(UsageError, match="label 4, but there are 4 classes"):
        read_set(AID, home)


def test_fine_grained_sets_have_two_columns_of_labels(tmp_path):
    for name in ("flat", "gabled"):
        paint(tmp_path / "roof_shape" / f"{name}.png", "red")
    rows = [("roof_shape/flat.png", "flat", "any"), ("roof_shape/gabled.png", "gabled", "any")]
    write_table(tmp_path / "roof_shape" / "img_txt_pairs_test.csv", rows, head=("filepath", "label_v1", "label_v2"))
    (tmp_path / "roof_shape" / "classnames_v1.txt").write_text("gabled\nflat\n")
    (tmp_path / "roof_shape" / "classnames_v2.txt").write_text("any\nother\n")
    data = read_set(BENCHMARK_SETS["roof_shape"], tmp_path / "roof_shape")
    assert [record.label for record in data.source] == ["flat", "gabled"]
    assert data.words("flat") == "building, flat"


def test_rows_without_a_label_are_left_out_as_in_the_paper(tmp_path):
    home = scenes(tmp_path)
    with (home / AID.tables[0]).open("a") as file:
        file.write("aid/images/red/red_0.png,\n")
    write_table(home / AID.tables[0], [("aid/images/red/red_0.png", "red"), ("aid/images/gray/gray_0.png", "")])
    data = read_set(AID, home)
    assert len(data.source) == 1
    assert "1 rows without a label" in data.notes[-1]


def test_class_folders_are_put_into_words(tmp_path):
    data = read_set(AID, class_folders(tmp_path / "aid" / "images").parent)
    assert data.classes == ("BareLand", "red")
    assert [data.words(name) for name in data.classes] == ["bare land", "red"]
    assert len(readable(data)) == 6


def test_class_folders_are_matched_to_classnames_by_how_they_read(tmp_path):
    class_folders(tmp_path / "aid")
    (tmp_path / "aid" / "classnames.txt").write_text("red\nbare land\nmeadow\n")
    data = read_set(AID, tmp_path / "aid")
    assert {record.label for record in data.source} == {"bare land", "red"}
    assert data.notes[0] == "1 of 3 classes have no images"


def test_class_folders_that_match_no_classname_are_named(tmp_path):
    class_folders(tmp_path / "aid", classes=("Bareland2", "red"))
    (tmp_path / "aid" / "classnames.txt").write_text("red\nbare land\n")
    with pytest.raises(
        UsageError, match=r"1 of 2 labels in .*none of the 2 classes: 'Bareland2' \(nearest: 'bare land'"
    ):
        read_set(AID, tmp_path / "aid")


def test_groups_of_classes_and_parts_of_a_set(tmp_path):
    """RSI-CB256 and Million-AID have folders of groups; the innermost folder is the class. A part to test wins."""
    class_folders(tmp_path / "cb" / "train" / "bare", classes=("sandbeach", "desert"))
    class_folders(tmp_path / "cb" / "train" / "water", classes=("lake", "river"))
    class_folders(tmp_path / "cb" / "test" / "water", classes=("lake", "river"))
    data = read_set(CB, tmp_path / "cb")
    assert data.classes == ("desert", "lake", "river", "sandbeach")
    assert "part 'train'" in data.notes[-1]


def test_a_karpathy_file(tmp_path):
    entries = [
        ("a.png", "test", ["a red field", "a red field", "soil"]),
        ("b.png", "train", ["a green field"]),
        ("c.png", "test", ["a blue lake", "soil"]),
    ]
    data = read_set(RSICD, karpathy(tmp_path / "rsicd", entries))
    assert [(record.id, record.captions) for record in data.source] == [
        ("a.png", ("a red field", "soil")),
        ("c.png", ("a blue lake", "soil")),
    ]
    assert len(readable(data)) == 2


def test_a_karpathy_file_in_a_folder_beside_its_images(tmp_path):
    karpathy(tmp_path / "rsicd" / "annotations", [("a.png", "test", ["red"])], images="../RSICD_images")
    assert len(readable(read_set(RSICD, tmp_path / "rsicd"))) == 1


def test_odd_karpathy_files(tmp_path):
    entries = [("a.png", "test", ["red"]), ("b.png", "test", []), ("a.png", "test", ["a red roof"])]
    data = read_set(RSICD, karpathy(tmp_path / "rsicd", entries))
    assert [record.captions for record in data.source] == [("red", "a red roof"), ()]
    assert data.notes == (
        "1 entries name an image that came before; its captions are put together",
        "1 images have no captions: they are candidates and no queries",
    )


def test_a_karpathy_file_without_the_split(tmp_path):
    home = karpathy(tmp_path / "rsicd", [("a.png", "train", ["red"]), ("b.png", "tests", ["blue"])])
    with pytest.raises(UnknownName, match="Did you mean tests"):
        read_set(RSICD, home)


def test_a_karpathy_file_with_empty_captions_only(tmp_path):
    home = karpathy(tmp_path / "rsicd", [("a.png", "test", []), ("b.png", "test", ["", " "])])
    with pytest.raises(UsageError, match="no captions"):
        read_set(RSICD, home)


def test_captions_in_skyscripts_layout(tmp_path):
    for name in ("red", "blue"):
        paint(tmp_path / "RSICD" / "images" / f"{name}.png", name)
    rows = [(f"RSICD/images/{name}.png", text) for text in ("soil", "a {} thing") for name in ("red", "blue")]
    table = tmp_path / "RSICD" / "RSICD_img_txt_pairs_test.csv"
    write_table(table, [(path, text.format(path[13:-4])) for path, text in rows], head=("filepath", "title"))
    data = read_set(RSICD, tmp_path / "RSICD")
    assert [record.captions for record in data.source] == [("soil", "a red thing"), ("soil", "a blue thing")]
    assert len(readable(data)) == 2


def test_a_table_of_which_no_image_is_there(tmp_path):
    home = scenes(tmp_path)
    write_table(home / AID.tables[0], [("elsewhere/x.png", "red"), ("elsewhere/y.png", "gray")])
    with pytest.raises(UsageError, match=r"None of the first 2 images .*'elsewhere/x.png'"):
        read_set(AID, home)


@pytest.mark.parametrize(("text", "said"), [("red\nred\ngray", "red more than once"), ("red\n", "1 names")])
def test_classnames_that_cannot_be_right(tmp_path, text, said):
    (scenes(tmp_path) / "classnames.txt").write_text(text)
    with pytest.raises(UsageError, match=said):
        read_set(AID, tmp_path / "aid")


def test_a_folder_of_nothing_says_where_the_sets_are(tmp_path):
    (tmp_path / "holidays").mkdir()
    with pytest.raises(UsageError, match=r"it holds holidays.*SkyScript/benchmark/aid\.zip"):
        prepare(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        prepare(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="datasets is empty"):
        prepare({})


def test_a_root_tells_what_is_missing(tmp_path):
    scenes(tmp_path)
    (tmp_path / "eurosat").mkdir()
    ready, missing = prepare(tmp_path)
    assert [data.name for data in ready] == ["AID"]
    assert len(missing) == len(BENCHMARK_SETS) - 1
    assert missing["RSICD"].endswith("SkyScript/benchmark/RSICD.zip has it.")
    assert "has no table or class folders of EuroSAT" in missing["EuroSAT"]
    assert [data.name for data in prepare(tmp_path / "aid")[0]] == ["AID"]


def test_two_folders_of_one_set(tmp_path):
    class_folders(tmp_path / "NWPU-RESISC45")
    class_folders(tmp_path / "resisc45")
    with pytest.raises(UsageError, match="may both be RESISC45"):
        sets_in(tmp_path)
    scenes(tmp_path, folder="nwpu", table="img_txt_pairs_train.csv")
    assert sets_in(tmp_path)["RESISC45"].name == "nwpu"


def test_own_data(tmp_path):
    folder = class_folders(tmp_path / "farms")
    named = {"farms": folder, "again": FolderSource(folder), "aid": [Record(id="x", captions="red", label="red")]}
    ready, _ = prepare(named)
    assert [(data.name, data.task) for data in ready] == [
        ("farms", "classification"),
        ("again", "classification"),
        ("AID", "classification"),
    ]
    (pairs,), _ = prepare({"pairs": [Record(id="x", captions="red")]})
    assert (pairs.task, pairs.caption) == ("retrieval", "a satellite image. {}")


@pytest.mark.parametrize(
    ("datasets", "said"),
    [
        ({"x": [Record(id="a")]}, "neither labels nor captions"),
        ({"a/b": [Record(id="a", label="c")]}, "names a folder"),
        ({"x": (record for record in [Record(id="a", label="c")])}, "only once"),
    ],
)
def test_own_data_that_cannot_be_measured(datasets, said):
    with pytest.raises(UsageError, match=said):
        prepare(datasets)


def test_settings_of_own_data_that_cannot_be_right():
    for wrong in ({"templates": "no such set"}, {"caption": "no place"}, {"classes": "abc"}, {"task": "detection"}):
        with pytest.raises(UsageError):
            BenchmarkData(source=[], **wrong)


def test_labels_spelt_otherwise():
    classes = ("baseball field", "storage tanks")
    assert match_labels(["BaseballField", "storage_tanks"], classes, table="t") == {
        "BaseballField": "baseball field",
        "storage_tanks": "storage tanks",
    }
