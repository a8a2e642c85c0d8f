"""Places and times in the SQL of Lance: exact where the columns tell, wider and tested after where they do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from geovlm.filters import compile_filter, parse_filter
from geovlm.stores import LanceStore, _lance_columns
from geovlm.stores._lance_columns import layout_of
from geovlm.stores._lance_sql import to_sql
from geovlm.testing._places import AREAS, PLACES, SPANS, TIMES

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

ROWS: list[dict[str, Any]] = [{"place": place, "camera": {"place": place}} for place in PLACES]
ROWS += [{"time": time, "camera": {"time": time}} for time in TIMES] + [{}]
QUESTIONS = [{"place": {op: area}} for area in AREAS for op in ("$within", "$intersects")]
QUESTIONS += [{"time": {"$during": span}} for span in SPANS]
BOXES = [parse_filter(where) for where in QUESTIONS if "type" not in str(where)]


def write(store: LanceStore, rows: list[dict[str, Any]]) -> None:
    first = len(store)
    store.upsert([f"{first + i:04d}" for i in range(len(rows))], np.ones((len(rows), 8)), rows)


def write_before_places(store: LanceStore, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a geovlm that knew no places and times."""
    with monkeypatch.context() as patch:
        patch.setattr(_lance_columns, "box_of", lambda _: None)
        patch.setattr(_lance_columns, "moment_of", lambda _: None)
        write(store, rows)


def check(store: LanceStore, rows: list[dict[str, Any]]) -> None:
    for where in QUESTIONS:
        for asked in (where, {"$not": where}, {"$or": [where, {"nothing": 1}]}):
            passes = compile_filter(asked)
            expected = [f"{i:04d}" for i, row in enumerate(rows) if passes(row)]
            assert sorted(key for keys, _, _ in store.scan(asked) for key in keys) == expected, asked


def columns(store: LanceStore) -> list[str]:
    names: list[str] = store._table.open().schema.names
    return names


def test_boxes_and_spans_are_answered_whole_by_sql(tmp_path: Path) -> None:
    store = LanceStore(tmp_path / "s")
    write(store, ROWS)
    layout = layout_of(columns(store))
    assert {"w_place", "s_place", "e_place", "h_place", "d_time", "d_camera_2etime"} <= layout.columns
    for where in QUESTIONS:
        whole = "type" not in str(where)
        assert to_sql(parse_filter(where), layout)[1] is whole
        assert to_sql(parse_filter({"$not": where}), layout)[1] is whole
    check(store, ROWS)


def test_polygons_send_their_bounds(tmp_path: Path) -> None:
    store = LanceStore(tmp_path / "s")
    write(store, [{"place": [i, 0]} for i in range(50)])
    ring = {"type": "Polygon", "coordinates": [[[10, -1], [20, -1], [20, 1]]]}
    sql, whole = to_sql(parse_filter({"place": {"$within": ring}}), layout_of(columns(store)))
    assert not whole
    assert store._table.open().count_rows(sql) == 11
    assert store.count({"place": {"$within": ring}}) == 6


def test_rows_written_before_there_were_columns_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LanceStore(tmp_path / "s")
    write_before_places(store, ROWS, monkeypatch)
    check(store, ROWS)
    write(store, ROWS)
    assert not any(name[:2] in ("w_", "d_") for name in columns(store))
    check(store, ROWS * 2)
    layout = layout_of(columns(store))
    assert not any(to_sql(tree, layout)[1] for tree in BOXES)
    sql, _ = to_sql(parse_filter({"time": {"$during": ["2024-06-01", "2024-08-31"]}}), layout)
    assert sql == "(t_time >= '2024-05-31' AND t_time < '2024-09-02')"


def test_a_name_without_places_at_first_has_no_columns_for_them_later(tmp_path: Path) -> None:
    """Whether its rows were all written by this version cannot be told any more."""
    store = LanceStore(tmp_path / "s")
    write(store, [{"place": [], "time": "unknown"}])
    write(store, ROWS)
    assert "w_camera_2eplace" in columns(store)
    assert not {"w_place", "d_time"} & set(columns(store))
    check(store, [{"place": [], "time": "unknown"}, *ROWS])


def test_a_name_that_never_was_a_place_is_known_to_be_none(tmp_path: Path) -> None:
    store = LanceStore(tmp_path / "s")
    write(store, [{"place": 3, "time": 4}, {}])
    layout = layout_of(columns(store))
    for where in ({"place": {"$within": [0, 0, 1, 1]}}, {"time": {"$during": [None, None]}}, QUESTIONS[-1]):
        assert to_sql(parse_filter(where), layout) == ("false", True)
        assert to_sql(parse_filter({"$not": where}), layout) == ("true", True)


def test_parts_of_a_filter_that_sql_cannot_tell_leave_the_others(tmp_path: Path) -> None:
    store = LanceStore(tmp_path / "s")
    write(store, ROWS)
    layout = layout_of(columns(store))
    where = {"$or": [{"place.0": 3, "x": 1}, {"$and": [{"time": {"$ne": "a"}}, {"camera.0": 1}]}]}
    sql, whole = to_sql(parse_filter({"time": {"$during": ["2024", None]}, **where}), layout)
    assert not whole
    assert sql is not None
    assert sql.startswith("d_time >= 1704067200000000 AND ((t_time IS NULL OR NOT (t_time IN ('a')))")
