"""What `Index.search` can be asked, on every store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely
from PIL import Image

from geovlm.errors import ImageError, UnknownName, UsageError
from geovlm.filters import compile_filter
from geovlm.index import Hit, Hits, Index
from geovlm.protocols import VectorReader
from geovlm.records import Footprint, Record
from geovlm.stores import AstraStore, LanceStore, NumpyStore
from geovlm.testing import HashEncoder
from geovlm.testing.data_api import DataAPIEmulator

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = 120
KINDS = ("numpy", "lance", "astra")


def fill(index: Index) -> Index:
    """Rows around a few centres, spread over the map."""
    generator = np.random.default_rng(7)
    centres = generator.normal(size=(6, 64))
    vectors = centres[np.arange(ROWS) % 6] + 0.6 * generator.normal(size=(ROWS, 64))
    west, south = generator.uniform(-180, 180, ROWS), generator.uniform(-60, 60, ROWS)
    rows = []
    for row in range(ROWS):
        east = west[row] + 12 if west[row] <= 168 else west[row] + 12 - 360
        box = [round(float(x), 3) for x in (west[row], south[row], east, south[row] + 8)]
        rows.append({"footprint": box, "group": row % 6, "year": 2020 + row % 3} if row % 10 else {"group": row % 6})
    index.store.upsert([f"row-{row:03d}" for row in range(ROWS)], vectors, rows)
    index.store.flush()
    return index


@pytest.fixture(scope="module", params=KINDS)
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    if request.param == "numpy":
        yield fill(Index(HashEncoder()))
    elif request.param == "lance":
        yield fill(Index(HashEncoder(), LanceStore(tmp_path_factory.mktemp("lance") / "scenes.lance")))
    else:
        with DataAPIEmulator() as api, AstraStore("scenes", endpoint=api.endpoint, token=api.token) as store:
            yield fill(Index(HashEncoder(), store))


@pytest.fixture(scope="module")
def plain() -> Index:
    return fill(Index(HashEncoder()))


def score_of(hits: Hits, key: str) -> float:
    return next(hit.score for hit in hits if hit.id == key)


# --- vectors by id


def test_vectors_come_back_by_id_in_the_order_asked(index):
    assert isinstance(index.store, VectorReader)
    stored = {key: row for keys, rows, _ in index.store.scan() for key, row in zip(keys, rows, strict=True)}
    asked = ["row-007", "nobody", "row-000", "row-007", "\udce4"]
    found = index.store.get_vectors(asked)
    assert [vector is None for vector in found] == [False, True, False, False, True]
    for key, vector in zip(asked, found, strict=True):
        if vector is not None:
            assert (vector.shape, vector.dtype) == ((64,), np.float32)
            np.testing.assert_array_equal(vector, stored[key])
            vector[:] = 0
    np.testing.assert_array_equal(index.store.get_vectors(["row-007"])[0], stored["row-007"])
    assert index.store.get_vectors([]) == []


class Bare:
    """A store of somebody else, without `get_vectors`."""

    def __init__(self, store: NumpyStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        if name == "get_vectors":
            raise AttributeError(name)
        return getattr(self._store, name)


def test_a_store_that_gives_no_vectors_is_read_through(plain):
    bare = Index(HashEncoder(), Bare(plain.store))  # type: ignore[arg-type]
    assert not isinstance(bare.store, VectorReader)
    asked: dict[str, Any] = {"more": ["row-003"], "diversity": 0.4, "against": ["sand"], "limit": 7}
    assert bare.search("roof", **asked) == plain.search("roof", **asked)
    with pytest.raises(UsageError, match="no row of the store"):
        bare.search("roof", more="row-999")


# --- nothing changes unless it is asked for


def test_the_defaults_are_a_plain_search(index):
    found = index.search("a red roof", limit=9)
    nearest = index.store.query(HashEncoder().encode_texts(["a red roof"]), 9)[0]
    assert [(hit.id, hit.score) for hit in found] == list(zip(nearest.ids, nearest.scores, strict=True))
    again = index.search("a red roof", limit=9, more=[], less=(), diversity=0, within=None, templates=None)
    assert again == found
    assert {hit.probability for hit in found} == {None}


def test_every_store_says_the_same(index, plain):
    asked: dict[str, Any] = {
        "templates": "skyscript",
        "more": ["row-003", "row-009"],
        "less": "row-001",
        "diversity": 0.5,
        "against": ["sand", "snow"],
        "within": (-180.0, -60.0, 90.0, 60.0),
        "where": {"year": {"$gte": 2021}},
        "limit": 8,
    }
    found, expected = index.search("a red roof", **asked), plain.search("a red roof", **asked)
    assert [hit.id for hit in found] == [hit.id for hit in expected]
    np.testing.assert_allclose([hit.score for hit in found], [hit.score for hit in expected], atol=1e-6)
    np.testing.assert_allclose([hit.probability for hit in found], [hit.probability for hit in expected], atol=1e-4)


# --- what can be asked


def test_a_hit_asks_for_scenes_like_it(index):
    hit = index.search("a red roof", limit=1)[0]
    found = index.search(hit, limit=5)
    assert found[0].id == hit.id
    assert found[0].score == pytest.approx(1, abs=1e-6)
    assert found.query == f"scenes like {hit.id}"
    assert [one.id for one in index.search(more=hit.id, limit=5)] == [one.id for one in found]


def test_a_record_asks_as_its_picture_does():
    index, picture = Index(HashEncoder()), Image.new("RGB", (8, 8), "red")
    index.add([Record(id=colour, image=Image.new("RGB", (8, 8), colour)) for colour in ("red", "blue")])
    assert index.search(Record(id="new", image=picture)).items == index.search(picture).items
    assert index.search("something", more=Record(id="new", image=picture))[0].id == "red"
    with pytest.raises(ImageError, match="has no image"):
        index.search(Record(id="words", captions="a red roof"))


# --- feedback


def test_marked_scenes_rise_and_sink(index):
    before = index.search("a red roof", limit=ROWS)
    key = before[60].id
    more, less = index.search("a red roof", more=[key], limit=ROWS), index.search("a red roof", less=key, limit=ROWS)
    assert score_of(more, key) > before[60].score > score_of(less, key)
    assert [hit.id for hit in more].index(key) < 60 < [hit.id for hit in less].index(key)
    assert (more.query, less.query) == ("“a red roof”, more like 1", "“a red roof”, less like 1")


def test_marks_may_be_ids_hits_vectors_and_pictures(index):
    hits = index.search("a red roof", limit=3)
    vectors = np.array(index.store.get_vectors([hit.id for hit in hits]))
    found = index.search("roof", more=hits, limit=ROWS)
    assert index.search("roof", more=[hit.id for hit in hits], limit=ROWS) == found
    mixed = index.search("roof", more=[hits[0], hits[1].id, vectors[2]], limit=ROWS)
    assert [hit.id for hit in mixed] == [hit.id for hit in found]
    assert (
        index.search("roof", more=vectors[0], limit=ROWS).items == index.search("roof", more=hits[0], limit=ROWS).items
    )
    assert len(index.search(more=[hits[0], Image.new("RGB", (4, 4), "red")], limit=4)) == 4


@pytest.mark.parametrize(
    ("query", "options", "said"),
    [
        ("roof", {"more": ["row-001", "row-999"]}, "'row-999', and no row"),
        ("roof", {"less": "row-999"}, "less= names 'row-999'"),
        (Hit(id="gone", score=0.5), {}, "The query names 'gone'"),
        (None, {}, "Say what to search for"),
        (None, {"less": ["row-001"]}, "Say what to search for"),
        ("roof", {"more": "row-001", "less": ["row-002", "row-001"]}, "is in more= and in less="),
        ("roof", {"more": 3}, "take examples"),
        ("roof", {"more": [None]}, "more= takes ids, hits"),
        ("roof", {"more": [np.ones(3)]}, "shape"),
        ("roof", {"more": [np.zeros(64)]}, "is zero"),
        ("roof", {"more": [""]}, "at least one character"),
        ("roof", {"diversity": 1.5}, "diversity is a number"),
        ("roof", {"against": []}, "at least one text"),
        ("roof", {"against": ["Roof"]}, "the query itself"),
        (np.ones(64), {"against": True}, "goes with a query in words"),
        (None, {"more": "row-001", "against": ["sand"]}, "this one is examples alone"),
        (np.ones(64), {"templates": "skyscript"}, "goes with a query in words"),
        ("roof", {"templates": ["a photo of"]}, r"contains \{\} exactly once"),
        ("roof", {"templates": []}, "At least one template"),
        ("roof", {"within": (1, 2, 3)}, "An area is"),
        ("roof", {"within": (1, 50, 3, 40)}, "south above its north"),
        ("roof", {"within": "Berlin"}, "An area is"),
        ("roof", {"within": {"type": "Feature", "geometry": None}}, "Take its geometry"),
    ],
)
def test_what_cannot_be_right_is_refused(plain, query, options, said):
    with pytest.raises(UsageError, match=said):
        plain.search(query, **options)


def test_a_set_of_templates_that_is_not_there(plain):
    with pytest.raises(UnknownName, match="skyscript"):
        plain.search("roof", templates="skyscripts")


def test_a_file_named_as_an_id_is_pointed_out(plain, tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path)
    with pytest.raises(UsageError, match=r"pass Path\("):
        plain.search("roof", more=str(path))


# --- diversity


def test_the_first_hit_stays_and_the_groups_are_mixed(index):
    near, spread = index.search(more="row-000", limit=6), index.search(more="row-000", limit=6, diversity=0.7)
    assert spread[0] == near[0]
    groups = [len({hit.metadata["group"] for hit in hits}) for hits in (near, spread)]
    assert groups[0] == 1 < groups[1]
    assert len({hit.id for hit in spread}) == 6


def test_diversity_obeys_the_filter_and_the_limit(index):
    found = index.search("a red roof", limit=5, diversity=1, where={"group": 2})
    assert {hit.metadata["group"] for hit in found} == {2}
    assert len(found) == 5
    assert len(index.search("a red roof", limit=500, diversity=0.3)) == ROWS
    assert len(index.search("a red roof", diversity=0.3, where={"group": 99})) == 0


class Forgetful(NumpyStore):
    """Loses a row between the search and the look at its vector, as another program may remove it."""

    def get_vectors(self, ids):
        return [None if key == "row-000" else vector for key, vector in zip(ids, super().get_vectors(ids), strict=True)]


def test_a_row_that_is_removed_meanwhile_is_no_hit():
    index = fill(Index(HashEncoder(), Forgetful()))
    query = {key: row for keys, rows, _ in index.store.scan() for key, row in zip(keys, rows, strict=True)}["row-000"]
    assert index.search(query, limit=3)[0].id == "row-000"
    assert "row-000" not in {hit.id for hit in index.search(query, limit=3, diversity=0.1)}


# --- contrast


def test_probabilities_leave_the_hits_as_they_are(index):
    plain, sure = index.search("a red roof"), index.search("a red roof", against=["sand", "a green field"])
    assert [(hit.id, hit.score) for hit in sure] == [(hit.id, hit.score) for hit in plain]
    words = HashEncoder().encode_texts(["a red roof", "sand", "a green field"]).astype(np.float64)
    for hit in sure:
        logits = 100 * words @ index.store.get_vectors([hit.id])[0]
        expected = np.exp(logits - logits.max())
        assert hit.probability == pytest.approx(expected[0] / expected.sum(), abs=1e-6)


def test_probabilities_are_of_the_words_not_of_the_moved_query(plain):
    alone = {hit.id: hit.probability for hit in plain.search("roof", against=["sand"], limit=ROWS)}
    moved = {hit.id: hit.probability for hit in plain.search("roof", against=["sand"], more="row-009", limit=ROWS)}
    assert moved == pytest.approx(alone)


def test_common_land_covers_are_at_hand(plain):
    found = plain.search("a vineyard", against=True, templates="skyscript", limit=3)
    assert all(0 <= hit.probability <= 1 for hit in found)
    assert len(Index(HashEncoder()).search("a vineyard", against=True)) == 0


# --- areas

AREAS = {
    "box": (-20.0, -40.0, 60.0, 50.0),
    "footprint": Footprint(west=-20, south=-40, east=60, north=50),
    "antimeridian": (120.0, -60.0, -100.0, 60.0),
    "polygon": shapely.Polygon([(-80, -50), (100, -40), (60, 58), (-90, 40)]),
    "geojson": {"type": "Polygon", "coordinates": [[[-80, -50], [100, -40], [60, 58], [-90, 40], [-80, -50]]]},
}


@pytest.mark.parametrize("name", AREAS)
def test_within_is_what_a_plain_reading_finds(index, name):
    passes = compile_filter({"footprint": {"$within": AREAS[name]}})
    rows = {key: row for keys, _, metadata in index.store.scan() for key, row in zip(keys, metadata, strict=True)}
    inside = {key for key, row in rows.items() if passes(row)}
    assert 0 < len(inside) < ROWS
    assert {hit.id for hit in index.search("roof", within=AREAS[name], limit=ROWS)} == inside
    both = index.search("roof", within=AREAS[name], where={"year": 2021}, limit=ROWS)
    assert {hit.id for hit in both} == {key for key in inside if rows[key]["year"] == 2021}


def test_within_a_box_is_what_its_numbers_say(index):
    west, south, east, north = AREAS["box"]
    hits = index.search("roof", within=AREAS["box"], limit=ROWS)
    found = {hit.id for hit in hits}
    assert all(west <= hit.footprint.west <= hit.footprint.east <= east for hit in hits)
    for hit in index.search("roof", limit=ROWS):
        box = hit.footprint
        is_in = box is not None and west <= box.west <= box.east <= east and south <= box.south <= box.north <= north
        assert is_in == (hit.id in found)
