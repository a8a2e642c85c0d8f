from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geovlm._files import locked
from geovlm.errors import ConfigMismatch, MissingExtra, RunLocked, StorageError, StoreError, UsageError
from geovlm.filters import compile_filter
from geovlm.stores import STORES, LanceStore, NumpyStore, _lance_columns, _lance_index, _lance_table, lance
from geovlm.testing import VectorStoreContract

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray


def examples(count: int) -> settings:
    return settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))


class TestContract(VectorStoreContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder, self.made = tmp_path, 0

    def make_store(self) -> LanceStore:
        self.made += 1
        return LanceStore(self.folder / f"{self.made}.lance")


class IndexedStore(LanceStore):
    """All of the first write is indexed, later rows are not."""

    def upsert(self, *args: Any, **kwargs: Any) -> Any:
        first = not len(self)
        outcome = super().upsert(*args, **kwargs)
        if first:
            self.build_index()
        return outcome


class TestContractWithIndexes(TestContract):
    def make_store(self) -> LanceStore:
        self.made += 1
        return IndexedStore(self.folder / f"{self.made}.lance")


def unit(count: int, dim: int = 16, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def filled(path: Path, count: int = 50, dim: int = 16) -> LanceStore:
    store = LanceStore(path)
    store.bind(dim=dim, fingerprint="encoder-a")
    store.upsert(
        [f"{i:04d}" for i in range(count)], unit(count, dim), [{"i": i, "tags": ["a", None]} for i in range(count)]
    )
    return store


def content(store: LanceStore) -> dict[str, tuple[bytes, Mapping[str, Any]]]:
    """Everything in a store; fails on an id that comes twice."""
    rows = [
        (key, (vector.tobytes(), row))
        for keys, vectors, rows in store.scan()
        for key, vector, row in zip(keys, vectors, rows, strict=True)
    ]
    assert len(dict(rows)) == len(rows)
    return dict(rows)


def raw(store: LanceStore) -> Any:
    """The table of `lancedb` below."""
    return store._table.open()


# --- filters in SQL


def agrees(store: LanceStore, rows: Sequence[Mapping[str, Any]], where: dict[str, Any]) -> bool:
    """The store counts and finds the same rows as a plain reading."""
    expected = {f"{i:04d}" for i, row in enumerate(rows) if compile_filter(where)(row)}
    found = store.query(np.ones((1, 8)), len(rows), where=where)[0].ids
    return store.count(where) == len(expected) and set(found) == expected


ODD_NAMES = [
    "a",
    "A",
    "a.b",
    "a_b",
    "a_2eb",
    ".",
    "a.",
    "",
    "é",
    "日本",
    "it's",
    '"',
    "'; DROP TABLE x --",
    "n_a",
    "id",
]
ODD_NAMES += ["vector", "metadata", "select", "a.0", "0", "x" * 201, "\0", "\ud800", " ", "%", "_"]
HUGE = [2**53, 2**53 + 1, -(2**53) - 1, 2**63, 10**310, 1e300, -1e300, 5e-324, -0.0, 0, 0.1, 1, 1.0]
ODD_TEXTS = [
    "",
    "'",
    "''",
    "\\",
    "a\0b",
    "\ud800",
    "日本 \U0001f30d",
    "x" * 9000,
    "%",
    "NULL",
    "a",
    "A",
    "é",
    "e\u0301",
]
SCALARS = st.sampled_from([*HUGE, *ODD_TEXTS, True, False, None])
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "0", "a.b", ""]), inner, max_size=3)
    ),
    max_leaves=4,
)
ROWS = st.lists(st.dictionaries(st.sampled_from(ODD_NAMES), VALUES, max_size=4), min_size=1, max_size=6)
NAMES = st.sampled_from([*(name for name in ODD_NAMES if name), "a.a", "a.b.a", "a.b.0", "a.1", "b", "é.a", "n_a.b"])


def conditions(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    ordered = values.filter(lambda value: isinstance(value, int | float | str))
    return st.one_of(
        st.builds(lambda op, value: {op: value}, st.sampled_from(["$eq", "$ne"]), values),
        st.builds(lambda op, some: {op: some}, st.sampled_from(["$in", "$nin"]), st.lists(values, max_size=3)),
        st.builds(lambda op, value: {op: value}, st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ordered),
        st.builds(lambda flag: {"$exists": flag}, st.booleans()),
    )


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
@examples(60)
@given(rows=ROWS, data=st.data())
def test_filters_on_odd_names_and_values_agree_with_a_plain_reading(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    store = LanceStore(tmp_path_factory.mktemp("odd") / "s")
    store.upsert([f"{i:04d}" for i in range(len(rows))], np.eye(len(rows), 8) + 0.1, rows)
    rows = [dict(row or {}) for row in store.get([f"{i:04d}" for i in range(len(rows))])]
    if data.draw(st.booleans(), label="indexed"):
        store.build_index()
    held = [value for row in rows for value in row.values()] or [None]
    values = st.sampled_from(held) | VALUES
    leaf = st.builds(lambda name, condition: {name: condition}, NAMES, conditions(values))
    tree = st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.builds(lambda some: {"$and": some}, st.lists(inner, min_size=1, max_size=3)),
            st.builds(lambda some: {"$or": some}, st.lists(inner, min_size=1, max_size=3)),
            st.builds(lambda one: {"$not": one}, inner),
        ),
        max_leaves=4,
    )
    for where in data.draw(st.lists(tree, min_size=5, max_size=5)):
        assert agrees(store, rows, where), where
    assert agrees(store, rows, {})
    store.close()


TRICKY: list[dict[str, Any]] = [
    {"a.b": 1, "a": {"b": 2}},  # the name as it is written comes first
    {"a": {"b": 2}},
    {"a": {"b": {"c": 2}}, "a.b": {"c": 3}},
    {"a.b": 2},
    {"a": [{"b": 2}, 2]},
    {"a": {"0": 5}},
    {"a": [5]},
    {"v": 2**53},
    {"v": 2**53 + 1},
    {"v": -0.0},
    {"v": [2**53 + 1, -0.0, 1.0]},
    {"v": True},
    {"v": 1},
    {"v": [[]]},
    {"v": []},
    {"v": None},
    {"v": {"y": 1, "x": [1.0]}},
    {"v": [{"x": [1], "y": True}]},
]


@pytest.mark.parametrize("indexed", [False, True])
def test_tricky_names_and_values_agree_with_a_plain_reading(tmp_path: Path, indexed: bool) -> None:
    store = LanceStore(tmp_path / "s")
    store.upsert([f"{i:04d}" for i in range(len(TRICKY))], np.ones((len(TRICKY), 8)), TRICKY)
    if indexed:
        store.build_index()
    held = [value for row in TRICKY for value in row.values()]
    for name in ("a", "a.b", "a.b.c", "a.0", "v", "v.x", "v.0"):
        for value in [*held, 2, 3, 5, 2.0**53, 0, 1.0, [], [1.0], {"x": [1], "y": 1}, {"x": [1], "y": True}]:
            operators = ["$eq", "$ne"] + ["$gt", "$lt"] * isinstance(value, int | float)
            assert all(agrees(store, TRICKY, {name: {op: value}}) for op in operators), (name, value)
        assert all(agrees(store, TRICKY, {name: {"$exists": flag}}) for flag in (True, False))


@pytest.mark.parametrize(
    "where",
    [
        {"name": "x' OR 'a' = 'a"},
        {"name": {"$in": ["'); DELETE FROM vectors; --", "\\' OR true --"]}},
        {"name' OR 'a' = 'a": {"$exists": True}},
        {"name); DELETE FROM vectors; --": {"$ne": 1}},
        {"tags": "'] ) OR true --"},
    ],
    ids=str,
)
def test_what_looks_like_sql_is_only_text(tmp_path: Path, where: dict[str, Any]) -> None:
    store = LanceStore(tmp_path / "s")
    rows: list[dict[str, Any]] = [{"name": "a", "tags": ["x"]}, {"name": "b", "tags": []}, {}]
    store.upsert([f"{i:04d}" for i in range(3)], np.eye(3, 8), rows)
    assert agrees(store, rows, where)
    assert store.delete(["' OR true --"]) == 0
    assert store.get(["' OR 'a' = 'a"]) == [None]
    assert len(store) == 3


def test_more_names_than_there_are_columns_for(tmp_path: Path) -> None:
    """Beyond the limit of names the metadata itself answers, for rows written before and after."""
    store = LanceStore(tmp_path / "s")
    rows: list[dict[str, Any]] = [{f"name-{i}": i % 3} for i in range(300)]
    rows[7]["name-299"] = 1
    for start in range(0, 300, 100):
        store.upsert([f"{i:04d}" for i in range(start, start + 100)], np.ones((100, 8)), rows[start : start + 100])
    assert len(_lance_columns.layout_of(raw(store).schema.names).names) == _lance_columns.MAX_NAMES
    for i in (0, 255, 256, 299):
        for condition in (i % 3, {"$exists": True}, {"$ne": i % 3}, {"$gt": 0}):
            assert agrees(store, rows, {f"name-{i}": condition, "name-0": {"$ne": 5}})
    assert store.delete(where={"name-299": {"$exists": True}}) == 2
    assert len(store) == 298


def test_a_filter_nested_deeper_than_the_parser_goes(tmp_path: Path) -> None:
    store = LanceStore(tmp_path / "s")
    rows = [{"v": i} for i in range(5)]
    store.upsert([f"{i:04d}" for i in range(5)], np.ones((5, 8)), rows)
    where: dict[str, Any] = {"v": 3}
    for depth in range(70):
        where = {"$or": [{"v": 1}, {"$and": [where, {"v": {"$lt": 9}}]}]} if depth % 2 else {"$not": {"$not": where}}
    assert agrees(store, rows, where)
    assert agrees(store, rows, {"$or": [{"v": {"$gt": i, "$lt": i + 1.5}} for i in range(1000)]})
    assert agrees(store, rows, {"v": {"$in": list(range(3, 20_000))}})


def test_a_kind_of_value_that_comes_later_gets_its_column(tmp_path: Path) -> None:
    store, rows = LanceStore(tmp_path / "s"), list[dict[str, Any]]()
    for value in (1, "a", None, True, ["a"], {"b": 2}, 2**60 + 1, "\ud800"):
        rows.append({"v": value})
        store.upsert([f"{len(rows) - 1:04d}"], np.ones((1, 8)), [rows[-1]])
        for where in ({"v": 1}, {"v": "a"}, {"v": None}, {"v": {"$gt": 0}}, {"v": {"$exists": True}}, {"v.b": 2}):
            assert agrees(store, rows, where)
            assert agrees(store, rows, {"$not": where})


def test_few_matches_are_found_wherever_they_rank(tmp_path: Path) -> None:
    """Both when Lance filters and when the metadata must be looked at."""
    store, vectors = LanceStore(tmp_path / "s"), unit(3000)
    order = np.argsort(-(vectors @ vectors[0]))
    rows: list[dict[str, Any]] = [{} for _ in range(3000)]
    for rank in (5, 1500, 2999):
        rows[order[rank]] = {"rare": [True], "n": 2**60 + 1}
    store.upsert([f"{i:04d}" for i in range(3000)], vectors, rows)
    expected = [f"{order[rank]:04d}" for rank in (5, 1500, 2999)]
    for index in (False, True):
        if index:
            store.build_index()
        for where in ({"rare": True}, {"rare.0": True}, {"n": 2**60 + 1}, {"n": {"$gt": 5}, "rare": True}):
            for k in (2, 10):
                assert store.query(vectors[:1], k, where=where)[0].ids == expected[:k]


def test_thousands_of_equal_vectors_tie_in_order_of_id(tmp_path: Path) -> None:
    """As the tiles of an ocean do."""
    store, vectors = LanceStore(tmp_path / "s"), unit(4000)
    vectors[:3000] = vectors[0]
    ids = [f"{i * 7919 % 4000:04d}" for i in range(4000)]
    store.upsert(ids, vectors, [{"n": 2**60 + i % 2} for i in range(4000)])
    for where, tied in (({}, ids[:3000]), ({"n": 2**60 + 1}, ids[1:3000:2]), ({"n": 5}, [])):
        found = store.query(vectors[:2], 12, where=where, exact=True)
        assert [one.ids for one in found] == [sorted(tied)[:12]] * 2
        assert len(set(found[0].scores)) <= 1


def test_a_column_that_another_process_adds_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, other = filled(tmp_path / "s"), LanceStore(tmp_path / "s")
    find = lance.nearest

    def late(*args: Any) -> Any:
        monkeypatch.undo()
        other.upsert(["new"], unit(1), [{"late": 1}])
        return find(*args)

    monkeypatch.setattr(lance, "nearest", late)
    assert store.query(unit(1), 100, where={"late": {"$exists": False}})[0].ids.count("new") == 0


# --- scores and the index


def test_scores_are_those_of_the_numpy_store(tmp_path: Path) -> None:
    mine, other = LanceStore(tmp_path / "s"), NumpyStore()
    vectors = np.random.default_rng(0).normal(size=(2000, 24))
    vectors[500:600] = vectors[500]
    ids = [f"{i * 7919 % 2000:04d}" for i in range(2000)]
    for store in (mine, other):
        store.upsert(ids, vectors)
    mine.build_index()
    for k in (1, 10, 150):
        for exact in (True, False):
            for left, right in zip(
                mine.query(vectors[490:510], k, exact=exact), other.query(vectors[490:510], k), strict=True
            ):
                assert list(left.scores) == pytest.approx(list(right.scores), abs=1e-6)
                if exact:
                    assert left.ids == right.ids


@pytest.mark.parametrize("dim", [512, 20], ids=["codes", "no whole bytes"])
def test_the_index_finds_what_is_near(tmp_path: Path, dim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lance_index, "INDEX_FROM", 4000)
    monkeypatch.setattr(_lance_index, "ROWS_A_PARTITION", 500)
    store, vectors, queries = LanceStore(tmp_path / "s"), unit(4000, dim), unit(40, dim, seed=1)
    store.upsert([f"{i:04d}" for i in range(4000)], vectors, [{"i": i} for i in range(4000)])
    store.flush()
    assert raw(store).index_stats("vector_idx").num_indexed_rows == 4000
    for where, kept in (({}, slice(None)), ({"i": {"$lt": 400}}, slice(400))):
        truth = np.argsort(-(queries @ vectors[kept].T), axis=1)[:, :10]
        found = store.query(queries, where=where)
        hits = sum(
            len({int(key) for key in one.ids} & set(best.tolist())) for one, best in zip(found, truth, strict=True)
        )
        assert hits >= 0.99 * truth.size
    found_late = vectors[:1] + 0.01
    store.upsert(["late"], found_late)
    assert store.query(found_late, 1)[0].ids == ["late"]


def test_flush_makes_extends_and_renews_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lance_index, "INDEX_FROM", 1000)
    monkeypatch.setattr(_lance_index, "WAITING_ROWS", 100)
    monkeypatch.setattr(_lance_index, "SMALL_FILES_TO_INDEX", 2)

    def add(start: int, stop: int) -> Any:
        rows = [
            {"n": i, "few": f"{i % 5}", "all": f"u{i}", "long": f"{i}" * 200, "b": i % 2 == 0, "tags": [f"{i % 7}"]}
            for i in range(start, stop)
        ]
        store.upsert([f"{i:05d}" for i in range(start, stop)], unit(stop - start, seed=start), rows)
        store.flush()
        return raw(store).index_stats("vector_idx")

    store = LanceStore(tmp_path / "s")
    assert add(0, 999) is None
    assert add(999, 1000).num_indexed_rows == 1000
    assert raw(store).stats()["fragment_stats"]["num_fragments"] == 1
    kinds = {index.columns[0]: index.index_type for index in raw(store).list_indices()}
    assert kinds == {
        "vector": "IvfRq", "id": "BTree", "n_n": "BTree", "t_few": "Bitmap", "t_all": "BTree", "b_b": "Bitmap",
        "i_tags": "LabelList",
    }  # fmt: skip
    assert add(1000, 1050).num_unindexed_rows == 50
    assert add(1050, 1200).num_unindexed_rows == 0
    assert store._about().settings[_lance_index.ROWS_KEY] == "1000"
    assert add(1200, 4000).num_unindexed_rows == 0
    assert store._about().settings[_lance_index.ROWS_KEY] == "4000"
    assert len(content(store)) == 4000


def test_an_index_of_many_parts_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"INDEX_FROM": 500, "WAITING_ROWS": 10, "PARTS": 3}.items():
        monkeypatch.setattr(_lance_index, name, value)
    store, parts = filled(tmp_path / "s", 500), list[int]()
    for turn in range(6):
        store.upsert([f"{turn}-{i}" for i in range(20)], unit(20, seed=turn))
        store.flush()
        parts.append(raw(store).index_stats("vector_idx").num_indices)
    assert parts == [1, 2, 3, 1, 2, 3]
    assert raw(store).index_stats("vector_idx").num_unindexed_rows == 0
    assert len(content(store)) == 620


def test_flush_joins_small_files_and_fills_gaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lance_index, "SMALL_FILES", 8)
    monkeypatch.setattr(_lance_index, "STALE_ROWS", 30)
    store = LanceStore(tmp_path / "s")

    def files() -> int:
        return int(raw(store).stats()["fragment_stats"]["num_fragments"])

    for i in range(7):
        store.upsert([str(i)], unit(1))
    store.flush()
    assert files() == 7
    store.upsert(["7"], unit(1))
    store.flush()
    assert files() == 1
    store.upsert([f"a{i}" for i in range(50)], unit(50))
    store.delete([f"a{i}" for i in range(40)])
    assert files() == 2
    store.flush()
    assert (files(), len(store)) == (1, 18)


def test_a_store_that_wrote_nothing_leaves_the_table_alone(tmp_path: Path) -> None:
    filled(tmp_path / "s").close()
    store = LanceStore(tmp_path / "s")
    version = raw(store).version
    store.query(unit(1))
    store.flush()
    store.close()
    assert raw(store).version == version
    assert len(store) == 50  # close lets go, and the next call opens again


def test_an_index_over_nothing_is_no_work(tmp_path: Path) -> None:
    store = LanceStore(tmp_path / "s")
    store.build_index()
    store.bind(dim=8, fingerprint="a")
    store.build_index()
    assert store.query(unit(1, 8))[0].ids == []


# --- writes in any order

STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["replace", "skip"]), st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6)),
        st.tuples(st.just("delete"), st.lists(st.sampled_from("abcdefgh"), max_size=4)),
        st.tuples(st.just("filter"), st.integers(0, 3)),
        st.tuples(st.sampled_from(["index", "optimize", "open"]), st.none()),
    ),
    max_size=10,
)


@examples(25)
@given(STEPS)
def test_any_order_of_writes_ends_as_in_a_dict(  # noqa: C901 - one branch for each kind of step
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("steps") / "s"
    store, model = LanceStore(path), dict[str, tuple[float, dict[str, int]]]()
    for turn, (what, which) in enumerate(steps):
        if what == "delete":
            assert store.delete(which) == sum(model.pop(key, None) is not None for key in which)
        elif what == "filter":
            gone = [key for key, (_, row) in model.items() if row["kind"] == which]
            assert store.delete(where={"kind": which}) == len(gone)
            model = {key: value for key, value in model.items() if key not in gone}
        elif what == "index":
            store.build_index()
        elif what == "optimize" and raw(store) is not None:
            raw(store).optimize()
        elif what == "open":
            store = LanceStore(path)
        elif what in ("replace", "skip"):
            angles = [turn / 10 + position / 100 for position in range(len(which))]
            vectors = np.array([[np.cos(a), np.sin(a), *[0] * 6] for a in angles])
            rows = [{"kind": (turn + position) % 4, f"turn{turn}": 1} for position in range(len(which))]
            known = set(model)
            for key, angle, row, outcome in zip(
                which, angles, rows, store.upsert(which, vectors, rows, on_conflict=what), strict=True
            ):
                assert outcome == ("inserted" if key not in known else "replaced" if what == "replace" else "skipped")
                known.add(key)
                if what == "replace" or key not in model:
                    model[key] = (angle, row)
    kept = {key: (np.frombuffer(vector, dtype=np.float32), row) for key, (vector, row) in content(store).items()}
    assert {key: row for key, (_, row) in kept.items()} == {key: row for key, (_, row) in model.items()}
    for key, (angle, _) in model.items():
        np.testing.assert_allclose(kept[key][0][:2], [np.cos(angle), np.sin(angle)], atol=1e-6)


@pytest.mark.parametrize("many", [900, 2500], ids=["by condition", "by reading"])
def test_many_ids_are_found_replaced_and_removed(tmp_path: Path, many: int) -> None:
    store, ids = LanceStore(tmp_path / "s"), [f"{i:05d}" for i in range(2500)]
    store.upsert(ids, unit(2500), [{"v": 0}] * 2500)
    half = [*ids[: many // 2], *(f"new-{i}" for i in range(many // 2))]
    assert store.upsert(half, unit(len(half)), [{"v": 1}] * len(half)) == ["replaced"] * (many // 2) + ["inserted"] * (
        many // 2
    )
    assert store.get(half) == [{"v": 1}] * len(half)
    assert store.count({"v": 0}) == 2500 - many // 2
    assert store.delete(half) == len(half)
    assert len(content(store)) == 2500 - many // 2


def test_long_and_odd_ids(tmp_path: Path) -> None:
    store = LanceStore(tmp_path / "s")
    ids = ["x" * 10_000, "5", "'", "\\", "a\0b", "日本"]
    store.upsert(ids, np.ones((6, 8)), [{"v": key} for key in ids])
    assert store.get(ids) == [{"v": key} for key in ids]
    assert [store.count({"v": key}) for key in ids] == [1] * 6
    with pytest.raises(UsageError, match="surrogate"):
        store.upsert(["\ud800"], np.ones((1, 8)))
    assert store.get(["\ud800"]) == [None]
    assert store.delete(["\ud800", *ids]) == 6


# --- one directory


def test_a_store_comes_back_bit_by_bit(tmp_path: Path) -> None:
    store = filled(tmp_path / "deep" / "store")
    before = content(store)
    store.close()
    back = LanceStore(tmp_path / "deep" / "store")
    assert content(back) == before
    for dim, fingerprint in ((16, "encoder-b"), (8, "encoder-a")):
        with pytest.raises(ConfigMismatch, match="encoder-a"):
            back.bind(dim=dim, fingerprint=fingerprint)
    back.bind(dim=16, fingerprint="encoder-a")
    with pytest.raises(UsageError):
        back.upsert(["x"], np.ones((1, 8)))


def test_vectors_that_came_before_the_encoder_are_tied_to_it(tmp_path: Path) -> None:
    store = LanceStore(tmp_path / "s")
    store.upsert(["a"], np.ones((1, 8)))
    with pytest.raises(ConfigMismatch):
        store.bind(dim=16, fingerprint="encoder-a")
    store.bind(dim=8, fingerprint="encoder-a")
    store.upsert(["b"], np.ones((1, 8)), [{"new": 1}])
    store.build_index()
    raw(store).optimize()
    with pytest.raises(ConfigMismatch):
        LanceStore(tmp_path / "s").bind(dim=8, fingerprint="encoder-b")


def test_reading_makes_no_directory(tmp_path: Path) -> None:
    store = LanceStore(tmp_path / "s")
    assert (store.count(), store.get(["a"]), store.delete(["a"]), list(store.scan())) == (0, [None], 0, [])
    assert store.query(np.ones((2, 8)))[0].ids == []
    store.close()
    assert not (tmp_path / "s").exists()


def test_tables_share_a_directory(tmp_path: Path) -> None:
    one, two = filled(tmp_path / "s"), LanceStore(tmp_path / "s", table="other.model-2")
    two.upsert(["x"], np.ones((1, 8)))
    assert (len(one), len(two)) == (50, 1)
    assert STORES["lance"] is LanceStore
    assert "other.model-2" in repr(two)


@pytest.mark.parametrize("table", ["", "a/b", "../x", "a b", ".x", "é"])
def test_a_table_has_a_plain_name(tmp_path: Path, table: str) -> None:
    with pytest.raises(UsageError, match="table"):
        LanceStore(tmp_path, table=table)


def test_a_store_is_a_local_directory(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="directory"):
        LanceStore("s3://bucket/scenes")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="is a file"):
        len(LanceStore(tmp_path / "file"))


def test_a_directory_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "scene.tif").write_text("x")
    store = LanceStore(tmp_path)
    for call in (lambda: store.upsert(["a"], np.ones((1, 8))), lambda: len(store)):
        with pytest.raises(StoreError, match=r"scene\.tif"):
            call()
    assert [entry.name for entry in tmp_path.iterdir()] == ["scene.tif"]


def test_a_table_of_another_program_is_left_alone(tmp_path: Path) -> None:
    import lancedb

    lancedb.connect(tmp_path).create_table("vectors", [{"id": "a", "vector": [1.0, 2.0], "metadata": "{}"}])
    for call in (len, lambda store: store.upsert(["a"], np.ones((1, 2)))):
        with pytest.raises(StoreError, match="no LanceStore made"):
            call(LanceStore(tmp_path))


def test_a_newer_format_asks_for_a_newer_geovlm(tmp_path: Path) -> None:
    store = filled(tmp_path / "s")
    store._table.describe(raw(store), {_lance_table.FORMAT_KEY: "2"})
    with pytest.raises(StoreError, match="update geovlm"):
        len(LanceStore(tmp_path / "s"))


def damage(folder: Path, what: str) -> None:
    part, _, how = what.partition(" ")
    for path in list((folder / "vectors.lance" / part).iterdir()):
        data = path.read_bytes()
        if how == "lost":
            path.unlink()
        else:
            path.write_bytes({"empty": b"", "halved": data[: len(data) // 2], "noise": os.urandom(len(data))}[how])


@pytest.mark.parametrize(
    "what", [f"{part} {how}" for part in ("data", "_versions") for how in ("lost", "empty", "halved", "noise")]
)
def test_a_damaged_store_says_so(tmp_path: Path, what: str) -> None:
    filled(tmp_path / "s").close()
    damage(tmp_path / "s", what)
    for call in (content, lambda store: store.query(unit(1)), lambda store: store.get(["0001"])):
        with pytest.raises(StoreError, match=r"bring a whole copy|Bring a whole copy"):
            call(LanceStore(tmp_path / "s"))
    if what != "data lost":  # ids are read only to see whether one is known
        with pytest.raises(StoreError):
            LanceStore(tmp_path / "s").upsert(["0001"], unit(1))


def test_a_store_without_its_indexes_says_so_and_gets_them_again(tmp_path: Path) -> None:
    store = filled(tmp_path / "s")
    store.build_index()
    store.close()
    shutil.rmtree(tmp_path / "s" / "vectors.lance" / "_indices")
    store = LanceStore(tmp_path / "s")
    for call in (lambda: store.query(unit(1)), lambda: store.get(["0001"]), lambda: store.upsert(["0001"], unit(1))):
        with pytest.raises(StoreError, match="damaged"):
            call()
    store.build_index()
    assert store.query(unit(1))[0].ids[0] == "0000"
    assert len(content(store)) == 50


def test_half_of_the_files_lost(tmp_path: Path) -> None:
    store = filled(tmp_path / "s")
    store.upsert(["z"], unit(1))
    store.close()
    next((tmp_path / "s" / "vectors.lance" / "data").iterdir()).unlink()
    for call in (content, lambda store: store.query(unit(1), 60), lambda store: store.get(["0001", "z"])):
        with pytest.raises(StoreError, match="bring a whole copy"):
            call(LanceStore(tmp_path / "s"))


def test_a_table_whose_making_was_killed_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "s" / "vectors.lance" / "_versions").mkdir(parents=True)
    store = LanceStore(tmp_path / "s")
    assert len(store) == 0
    store.upsert(["a"], np.ones((1, 8)))
    assert len(LanceStore(tmp_path / "s")) == 1


def test_a_directory_that_goes_away_under_an_open_store(tmp_path: Path) -> None:
    store = filled(tmp_path / "s")
    shutil.rmtree(tmp_path / "s")
    with pytest.raises(StoreError):
        store.query(unit(1))


READ_ONLY = """
import os, sys
import numpy as np
from geovlm.errors import StorageError
from geovlm.stores import LanceStore
import lancedb, lancedb.index

os.setgid(65534); os.setuid(65534)
store = LanceStore(sys.argv[1])
assert len(store) == 50 and len(store.query(np.ones((1, 16)), where={"i": {"$gt": 3}})[0].ids) == 10
assert sum(len(keys) for keys, _, _ in store.scan()) == 50
try:
    store.upsert(["x"], np.ones((1, 16)))
except StorageError as error:
    assert sys.argv[1] in str(error), error
    print("refused")
store.close()
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs to become another user")
def test_a_directory_that_may_only_be_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("shown") / "s"
    filled(path).close()
    for parent in path.parents[:3]:
        parent.chmod(parent.stat().st_mode | 0o055)
    run = subprocess.run([sys.executable, "-c", READ_ONLY, str(path)], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "refused\n"), run.stderr


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path / "s")

    def full(*args: object, **kwargs: object) -> None:
        raise OSError("lance error: LanceError(IO): No space left on device (os error 28), /src/io.rs:1:2")

    monkeypatch.setattr(type(raw(store)), "add", full)
    with pytest.raises(StorageError, match="No space left on device") as told:
        store.upsert(["x"], unit(1))
    assert "/src" not in str(told.value)
    assert len(store) == 50


def test_without_lancedb_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(MissingExtra, match=r"geovlm\[lance\]"):
        LanceStore(tmp_path)


# --- several at once


def test_readers_go_on_while_one_writes(tmp_path: Path) -> None:
    """Whatever they see is the state after some write, with its index or without."""
    store, stop, wrong = filled(tmp_path / "s", 100), threading.Event(), list[str]()
    store.upsert([f"{i:04d}" for i in range(100)], unit(100), [{"turn": 0}] * 100)

    def read(reader: LanceStore) -> None:
        while not stop.is_set():
            turns = [{row["turn"] for row in rows} for _, _, rows in reader.scan(batch_size=1000)]
            found = reader.query(unit(2), 5)
            if len(turns) != 1 or len(turns[0]) != 1 or len(reader) != 100 or len(found[1].ids) != 5:
                wrong.append(str(turns))

    readers = [threading.Thread(target=read, args=(one,)) for one in (store, LanceStore(tmp_path / "s"))]
    for reader in readers:
        reader.start()
    for turn in range(1, 12):
        store.upsert([f"{i:04d}" for i in range(100)], unit(100), [{"turn": turn, f"n{turn}": 1}] * 100)
        if turn % 4 == 0:
            store.build_index()
            raw(store).optimize()
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong


def test_two_threads_and_two_stores_write_at_once(tmp_path: Path) -> None:
    stores = [LanceStore(tmp_path / "s") for _ in range(3)]
    counts = [0, 0, 0]

    def write(me: int) -> None:
        for turn in range(8):
            ids = [f"{i:03d}" for i in range(turn * 5, turn * 5 + 20)]
            outcome = stores[me].upsert(ids, np.ones((20, 8)), [{f"by{me}": turn}] * 20)
            counts[me] += outcome.count("inserted")

    writers = [threading.Thread(target=write, args=(me,)) for me in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(content(stores[0])) == sum(counts) == 55


OTHER_PROCESS = """
import sys
from pathlib import Path
from tests.stores.test_lance import inserted_of
print("ready", flush=True)
sys.stdin.readline()
print(inserted_of(Path(sys.argv[1])))
"""


def inserted_of(path: Path) -> int:
    """Write overlapping rows that another process writes too, and count those that were not there."""
    store, count = LanceStore(path), 0
    for turn in range(10):
        ids = [f"{i:03d}" for i in range(turn * 5, turn * 5 + 20)]
        count += store.upsert(ids, np.ones((20, 8)), [{"by": os.getpid()}] * 20, on_conflict="skip").count("inserted")
    return count


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OTHER_PROCESS, str(tmp_path / "s")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        assert other.stdin is not None
        other.stdin.write("go\n")
        other.stdin.flush()
        mine, theirs = inserted_of(tmp_path / "s"), int(other.stdout.read())
    assert len(content(LanceStore(tmp_path / "s"))) == mine + theirs == 65


LOGGED = """
import os, sys
import numpy as np
from geovlm.stores import LanceStore

store = LanceStore(sys.argv[1])
store.upsert([str(i) for i in range(9000)], np.ones((9000, 8)))
store.build_index()
assert "LANCEDB_LOG" not in os.environ
"""


def test_an_index_is_made_in_silence(tmp_path: Path) -> None:
    """Lance warns of clusters that are empty; equal vectors are nothing to warn of."""
    run = subprocess.run(
        [sys.executable, "-c", LOGGED, str(tmp_path / "s")],
        capture_output=True,
        check=True,
        env={name: value for name, value in os.environ.items() if name != "LANCEDB_LOG"},
    )
    assert run.stdout + run.stderr == b""


def test_a_writer_that_waits_too_long_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(tmp_path / "s")
    monkeypatch.setattr(_lance_table, "PATIENCE", 0.1)
    with locked(tmp_path / "s"):
        for call in (
            lambda: store.upsert(["x"], unit(1)),
            lambda: store.delete(["0001"]),
            store.flush,
            store.build_index,
        ):
            with pytest.raises(RunLocked):
                call()
        assert len(store.query(unit(1))[0].ids) == 10
    assert len(store) == 50


def test_a_scan_reads_the_rows_of_its_beginning(tmp_path: Path) -> None:
    store = filled(tmp_path / "s", 100)
    before = content(store)
    reading = store.scan(batch_size=10)
    seen = next(reading)[0]
    store.upsert(["0000", "new"], unit(2), [{"i": -1}] * 2)
    store.delete(where={"i": {"$gt": 50}})
    raw(store).optimize()
    for keys, _, rows in reading:
        assert all(row == before[key][1] for key, row in zip(keys, rows, strict=True))
        seen += keys
    assert sorted(seen) == sorted(before)


# --- kills

# Forks a writer for each line that it reads, kills it after so many seconds, and tells the last batch it finished.
# Nothing of Lance may run before the fork.
KILLED = """
import os, signal, sys, time, warnings
import numpy as np
import lancedb, lancedb.index
from geovlm.stores import LanceStore
from tests.stores.test_lance import kill_batch

warnings.simplefilter("ignore")
for line in sys.stdin:
    first, delay = int(line.split()[0]), float(line.split()[1])
    ear, mouth = os.pipe()
    child = os.fork()
    if child == 0:
        store = LanceStore(sys.argv[1])
        for number in range(first, 10_000):
            store.upsert(*kill_batch(number))
            os.write(mouth, number.to_bytes(4, "big"))
            if number % 5 == 4:
                store.build_index() if number % 10 == 9 else store._table.open().optimize()
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(mouth)
    told = b""
    while part := os.read(ear, 65536):
        told += part
    os.close(ear)
    print(int.from_bytes(told[-4:], "big") if told else first - 1, flush=True)
"""
KILL_IDS = 300


def kill_batch(number: int) -> tuple[list[str], NDArray[np.float32], list[dict[str, Any]]]:
    """Seeded rows that say of which batch they are, in their vectors too; now and then with a new name."""
    ids = [f"{i:03d}" for i in np.random.default_rng(number).choice(KILL_IDS, size=60, replace=False)]
    vectors = np.zeros((60, 64), dtype=np.float32)
    vectors[:, number % 64] = vectors[:, -1 - number // 64 % 63] = 1
    return ids, vectors, [{"batch": number, f"name{number // 3 % 50}": f"{number}"} for _ in ids]


def kill_and_check(path: Path, runs: int, seed: int) -> Iterator[int]:
    """Kill a writer again and again; yields how many batches were finished when the table was found whole."""
    rng, model, finished = np.random.default_rng(seed), dict[str, int](), -1
    root = Path(__file__).parents[2]
    zygote = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
    )
    with zygote:
        assert zygote.stdin is not None
        assert zygote.stdout is not None
        for _ in range(runs):
            zygote.stdin.write(f"{finished + 1} {rng.uniform(0, 0.3):.4f}\n")
            zygote.stdin.flush()
            acknowledged = int(zygote.stdout.readline())
            for number in range(finished + 1, acknowledged + 1):
                model.update(dict.fromkeys(kill_batch(number)[0], number))
            store = LanceStore(path)
            found = content(store)
            one_more = model | dict.fromkeys(kill_batch(acknowledged + 1)[0], acknowledged + 1)
            batches = {key: row["batch"] for key, (_, row) in found.items()}
            assert batches in (model, one_more)
            for key, number in batches.items():
                ids, vectors, rows = kill_batch(number)
                place = ids.index(key)
                expected = (vectors[place] / np.linalg.norm(vectors[place])).tobytes()
                assert found[key] == (expected, rows[place])
            assert len(store) == store.count({"batch": {"$gte": 0}}) == len(batches)
            finished = acknowledged + (batches != model)
            model = batches
            yield finished
        zygote.stdin.close()


def test_a_killed_writer_leaves_a_whole_table(tmp_path: Path) -> None:
    runs = int(os.environ.get("GEOVLM_KILLS", "10"))
    finished = list(kill_and_check(tmp_path / "s", runs=runs, seed=0))
    assert len(finished) == runs
    assert finished[-1] > runs // 2
    store = LanceStore(tmp_path / "s")
    store.upsert(*kill_batch(0))
    store.flush()
    assert json.dumps(store.get([kill_batch(0)[0][0]])) == json.dumps([kill_batch(0)[2][0]])


@pytest.mark.parametrize("where", [{}, {"i": {"$lt": 100}}, {"tags": {"$in": [None]}}])
def test_threads_that_ask_together_get_what_each_gets_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: dict[str, Any]
) -> None:
    store, queries = filled(tmp_path / "s", count=300), unit(12, seed=1)
    alone = [store.query(query[None], 3, where=where) for query in queries]
    sizes: list[int] = []

    def noted(table: Any, several: NDArray[np.float32], *rest: Any) -> Any:
        deadline = time.monotonic() + 20
        while not sizes and len(*store._together._lines.values()) < 2 and time.monotonic() < deadline:
            time.sleep(0.001)  # until two wait for the first one
        sizes.append(len(several))
        return nearest(table, several, *rest)

    nearest = lance.nearest
    monkeypatch.setattr(lance, "nearest", noted)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda query: store.query(query[None], 3, where=where), queries))
    assert found == alone
    assert sum(sizes) == len(queries)
    assert max(sizes) > 1
