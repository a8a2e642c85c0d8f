"""The first pass over codes: it finds what a full scan finds, and follows whatever happens to the rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from geovlm._vectors import unit_rows
from geovlm.stores import NumpyStore, _codes, numpy
from geovlm.stores._codes import Codes
from geovlm.testing import VectorStoreContract

if TYPE_CHECKING:
    from pathlib import Path

DIM = 130  # not a whole number of words


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes from 1,000 rows on, in blocks of which there are several."""
    monkeypatch.setattr(numpy, "ROWS_TO_CODE", 1000)
    monkeypatch.setattr(_codes, "ROWS_A_BLOCK", 512)
    monkeypatch.setattr(_codes, "FIRST_ROWS", 128)
    monkeypatch.setattr(_codes, "FIRST_COMPARED", 64)
    monkeypatch.setattr(_codes, "SHARE", 0.6)


class TestContract(VectorStoreContract):
    @pytest.fixture(autouse=True)
    def always(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(numpy, "ROWS_TO_CODE", 1)
        monkeypatch.setattr(numpy, "DIMS", range(1, 6000))

    def make_store(self) -> NumpyStore:
        return NumpyStore()


def clusters(rows: int, *, seed: int = 0, dim: int = DIM) -> Any:
    """Clusters in a narrow cone whose directions vary by a factor of ten."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(50, dim)) + 5 * np.eye(1, dim)
    return unit_rows((centres[rng.integers(50, size=rows)] + rng.normal(size=(rows, dim))) * np.geomspace(1, 10, dim))


def scattered(rows: int, *, seed: int = 0, dim: int = DIM) -> Any:
    return unit_rows(np.random.default_rng(seed).normal(size=(rows, dim)))


def filled(vectors: Any) -> NumpyStore:
    store = NumpyStore()
    names = [f"{row:05d}" for row in range(len(vectors))]
    store.upsert(names, vectors, [{"half": row % 2, "percent": row % 100} for row in range(len(vectors))])
    return store


def agreement(store: NumpyStore, queries: Any, **options: Any) -> float:
    """The part of the ten nearest of a full scan that single queries find; what is found has the same scores."""
    same = 0
    for query in queries:
        found, exact = (store.query(query[None], 10, exact=full, **options)[0] for full in (False, True))
        scores = dict(zip(exact.ids, exact.scores, strict=True))
        same += sum(scores.get(key) == score for key, score in zip(found.ids, found.scores, strict=True))
    return same / sum(min(10, store.count(options.get("where"))) for _ in queries)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """How many rows each query had left after its codes; `None` if too many."""
    left: list[int | None] = []
    nearest = Codes.nearest

    def counting(self: Codes, *args: Any, **options: Any) -> Any:
        rows = nearest(self, *args, **options)
        left.append(None if rows is None else len(rows))
        return rows

    monkeypatch.setattr(Codes, "nearest", counting)
    return left


@pytest.mark.parametrize("draw", [clusters, scattered])
@pytest.mark.parametrize("dim", [128, DIM, 300])
def test_what_a_full_scan_finds(draw: Any, dim: int, passes: list[int | None]) -> None:
    store = filled(draw(5000, dim=dim))
    for where in (None, {"half": 1}):
        for seed, kind in ((1, draw), (2, scattered)):
            assert agreement(store, kind(20, seed=seed, dim=dim), where=where) >= 0.99
    assert len(passes) == 80
    assert passes.count(None) < 20


def test_rows_that_are_all_the_same() -> None:
    store = filled(np.repeat(scattered(1), 2000, axis=0))
    found = store.query(scattered(1), 3)[0]
    assert (found.ids, found.scores) == (["00000", "00001", "00002"], [1.0] * 3)
    assert store.query(-scattered(1), 3)[0].scores == [-1.0] * 3


def test_rows_in_a_plane_and_queries_beside_it() -> None:
    vectors = np.zeros((3000, DIM))
    vectors[:, :2] = scattered(3000, dim=2)
    store = filled(vectors)
    assert agreement(store, unit_rows(np.eye(5, DIM) + 0.01)) == 1
    assert len(store.query(np.eye(1, DIM, 7), 3)[0].ids) == 3


def test_more_than_there_are() -> None:
    store = filled(scattered(1500))
    assert len(store.query(scattered(1, seed=3), 2000)[0].ids) == 1500


def test_many_queries_are_answered_by_products(passes: list[int | None]) -> None:
    store = filled(clusters(2000))
    queries = clusters(numpy.QUERIES_TO_MULTIPLY, seed=3)
    together = store.query(queries)
    assert not passes
    assert together == [store.query(query[None])[0] for query in queries]
    assert len(passes) == len(queries)


def test_few_rows_are_picked_and_exact_looks_at_all(passes: list[int | None]) -> None:
    store, queries = filled(clusters(2000)), clusters(5, seed=3)
    assert agreement(store, queries, where={"percent": {"$lt": 3}}) == 1
    store.query(queries, exact=True)
    assert not passes


def test_codes_follow_every_change(passes: list[int | None], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    suited_to = Codes.suited_to
    monkeypatch.setattr(Codes, "suited_to", lambda vectors: made.append(len(vectors)) or suited_to(vectors))
    store, rng = filled(clusters(2000)), np.random.default_rng(5)
    assert agreement(store, clusters(5, seed=6)) == 1
    for turn in range(12):
        names = [f"{row:05d}" for row in rng.integers(2600, size=150)]
        fresh = clusters(150, seed=100 + turn)
        store.upsert(names, fresh, [{"half": turn % 2}] * 150)
        for query, key in zip(fresh[-3:], names[-3:], strict=True):  # an old code would hide these
            assert store.query(query[None], 1)[0].ids == [key]
        store.delete([f"{row:05d}" for row in rng.integers(2600, size=40)])
        assert agreement(store, clusters(5, seed=200 + turn)) == 1
    assert made == [2000]
    assert None not in passes
    store.upsert([f"new-{row}" for row in range(3000)], scattered(3000))
    assert agreement(store, scattered(5, seed=8)) >= 0.98
    assert made == [2000, len(store)]
    store.delete(where={"half": {"$exists": True}})
    store.upsert(["again"], scattered(1, seed=9))
    assert store.query(scattered(1, seed=9), 1)[0].ids == ["again"]


def test_codes_are_saved_with_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, queries = filled(clusters(2000)), clusters(5, seed=3)
    expected = [store.query(query[None])[0] for query in queries]
    store.upsert(["00000"], queries[:1])
    store.save(tmp_path)
    assert {path.name for path in tmp_path.glob("codes-*")} == {"codes-1.npz"}
    with monkeypatch.context() as patch:
        patch.setattr(Codes, "suited_to", None)
        back = NumpyStore.open(tmp_path)
        assert back.query(queries[:1], 1)[0].ids == ["00000"]
        assert [back.query(query[None])[0] for query in queries[1:]] == expected[1:]
        back.upsert(["x"], queries[1:2])
        assert back.query(queries[1:2], 1)[0].ids == ["x"]
    np.savez(tmp_path / "codes-1.npz", mean=np.zeros(3))
    assert NumpyStore.open(tmp_path).query(queries[:1], 1)[0].ids == ["00000"]


def test_many_threads_may_read_at_once() -> None:
    queries = clusters(8, seed=3)

    def read(store: NumpyStore, turn: int) -> Any:
        where = [{"half": turn % 2}, {"percent": {"$lt": 60}}, {"half": {"$exists": True}}][turn % 3]
        return store.count(where), store.query(queries[turn % 8][None], where=where)

    for _ in range(3):
        store, other = filled(clusters(3000)), filled(clusters(3000))
        expected = [read(other, turn) for turn in range(24)]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda turn, store=store: read(store, turn), range(24))) == expected
