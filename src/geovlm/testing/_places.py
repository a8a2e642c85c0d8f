"""Places and times to test filters with, and a second reading of what filters mean by them.

Where `geovlm.filters` cuts the map at the antimeridian, this unrolls it: a box that crosses it goes on beyond 180
degrees, and every area is also there a turn further east and west.
"""

from __future__ import annotations

import datetime as dt
import json
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from geovlm.records import Footprint

__all__ = ["AREAS", "ENDS", "PLACES", "SPANS", "TIMES", "begins_in_time", "is_during", "is_in_place"]

PLACES: list[Any] = [
    *(
        [8, 47, 9, 48],
        [8.25, 47.25, 8.5, 47.5],
        [8.5, 47.5, 8.5, 48],
        [8, 47, 9, 47],
        [7, 46, 10, 49],
        [9, 48, 9.5, 49],
    ),
    *([8, 47], [8.5, 47.5], [9.0, 48.0], [8.75, 47.75], [0, 0], [-0.0, 0, 0, 0.0]),
    *(
        [179, -18, -179, -17],
        [170, -18, 180, -17],
        [-180, -18, -170, -17],
        [171, -15, -180, -14],
        [180, -20, -175, -19],
    ),
    *([180, -17.5], [-180, -17.5], [180, -17.5, -180, -17.5], [9, 47, 8, 48], [-8, 47, -9, 48], [1, 47, -1, 48]),
    *([-180, -90, 180, 90], [-180, -90], [180, 90]),
    # neither boxes nor points
    *([8, 48, 9, 47], [200, 47], [8, 95], [8, 47, 9], [8, 47, 9, 48, 0, 0], [8, 47, 9, None], ["8", "47"], [True, 1]),
    *([], [[8, 47], [9, 48]], {"0": 8.5, "1": 47.5}, {"type": "Point", "coordinates": [8.5, 47.5]}),
    *({"0": 8, "1": 47, "2": 9, "3": 48}, "8.5,47.5", 8.5, None, [10**30, 0]),
]

_BOXES: list[Any] = [
    *([8, 47, 9, 48], (8.0, 47.0, 8.5, 48.0), [9, 40, 20, 60], [8.5, 47.5, 8.5, 47.5], [8, 48, 9, 50], [0, 0, 0, 0]),
    *([170, -20, -170, -10], [170, -20, 180, -10], [-180, -20, -170, -10], [180, -18, 180, -17], [9, 47, 8, 48]),
    *([-180, -90, 180, 90], [-180, -90, 0, 90], [10, -90, 5, 90], [-179.5, -18, -178, -17]),
    Footprint(west=175, south=-19, east=-175, north=-16),
]


def _polygon(*rings: list[tuple[float, float]]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": rings}


def _around(west: float, south: float, east: float, north: float) -> list[tuple[float, float]]:
    return [(west, south), (east, south), (east, north), (west, north), (west, south)]


def _several(*boxes: tuple[float, float, float, float]) -> dict[str, Any]:
    return {"type": "MultiPolygon", "coordinates": [[_around(*box)] for box in boxes]}


_POLYGONS: list[Any] = [
    _polygon([(8, 47), (9, 47), (8, 48)]),
    _polygon([(7, 46), (10, 46), (10, 49), (7, 46)]),
    _polygon(_around(7, 46, 10, 49), _around(8.25, 47.25, 8.5, 47.5)),
    _polygon(_around(7, 46, 10, 49), _around(8.375, 47.375, 8.625, 47.625)),
    _polygon(_around(-180, -90, 180, 90)),
    _polygon(_around(-180, -20, -170, -10)),
    _several((170, -20, 180, -10), (-180, -20, -170, -10)),
    _several((170, -18, 180, -17), (-180, -17.5, -170, -16), (8, 47, 9, 48), (20, 0, 21, 1)),
    _several((7, 46, 8.5, 49), (8.5, 46, 10, 49)),
]
AREAS = _BOXES + (_POLYGONS if find_spec("shapely") else [])

TIMES: list[Any] = [
    *("2024-01-01", "2024-12-31", "2024-05-17", "2024-02-29", "2023-12-31", "0001-01-01", "9999-12-31"),
    *("2024-05-17T10:30:00Z", "2024-05-17T10:30:00", "2024-05-17t10:30z", "2024-05-17 12:30:00.5+02:00"),
    *("2024-12-31T23:59:59.999999Z", "2024-12-31T23:30:00-01:00", "2025-01-01T00:30:00+01:00", "2025-01-01T00:00:00Z"),
    *("2024-01-01T00:00:00+00:01", "2023-12-31T23:59:59-0001", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59-23:59"),
    # no times
    *(
        "2024",
        "2024-05",
        "20240517",
        "2024-5-17",
        "2023-02-29",
        "2024-05-17T25:00Z",
        "2024-05-17T10:30:00+2",
        "2024-05-17x",
    ),
    *(" 2024-05-17", "yesterday", "", 2024, 1715900000, None, True, ["2024-05-17"], {"0": "2024-05-17"}),
]

ENDS: list[Any] = [
    *(
        "0001",
        "2023",
        "2024-01-01",
        "2024-01",
        "2024-02",
        "2024-05-17",
        "2024-05-17T10:30:00Z",
        "2024-05-17T10:30:00+02:00",
    ),
    *(dt.date(2024, 5, 17), dt.datetime(2024, 5, 17, 10, 30), dt.datetime(2024, 12, 31, 23, 59, 59, tzinfo=dt.UTC)),  # noqa: DTZ001 - naive on purpose
    *("2024", "2024-12-31", "2025-01-01T00:00:00Z", "9999-12-31", "9999"),
]

SPANS: list[Any] = [
    *(["2024", "2024"], ["2024-02", "2024-05"], ["2024-05-17", "2024-05-17"], ["2024-01-01", "2024-12-31T23:59:59Z"]),
    *(["0001", "0001"], ["9999", "9999-12-31"], [None, "2024-05-17T10:30:00"], ["2024-12-31T23:59:59.999999Z", None]),
    *([None, None], [dt.date(2024, 12, 31), dt.datetime(2025, 1, 1, tzinfo=dt.UTC)]),
]


def is_in_place(op: str, area: Any, value: Any) -> bool:
    """Whether a row's value lies in an area (`$within`), or has a point in common with it."""
    place = _place(value)
    if place is None:
        return False
    if isinstance(area, dict):
        return _is_in_polygon(op, area, place)
    west, south, east, north = area.bounds if isinstance(area, Footprint) else area
    return _is_in_box(op, (west, south, east if east >= west else east + 360, north), place)


def _place(value: Any) -> tuple[float, float, float, float] | None:
    """A box that goes on beyond 180 degrees where it crosses the antimeridian."""
    if not isinstance(value, list) or any(type(part) not in (int, float) for part in value):
        return None
    if len(value) == 2:
        value = [*value, *value]
    if len(value) != 4 or max(map(abs, value[::2])) > 180 or max(map(abs, value[1::2])) > 90 or value[1] > value[3]:
        return None
    west, south, east, north = value
    return west, south, east if east >= west else east + 360, north


def _is_in_box(op: str, area: tuple[float, float, float, float], place: tuple[float, float, float, float]) -> bool:
    west, south, east, north = area
    for turn in (-360, 0, 360):
        left, right = place[0] + turn, place[2] + turn
        if op == "$within":
            wide = (west <= left and right <= east) or east - west == 360
            if wide and south <= place[1] and place[3] <= north:
                return True
        elif max(west, left) <= min(east, right) and max(south, place[1]) <= min(north, place[3]):
            return True
    return False


def _is_in_polygon(op: str, area: dict[str, Any], place: tuple[float, float, float, float]) -> bool:
    import shapely

    west, south, east, north = place
    corners = shapely.MultiPoint([(west, south), (west, north), (east, south), (east, north)])
    relation = _unrolled(json.dumps(area)).relate(corners.convex_hull)
    if op == "$within":  # nothing of the place is in the outside
        return bool(relation[6] == relation[7] == "F")
    return not all(mark == "F" for mark in (relation[0], relation[1], relation[3], relation[4]))


@lru_cache
def _unrolled(area: str) -> Any:
    """An area in GeoJSON, and the same a turn further east and west."""
    import shapely
    import shapely.affinity

    kind, coordinates = json.loads(area).values()
    parts = [
        shapely.Polygon(rings[0], rings[1:]) for rings in (coordinates if kind == "MultiPolygon" else [coordinates])
    ]
    return shapely.union_all([shapely.affinity.translate(part, turn) for part in parts for turn in (-360, 0, 360)])


def is_during(span: Any, value: Any) -> bool:
    """Whether a row's value is a time in a span."""
    moment, (start, end) = _moment(value) if isinstance(value, str) else None, span
    if moment is None:
        return False
    return (start is None or _period(start)[0] <= moment) and (end is None or moment < _period(end)[1])


def begins_in_time(span: Any) -> bool:
    """Whether a span is in order."""
    return None in span or _period(span[0])[0] < _period(span[1])[1]


_BEGINNING = dt.datetime(1, 1, 1)  # noqa: DTZ001 - offsets are taken off by hand
_CLOCKS = [
    "",
    *(
        f"{mark}{clock}{zone}"
        for mark in "Tt "
        for clock in ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f")
        for zone in ("", "%z")
    ),
]


@lru_cache
def _moment(value: str) -> dt.timedelta | None:
    """The time since the year 1 in UTC."""
    if value[4:5] != "-" or value[7:8] != "-":
        return None
    for clock in _CLOCKS:
        with suppress(ValueError):
            found = dt.datetime.strptime(value.replace("z", "Z"), f"%Y-%m-%d{clock}")  # noqa: DTZ007 - may have none
            return found.replace(tzinfo=None) - _BEGINNING - (found.utcoffset() or dt.timedelta())
    return None


def _period(end: Any) -> tuple[dt.timedelta, dt.timedelta]:
    """When a year, month, day or time begins, and when the next one does."""
    text = end if isinstance(end, str) else end.isoformat()
    moment = _moment(text)
    if moment is not None:
        return moment, moment + (dt.timedelta(days=1) if len(text) == 10 else dt.timedelta.resolution)
    first, last = (f"{text}-01-01", f"{text}-12-31") if len(text) == 4 else (f"{text}-01", f"{text}-31")
    while _moment(last) is None:
        last = f"{last[:-2]}{int(last[-2:]) - 1}"
    return _period(first)[0], _period(last)[1]
