from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geovlm._files import locked
from geovlm._vectors import unit_rows
from geovlm.errors import ConfigMismatch, RunLocked, StorageError, StoreError, UsageError
from geovlm.stores import NumpyStore, _exact
from geovlm.testing import VectorStoreContract

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class TestContract(VectorStoreContract):
    def make_store(self) -> NumpyStore:
        return NumpyStore()


def filled(count: int = 50, dim: int = 16) -> NumpyStore:
    store = NumpyStore()
    store.bind(dim=dim, fingerprint="encoder-a")
    vectors = np.random.default_rng(0).normal(size=(count, dim))
    store.upsert([f"{i:04d}" for i in range(count)], vectors, [{"i": i, "tags": ["a", None]} for i in range(count)])
    return store


def content(store: NumpyStore) -> dict[str, tuple[bytes, Mapping[str, Any]]]:
    return {
        key: (vector.tobytes(), row)
        for keys, vectors, rows in store.scan()
        for key, vector, row in zip(keys, vectors, rows, strict=True)
    }


# --- files


def test_a_saved_store_comes_back_bit_by_bit(tmp_path: Path) -> None:
    store = filled()
    store.delete(["0003"])
    store.save(tmp_path / "deep" / "store")
    back = NumpyStore.open(tmp_path / "deep" / "store")
    assert content(back) == content(store)
    assert repr(back) == repr(store)
    with pytest.raises(ConfigMismatch):
        back.bind(dim=16, fingerprint="encoder-b")
    assert back.upsert(["new"], np.ones((1, 16))) == ["inserted"]


@pytest.mark.parametrize("bound", [True, False])
def test_an_empty_store_can_be_saved(tmp_path: Path, bound: bool) -> None:
    store = NumpyStore()
    if bound:
        store.bind(dim=4, fingerprint="a")
    store.save(tmp_path)
    back = NumpyStore.open(tmp_path)
    assert (len(back), repr(back)) == (0, repr(store))
    back.upsert(["a"], np.ones((1, 4)))


def test_a_second_save_replaces_the_first_and_leaves_nothing_behind(tmp_path: Path) -> None:
    store = filled()
    store.save(tmp_path)
    (tmp_path / ".vectors-9.npy.tmp").write_bytes(b"left by a kill")
    store.delete(where={"i": {"$lt": 40}})
    store.save(tmp_path)
    assert len(NumpyStore.open(tmp_path)) == 10
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".lock", "manifest.json", "rows-2.parquet", "vectors-2.npy"]


def test_no_pickle_is_written_or_read(tmp_path: Path) -> None:
    filled().save(tmp_path)
    np.save(tmp_path / "vectors-1.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(StoreError, match="broken"):
        NumpyStore.open(tmp_path)


def test_flush_and_close_save_to_the_place_of_the_store(tmp_path: Path) -> None:
    store = filled()
    store.flush()
    store.save(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    store.delete(["0000"])
    store.flush()
    assert len(NumpyStore.open(tmp_path)) == 49
    back = NumpyStore.open(tmp_path)
    back.upsert(["x"], np.ones((1, 16)))
    back.close()
    assert len(NumpyStore.open(tmp_path)) == 50


@pytest.mark.parametrize("victim", ["vectors-1.npy", "rows-1.parquet", "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "noise"])
def test_a_damaged_folder_is_a_clear_error(tmp_path: Path, victim: str, damage: str) -> None:
    filled().save(tmp_path)
    path = tmp_path / victim
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "half": data[: len(data) // 2], "noise": b"\x93NUMPY\x01" + bytes(200)}[damage])
    with pytest.raises(StoreError, match=str(tmp_path)):
        NumpyStore.open(tmp_path)


def test_files_of_two_saves_do_not_pass_as_one(tmp_path: Path) -> None:
    filled(50).save(tmp_path / "a")
    filled(60).save(tmp_path / "b")
    shutil.copy(tmp_path / "b" / "vectors-1.npy", tmp_path / "a")
    with pytest.raises(StoreError, match="do not fit together"):
        NumpyStore.open(tmp_path / "a")


@pytest.mark.parametrize(
    "vectors", [np.ones((50, 16)), np.ones((50, 8), np.float32), np.ones(50, np.float32)], ids=["f64", "dim", "1d"]
)
def test_vectors_of_another_type_or_shape_do_not_pass(tmp_path: Path, vectors: Any) -> None:
    filled().save(tmp_path)
    np.save(tmp_path / "vectors-1.npy", vectors)
    with pytest.raises(StoreError, match="do not fit together"):
        NumpyStore.open(tmp_path)


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        ({"kind": "embeddings", "format": 1}, "holds embeddings, not a NumpyStore"),
        ({"kind": "numpy-store", "format": 99}, "update geovlm"),
        ({"kind": "numpy-store", "format": 1}, "broken"),
        ([1], "something else"),
    ],
    ids=str,
)
def test_a_foreign_folder_is_neither_read_nor_overwritten(tmp_path: Path, manifest: Any, says: str) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=says):
        NumpyStore.open(tmp_path)
    if says != "broken":
        with pytest.raises(StoreError, match=says):
            filled().save(tmp_path)
    with pytest.raises(StoreError, match="holds no saved NumpyStore"):
        NumpyStore.open(tmp_path / "nothing")


def test_two_processes_do_not_save_in_one_place(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(RunLocked):
        filled().save(tmp_path)


def test_a_full_disk_keeps_the_earlier_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled()
    store.save(tmp_path)
    before = content(store)
    store.delete(["0001"])

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    for writer in ("pyarrow.parquet.write_table", "numpy.lib.format.write_array"):
        with monkeypatch.context() as patch:
            patch.setattr(writer, full)
            with pytest.raises(StorageError, match="No space left"):
                store.save(tmp_path)
        assert content(NumpyStore.open(tmp_path)) == before
    store.flush()
    assert len(NumpyStore.open(tmp_path)) == len(before) - 1


# --- a folder that others use too


def test_of_two_writers_the_second_is_refused(tmp_path: Path) -> None:
    filled().save(tmp_path)
    one, two = NumpyStore.open(tmp_path), NumpyStore.open(tmp_path)
    one.upsert(["one"], np.ones((1, 16)))
    one.close()
    two.upsert(["two"], np.ones((1, 16)))
    for save in (two.close, lambda: two.save(tmp_path)):
        with pytest.raises(StoreError, match="saved by another writer"):
            save()
    assert NumpyStore.open(tmp_path).get(["one", "two"]) == [{}, None]
    two.save(tmp_path / "elsewhere")
    assert NumpyStore.open(tmp_path / "elsewhere").get(["one", "two"]) == [None, {}]
    one.delete(["one"])
    one.save(tmp_path)
    filled(3).save(tmp_path)  # a store that never read this folder replaces it
    assert len(NumpyStore.open(tmp_path)) == 3


def test_a_reader_keeps_what_it_opened(tmp_path: Path) -> None:
    store = filled()
    store.save(tmp_path)
    reader, before = NumpyStore.open(tmp_path), content(store)
    store.delete(where={"i": {"$gte": 10}})
    store.save(tmp_path)
    assert content(reader) == before
    assert len(NumpyStore.open(tmp_path)) == 10


def test_a_folder_that_went_away_is_made_again(tmp_path: Path) -> None:
    store = filled()
    store.save(tmp_path / "store")
    opened = NumpyStore.open(tmp_path / "store")
    shutil.rmtree(tmp_path / "store")
    opened.upsert(["x"], np.ones((1, 16)))
    opened.close()
    assert content(NumpyStore.open(tmp_path / "store")) == content(opened)


def test_vectors_are_mapped_and_not_changed_on_disk(tmp_path: Path) -> None:
    filled().save(tmp_path)
    before = (tmp_path / "vectors-1.npy").read_bytes()
    opened = NumpyStore.open(tmp_path)
    assert isinstance(opened._vectors.base, np.memmap)
    opened.upsert(["0001"], np.ones((1, 16)), on_conflict="replace")
    opened.delete(["0002"])
    assert isinstance(opened._vectors.base, np.memmap)  # nothing was copied but the pages that changed
    assert opened.query(np.ones((1, 16)), 1)[0].ids == ["0001"]
    opened.upsert(["x", "y"], np.ones((2, 16)))
    assert opened._vectors.base is None
    assert (tmp_path / "vectors-1.npy").read_bytes() == before
    opened.save(tmp_path)
    assert content(NumpyStore.open(tmp_path)) == content(opened)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_can_be_read(tmp_path: Path) -> None:
    filled().save(tmp_path / "store")
    (tmp_path / "store").chmod(0o555)
    _check_read_only(tmp_path / "store")


def test_a_read_only_disk_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled().save(tmp_path)
    real = type(tmp_path).open

    def read_only(self: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        if "w" in mode:
            raise OSError(30, "Read-only file system")
        return real(self, mode, *args, **options)

    monkeypatch.setattr(type(tmp_path), "open", read_only)
    _check_read_only(tmp_path)


def _check_read_only(folder: Path) -> None:
    store = NumpyStore.open(folder)
    assert store.count({"i": {"$lt": 10}}) == 10
    store.close()
    store.upsert(["x"], np.ones((1, 16)))
    with pytest.raises(StorageError, match=str(folder)):
        store.close()
    assert store.get(["x"]) == [{}]


# --- kills

ROWS = 400
KILLED = """
import sys
import numpy as np
from geovlm.stores import NumpyStore

store = NumpyStore.open(sys.argv[1])
turn = int(sys.argv[2])
print("ready", flush=True)
while True:
    turn += 1
    names = [f"{row}" for row in range(400)] + [f"turn-{turn}"]
    store.upsert(names[:200], np.full((200, 64), 1.0) + np.eye(1, 64, turn % 64), [{"turn": turn}] * 200)
    store.upsert(names[200:], np.full((201, 64), 1.0) + np.eye(1, 64, turn % 64), [{"turn": turn}] * 201)
    store.save(sys.argv[1])
    print(turn, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_was_saved(tmp_path: Path) -> None:
    """Kills at seeded moments; `GEOVLM_KILLS=100` asks for more of them."""
    rng, done = np.random.default_rng(0), 0
    store = NumpyStore()
    store.bind(dim=64, fingerprint="a")
    store.save(tmp_path)
    for _ in range(int(os.environ.get("GEOVLM_KILLS", "10"))):
        command = [sys.executable, "-c", KILLED, str(tmp_path), str(done)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            time.sleep(float(rng.uniform(0, 0.12)))
            writer.kill()
            told = writer.stdout.read().split("\n")
        done = _check_saved(tmp_path, [int(line) for line in told[:-1]][-1] if len(told) > 1 else done)
    NumpyStore.open(tmp_path).save(tmp_path)  # the lock died with its process
    assert len(list(tmp_path.glob("vectors-*"))) == 1
    assert done > 3


def _check_saved(folder: Path, told: int) -> int:
    """The store is whole, and that of the last save that was told of, or of the one after it; returns which."""
    store = NumpyStore.open(folder)
    found = content(store)
    turn = max((row["turn"] for _, row in found.values()), default=0)
    assert turn in (told, told + 1)
    if turn:
        vector = unit_rows(np.ones((1, 64)) + np.eye(1, 64, turn % 64))[0].tobytes()
        for key in range(ROWS):
            assert found.pop(f"{key}") == (vector, {"turn": turn})
    assert {key: row["turn"] for key, (_, row) in found.items()} == {f"turn-{n}": n for n in range(1, turn + 1)}
    assert store.count({"turn": turn}) == (ROWS + 1 if turn else 0)
    return int(turn)


# --- growth and removal


def test_the_buffer_grows_by_doubling() -> None:
    store, sizes = NumpyStore(), set()
    for i in range(5000):
        store.upsert([str(i)], np.ones((1, 2)))
        sizes.add(len(store._vectors))
    assert sizes == {1024, 2048, 4096, 8192}


def test_replacing_takes_no_room() -> None:
    store = filled(1024)
    for _ in range(5):
        store.upsert([f"{i:04d}" for i in range(1024)], np.ones((1024, 16)))
    assert len(store._vectors) == 1024


operations = st.lists(
    st.one_of(
        st.tuples(st.just("upsert"), st.lists(st.sampled_from("abcdefgh"), max_size=4)),
        st.tuples(st.just("skip"), st.lists(st.sampled_from("abcdefgh"), max_size=4)),
        st.tuples(st.just("delete"), st.lists(st.sampled_from("abcdefgh"), max_size=4)),
        st.tuples(st.just("filter"), st.integers(0, 3)),
    ),
    max_size=15,
)


@given(operations)
def test_any_order_of_writes_ends_as_in_a_dict(steps: list[tuple[str, Any]]) -> None:
    store, model = NumpyStore(), dict[str, tuple[list[float], int]]()
    for turn, (what, which) in enumerate(steps):
        if what == "delete":
            assert store.delete(which) == sum(model.pop(key, None) is not None for key in which)
        elif what == "filter":
            gone = [key for key, (_, kind) in model.items() if kind == which]
            assert store.delete(where={"kind": which}) == len(gone)
            for key in gone:
                del model[key]
        else:
            angles = [turn + position / 10 for position in range(len(which))]
            vectors = np.array([[np.cos(a), np.sin(a)] for a in angles]).reshape(-1, 2)
            rows = [{"kind": (turn + position) % 4} for position in range(len(which))]
            store.upsert(which, vectors, rows, on_conflict="skip" if what == "skip" else "replace")
            for key, vector, row in zip(which, vectors, rows, strict=True):
                if what == "upsert" or key not in model:
                    model[key] = (vector.tolist(), row["kind"])
    assert sorted(store._ids) == sorted(model)
    for key, (vector, kind) in model.items():
        assert store.get([key]) == [{"kind": kind}]
        assert key in {k for k, s in zip(*_best(store, vector), strict=True) if s == pytest.approx(1)}


def _best(store: NumpyStore, vector: list[float]) -> tuple[Sequence[str], Sequence[float]]:
    found = store.query(np.array([vector]), len(store))[0]
    return found.ids, found.scores


# --- exact search in blocks


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.tuples(st.integers(1, 9), st.integers(1, 4)), st.integers(0, 999))
def test_blocks_do_not_change_the_answer(rows: int, k: int, blocks: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Few distinct vectors: many ties.
    vectors = unit_rows(rng.integers(-1, 2, size=(rows, 3)) + np.array([0.5, 0, 0]))
    asked = unit_rows(rng.normal(size=(5, 3)))
    ids = [str(number) for number in rng.permutation(rows)]
    chosen = rng.random(rows) < (0.7 if seed % 3 else 0.04) if seed % 2 else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_exact, "ROWS_A_BLOCK", blocks[0])
        patch.setattr(_exact, "QUERIES_A_BLOCK", blocks[1])
        found = _exact.nearest(vectors, ids, asked, k, mask=chosen)
    pool = range(rows) if chosen is None else np.flatnonzero(chosen).tolist()
    for query, (best, scores) in zip(asked, found, strict=True):
        cosines = {row: round(float(vectors[row].astype(float) @ query.astype(float)), 7) for row in pool}
        expected = sorted(pool, key=lambda row: (-cosines[row], ids[row]))[:k]
        assert best.tolist() == expected
        assert scores.tolist() == pytest.approx([cosines[row] for row in expected], abs=1e-12)


@pytest.mark.parametrize("tail", [1, 2, 3, 7])
def test_equal_vectors_tie_wherever_they_stand(tail: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last digits of a matrix product depend on where a row stands; the answer must not."""
    monkeypatch.setattr(_exact, "ROWS_A_BLOCK", 64)
    rng = np.random.default_rng(tail)
    vector = rng.normal(size=(1, 512))
    ids = [f"{number:03d}" for number in reversed(range(64 + tail))]  # the smallest ids stand in the short last block
    store = NumpyStore()
    store.upsert(ids, np.repeat(vector, len(ids), axis=0))
    for found in store.query(vector + 0.7 * rng.normal(size=(20, 512)), tail):
        assert found.ids == sorted(ids)[:tail]
        assert len(set(found.scores)) == 1


def test_no_score_is_more_than_one() -> None:
    vectors = np.random.default_rng(0).normal(size=(3000, 3))
    store = NumpyStore()
    store.upsert([str(number) for number in range(3000)], vectors)
    found = [*store.query(vectors[:500], 1), *store.query(-vectors[:50], 3000)]
    assert all(-1 <= score <= 1 for one in found for score in (one.scores[0], one.scores[-1]))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
def test_any_real_numbers_are_taken(dtype: Any) -> None:
    store = NumpyStore()
    store.upsert(["a", "b"], np.array([[3, 4], [0, 100]], dtype=dtype))
    vectors = np.concatenate([part for _, part, _ in store.scan()])
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0, 1]], atol=1e-7)
    assert vectors.dtype == np.float32


def test_lengths_that_float32_cannot_hold() -> None:
    store = NumpyStore()
    store.upsert(["tiny", "huge"], np.array([[1e-100, 0.0], [0.0, 1e100]]))
    assert store.query(np.array([[0.0, 1.0]]), 1)[0].scores == [1.0]
    with pytest.raises(UsageError, match="not finite"):
        store.upsert(["more"], np.array([[1e300, 1e300]]))
