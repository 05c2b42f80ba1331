"""What OKX and Bybit have in common: frames become exact integers or are refused by name, whatever the damage."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huracan_gateway.adapter import Control
from huracan_gateway.events import RECENT_TRADES
from huracan_gateway.reject import Reason, Rejected

from .test_bybit import EXAMPLES as BYBIT
from .test_okx import EXAMPLES as OKX
from .venue_examples import Says, damaged

VENUES = {"okx": OKX, "bybit": BYBIT}
FRAMES = [(name, frame) for name, venue in VENUES.items() for frame, _ in venue.says]


@pytest.mark.parametrize(
    ("venue", "frame", "says"), [(name, frame, says) for name, venue in VENUES.items() for frame, says in venue.says]
)
def test_a_frame_becomes_exact_integers(venue: str, frame: bytes, says: Says) -> None:
    assert VENUES[venue].decoded(frame) == says
    assert VENUES[venue].adapter.owns(frame)


@pytest.mark.parametrize(
    ("venue", "frame", "reason", "named"), [(name, *wrong) for name, venue in VENUES.items() for wrong in venue.wrong]
)
def test_what_is_wrong_with_a_frame_is_named(venue: str, frame: bytes, reason: Reason, named: str) -> None:
    with pytest.raises(Rejected) as refused:
        VENUES[venue].decoded(frame)
    assert refused.value.reason is reason, refused.value
    assert named in refused.value.detail


@pytest.mark.parametrize("venue", VENUES)
def test_the_answer_that_there_were_no_trades_says_nothing_and_is_not_refused(venue: str) -> None:
    assert VENUES[venue].decoded(VENUES[venue].no_trades) == (RECENT_TRADES, [])
    assert VENUES[venue].adapter.owns(VENUES[venue].no_trades)


@given(st.sampled_from(FRAMES), st.data())
def test_no_damage_to_a_frame_however_odd_stops_the_decoder(example: tuple[str, bytes], data: st.DataObject) -> None:
    venue, frame = VENUES[example[0]], damaged(example[1], data)
    adapter = venue.adapter
    for ask in (adapter.owns, adapter.symbol_of, adapter.levels, adapter.websocket.control):
        ask(frame)
    attempts: tuple[Callable[[], object], ...] = (
        lambda: venue.decoded(frame),
        lambda: adapter.defines(frame),
        lambda: venue.read_bars(frame),
        lambda: adapter.http.instrument(frame, venue.definition.venue_symbol),
    )
    for attempt in attempts:
        with contextlib.suppress(Rejected):
            attempt()


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize(
    ("field", "text"),
    [(1, "0"), (2, "1"), (3, "999999"), (5, "-1"), (0, "17231611800"), (0, "1723161180001"), (0, "x"), (4, "x")],
)
def test_damaged_bars_are_refused(venue: str, field: int, text: str) -> None:
    row = [*VENUES[venue].row]
    assert VENUES[venue].read_bars(VENUES[venue].bars(row))
    row[field] = text
    with pytest.raises(Rejected):
        VENUES[venue].read_bars(VENUES[venue].bars(row))


@pytest.mark.parametrize(
    ("venue", "message", "control"), [(name, *told) for name, venue in VENUES.items() for told in venue.messages]
)
def test_messages_that_are_no_market_data_are_told(venue: str, message: bytes, control: Control | None) -> None:
    answered = VENUES[venue].adapter.websocket.control(message)
    assert (answered[0] if answered else None) is control
