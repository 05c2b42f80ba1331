"""What follows from kept messages and is kept with them, in the same transaction: positions and alerts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from google.protobuf.message import Message

from huracan.contracts.execution import AccountState
from huracan.contracts.market import Anomaly, anomaly_kind_name, instrument_key
from huracan.contracts.ops import FeedChanged, FeedState, feed_state_name
from huracan.store.tables import named_values

POSITIONS, ALERTS = "trading.positions", "system_health.alerts"
"""Where SQL keeps them, with the fields of `Position` and `Alert` as columns."""
WARNING, CRITICAL = "warning", "critical"
FAR_OUT = 3.0
"""An anomaly of this many times its threshold is an alert: below it, detectors speak several times a day."""
FARTHEST_OUT = 10.0
"""From here on the alert is critical."""

_FEED_ALERTS = {FeedState.FEED_STATE_SILENT: WARNING, FeedState.FEED_STATE_REFUSED: CRITICAL}


class Position(NamedTuple):
    """What an account holds of an instrument after its last change."""

    account: str
    venue: str
    symbol: str
    quantity: int
    """In size increments, negative when short, 0 once it is closed."""
    epoch: int
    as_of_ns: int


class Alert(NamedTuple):
    """Something that somebody should look at."""

    alert_id: str
    at_ns: int
    source: str
    kind: str
    severity: str
    """WARNING or CRITICAL."""
    about: str
    """An instrument as venue.symbol, or a table."""
    detail: str


def positions(states: Iterable[AccountState]) -> list[Position]:
    """Return the newest position of each account and instrument among account states, in the order of their keys."""
    newest: dict[tuple[str, str, str], Position] = {}
    for state in sorted(states, key=lambda state: (state.epoch, state.as_of_ns)):
        for held in state.positions:
            key = (state.account, held.instrument.venue, held.instrument.symbol)
            newest[key] = Position(*key, held.quantity, state.epoch, state.as_of_ns)
    return [newest[key] for key in sorted(newest)]


def alerts(messages: Iterable[Message]) -> list[Alert]:
    """Return the alerts that messages give rise to: anomalies far out, feeds that are silent or refused."""
    return [found for message in messages if (found := _alert(message)) is not None]


def _alert(message: Message) -> Alert | None:
    match message:
        case Anomaly() as anomaly if anomaly.score >= FAR_OUT * anomaly.threshold > 0:
            return Alert(
                alert_id=anomaly.anomaly_id.hex(),
                at_ns=anomaly.at_ns,
                source="gateway",
                kind=anomaly_kind_name(anomaly.kind),
                severity=CRITICAL if anomaly.score >= FARTHEST_OUT * anomaly.threshold else WARNING,
                about=instrument_key(anomaly.instrument),
                detail=named_values(anomaly.evidence),
            )
        case FeedChanged() as change if change.state in _FEED_ALERTS:
            return Alert(
                alert_id=change.change_id.hex(),
                at_ns=change.at_ns,
                source="gateway",
                kind=feed_state_name(change.state),
                severity=_FEED_ALERTS[change.state],
                about=instrument_key(change.instrument),
                detail=change.detail,
            )
    return None
