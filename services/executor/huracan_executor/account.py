"""The account: a deterministic fold over its journal. Positions, cash, orders and permission, exact.

Per order the fold is a join: fills are a set by id, the venue's word on an order only gains. Reports may
come twice, late or in any order and give the same account; what the venue cannot have meant raises
IllegalReport.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.contracts.execution import (
    AccountState,
    ExecutionReport,
    Fill,
    Order,
    OrderReason,
    OrderState,
    RiskState,
    Side,
    account_state,
)
from huracan.contracts.journal import EpochStarted, JournalEntry, RiskStateChanged
from huracan.contracts.market import InstrumentDefinition, InstrumentId, instrument_key
from huracan.errors import Fatal
from huracan.ids import derived_id
from huracan_executor.money import exact, plain, price_of, value
from huracan_executor.planner import Exposure
from huracan_executor.risk import OrderRate, Standing

PENDING = OrderState.ORDER_STATE_PENDING
ACCEPTED = OrderState.ORDER_STATE_ACCEPTED
PARTIALLY_FILLED = OrderState.ORDER_STATE_PARTIALLY_FILLED
FILLED = OrderState.ORDER_STATE_FILLED
CANCELED = OrderState.ORDER_STATE_CANCELED
REJECTED = OrderState.ORDER_STATE_REJECTED
EXPIRED = OrderState.ORDER_STATE_EXPIRED
DENIED = OrderState.ORDER_STATE_DENIED

OPEN = frozenset({PENDING, ACCEPTED, PARTIALLY_FILLED})
"""The end of these orders is not known."""
_SAID = frozenset({ACCEPTED, PARTIALLY_FILLED, FILLED, CANCELED, REJECTED})
TRANSITIONS: Mapping[OrderState, frozenset[OrderState]] = {
    DENIED: frozenset(),
    PENDING: frozenset({ACCEPTED, PARTIALLY_FILLED, FILLED, CANCELED, REJECTED, EXPIRED}),
    ACCEPTED: frozenset({PARTIALLY_FILLED, FILLED, CANCELED, REJECTED, EXPIRED}),
    PARTIALLY_FILLED: frozenset({PARTIALLY_FILLED, FILLED, CANCELED}),
    FILLED: frozenset(),
    CANCELED: frozenset({CANCELED, FILLED}),
    REJECTED: frozenset(),
    EXPIRED: frozenset({ACCEPTED, PARTIALLY_FILLED, FILLED, CANCELED, REJECTED}),
}
"""What may follow what. CANCELED may learn of fills it did not know; EXPIRED is our own guess and yields to
the venue's word, because a fill that is not booked is worse than a guess taken back."""


class IllegalTransition(Fatal):
    """A journal holds an order entry that cannot follow what is before it."""


class IllegalReport(Fatal):
    """A venue says of an order what cannot be: more than was ordered, another order's fill, two different
    ends."""


def definition_key(instrument: InstrumentId) -> str:
    """Return the name of one version of an instrument's definition."""
    return f"{instrument_key(instrument)}.{instrument.definition_version}"


@dataclass(frozen=True, slots=True)
class Effect:
    """A message that an entry gives rise to, with the id under which it is published."""

    kind: str
    """order, fill or quality."""
    instrument: InstrumentId
    message: Message
    message_id: bytes


class AccountFold:
    """Fold one account's journal. The same entries give the same state, bytes included.

    `definitions` is looked up by instrument key as fills come; a missing one raises Fatal. `rate` is the
    full bucket. Keeps every order and fill of the account in memory, about 1 KB for each.
    """

    def __init__(self, account: str, definitions: Mapping[str, InstrumentDefinition], rate: OrderRate) -> None:
        self.account = account
        self.epoch = 0
        """Of the newest EpochStarted; entries of older ones that come after it are fenced off."""
        self.fenced = 0
        self.as_of_ns = 0
        """Time of the last entry that changed it, made to rise by at least a nanosecond each time."""
        self.marked_ns = 0
        """Time of the last entry that carried an equity at mid prices."""
        self.cash = Decimal(0)
        self.fees = Decimal(0)
        self.equity = Decimal(0)
        self.standing = Standing(RiskState.RISK_STATE_ACTIVE, Decimal(0))
        self.rate = rate
        self.shard_epochs: dict[int, int] = {}
        """Highest decision epoch by shard."""
        self._definitions = definitions
        self._orders: dict[bytes, Order] = {}
        self._open: dict[bytes, None] = {}
        self._fills: dict[bytes, Fill] = {}
        self._positions: dict[tuple[str, str], tuple[InstrumentId, int]] = {}
        self._marks: dict[str, Decimal] = {}
        self._newest: dict[str, int] = {}
        self._entries = 0

    # What it knows.

    def order(self, order_id: bytes) -> Order | None:
        """Return the newest revision of an order."""
        return self._orders.get(order_id)

    def orders(self) -> list[Order]:
        """Return all orders in the order of their first entry."""
        return list(self._orders.values())

    def open_orders(self, instrument: str | None = None) -> list[Order]:
        """Return the orders, of all instruments or of one key, whose end is not known, oldest first."""
        found = [self._orders[order_id] for order_id in self._open]
        return [order for order in found if instrument in (None, instrument_key(order.instrument))]

    def fills(self) -> list[Fill]:
        """Return all fills in the order in which they were learned."""
        return list(self._fills.values())

    def newest_valid_until(self, instrument: str) -> int:
        """Return the latest `valid_until_ns` of an instrument's orders: which decision was acted on last."""
        return self._newest.get(instrument, 0)

    def exposure(self, instrument: str) -> Exposure:
        """Return what is held and what may still come of an instrument key."""
        buys = sells = 0
        for order in self.open_orders(instrument):
            left = order.quantity - order.filled_quantity
            if order.side == Side.SIDE_BUY:
                buys += left
            else:
                sells += left
        venue, _, symbol = instrument.partition(".")
        held = self._positions.get((venue, symbol))
        return Exposure(held[1] if held else 0, buys, sells)

    def mark_of(self, instrument: str, mids: Mapping[str, Decimal]) -> Decimal:
        """Return an instrument's mid, or the price of our last fill where there is none, or 0."""
        return mids.get(instrument, self._marks.get(instrument, Decimal(0)))

    def equity_at(self, mids: Mapping[str, Decimal]) -> Decimal:
        """Return cash and positions, each at its mid or else at the price of our last fill in it."""
        with exact():
            return self.cash + sum(
                value(self._definition(instrument), quantity, self.mark_of(instrument_key(instrument), mids))
                for instrument, quantity in self._positions.values()
            )

    def gross_without(self, instrument: str, mids: Mapping[str, Decimal]) -> Decimal:
        """Return the worst-case value, without sign, of all instruments but one."""
        worth = {instrument_key(held): held for held, _ in self._positions.values()}
        worth.update({instrument_key(order.instrument): order.instrument for order in self.open_orders()})
        with exact():
            return sum(
                (
                    value(self._definition(worth[key]), self.exposure(key).worst, self.mark_of(key, mids))
                    for key in sorted(worth.keys() - {instrument})
                ),
                Decimal(0),
            )

    def state(self) -> AccountState:
        """Return the account after its last change; `equity` is as of the last fill or change of
        permission."""
        return account_state(
            account=self.account,
            epoch=self.epoch,
            as_of_ns=self.as_of_ns,
            cash=plain(self.cash),
            fees=plain(self.fees),
            equity=plain(self.equity),
            peak_equity=plain(self.standing.peak_equity),
            risk_state=self.standing.state,
            positions=self._positions,
        )

    # What changes it.

    def apply(self, entry: JournalEntry) -> list[Effect]:
        """Fold an entry in and return what it gives rise to, in the order of publication.

        Raises IllegalTransition, IllegalReport or Fatal for an entry that cannot be: the account is as
        before.
        """
        kind = entry.WhichOneof("entry")
        self._entries += 1
        if entry.key != subjects.account_key(self.account):
            self._note_shard(entry)
            return []
        if entry.epoch < self.epoch:
            self.fenced += 1
            return []
        if kind == "epoch_started":
            self._start(entry, entry.epoch_started)
            return []
        if entry.epoch > self.epoch:
            raise Fatal(f"{entry.key}: epoch {entry.epoch} writes before it started")
        if kind == "order":
            return self._order_entry(entry, entry.order)
        if kind == "execution_report":
            return self._report_entry(entry, entry.execution_report)
        if kind == "risk_state_changed":
            return self._risk_entry(entry, entry.risk_state_changed)
        if kind != "published":
            raise Fatal(f"{entry.key}: an account's journal does not hold {kind}")
        return []

    def merged(self, report: ExecutionReport) -> tuple[Order, list[Fill]] | None:
        """Return the order's next revision and its new fills, or None when the report says nothing new.

        Raises IllegalReport for what cannot be.
        """
        order = self._orders.get(report.order.order_id)
        if order is None:
            raise IllegalReport(f"report of {report.order.client_order_id}: no such order")
        _same_order(order, report.order)
        new = self._new_fills(order, report)
        filled = order.filled_quantity + sum(fill.quantity for fill in new)
        state = _joined(order, report.order.state, filled)
        if state == order.state and not new:
            return None
        if state not in TRANSITIONS[order.state]:
            raise IllegalReport(f"{order.client_order_id}: {_name(order.state)} cannot become {_name(state)}")
        following = Order()
        following.CopyFrom(order)
        following.state = state
        following.filled_quantity = filled
        following.reason = report.order.reason if state == report.order.state else OrderReason.ORDER_REASON_UNSPECIFIED
        following.updated_ns = report.received_ns
        following.revision += 1
        return following, new

    def _new_fills(self, order: Order, report: ExecutionReport) -> list[Fill]:
        new: dict[bytes, Fill] = {}
        for fill in report.fills:
            known = self._fills.get(fill.fill_id, new.get(fill.fill_id))
            if known is None:
                _fits(order, fill)
                new[fill.fill_id] = fill
            elif known != fill:
                raise IllegalReport(f"{order.client_order_id}: fill {fill.fill_id.hex()} came with two contents")
        return list(new.values())

    def _note_shard(self, entry: JournalEntry) -> None:
        shard = entry.key.removeprefix("shard.")
        if shard == entry.key or entry.WhichOneof("entry") != "epoch_started":
            raise Fatal(f"account {self.account}: its journal does not hold {entry.key}")
        self.shard_epochs[int(shard)] = max(entry.epoch, self.shard_epochs.get(int(shard), 0))

    def _start(self, entry: JournalEntry, started: EpochStarted) -> None:
        if entry.epoch == self.epoch:
            raise Fatal(f"account {self.account}: two writers started epoch {entry.epoch}")
        if self.epoch == 0:
            self.cash = self.equity = Decimal(json.loads(started.config_json)["equity"])
            self.standing = Standing(self.standing.state, self.cash)
        self.epoch = entry.epoch
        self._touch(entry)

    def _order_entry(self, entry: JournalEntry, order: Order) -> list[Effect]:
        known = self._orders.get(order.order_id)
        if known is None:
            legal = order.state in (PENDING, DENIED) and order.revision == 1 and not order.filled_quantity
        else:
            legal = order.state == EXPIRED in TRANSITIONS[known.state] and order.revision == known.revision + 1
        if not legal:
            was = "nothing" if known is None else f"{_name(known.state)} revision {known.revision}"
            what = f"{_name(order.state)} revision {order.revision}"
            raise IllegalTransition(f"{order.client_order_id}: {what} cannot follow {was}")
        if order.state == PENDING:
            self.rate = self.rate.taken(order.created_ns)
        key = instrument_key(order.instrument)
        self._newest[key] = max(order.valid_until_ns, self._newest.get(key, 0))
        return [self._keep(entry, order)]

    def _report_entry(self, entry: JournalEntry, report: ExecutionReport) -> list[Effect]:
        merged = self.merged(report)
        if merged is None:
            return []
        order, new = merged
        definitions = [self._definition(fill.instrument) for fill in new]
        effects = [self._keep(entry, order)]
        for definition, fill in zip(definitions, new, strict=True):
            self._book(definition, fill)
            effects.append(Effect("fill", fill.instrument, fill, fill.fill_id))
        if new:
            self.equity = self.equity_at({})
            effects.append(self._quality(order.instrument))
        return effects

    def _risk_entry(self, entry: JournalEntry, changed: RiskStateChanged) -> list[Effect]:
        self.standing = Standing(changed.state, Decimal(changed.peak_equity))
        self.equity = Decimal(changed.equity)
        self.marked_ns = entry.at_ns
        self._touch(entry)
        return [self._quality(instrument) for _, (instrument, _) in sorted(self._positions.items())]

    def _touch(self, entry: JournalEntry) -> None:
        self.as_of_ns = max(entry.at_ns, self.as_of_ns + 1)

    def _keep(self, entry: JournalEntry, order: Order) -> Effect:
        kept = Order()
        kept.CopyFrom(order)
        self._orders[kept.order_id] = kept
        if kept.state in OPEN:
            self._open[kept.order_id] = None
        else:
            self._open.pop(kept.order_id, None)
        self._touch(entry)
        return Effect("order", kept.instrument, kept, derived_id("revision", kept.order_id, kept.revision))

    def _book(self, definition: InstrumentDefinition, fill: Fill) -> None:
        kept = Fill()
        kept.CopyFrom(fill)
        self._fills[kept.fill_id] = kept
        sign = 1 if kept.side == Side.SIDE_BUY else -1
        name = (kept.instrument.venue, kept.instrument.symbol)
        held = self._positions.get(name, (kept.instrument, 0))[1]
        self._positions[name] = (kept.instrument, held + sign * kept.quantity)
        price = price_of(definition, kept.price)
        with exact():
            fee = Decimal(kept.fee)
            self.cash -= value(definition, sign * kept.quantity, price) + fee
            self.fees += fee
        self._marks[instrument_key(kept.instrument)] = price

    def _quality(self, instrument: InstrumentId) -> Effect:
        message_id = derived_id("account", self.account, self._entries, instrument_key(instrument))
        return Effect("quality", instrument, self.state(), message_id)

    def _definition(self, instrument: InstrumentId) -> InstrumentDefinition:
        definition = self._definitions.get(definition_key(instrument))
        if definition is None:
            name = definition_key(instrument)
            raise Fatal(f"account {self.account}: the tick log does not tell the definition {name}")
        return definition


def _name(state: OrderState) -> str:
    return OrderState.Name(state).removeprefix("ORDER_STATE_")


def _same_order(ours: Order, theirs: Order) -> None:
    for part in ("client_order_id", "account", "instrument", "side", "quantity", "limit_price"):
        if getattr(ours, part) != getattr(theirs, part):
            was = f"{part} was {getattr(theirs, part)}, ours is {getattr(ours, part)}"
            raise IllegalReport(f"{ours.client_order_id}: {was}")
    if ours.state == DENIED or theirs.state not in _SAID:
        raise IllegalReport(f"{ours.client_order_id}: ours is {_name(ours.state)}, reported {_name(theirs.state)}")


def _fits(order: Order, fill: Fill) -> None:
    same = fill.order_id == order.order_id and fill.side == order.side and fill.instrument == order.instrument
    if not same or fill.quantity <= 0 or fill.price <= 0:
        raise IllegalReport(f"{order.client_order_id}: fill {fill.fill_id.hex()} is not of this order")


def _joined(order: Order, said: OrderState, filled: int) -> OrderState:
    """Return the state that holds both what was known of an order and what the venue says now."""
    if filled > order.quantity or (said == FILLED and filled < order.quantity):
        quantities = f"filled {filled} of {order.quantity}"
        raise IllegalReport(f"{order.client_order_id}: {quantities}, reported as {_name(said)}")
    if filled == order.quantity:
        return FILLED
    ends = {state for state in (order.state, said) if state in (CANCELED, REJECTED)}
    if len(ends) > 1 or (REJECTED in ends and filled):
        raise IllegalReport(f"{order.client_order_id}: {_name(order.state)}, then {_name(said)}, filled {filled}")
    if ends:
        return ends.pop()
    return PARTIALLY_FILLED if filled else ACCEPTED
