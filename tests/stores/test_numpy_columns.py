"""Filters on columns mean what `geovlm.filters` says, whatever happens to the rows."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geovlm.filters import compile_filter, parse_filter
from geovlm.stores import NumpyStore, _columns
from geovlm.stores._columns import Columns
from geovlm.testing.filters import filters, sample_rows

BIG = 2**53
NUMBERS = [0, -0.0, 1, 1.0, 2.5, BIG, BIG + 1, float(BIG), -BIG - 1, 2**60, float(2**60), 10**400, -(10**400), 1e308]
OTHERS = [True, False, None, "", "1", "a", "é", "\ud800", [], [1], [1.0], [True], [BIG + 1], ["a", "b"], [["a"]]]
MAPPINGS = [{}, {"a": 1}, {"a": True}, {"a": [1.0]}, {"b": {"c": None}}]
VALUES: list[Any] = [*NUMBERS, *OTHERS, *MAPPINGS]


def rows_passing(rows: list[dict[str, Any]], where: dict[str, Any]) -> list[bool]:
    columns = Columns([json.dumps(row) for row in rows])
    return list(columns.mask(parse_filter(where)).tolist())


@pytest.mark.parametrize("op", ["$eq", "$ne", "$in", "$nin", "$gt", "$gte", "$lt", "$lte", "$exists"])
def test_every_value_against_every_other(op: str) -> None:
    rows = [{"x": value} for value in VALUES] + [{}]
    wanted: list[Any] = [True, False] if op == "$exists" else VALUES
    if op in ("$gt", "$gte", "$lt", "$lte"):
        wanted = [value for value in VALUES if isinstance(value, str | int | float)]
    if op in ("$in", "$nin"):
        wanted = [[], *([value] for value in VALUES), VALUES[::2], list(range(20))]
    for value in wanted:
        where = {"x": {op: value}}
        passes = compile_filter(where)
        assert rows_passing(rows, where) == [passes(row) for row in rows], where


steps = st.lists(
    st.tuples(st.sampled_from(["upsert", "delete", "filter"]), st.lists(st.integers(0, 40), max_size=8), filters()),
    max_size=8,
)


@settings(max_examples=80, deadline=None)
@given(steps)
def test_columns_follow_every_change(changes: list[tuple[str, list[int], dict[str, Any]]]) -> None:
    store, model, pool = NumpyStore(), dict[str, dict[str, Any]](), sample_rows(200)
    for turn, (what, numbers, where) in enumerate(changes):
        names = [f"{number:02d}" for number in numbers]
        if what == "upsert":
            rows = [pool[(31 * turn + 7 * number) % len(pool)] for number in numbers]
            store.upsert(names, np.ones((len(names), 2)), rows)
            model.update(zip(names, rows, strict=True))
        elif what == "delete":
            store.delete(names)
            for name in names:
                model.pop(name, None)
        passes = compile_filter(where)
        expected = sorted(name for name, row in model.items() if passes(row))
        assert sorted(name for keys, _, _ in store.scan(where) for name in keys) == expected


def test_chunks_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_columns, "ROWS_A_CHUNK", 7)
    rows = sample_rows(50)
    for where in ({"year": {"$gte": 2020}}, {"tags": "a"}, {"camera.gsd": 2.5}, {"label": {"$lt": "b"}}):
        passes = compile_filter(where)
        assert rows_passing(rows, where) == [passes(row) for row in rows]


def test_a_row_is_read_once_for_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    put = _columns._Column.put

    def counting(self: Any, rows: list[int], values: list[Any]) -> None:
        read.extend(rows)
        put(self, rows, values)

    monkeypatch.setattr(_columns._Column, "put", counting)
    store = NumpyStore()
    store.upsert([f"{row}" for row in range(100)], np.ones((100, 2)), [{"x": row, "y": row} for row in range(100)])
    for where in ({"x": {"$gt": 50}}, {"x": 3}, {"$or": [{"x": 1}, {"x": 2}]}):
        store.count(where)
    assert read == list(range(100))
    read.clear()
    store.upsert(["3", "new"], np.ones((2, 2)), [{"x": 1000}, {"x": 1000}])
    assert store.count({"x": 1000}) == 2
    assert read == [3, 100]


def test_a_long_list_of_values() -> None:
    rng = np.random.default_rng(0)
    rows = [{"n": int(n), "t": f"t{n}", "tags": [f"t{n}", "x"]} for n in rng.integers(100_000, size=3000)]
    wanted = rng.integers(100_000, size=20_000).tolist()
    chosen = set(wanted)
    expected = [row["n"] in chosen for row in rows]
    assert rows_passing(rows, {"n": {"$in": wanted}}) == expected
    for name in ("t", "tags"):
        assert rows_passing(rows, {name: {"$in": [f"t{n}" for n in wanted]}}) == expected


@pytest.mark.parametrize("area", ["box", "polygon", "crossing"])
@pytest.mark.parametrize("op", ["$within", "$intersects"])
def test_places(area: str, op: str) -> None:
    pytest.importorskip("shapely")
    rng = np.random.default_rng(0)
    west, south = rng.uniform(-180, 160, size=500), rng.uniform(-90, 70, size=500)
    east = np.where(rng.random(500) < 0.1, rng.uniform(-180, 180, size=500), west + rng.uniform(0, 20, size=500))
    boxes = np.stack([west, south, east, south + rng.uniform(0, 20, size=500)], axis=1).tolist()
    rows = [{"footprint": box} for box in boxes] + [{"footprint": box[:2]} for box in boxes] + [{}, {"footprint": 3}]
    corners = [[-60, -50], [80, -20], [10, 60], [-60, -50]]
    areas = {
        "box": [-60, -50, 80, 60],
        "polygon": {"type": "Polygon", "coordinates": [corners]},
        "crossing": [100, -60, -100, 60],
    }
    where = {"footprint": {op: areas[area]}}
    passes = compile_filter(where)
    expected = [passes(row) for row in rows]
    assert rows_passing(rows, where) == expected
    assert 20 < sum(expected) < 900


def test_times() -> None:
    rows: list[dict[str, Any]] = [
        {"at": f"20{n % 30:02d}-{n % 12 + 1:02d}-{n % 28 + 1:02d}T00:00:00Z"} for n in range(500)
    ]
    rows += [{"at": 2020}, {"at": "yesterday"}, {}]
    for span in (["2010", "2015-06"], [None, "2003-02-01"], ["2020-01-01T12:00:00Z", None], [None, None]):
        where = {"at": {"$during": span}}
        passes = compile_filter(where)
        assert rows_passing(rows, where) == [passes(row) for row in rows]
