from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from geovlm import index as index_module
from geovlm._html import Section, results_page
from geovlm.embedding import embed
from geovlm.errors import ConfigMismatch, ImageError, StorageError, UsageError
from geovlm.index import Hit, Hits, Index
from geovlm.records import Footprint, Record
from geovlm.stores import NumpyStore
from geovlm.testing import HashEncoder

COLOURS = ("red", "green", "blue", "yellow", "black", "white")


@pytest.fixture
def scenes(tmp_path: Path) -> list[Record]:
    """One file a colour, and one file that is no picture."""
    records = []
    for year, colour in enumerate(COLOURS, start=2020):
        path = tmp_path / f"{colour}.png"
        Image.new("RGB", (16, 16), colour).save(path)
        records.append(Record(id=colour, image=path, label=f"{colour} field", captions="plain", meta={"year": year}))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    return [*records, Record(id="broken", image=broken)]


def filled(scenes: list[Record]) -> Index:
    index = Index(HashEncoder())
    index.add(scenes)
    return index


# --- adding


def test_every_input_is_accounted_for(scenes: list[Record]) -> None:
    index = Index(HashEncoder())
    report = index.add(iter([*scenes, scenes[0]]))
    assert (report.stage, report.done, report.failed, report.total) == ("index", 6, 2, 8)
    assert {(failure.id, failure.stage) for failure in report.failures} == {("broken", "decode"), ("red", "read")}
    assert len(index) == 6


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_records_are_written_some_at_a_time(scenes: list[Record], size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "RECORDS_A_WRITE", size)
    report = filled_report(scenes)
    assert (report.done, report.failed) == (6, 2)


def filled_report(scenes: list[Record]) -> Any:
    index = Index(HashEncoder())
    report = index.add([*scenes, scenes[1]])
    assert len(index) == 6
    return report


def test_adding_again_replaces(scenes: list[Record]) -> None:
    index = filled(scenes)
    index.add([Record(id="red", image=Image.new("RGB", (16, 16), "blue"), meta={"new": True})])
    assert len(index) == 6
    assert index.store.get(["red"]) == [{"new": True}]
    assert {hit.id for hit in index.search("blue", limit=2)} == {"red", "blue"}


def test_embeddings_are_taken_as_they_are(scenes: list[Record]) -> None:
    made = embed(scenes, HashEncoder())
    index = Index(HashEncoder())
    report = index.add(made)
    assert (report.done, report.failed, len(index)) == (6, 1, 6)
    assert index.search("yellow", limit=1)[0] == filled(scenes).search("yellow", limit=1)[0]


def test_embeddings_of_another_encoder_are_refused(scenes: list[Record]) -> None:
    made = embed(scenes, HashEncoder(seed=1))
    with pytest.raises(ConfigMismatch, match="embed the images again"):
        Index(HashEncoder()).add(made)


def test_a_store_of_another_encoder_is_refused_at_once(scenes: list[Record]) -> None:
    store = filled(scenes).store
    assert len(Index(HashEncoder(), store)) == 6
    with pytest.raises(ConfigMismatch, match="cannot be compared"):
        Index(HashEncoder(seed=1), store)
    with pytest.raises(ConfigMismatch, match="cannot be compared"):
        Index(HashEncoder(dim=3), store)


def test_the_first_failure_stops_if_asked(scenes: list[Record]) -> None:
    with pytest.raises(ImageError, match="broken"):
        Index(HashEncoder()).add(scenes, on_error="raise")
    with pytest.raises(ImageError, match="same id"):
        Index(HashEncoder()).add([scenes[0], scenes[0]], on_error="raise")


@pytest.mark.parametrize("source", ["scenes/", Path("scenes")], ids=repr)
def test_a_folder_name_is_no_source(source: Any) -> None:
    with pytest.raises(UsageError, match="FolderSource"):
        Index(HashEncoder()).add(source)


def test_what_is_no_record_is_refused() -> None:
    with pytest.raises(UsageError, match="Record"):
        Index(HashEncoder()).add([{"id": "a"}])  # type: ignore[list-item]


@pytest.mark.parametrize("encoder", ["skyclip-vit-b-32", None])
def test_an_index_needs_an_encoder(encoder: Any) -> None:
    with pytest.raises(UsageError, match="load_encoder"):
        Index(encoder)


def test_an_index_needs_a_store() -> None:
    with pytest.raises(UsageError, match=re.escape("NumpyStore()")):
        Index(HashEncoder(), "scenes.lance")  # type: ignore[arg-type]


def test_an_index_over_a_saved_store(scenes: list[Record], tmp_path: Path) -> None:
    index = filled(scenes)
    assert isinstance(index.store, NumpyStore)
    index.store.save(tmp_path / "store")
    again = Index(HashEncoder(), NumpyStore.open(tmp_path / "store"))
    assert again.search("red").items == index.search("red").items


# --- searching


def test_text_image_and_vector_find_the_same(scenes: list[Record]) -> None:
    index = filled(scenes)
    path = Path(str(scenes[2].image))
    vector = HashEncoder().encode_texts(["blue"])[0]
    for query in ("something blue", path, Image.open(path), vector, vector.astype(np.float64) * 5):
        assert index.search(query, limit=1)[0].id == "blue"


def test_numbers_that_are_missing_cost_no_image() -> None:
    index = Index(HashEncoder())
    meta = {"cloud": float("nan"), "gsd": float("inf"), "year": 2024}
    assert index.add([Record(id="a", image=Image.new("RGB", (8, 8)), meta=meta)]).done == 1
    assert index.search("black")[0].metadata == {"year": 2024}


def test_a_hit_carries_what_is_known(scenes: list[Record]) -> None:
    index = Index(HashEncoder())
    where = Footprint(west=8, south=47, east=9, north=48)
    index.add([Record(id="a", image=scenes[0].image, label="Port", footprint=where, meta={"year": 2024, "id": "x"})])
    hit = index.search("red")[0]
    assert (hit.id, hit.uri, hit.label, hit.footprint) == ("a", scenes[0].uri, "Port", where)
    assert hit.metadata["year"] == 2024
    assert 0.9 < hit.score <= 1
    index.store.upsert(["b"], np.ones((1, 64)), [{"footprint": "POINT (1 2)", "label": 3}])
    assert {hit.footprint for hit in index.search("red")} == {where, None}


def test_filters_and_limits(scenes: list[Record]) -> None:
    index = filled(scenes)
    assert next(hit.id for hit in index.search("red", limit=2, where={"year": {"$gte": 2023}})) != "red"
    assert len(index.search("red", limit=2)) == 2
    assert len(index.search("red", limit=100)) == 6
    scores = [hit.score for hit in index.search("red green", limit=6)]
    assert scores == sorted(scores, reverse=True)


def test_nothing_to_find(scenes: list[Record]) -> None:
    assert len(Index(HashEncoder()).search("red")) == 0
    empty = filled(scenes).search("red", where={"year": 1900})
    assert (len(empty), repr(empty)) == (0, "0 hits for “red”")
    assert list(empty.to_pandas().columns) == ["id", "score", "uri", "label", "footprint"]
    assert "0 hits" in empty._repr_html_()


@pytest.mark.parametrize("limit", [0, -3, 2.0, "5", True])
def test_a_limit_is_a_count(scenes: list[Record], limit: Any) -> None:
    with pytest.raises(UsageError, match="limit"):
        filled(scenes).search("red", limit=limit)


@pytest.mark.parametrize(
    "query", ["", "  ", None, 3, ["red"], np.ones((1, 64)), np.ones(63), np.full(64, np.nan), np.zeros(64)], ids=str
)
def test_a_query_that_cannot_be_right(scenes: list[Record], query: Any) -> None:
    with pytest.raises(UsageError):
        filled(scenes).search(query)


def test_a_wrong_filter_is_told_before_anything_is_encoded(scenes: list[Record]) -> None:
    with pytest.raises(UsageError, match=r"\$gt"):
        filled(scenes).search("red", where={"year": {"$gr": 1}})


def test_an_image_named_as_text_is_pointed_out(scenes: list[Record]) -> None:
    with pytest.raises(UsageError, match=r"pass Path\("):
        filled(scenes).search(str(scenes[0].image))
    assert filled(scenes).search("red.png")  # no such file here: a text


def test_a_query_image_that_cannot_be_read(scenes: list[Record], tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        filled(scenes).search(tmp_path / "nothing.jpg")
    with pytest.raises(ImageError, match="not an image"):
        filled(scenes).search(tmp_path / "broken.png")


# --- hits


def test_hits_are_a_sequence(scenes: list[Record]) -> None:
    hits = filled(scenes).search("red", limit=4)
    assert (len(hits), hits[-1], list(hits[1:3])) == (4, list(hits)[-1], list(hits)[1:3])
    assert isinstance(hits[:2], Hits)
    assert hits[0] in hits
    assert "red  red field" in repr(hits)
    assert "4 hits for “red”" in repr(hits)


def test_hits_as_a_table() -> None:
    footprint = Footprint(west=0, south=0, east=1, north=1)
    row = {"uri": "a.jpg", "label": "Port", "footprint": [0, 0, 1, 1], "id": "own", "score": 7, "year": 2024}
    hits = Hits((Hit(id="a", score=0.5, uri="a.jpg", label="Port", footprint=footprint, metadata=row),))
    (table_row,) = hits.to_pandas().to_dict("records")
    assert table_row == {
        "id": "a",
        "score": 0.5,
        "uri": "a.jpg",
        "label": "Port",
        "footprint": footprint,
        "metadata_id": "own",
        "metadata_score": 7,
        "year": 2024,
    }


def test_the_page_holds_its_pictures_and_nothing_from_outside(scenes: list[Record], tmp_path: Path) -> None:
    hits = filled(scenes).search("red", limit=6)
    Path(str(scenes[1].image)).unlink()
    Path(str(scenes[2].image)).write_bytes(b"")
    page = hits.save_html(tmp_path / "deep" / "hits.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 4
    assert "no picture: the file does not exist" in page
    assert "no picture: the file is empty" in page
    assert not re.search(r"https?://|<script|<link|file:", page)
    assert all(f">{colour}<" in page for colour in COLOURS)


EVIL = "<script>alert('1')</script>\"&"


def test_strangers_text_is_escaped(scenes: list[Record]) -> None:
    hit = Hit(id=EVIL, score=0.1, uri=str(scenes[0].image), label=EVIL, metadata={"captions": [EVIL]})
    missing = Hit(id=EVIL, score=0.1, uri=EVIL, metadata={"captions": "one text"})
    page = results_page(EVIL, [Section(heading=EVIL, hits=[hit, missing], note=EVIL)], lead=EVIL)
    strip = Hits((hit, missing), query=EVIL)._repr_html_()
    for text in (page, strip):
        assert "<script" not in text
        assert "&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt;&quot;&amp;" in text


def test_a_notebook_shows_the_first_pictures() -> None:
    hits = Hits(tuple(Hit(id=str(i), score=0.0) for i in range(60)))
    text = hits._repr_html_()
    assert text.count("<figure") == 48
    assert "12 more" in text


def test_a_page_with_several_rows(scenes: list[Record]) -> None:
    index = filled(scenes)
    page = results_page("All", [Section(heading=c, hits=index.search(c, limit=2)) for c in COLOURS[:3]], lead="2 lost")
    assert (page.count("<section>"), page.count("<figure")) == (3, 6)
    assert "<pre>2 lost</pre>" in page
    assert "Nothing was found." in results_page("None", [Section(heading="x")])


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        Hits(()).save_html(tmp_path / "file" / "hits.html")


def test_names_that_are_no_unicode_are_shown(tmp_path: Path) -> None:
    Hits((Hit(id="b\udce4d.jpg", score=0.0),)).save_html(tmp_path / "hits.html")
    assert "b?d.jpg" in (tmp_path / "hits.html").read_text(encoding="utf-8")
