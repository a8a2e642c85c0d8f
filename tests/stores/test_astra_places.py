"""What of places and times is sent to Astra DB; that it answers rightly is tested by the contract."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from geovlm.filters import parse_filter
from geovlm.stores import AstraStore
from geovlm.stores._astra_filters import MOST_COMPARISONS, _comparisons, push_down
from geovlm.testing._places import AREAS
from geovlm.testing.data_api import DataAPIEmulator


def pushed(where: dict[str, Any]) -> Any:
    found = push_down(parse_filter(where))
    assert not found.exact
    return found.clause


def test_a_box_is_sent_as_bounds_for_the_numbers_of_a_list() -> None:
    corner = [
        {"metadata.place.0": {"$gte": 8.0}},
        {"metadata.place.0": {"$lte": 9.0}},
        {"metadata.place.1": {"$gte": 47.0}},
        {"metadata.place.1": {"$lte": 48.0}},
    ]
    far = [{"metadata.place.2": {"$lte": 9.0}}, {"metadata.place.3": {"$lte": 48.0}}]
    whole = pushed({"place": {"$within": [8, 47, 9, 48]}})
    assert whole == {"$and": [{"$and": corner[:2]}, {"$and": corner[2:]}, {"$or": [
        {"metadata.place.2": {"$exists": False}}, {"$and": far}]}]}  # fmt: skip
    across = str(pushed({"place": {"$intersects": [8, 47, 9, 48]}}))
    assert "'metadata.place.1': {'$lte': 48.0}" in across
    assert "'metadata.place.3': {'$gte': 47.0}" in across


def test_a_span_is_sent_as_bounds_for_text() -> None:
    low, high = {"metadata.time": {"$gte": "2024-05-31"}}, {"metadata.time": {"$lt": "2024-09-02"}}
    assert pushed({"time": {"$during": ["2024-06", "2024-08"]}}) == {"$and": [low, high]}
    assert pushed({"time": {"$during": ["2024-06", None]}}) == low
    assert pushed({"time": {"$during": [None, None]}}) == {"metadata.time": {"$exists": True}}


@pytest.mark.parametrize("name", ["place", "camera.place", "places.0"])
def test_every_area_fits_into_one_request(name: str) -> None:
    for area in AREAS:
        for op in ("$within", "$intersects"):
            clause = pushed({name: {op: area}})
            assert clause is not True
            assert 0 < _comparisons(clause) <= MOST_COMPARISONS
            assert pushed({"$not": {name: {op: area}}}) is True


def test_few_rows_are_read_for_a_small_area() -> None:
    with DataAPIEmulator() as api:
        store = AstraStore("scenes", endpoint=api.endpoint, token=api.token)
        rows = [{"place": [i / 10, 47, i / 10 + 0.1, 47.1], "time": f"{1800 + i}-06-01"} for i in range(200)]
        store.upsert([f"{i:03d}" for i in range(200)], np.ones((200, 4)), rows)
        api.log.clear()
        assert store.count({"place": {"$within": [8, 46, 9, 48]}}) == 10
        assert store.count({"time": {"$during": ["1990", "1995"]}}) == 6
        assert sum(record.response_bytes for record in api.log.records) < 5000
