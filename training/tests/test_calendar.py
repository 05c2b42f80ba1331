"""Which bars should be there."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pytest

from huracan.clock import MINUTE_NS
from huracan.errors import BadInput
from huracan_training.bars import INTERVAL_NS
from huracan_training.calendar import DAY_NS, Calendar, expected_opens, is_session


def _ns(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp()) * 1_000_000_000


def test_bars_that_are_always_there_begin_at_multiples_of_the_interval() -> None:
    first = _ns(2024, 1, 1)
    opens = expected_opens(Calendar.ALWAYS, INTERVAL_NS, first + 1, first + 100_000 * INTERVAL_NS)
    assert (opens[0], opens[-1], len(opens)) == (first + INTERVAL_NS, first + 100_000 * INTERVAL_NS, 100_000)


@pytest.mark.parametrize(
    "day",
    [
        "2024-01-01 2024-01-15 2024-02-19 2024-03-29 2024-05-27 2024-06-19 2024-07-04 2024-09-02 2024-11-28 2024-12-25",
        "2022-06-20 2022-12-26 2021-12-24 2021-07-05 2023-01-02 1999-04-02 2001-09-11 2012-10-29 2024-01-06 2024-01-07",
    ],
)
def test_the_exchange_is_closed_on_its_holidays(day: str) -> None:
    assert not [each for each in day.split() if is_session(date.fromisoformat(each))]


def test_the_exchange_is_open_where_others_are_closed() -> None:
    """New Year on a Saturday is not kept; Juneteenth and Martin Luther King's day were not always."""
    days = "2021-12-31 2021-06-18 1997-01-20 2024-10-14 2024-11-11"
    assert all(is_session(date.fromisoformat(each)) for each in days.split())


def test_a_year_has_as_many_sessions_as_the_exchange_says() -> None:
    opens = expected_opens(Calendar.US_EQUITIES, DAY_NS, _ns(2023, 1, 1), _ns(2023, 12, 31))
    assert len(opens) == 250


def test_a_session_is_told_in_new_york_time() -> None:
    """The clocks go forward on 10 March 2024."""
    opens = expected_opens(Calendar.US_EQUITIES, INTERVAL_NS, _ns(2024, 3, 8), _ns(2024, 3, 12))
    assert len(opens) == 2 * 26
    assert opens[[0, 25, 26]].tolist() == [_ns(2024, 3, 8, 14, 30), _ns(2024, 3, 8, 20, 45), _ns(2024, 3, 11, 13, 30)]
    assert len(expected_opens(Calendar.US_EQUITIES, MINUTE_NS, _ns(2024, 3, 9), _ns(2024, 3, 10))) == 0


def test_weeks_have_no_sessions() -> None:
    with pytest.raises(BadInput, match="give --calendar always"):
        expected_opens(Calendar.US_EQUITIES, 7 * DAY_NS, 0, 10 * DAY_NS)
    assert np.diff(expected_opens(Calendar.ALWAYS, 7 * DAY_NS, 0, 20 * DAY_NS)).tolist() == [7 * DAY_NS] * 2
