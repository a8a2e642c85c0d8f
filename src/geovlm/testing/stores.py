"""The contract of `geovlm.protocols.VectorStore` as tests that any back end can run.

```python
from geovlm.testing import VectorStoreContract

class TestMyStore(VectorStoreContract):
    def make_store(self):
        return MyStore(...)     # a new, empty store at every call
```

Needs pytest and hypothesis.
"""
# ruff: noqa: D102 - the name of a test is its sentence

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from geovlm.errors import ConfigMismatch, StoreError, UsageError
from geovlm.protocols import VectorReader, VectorStore
from geovlm.testing._places import AREAS, PLACES, SPANS, TIMES
from geovlm.testing.filters import filters, passes, sample_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["VectorStoreContract"]

DIM = 8


class VectorStoreContract:
    """Tests of one store; subclass it and say how to make one.

    Examples:
        >>> from geovlm import NumpyStore
        >>> class TestNumpyStore(VectorStoreContract):  # pytest runs what it inherits
        ...     def make_store(self):
        ...         return NumpyStore()
        >>> TestNumpyStore().test_it_has_the_abilities_of_a_store()
    """

    def make_store(self) -> VectorStore:
        """A new, empty store."""
        raise NotImplementedError

    def filled(self, count: int = 30) -> tuple[VectorStore, list[str], NDArray[np.float32], list[dict[str, Any]]]:
        """A store with seeded rows, and what was put into it."""
        store = self.make_store()
        ids = [f"row-{position:03d}" for position in range(count)]
        vectors, rows = _unit(np.random.default_rng(count).normal(size=(count, DIM))), sample_rows(count)
        store.upsert(ids, vectors, rows)
        return store, ids, vectors, rows

    # --- reading and writing

    def test_it_has_the_abilities_of_a_store(self) -> None:
        assert isinstance(self.make_store(), VectorStore)

    def test_an_empty_store_answers_with_nothing(self) -> None:
        store = self.make_store()
        store.bind(dim=DIM, fingerprint="a")
        assert store.count() == 0
        assert [list(found.ids) for found in store.query(np.ones((2, DIM)))] == [[], []]
        assert store.get(["a"]) == [None]
        assert store.delete(["a"]) == 0
        assert list(store.scan()) == []

    def test_rows_come_back_by_id_in_the_order_asked(self) -> None:
        store, ids, _, rows = self.filled()
        assert store.count() == len(ids)
        assert store.get([ids[4], "nobody", ids[0], ids[4]]) == [rows[4], None, rows[0], rows[4]]
        assert store.get([]) == []

    def test_vectors_come_back_by_id_if_the_store_gives_them(self) -> None:
        store, ids, vectors, _ = self.filled()
        if not isinstance(store, VectorReader):
            pytest.skip("the store has no get_vectors; scan does in its place")
        for _ in range(2):
            found = store.get_vectors([ids[4], "nobody", ids[0], ids[4]])
            assert found[1] is None
            for vector, row in ((found[0], 4), (found[2], 0), (found[3], 4)):
                assert vector is not None
                assert vector.shape == (DIM,)
                assert vector.dtype == np.float32
                np.testing.assert_allclose(vector, vectors[row], atol=1e-6)
                vector[:] = 0
        assert store.get_vectors([]) == []
        empty = self.make_store()
        assert isinstance(empty, VectorReader)
        assert empty.get_vectors(["a"]) == [None]

    def test_no_rows_are_no_work(self) -> None:
        store = self.make_store()
        assert store.upsert([], np.empty((0, DIM)), []) == []
        assert store.count() == 0

    def test_metadata_may_be_left_out(self) -> None:
        store = self.make_store()
        store.upsert(["a"], np.ones((1, DIM)))
        assert store.get(["a"]) == [{}]
        assert (store.dim, store.fingerprint) == (DIM, None)

    def test_scan_reads_every_row_once(self) -> None:
        store, ids, vectors, rows = self.filled()
        batches = list(store.scan(batch_size=7))
        assert all(len(keys) == len(part) == len(metadata) <= 7 for keys, part, metadata in batches)
        assert all(part.dtype == np.float32 for _, part, _ in batches)
        read = {
            key: (vector, metadata)
            for keys, part, meta in batches
            for key, vector, metadata in zip(keys, part, meta, strict=True)
        }
        assert sorted(read) == ids
        assert sum(len(keys) for keys, _, _ in batches) == len(ids)
        for key, vector, metadata in zip(ids, vectors, rows, strict=True):
            np.testing.assert_allclose(read[key][0], vector, atol=1e-6)
            assert read[key][1] == metadata

    def test_what_is_read_or_written_is_a_copy(self) -> None:
        store = self.make_store()
        given_row: dict[str, Any] = {"tags": ["a"]}
        vectors = np.ones((1, DIM), dtype=np.float32)
        store.upsert(["a"], vectors, [given_row])
        given_row["tags"].append("b")
        vectors[:] = -1
        got = store.get(["a"])[0]
        assert got is not None
        got["tags"].append("c")
        for _ in range(2):
            found = store.query(np.ones((1, DIM)), 1)[0]
            assert found.metadata[0] == {"tags": ["a"]}
            assert found.scores[0] == pytest.approx(1.0)
            found.metadata[0]["tags"].append("d")
        for _ in range(2):
            ((_, read, metadata),) = store.scan()
            assert metadata == [{"tags": ["a"]}]
            metadata[0]["tags"].append("e")
            read[:] = -1

    def test_numpy_values_dates_and_tuples_are_kept_in_their_json_forms(self) -> None:
        store = self.make_store()
        day = dt.date(2024, 5, 17)
        odd = {"n": np.int64(3), "x": np.float32(0.5), "ok": np.bool_(True), "day": day, "pair": (1, 2)}
        store.upsert(["a"], np.ones((1, DIM)), [odd])
        assert store.get(["a"]) == [{"n": 3, "x": 0.5, "ok": True, "day": "2024-05-17", "pair": [1, 2]}]
        assert store.count({"day": {"$gte": dt.date(2024, 1, 1)}, "n": np.int64(3)}) == 1

    def test_odd_ids_and_texts_are_kept_as_they_are(self) -> None:
        store = self.make_store()
        ids = ["5", "05", " a ", "a/b\\c.jpg", "日本 \U0001f30d", 'it\'s "quoted" $x', "x" * 500]
        store.upsert(ids, np.ones((len(ids), DIM)), [{"text": key} for key in ids])
        assert store.get(ids) == [{"text": key} for key in ids]
        assert all(store.count({"text": key}) == 1 for key in ids)

    def test_long_ids_long_texts_and_awkward_names_are_kept(self) -> None:
        store = self.make_store()
        ids = ["5", "x" * 10_000]
        rows = [
            {"text": "x" * 9000, "a.b": 1, "a": {"b": 2}, "nested": [[1, [2, None]], [], [{"k": [3]}]]},
            {"text": "x" * 8999 + "é", "": 0, "a&b~c*": "$x", "時": "日本"},
        ]
        store.upsert(ids, np.eye(2, DIM), rows)
        assert store.get(ids) == rows
        assert store.query(np.eye(1, DIM, 1), 1)[0].metadata == rows[1:]
        assert [store.count({"text": row["text"]}) for row in rows] == [1, 1]
        assert store.delete(ids[1:]) == 1

    # --- conflicts

    def test_replace_overwrites_and_tells(self) -> None:
        store = self.make_store()
        assert store.upsert(["a", "b"], np.eye(2, DIM), [{"v": 1}, {"v": 1}]) == ["inserted", "inserted"]
        assert store.upsert(["b", "c"], -np.eye(2, DIM), [{"v": 2}, {"v": 2}]) == ["replaced", "inserted"]
        assert store.get(["a", "b", "c"]) == [{"v": 1}, {"v": 2}, {"v": 2}]
        assert store.query(-np.eye(1, DIM), 1)[0].ids[0] == "b"

    def test_skip_keeps_what_is_there(self) -> None:
        store = self.make_store()
        store.upsert(["a"], np.eye(1, DIM), [{"v": 1}])
        assert store.upsert(["a", "b"], np.eye(2, DIM), [{"v": 2}, {"v": 2}], on_conflict="skip") == [
            "skipped",
            "inserted",
        ]
        assert store.get(["a", "b"]) == [{"v": 1}, {"v": 2}]

    def test_error_writes_nothing(self) -> None:
        store = self.make_store()
        store.upsert(["a"], np.eye(1, DIM), [{"v": 1}])
        with pytest.raises(StoreError):
            store.upsert(["b", "a"], np.eye(2, DIM), on_conflict="error")
        with pytest.raises(StoreError):
            store.upsert(["c", "c"], np.eye(2, DIM), on_conflict="error")
        assert store.count() == 1
        assert store.get(["a"]) == [{"v": 1}]

    def test_an_id_twice_in_one_call_meets_itself(self) -> None:
        store = self.make_store()
        vectors, rows = np.eye(3, DIM), [{"v": 1}, {"v": 2}, {"v": 3}]
        assert store.upsert(["a", "b", "a"], vectors, rows) == ["inserted", "inserted", "replaced"]
        assert store.get(["a"]) == [{"v": 3}]
        assert store.count() == 2
        assert store.upsert(["c", "c"], np.eye(2, DIM), rows[:2], on_conflict="skip") == ["inserted", "skipped"]
        assert store.get(["c"]) == [{"v": 1}]

    # --- refusals

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0], ids=str)
    def test_one_bad_vector_refuses_the_whole_call(self, bad: float) -> None:
        store = self.make_store()
        vectors = np.ones((3, DIM), dtype=np.float32)
        vectors[1] = 0.0
        vectors[1, 0] = bad
        with pytest.raises(UsageError):
            store.upsert(["a", "b", "c"], vectors)
        assert store.count() == 0
        with pytest.raises(UsageError):
            store.query(vectors)

    @pytest.mark.parametrize("shape", [(2, DIM + 1), (2,), (1, 2, DIM), (2, 0)], ids=str)
    def test_vectors_of_another_shape_are_refused(self, shape: tuple[int, ...]) -> None:
        store = self.make_store()
        store.bind(dim=DIM, fingerprint="a")
        with pytest.raises(UsageError):
            store.upsert(["a", "b"], np.ones(shape))
        with pytest.raises(UsageError):
            store.query(np.ones(shape))
        assert store.count() == 0

    def test_lengths_that_differ_are_refused(self) -> None:
        store = self.make_store()
        with pytest.raises(UsageError):
            store.upsert(["a", "b"], np.ones((3, DIM)))
        with pytest.raises(UsageError):
            store.upsert(["a", "b"], np.ones((2, DIM)), [{}])
        assert store.count() == 0

    @pytest.mark.parametrize("ids", [["a", ""], ["a", 5], ["a", np.int64(5)], ["a", None], "ab"], ids=repr)
    def test_ids_that_are_no_text_are_refused(self, ids: Any) -> None:
        store = self.make_store()
        with pytest.raises(UsageError):
            store.upsert(ids, np.ones((2, DIM)))
        assert store.count() == 0

    @pytest.mark.parametrize("bad", [{"x": {1, 2}}, {"x": float("nan")}, {"$x": 1}, {"x": [{"$y": 1}]}, ["x"]], ids=str)
    def test_metadata_that_is_not_json_is_refused(self, bad: Any) -> None:
        store = self.make_store()
        with pytest.raises(UsageError):
            store.upsert(["a", "b"], np.ones((2, DIM)), [{}, bad])
        assert store.count() == 0

    @pytest.mark.parametrize("k", [0, -1, 2.5, "3", True, None], ids=repr)
    def test_a_k_that_is_no_count_is_refused(self, k: Any) -> None:
        store, *_ = self.filled(5)
        with pytest.raises(UsageError):
            store.query(np.ones((1, DIM)), k)

    def test_a_wrong_conflict_rule_is_refused(self) -> None:
        store = self.make_store()
        with pytest.raises(UsageError):
            store.upsert(["a"], np.ones((1, DIM)), on_conflict="update")  # type: ignore[arg-type]

    @pytest.mark.parametrize("where", [{"year": {"$gr": 3}}, {"$xor": []}, [], {"year": {"$in": 3}}], ids=str)
    def test_a_wrong_filter_is_refused_everywhere(self, where: Any) -> None:
        store, ids, *_ = self.filled(5)
        for call in (store.count, lambda where: store.delete(where=where), lambda where: list(store.scan(where))):
            with pytest.raises(UsageError):
                call(where)
        with pytest.raises(UsageError):
            store.query(np.ones((1, DIM)), where=where)
        assert store.count() == len(ids)

    def test_it_is_tied_to_one_encoder(self) -> None:
        store = self.make_store()
        assert (store.dim, store.fingerprint) == (None, None)
        store.bind(dim=DIM, fingerprint="a")
        assert (store.dim, store.fingerprint) == (DIM, "a")
        store.bind(dim=DIM, fingerprint="a")
        for dim, fingerprint in ((DIM, "b"), (DIM + 1, "a")):
            with pytest.raises(ConfigMismatch):
                store.bind(dim=dim, fingerprint=fingerprint)

    # --- searching

    def test_scores_are_cosines_whatever_the_lengths(self) -> None:
        store = self.make_store()
        axis = np.eye(1, DIM)
        slanted = np.full((1, DIM), 1e-3)
        store.upsert(["same", "opposite", "slanted"], np.concatenate([1e3 * axis, -1e-3 * axis, slanted]))
        found = store.query(7 * axis, 3)[0]
        assert list(found.ids) == ["same", "slanted", "opposite"]
        assert list(found.scores) == pytest.approx([1, 1 / np.sqrt(DIM), -1], abs=1e-6)
        assert all(-1 <= score <= 1 for score in found.scores)

    def test_the_nearest_are_those_of_a_plain_loop(self) -> None:
        store, ids, vectors, rows = self.filled(60)
        queries = np.random.default_rng(1).normal(size=(5, DIM))
        for k in (1, 7, 60, 200):
            for query, found in zip(queries, store.query(queries, k, exact=True), strict=True):
                cosines = {key: float(v @ query / np.linalg.norm(query)) for key, v in zip(ids, vectors, strict=True)}
                best = sorted(ids, key=lambda key: (-cosines[key], key))[:k]
                assert list(found.ids) == best
                assert list(found.scores) == pytest.approx([cosines[key] for key in best], abs=1e-6)
                assert list(found.metadata) == [rows[ids.index(key)] for key in best]

    def test_ties_come_in_order_of_id(self) -> None:
        store = self.make_store()
        ids = [f"{position * 7919 % 100:02d}" for position in range(50)]
        vector = np.random.default_rng(0).normal(size=(1, DIM))
        store.upsert(ids, np.repeat(vector, 50, axis=0))
        assert list(store.query(vector, 20, exact=True)[0].ids) == sorted(ids)[:20]

    def test_many_queries_are_answered_as_one_at_a_time(self) -> None:
        store, *_ = self.filled(40)
        queries = np.random.default_rng(2).normal(size=(9, DIM))
        together = [(list(found.ids), list(found.scores)) for found in store.query(queries, 6, exact=True)]
        alone = [store.query(query[None], 6, exact=True)[0] for query in queries]
        assert together == [(list(found.ids), list(found.scores)) for found in alone]
        assert list(store.query(np.empty((0, DIM)))) == []

    # --- removing

    def test_removed_rows_are_gone(self) -> None:
        store, ids, vectors, rows = self.filled()
        gone = [ids[0], ids[-1], ids[11], ids[12]]
        assert store.delete([*gone, gone[0], "nobody"]) == 4
        assert store.count() == len(ids) - 4
        assert store.get(gone) == [None] * 4
        left = [key for key in ids if key not in gone]
        assert sorted(store.query(np.ones((1, DIM)), 100)[0].ids) == left
        for key in left:
            position = ids.index(key)
            found = store.query(vectors[position][None], 1)[0]
            assert (found.ids[0], found.metadata[0]) == (key, rows[position])
        assert store.upsert([gone[1]], np.ones((1, DIM))) == ["inserted"]

    def test_rows_are_removed_by_a_filter(self) -> None:
        store, _, _, rows = self.filled()
        where = {"flag": True}
        hit = sum(passes(where, row) for row in rows)
        assert store.delete(where=where) == hit > 0
        assert (store.count(where), store.count()) == (0, len(rows) - hit)
        assert store.delete(where={}) == len(rows) - hit
        assert store.count() == 0

    def test_remove_what_must_be_said(self) -> None:
        store, ids, *_ = self.filled(5)
        with pytest.raises(UsageError):
            store.delete()
        with pytest.raises(UsageError):
            store.delete(ids, where={})
        assert store.count() == 5

    def test_rows_may_be_removed_while_they_are_read(self) -> None:
        store, ids, *_ = self.filled()
        seen: list[str] = []
        for keys, _, _ in store.scan(batch_size=4):
            seen += keys
            store.delete(keys)
        assert sorted(seen) == ids
        assert store.count() == 0

    # --- filters

    def test_filters_agree_with_a_plain_reading_of_the_grammar(self) -> None:
        store, ids, vectors, rows = self.filled(60)
        query = np.random.default_rng(3).normal(size=(1, DIM))
        cosines = dict(zip(ids, (vectors @ query[0]).tolist(), strict=True))

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(filters())
        def check(where: dict[str, Any]) -> None:
            expected = [key for key, row in zip(ids, rows, strict=True) if passes(where, row)]
            assert store.count(where) == len(expected)
            assert sorted(key for keys, _, _ in store.scan(where) for key in keys) == expected
            best = sorted(expected, key=lambda key: (-cosines[key], key))[:5]
            assert list(store.query(query, 5, where=where, exact=True)[0].ids) == best

        check()

    @pytest.mark.parametrize(
        ("values", "op", "operands"),
        [(PLACES, "$within", AREAS), (PLACES, "$intersects", AREAS), (TIMES, "$during", SPANS)],
        ids=["within", "intersects", "during"],
    )
    def test_places_and_times_agree_with_a_plain_reading(self, values: Any, op: str, operands: Any) -> None:
        store, ids = self.make_store(), [f"{place:02d}" for place in range(len(values))]
        store.upsert(ids, np.ones((len(ids), DIM)), [{"x": value} for value in values])
        for operand in operands:
            where = {"x": {op: operand}}
            expected = [key for key, value in zip(ids, values, strict=True) if passes(where, {"x": value})]
            assert sorted(key for keys, _, _ in store.scan(where) for key in keys) == expected
            rest = [key for key in ids if key not in expected]
            assert sorted(key for keys, _, _ in store.scan({"$not": where}) for key in keys) == rest

    # --- the end

    def test_flush_and_close_may_be_called_at_any_time(self) -> None:
        store, *_ = self.filled(3)
        store.flush()
        store.flush()
        store.close()


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)
