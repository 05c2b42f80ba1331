"""`huracan tail`: hear what a user of the bus hears, as it is said, and put each message into one line."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from google.protobuf import json_format, text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from pydantic import SecretStr
from rich.text import Text

from huracan.bus import subjects
from huracan.bus.nats.bus import NatsBus, NatsDelivery, NatsInbox
from huracan.bus.nats.connection import Connection, NatsLogin
from huracan.bus.nats.users import EVERYTHING, Permissions, desk_permissions, watcher_permissions
from huracan.clock import MILLISECOND_NS, SystemClock
from huracan.contracts.context import Context, DriftState, EngineChoice, EngineStage, drift_level_name
from huracan.contracts.decision import Decision, SignalDirection, TradingSignal, direction_name
from huracan.contracts.execution import AccountState, Fill, Order, OrderReason, OrderState, RiskState, Side
from huracan.contracts.features import FeatureWindow
from huracan.contracts.market import (
    Anomaly,
    InstrumentDefinition,
    InstrumentId,
    Reliability,
    anomaly_kind_name,
    instrument_key,
    policy_name,
)
from huracan.contracts.opinion import Opinion, reason_name
from huracan.contracts.ops import (
    DriftChanged,
    EngineReport,
    FeedChanged,
    GapDetected,
    engine_event_name,
    feed_state_name,
)
from huracan.errors import BadInput, Fatal, PoisonMessage
from huracan.expert.swap import told
from huracan.store.tables import named_values
from huracan_cli.colours import COLOURS, tilt_colour
from huracan_cli.state import RunState
from huracan_cli.system import DESK, OPERATOR, WATCHER
from huracan_executor.config import ExecutorConfig
from huracan_orchestrator.config import GateConfig

AWAY_AFTER_S = 1.0
"""A server that is away for less is not worth a word."""
LONGEST_TEXT = 160
"""Characters shown of a message that has no form of its own."""
WINDOWS = f"feat.v1.{subjects.MICRO}.>"
"""Heard beside orders and fills: windows tell what their increments are worth."""
_TONES = {
    **dict.fromkeys(("tag", "connected", "returned", "resynced", "ok", "taken_over", "settled"), "green"),
    **dict.fromkeys(("hold", "reconnecting", "fallback", "rate_limited", "resyncing", "redefined", "watch"), "yellow"),
    **dict.fromkeys(("drop", "silent", "refused", "act", "rejected", "rolled_back", "lost"), "bold red"),
}
"""Style of what is done about an anomaly, of a feed's state, of a level of drift, and of what happens to engines."""

_PERMISSIONS: dict[str, Permissions] = {
    OPERATOR: EVERYTHING,
    WATCHER: watcher_permissions(WATCHER),
    DESK: desk_permissions(DESK, strategies=(GateConfig().strategy,), accounts=(ExecutorConfig().account,)),
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One message as it was heard."""

    subject: str
    schema: str
    """Full name of its kind; empty when the sender did not say."""
    epoch: int
    """Epoch of its writer; 0 when it has none."""
    sent_ns: int
    """The sender's wall clock at publishing; 0 when it did not say."""
    message: Message | None
    """None when it cannot be read."""
    unreadable: str = ""
    """Why it cannot be read."""
    raw: bytes
    definition: InstrumentDefinition | None = None
    """Of its instrument, as far as a window told it."""


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def tail(
    state: RunState,
    pattern: str,
    *,
    user: str = WATCHER,
    count: int | None = None,
    say: Callable[[str], None] = _to_stderr,
) -> AsyncGenerator[Heard, None]:
    """Yield what is published on a pattern from now on, without end or `count` messages, best effort.

    `say` is told once when the server goes away; it is waited for. Raises BadInput for a malformed pattern, a count
    below 1, a user that there is not and a password that is refused, and Fatal for a pattern that the user may not
    hear.
    """
    subjects.check(pattern)
    if count is not None and count < 1:
        raise BadInput(f"count was {count}: give 1 or more, or leave it out to listen without end")
    connection = Connection(_login(state, user))
    tasks = [asyncio.create_task(_say_when_away(connection, state.nats_url, say))]
    try:
        await connection.open()
        inbox = NatsBus(connection, wall=SystemClock()).inbox()
        inbox.subscribe(pattern)
        if pattern.startswith("exec.") and state.nats_user is None and user in (OPERATOR, WATCHER):
            inbox.subscribe(WINDOWS)
        tasks.append(asyncio.create_task(_fail_when_gone(connection, lambda error: inbox.refused(pattern, error))))
        left = count
        async for heard in _matching(inbox, pattern):
            yield heard
            left = left - 1 if left is not None else None
            if left == 0:
                return
    except BadInput:
        raise
    except Fatal as error:
        raise Fatal(f"{error}: {_may_hear(state, user)}") from None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await connection.close()


async def _matching(inbox: NatsInbox, pattern: str) -> AsyncIterator[Heard]:
    """Yield what matches; learn from the windows beside it, the first of each subject."""
    definitions: dict[str, InstrumentDefinition] = {}
    known: set[str] = set()
    async for delivery in inbox:
        wanted = subjects.matches(pattern, delivery.subject)
        if wanted or delivery.subject not in known:
            heard = _heard(delivery, definitions)
            if isinstance(heard.message, FeatureWindow):
                known.add(delivery.subject)
            if wanted:
                yield heard


def _login(state: RunState, user: str) -> NatsLogin:
    if state.nats_user is not None:
        if user != WATCHER:
            raise BadInput(f"user was {user!r}, and {state.nats_url} has one user for all: leave it out")
        password = state.passwords.get(state.nats_user, SecretStr(""))
        return NatsLogin(url=state.nats_url, name=WATCHER, user=state.nats_user, password=password)
    if user not in state.passwords:
        raise BadInput(f"user was {user!r}: choose one of {', '.join(sorted(state.passwords))}")
    return NatsLogin(url=state.nats_url, name=user, password=state.passwords[user])


def _may_hear(state: RunState, user: str) -> str:
    if state.nats_user is not None:
        return f"ask who runs {state.nats_url} for more"
    if user not in _PERMISSIONS:
        return "it hears what its service reads, no pattern beyond that"
    allowed = [pattern for pattern in _PERMISSIONS[user].subscribe if not pattern.startswith("_INBOX")]
    return f"{user} may hear {', '.join(allowed)}"


async def _say_when_away(connection: Connection, url: str, say: Callable[[str], None]) -> None:
    said = False
    while True:
        await asyncio.sleep(AWAY_AFTER_S)
        if connection.connected:
            said = False
        elif not said:
            said = True
            say(f"{url} is away: waiting for it; Ctrl-C ends")


async def _fail_when_gone(connection: Connection, fail: Callable[[Fatal], None]) -> None:
    await connection.gone.wait()
    fail(BadInput(f"{connection.login.url} closed the connection for good: was the system started anew? try again"))


def _heard(delivery: NatsDelivery, definitions: dict[str, InstrumentDefinition]) -> Heard:
    schema, raw = delivery.raw
    message, unreadable = None, ""
    try:
        message = delivery.decode()
    except PoisonMessage as error:
        unreadable = str(error)
    if isinstance(message, FeatureWindow):
        definitions[instrument_key(message.instrument.id)] = message.instrument
    instrument = getattr(message, "instrument", None)
    return Heard(
        subject=delivery.subject,
        schema=schema,
        epoch=delivery.epoch,
        sent_ns=delivery.sent_ns,
        message=message,
        unreadable=unreadable,
        raw=raw,
        definition=definitions.get(instrument_key(instrument)) if isinstance(instrument, InstrumentId) else None,
    )


# For machines.


def as_json(heard: Heard) -> dict[str, object]:
    """Return a message as one JSON object: fields by their names in the contract, every bytes field as hexadecimal.

    The rest is ProtoJSON: 64-bit integers in `message` are text.
    """
    told: dict[str, object] = {
        "subject": heard.subject,
        "schema": heard.schema,
        "epoch": heard.epoch,
        "sent_ns": heard.sent_ns,
    }
    if heard.message is None:
        return {**told, "unreadable": heard.unreadable, "raw": heard.raw.hex()}
    return {**told, "message": fields_of(heard.message)}


def fields_of(message: Message) -> dict[str, Any]:
    """Return a message as `as_json` has it."""
    fields = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    _make_hexadecimal(message, fields)
    return fields


def _make_hexadecimal(message: Message, fields: dict[str, Any]) -> None:
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_BYTES:
            fields[field.name] = [each.hex() for each in value] if field.is_repeated else value.hex()
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            parts = (value, fields[field.name]) if field.is_repeated else ([value], [fields[field.name]])
            for each, below in zip(*parts, strict=True):
                _make_hexadecimal(each, below)


# For people.


_Part = str | tuple[str, str]
"""Text, or text with its style."""


class _Line(NamedTuple):
    at_ns: int
    """Market time; 0 where the message has none."""
    kind: str
    of: str
    """Instrument, account or what else it is about."""
    parts: Iterable[_Part]


def render(heard: Heard) -> Text:
    """Return a message in one line: market time in UTC, kind, instrument, and what it says.

    Sizes are in base units and prices in the quote asset where the increments are known, else in lots and ticks.
    Print it with `soft_wrap=True`, or the console cuts it in two.
    """
    line = _line(heard)
    text = Text()
    text.append(_clock(line.at_ns or heard.sent_ns), style="dim")
    text.append(f"  {line.kind:<8}  {printable(line.of):<26}")
    for part in line.parts:
        words, style = part if isinstance(part, tuple) else (part, "")
        if words:
            text.append("  ")
            text.append(printable(words), style=style)
    return text


def _line(heard: Heard) -> _Line:
    message = heard.message
    if message is None:
        return _Line(0, "unread", heard.subject, [(heard.unreadable, "red"), f"{len(heard.raw)} bytes"])
    form = _FORMS.get(type(message))
    if form is not None:
        return form(message, heard.definition)
    text = text_format.MessageToString(message, as_one_line=True)
    shown = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"
    return _Line(0, message.DESCRIPTOR.name, heard.subject, [shown])


def _clock(ns: int) -> str:
    return f"{_EPOCH + timedelta(milliseconds=ns // MILLISECOND_NS):%H:%M:%S.%f}"[:-3]


def printable(text: str) -> str:
    """Return text that cannot steer the terminal, whoever wrote it: every character that has no form is replaced."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _toned(name: str) -> tuple[str, str]:
    return f"{name:<4}", COLOURS.get(name, "")


def _why(what: Decision | Opinion) -> tuple[str, str]:
    return f"abstained: {reason_name(what.reason)}", "dim"


def _size(lots: int, definition: InstrumentDefinition | None) -> str:
    if definition is None or not definition.size_increment:
        return f"{lots} lots"
    size = lots * Decimal(definition.size_increment) * Decimal(definition.multiplier or 1)
    return f"{size:f} {definition.base}"


def _price(ticks: int, definition: InstrumentDefinition | None) -> str:
    if definition is None or not definition.price_increment:
        return f"{ticks} ticks"
    return f"{ticks * Decimal(definition.price_increment):f}"


def _decision(decision: Decision, definition: InstrumentDefinition | None) -> _Line:
    parts: list[_Part] = [_toned(direction_name(decision.direction))]
    if decision.abstained:
        parts.append(_why(decision))
    else:
        base = definition.base if definition is not None else ""
        size = (
            decision.size * Decimal(decision.size_increment or 1) * Decimal(definition.multiplier if definition else 1)
        )
        parts += [f"{size:+f} {base}".rstrip(), f"confidence {decision.confidence:.1%}"]
    parts.append((decision.strategy, "dim"))
    return _Line(decision.close_ns, "decision", instrument_key(decision.instrument), parts)


def _signal(signal: TradingSignal, _: InstrumentDefinition | None) -> _Line:
    said = SignalDirection.Name(signal.direction)
    parts: list[_Part] = [_toned(said), f"{signal.position_size:+g}", f"confidence {signal.confidence:.1%}"]
    return _Line(signal.timestamp, "signal", signal.symbol, parts)


def _opinion(opinion: Opinion, _: InstrumentDefinition | None) -> _Line:
    said: list[_Part]
    if opinion.abstained:
        said = [_why(opinion)]
    else:
        tilt = opinion.p_up - opinion.p_down
        forecast = f"down {opinion.p_down:.3f} flat {opinion.p_flat:.3f} up {opinion.p_up:.3f}"
        said = [(f"{tilt:+.3f}", tilt_colour(tilt)), (forecast, "")]
    return _Line(opinion.close_ns, "opinion", instrument_key(opinion.instrument), [f"{opinion.expert:<9}", *said])


def _order(order: Order, definition: InstrumentDefinition | None) -> _Line:
    state = OrderState.Name(order.state).removeprefix("ORDER_STATE_")
    reason = OrderReason.Name(order.reason).removeprefix("ORDER_REASON_") if order.reason else ""
    parts: list[_Part] = [
        _toned(Side.Name(order.side).removeprefix("SIDE_")),
        f"{_size(order.quantity, definition)} at {_price(order.limit_price, definition)}",
        f"{state} {reason}".rstrip(),
        f"filled {_size(order.filled_quantity, definition)}" if order.filled_quantity else "",
        (order.account, "dim"),
    ]
    return _Line(order.updated_ns, "order", instrument_key(order.instrument), parts)


def _fill(fill: Fill, definition: InstrumentDefinition | None) -> _Line:
    parts: list[_Part] = [
        _toned(Side.Name(fill.side).removeprefix("SIDE_")),
        f"{_size(fill.quantity, definition)} at {_price(fill.price, definition)}",
        f"fee {fill.fee or 'unknown'}",
        (fill.account, "dim"),
    ]
    return _Line(fill.matched_ns, "fill", instrument_key(fill.instrument), parts)


def _account(account: AccountState, _: InstrumentDefinition | None) -> _Line:
    risk = RiskState.Name(account.risk_state).removeprefix("RISK_STATE_")
    held = [f"{instrument_key(each.instrument)} {each.quantity:+d} lots" for each in account.positions if each.quantity]
    parts: list[_Part] = [
        f"equity {account.equity or 'unknown'}",
        f"fees {account.fees or 'unknown'}",
        (risk, "green" if account.risk_state == RiskState.RISK_STATE_ACTIVE else "bold red"),
        *(held or ["flat"]),
    ]
    return _Line(account.as_of_ns, "account", account.account, parts)


def _context(context: Context, _: InstrumentDefinition | None) -> _Line:
    said: list[str] = []
    if context.HasField("regime"):
        shares = sorted(context.regime.shares, key=lambda share: -share.probability)
        said = [f"{share.regime.replace('_', ' ')} {share.probability:.0%}" for share in shares]
    elif context.HasField("mood"):
        said = [f"polarity {context.mood.polarity:+.3f}", f"{context.mood.headlines} headlines"]
    elif context.HasField("engine"):
        engine = context.engine
        said = [*chosen(engine), f"by {engine.author}", engine.reason]
    elif context.HasField("drift"):
        said = [drift_level_name(context.drift.level), _moved(context.drift)]
    return _Line(context.as_of_ns, context.ref.kind, context.ref.key, [f"version {context.ref.version}", *said])


def chosen(choice: EngineChoice) -> list[str]:
    """Return which engine serves, and which is tried beside it, as people read it."""
    said = [f"{told(choice.serves)} serves"]
    if choice.HasField("beside"):
        on_probation = choice.stage == EngineStage.ENGINE_STAGE_PROBATION
        said += ["on probation" if on_probation else f"{told(choice.beside)} in the shadow"]
    return said


def _engines(report: EngineReport, _: InstrumentDefinition | None) -> _Line:
    name = engine_event_name(report.event)
    parts: list[_Part] = [(name, _TONES.get(name, "")), report.detail]
    parts += chosen(report.choice) if report.HasField("choice") else []
    return _Line(report.at_ns, "engine", report.key, parts)


def _moved(state: DriftState) -> str:
    """Return what has moved, the worst first, and where it was before."""
    return ", ".join(
        f"{each.name} {each.value:.3g} > {each.limit:.3g} ({each.method}, {each.before:.4g} to {each.after:.4g})"
        for each in state.findings
    )


def _window(window: FeatureWindow, _: InstrumentDefinition | None) -> _Line:
    quote = "no book"
    if window.book_synced:
        bid, ask = (
            _price(ticks, window.instrument) if ticks else "none" for ticks in (window.best_bid, window.best_ask)
        )
        quote = f"bid {bid} ask {ask}"
    parts: list[_Part] = [
        (window.feature_set, "dim"),
        f"step {window.step}",
        f"{window.valid_rows}/{window.rows} rows",
        quote,
    ]
    return _Line(window.close_ns, "window", instrument_key(window.instrument.id), parts)


def _anomaly(anomaly: Anomaly, _: InstrumentDefinition | None) -> _Line:
    policy = policy_name(anomaly.policy)
    parts: list[_Part] = [
        anomaly_kind_name(anomaly.kind),
        (policy, _TONES.get(policy, "")),
        f"score {anomaly.score:.6g}, threshold {anomaly.threshold:.6g}",
        (named_values(anomaly.evidence), "dim"),
    ]
    return _Line(anomaly.at_ns, "anomaly", instrument_key(anomaly.instrument), parts)


def _reliability(hour: Reliability, _: InstrumentDefinition | None) -> _Line:
    parts: list[_Part] = [
        f"{hour.score:.1f} of 100",
        f"since {_clock(hour.from_ns)}",
        f"{hour.frames} frames",
        (named_values(part for part in hour.parts if part.value), "dim"),
    ]
    return _Line(hour.to_ns, "reliable", instrument_key(hour.instrument), parts)


def _feed(changed: FeedChanged, _: InstrumentDefinition | None) -> _Line:
    state = feed_state_name(changed.state)
    parts: list[_Part] = [
        (state, _TONES.get(state, "")),
        f"attempt {changed.attempt}" if changed.attempt else "",
        changed.provider,
        (changed.detail, "dim"),
    ]
    return _Line(changed.at_ns, "feed", instrument_key(changed.instrument), parts)


def _drift(changed: DriftChanged, _: InstrumentDefinition | None) -> _Line:
    level = drift_level_name(changed.state.level)
    parts: list[_Part] = [
        f"{drift_level_name(changed.before)} to",
        (level, _TONES.get(level, "")),
        (_moved(changed.state), "dim"),
    ]
    return _Line(changed.at_ns, "drift", instrument_key(changed.instrument), parts)


def _gap(gap: GapDetected, _: InstrumentDefinition | None) -> _Line:
    parts: list[_Part] = [gap.stream, f"expected {gap.expected}, was {gap.was}", gap.action]
    return _Line(gap.at_ns, "gap", instrument_key(gap.instrument), parts)


_FORMS: dict[type[Message], Callable[[Any, InstrumentDefinition | None], _Line]] = {
    Decision: _decision,
    TradingSignal: _signal,
    Opinion: _opinion,
    Order: _order,
    Fill: _fill,
    AccountState: _account,
    Context: _context,
    FeatureWindow: _window,
    Anomaly: _anomaly,
    Reliability: _reliability,
    FeedChanged: _feed,
    DriftChanged: _drift,
    GapDetected: _gap,
    EngineReport: _engines,
}
