"""When bars are expected: always, or in the sessions of the US stock exchanges."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

import numpy as np

from huracan.errors import BadInput
from huracan_training.samples import Integers

DAY_NS = 86_400_000_000_000
_SECOND_NS = 1_000_000_000
_NEW_YORK = ZoneInfo("America/New_York")
_OPEN, _CLOSE = time(9, 30), time(16)
_MONDAY, _THURSDAY = 0, 3
_MOURNING = (
    *("1994-04-27", "2001-09-11", "2001-09-12", "2001-09-13", "2001-09-14", "2004-06-11"),
    *("2007-01-02", "2012-10-29", "2012-10-30", "2018-12-05", "2025-01-09"),
)
"""Days without a session that no rule gives: state funerals, attacks, a hurricane."""


class Calendar(StrEnum):
    """Which bars should be there."""

    ALWAYS = "always"
    """Every interval, UTC: markets that never close."""
    US_EQUITIES = "us_equities"
    """Sessions of the New York Stock Exchange, 9:30 to 16:00 there; a bar of a day opens at midnight UTC."""


def expected_opens(calendar: Calendar, interval_ns: int, first_ns: int, last_ns: int) -> Integers:
    """Return the opens of all bars from `first_ns` to `last_ns`, both included, ascending, as a calendar has them.

    Bars begin at multiples of the interval (UTC). Raises BadInput for an interval longer than a day in a calendar of
    sessions.
    """
    begin = -(-first_ns // interval_ns) * interval_ns
    if calendar is Calendar.ALWAYS:
        return _grid(begin, last_ns, interval_ns)
    if interval_ns > DAY_NS:
        raise BadInput(f"bars of {interval_ns / DAY_NS:g} days are not those of sessions: give --calendar always")
    days = [_day(ns) for ns in range(first_ns // DAY_NS * DAY_NS, last_ns + 1, DAY_NS)]
    open_days = [day for day in days if is_session(day)]
    if interval_ns == DAY_NS:
        opens = np.array([_midnight_ns(day) for day in open_days], dtype=np.int64)
    else:
        parts = [_session(day, interval_ns) for day in open_days]
        opens = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
    return opens[(opens >= first_ns) & (opens <= last_ns)]


def is_session(day: date) -> bool:
    """Return whether the New York Stock Exchange has a session on a day (its Rule 7.2).

    A day that ends early counts whole, so that a few of its bars within the day are missing.
    """
    return day.weekday() < 5 and day.isoformat() not in _MOURNING and day not in _holidays(day.year)


def _session(day: date, interval_ns: int) -> Integers:
    begin, end = (_ns(datetime.combine(day, at, _NEW_YORK)) for at in (_OPEN, _CLOSE))
    return _grid(-(-begin // interval_ns) * interval_ns, end - interval_ns, interval_ns)


def _grid(first_ns: int, last_ns: int, interval_ns: int) -> Integers:
    return first_ns + interval_ns * np.arange(max(0, (last_ns - first_ns) // interval_ns + 1), dtype=np.int64)


def _holidays(year: int) -> set[date]:
    """Return the holidays of a year as they are kept: Sunday's on Monday, Saturday's on Friday but for New Year."""
    first = date(year, 1, 1)
    fixed = [date(year, 7, 4), date(year, 12, 25)]
    if year >= 2022:
        fixed.append(date(year, 6, 19))
    days = {_kept(day) for day in fixed}
    days.add(first + timedelta(days=1) if first.weekday() == 6 else first)
    days |= {_easter(year) - timedelta(days=2), _nth(year, 2, _MONDAY, 3), _nth(year, 9, _MONDAY, 1)}
    days |= {_nth(year, 6, _MONDAY, 1) - timedelta(days=7), _nth(year, 11, _THURSDAY, 4)}
    if year >= 1998:
        days.add(_nth(year, 1, _MONDAY, 3))
    return days


def _kept(day: date) -> date:
    return day + timedelta(days={5: -1, 6: 1}.get(day.weekday(), 0))


def _nth(year: int, month: int, weekday: int, count: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (count - 1))


def _easter(year: int) -> date:
    """Return Easter Sunday: Meeus, Astronomical Algorithms 1991, chapter 8."""
    a, b, c = year % 19, year // 100, year % 100
    d, e = divmod(b, 4)
    g = (8 * b + 13) // 25
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    weekday = (32 + 2 * e + 2 * i - h - k) % 7
    m = (a + 11 * h + 19 * weekday) // 433
    month = (h + weekday - 7 * m + 90) // 25
    return date(year, month, (h + weekday - 7 * m + 33 * month + 19) % 32)


def _day(ns: int) -> date:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=ns // DAY_NS)).date()


def _midnight_ns(day: date) -> int:
    return _ns(datetime.combine(day, time(), UTC))


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * _SECOND_NS
