"""Moments and spans of time in ISO 8601, as microseconds since 1970 in UTC."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

import numpy as np

from geovlm.errors import UsageError

_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_FIRST_DAY = date(1970, 1, 1).toordinal()

_ISO = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ]([0-9]{2})(?::([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?)?"
    r"([Zz]|([+-])([0-9]{2})(?::?([0-9]{2}))?)?)?"
)
_MONTH = re.compile(r"([0-9]{4})(?:-([0-9]{2}))?")


def moment_of(value: Any) -> int | None:
    """The moment that a row's value says: ISO 8601 text, a date being the beginning of its day; else `None`.

    Times without an offset are in UTC. Digits below the microsecond are dropped.

    Examples:
        >>> moment_of("1970-01-02"), moment_of("1970-01-01T01:00:00.5+01:00"), moment_of("yesterday")
        (86400000000, 500000, None)
    """
    # Most text is no time, and many rows are of few days.
    found = _ISO.fullmatch(value) if isinstance(value, str) and value[4:5] == "-" else None
    if found is None:
        return None
    day, hour, minute, second, fraction, _, sign, off_hour, off_minute = found.groups()
    start, clock = _start_of(day), 0 if hour is None else _seconds(hour, minute, second)
    offset = 0 if sign is None else _seconds(off_hour, off_minute, None)
    if start is None or clock is None or offset is None:
        return None
    micros = int(fraction[:6].ljust(6, "0")) if fraction else 0
    return start + (clock + offset if sign == "-" else clock - offset) * _SECOND + micros


@lru_cache(4096)
def _start_of(day: str) -> int | None:
    """The beginning of a day, if there is such a day."""
    try:
        return (date(int(day[:4]), int(day[5:7]), int(day[8:])).toordinal() - _FIRST_DAY) * _DAY
    except ValueError:
        return None


def _seconds(hour: str, minute: str | None, second: str | None) -> int | None:
    """Seconds since midnight; `None` if no clock shows that."""
    parts = int(hour), int(minute or 0), int(second or 0)
    return parts[0] * 3600 + parts[1] * 60 + parts[2] if parts[0] < 24 and max(parts[1:]) < 60 else None


def span_of(value: Any) -> tuple[int | None, int | None]:
    """The first and last moment of the span that a filter asks for; `None` where it is open.

    Raises:
        UsageError: It is no span; says what is wrong with it.
    """
    if not isinstance(value, list | tuple | np.ndarray) or len(value) != 2:
        raise UsageError(f'$during takes [start, end], such as ["2024-01-01", "2024-12-31"], not {value!r:.80}.')
    start, end = (None if one is None else _period(one) for one in value)
    first, last = start and start[0], end and end[1]
    if first is not None and last is not None and first > last:
        raise UsageError(f"The time {list(value)!r:.120} ends before it begins; its order is [start, end].")
    return first, last


def _period(value: Any) -> tuple[int, int]:
    """The first and last moment of a year, a month, a day or a time."""
    text = _as_text(value)
    if isinstance(text, str):
        moment, month = moment_of(text), _MONTH.fullmatch(text)
        if moment is not None:
            return (moment, moment + _DAY - 1) if len(text) == 10 else (moment, moment)
        if month is not None and int(month[1]) and 1 <= int(month[2] or 1) <= 12:
            return _months(int(month[1]), int(month[2] or 1), int(month[2] or 12))
    raise UsageError(
        f"{value!r:.80} is no time: write a date, a datetime, ISO 8601 text such as '2024-05-17' or"
        " '2024-05-17T10:30:00Z', or None for an open end."
    )


def _as_text(value: Any) -> Any:
    if isinstance(value, datetime) and value.tzinfo is not None:
        try:
            return value.astimezone(UTC).isoformat()
        except OverflowError:
            return None
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    return str(value) if isinstance(value, np.datetime64) else value


def _months(year: int, first: int, last: int) -> tuple[int, int]:
    begin, end = date(year, first, 1), date(year, last, monthrange(year, last)[1])
    return (begin.toordinal() - _FIRST_DAY) * _DAY, (end.toordinal() - _FIRST_DAY + 1) * _DAY - 1


def texts_around(start: int | None, end: int | None) -> tuple[str | None, str | None]:
    """Bounds for text: whatever says a moment from `start` to `end` sorts from the first on and before the second.

    An offset moves the text of a moment by less than a day.

    Examples:
        >>> texts_around(0, 0)
        ('1969-12-31', '1970-01-03')
    """
    return start if start is None else _day(start, -1), end if end is None else _day(end, 2)


def _day(moment: int, later: int) -> str | None:
    """The day some days after a moment's, if the calendar has it."""
    ordinal = moment // _DAY + _FIRST_DAY + later
    return date.fromordinal(ordinal).isoformat() if 1 <= ordinal <= date.max.toordinal() else None
