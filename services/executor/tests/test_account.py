"""The account: whatever the venue's reports do on their way, the same exact account comes out."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huracan.bus import subjects
from huracan.contracts.codec import encode
from huracan.contracts.execution import (
    ExecutionReport,
    Fill,
    Order,
    OrderReason,
    OrderState,
    RiskState,
    Side,
    execution_report,
)
from huracan.contracts.execution import fill as nth_fill
from huracan.contracts.journal import (
    DeadlineFired,
    EpochStarted,
    JournalEntry,
    Published,
    RiskStateChanged,
    journal_entry,
)
from huracan.contracts.market import InstrumentDefinition
from huracan.errors import Fatal
from huracan_executor.account import (
    DENIED,
    EXPIRED,
    OPEN,
    PENDING,
    TRANSITIONS,
    AccountFold,
    IllegalReport,
    IllegalTransition,
    definition_key,
)
from huracan_executor.config import ExecutorConfig
from huracan_executor.risk import OrderRate

from .market import BTC, ETH
from .orders import first_revision

KEY = subjects.account_key("paper")
CONFIG = ExecutorConfig()
BUY, SELL = Side.SIDE_BUY, Side.SIDE_SELL
ACCEPTED = OrderState.ORDER_STATE_ACCEPTED
PARTIALLY_FILLED = OrderState.ORDER_STATE_PARTIALLY_FILLED
FILLED = OrderState.ORDER_STATE_FILLED
CANCELED = OrderState.ORDER_STATE_CANCELED
REJECTED = OrderState.ORDER_STATE_REJECTED


DEFINITIONS = {definition_key(each.id): each for each in (BTC, ETH)}


def _order(
    number: int, side: Side = BUY, quantity: int = 10, state: OrderState = PENDING, of: InstrumentDefinition = BTC
) -> Order:
    return first_revision(number, side, quantity, 1000, valid_until_ns=500 + number, of=of, state=state, at_ns=number)


def _fill(order: Order, number: int, quantity: int, price: int = 1000, fee: str = "0.01") -> Fill:
    return nth_fill(
        order, number=number, quantity=quantity, price=price, fee=Decimal(fee), matched_ns=20, received_ns=30
    )


def _report(
    order: Order,
    state: OrderState,
    fills: list[Fill] | None = None,
    reason: OrderReason = OrderReason.ORDER_REASON_UNSPECIFIED,
) -> ExecutionReport:
    said = Order()
    said.CopyFrom(order)
    said.state, said.reason = state, reason
    said.filled_quantity = sum(fill.quantity for fill in fills or [])
    return execution_report(said, fills or [], received_ns=30)


def _entry(payload: Order | ExecutionReport | RiskStateChanged, epoch: int = 1) -> JournalEntry:
    return journal_entry(KEY, payload, epoch=epoch, at_ns=40)


def _started(epoch: int = 1, equity: int = 100_000) -> JournalEntry:
    config = ExecutorConfig(equity=Decimal(equity))
    return journal_entry(KEY, EpochStarted(config_json=config.canonical_json()), epoch=epoch, at_ns=1)


def _fold(*entries: JournalEntry) -> AccountFold:
    fold = AccountFold("paper", DEFINITIONS, OrderRate.of(CONFIG))
    for entry in entries:
        fold.apply(entry)
    return fold


def _expired(order: Order, revision: int = 2) -> Order:
    expired = Order()
    expired.CopyFrom(order)
    expired.state, expired.reason = EXPIRED, OrderReason.ORDER_REASON_NEVER_ARRIVED
    expired.revision = revision
    return expired


def _known(fold: AccountFold, order: Order) -> Order:
    known = fold.order(order.order_id)
    assert known is not None
    return known


# The lifecycle, as a property.


@dataclass(frozen=True)
class _Life:
    """One order and all that its venue says of it, in the venue's order."""

    order: Order
    reports: tuple[ExecutionReport, ...]


@st.composite
def _lives(draw: st.DrawFn) -> _Life:
    number = draw(st.integers(1, 10_000))
    quantity = draw(st.integers(1, 30))
    of = draw(st.sampled_from([BTC, ETH]))
    order = _order(number, draw(st.sampled_from([BUY, SELL])), quantity, of=of)
    fills: list[Fill] = []
    reports = [_report(order, ACCEPTED)] if draw(st.booleans()) else []
    left = quantity
    while left and draw(st.booleans()):
        took = draw(st.integers(1, left))
        left -= took
        price, fee = draw(st.integers(1, 10**7)), draw(st.decimals(0, 9, places=7))
        fills.append(_fill(order, len(fills) + 1, took, price, str(fee)))
        reports.append(_report(order, PARTIALLY_FILLED if left else FILLED, list(fills)))
    if left:
        ends = [CANCELED] if fills else [CANCELED, REJECTED]
        end = draw(st.sampled_from(ends))
        reports.append(_report(order, end, fills, OrderReason.ORDER_REASON_LATE))
    return _Life(order, tuple(reports))


@st.composite
def _histories(draw: st.DrawFn) -> tuple[list[_Life], list[ExecutionReport]]:
    """Lives of some orders, and their reports on arrival: shuffled, doubled, some lost, never the last ones."""
    lives = draw(st.lists(_lives(), min_size=1, max_size=4, unique_by=lambda life: life.order.order_id))
    arriving = [life.reports[-1] for life in lives]
    for life in lives:
        arriving += draw(st.lists(st.sampled_from(life.reports), max_size=6))
    return lives, draw(st.permutations(arriving))


def _facts(fold: AccountFold) -> object:
    """Return what does not depend on the order of arrival."""
    orders = [(o.order_id, o.state, o.filled_quantity, o.reason) for o in fold.orders()]
    exposures = [fold.exposure(key) for key in ("sim.btc-usdt-perp", "sim.eth-usdt-perp")]
    return orders, exposures, fold.cash, fold.fees, {fill.fill_id for fill in fold.fills()}


@settings(max_examples=200)
@given(history=_histories())
def test_reports_in_any_order_any_number_of_times_give_one_account(
    history: tuple[list[_Life], list[ExecutionReport]],
) -> None:
    lives, arriving = history
    fold = _fold(_started(), *(_entry(life.order) for life in lives))
    for report in arriving:
        before = _known(fold, report.order)
        fold.apply(_entry(report))
        after = _known(fold, report.order)
        assert before.filled_quantity <= after.filled_quantity <= after.quantity
        assert after.state == before.state or after.state in TRANSITIONS[before.state]
        assert after.revision - before.revision in (0, 1)
        for definition in (BTC, ETH):
            own = [fill for fill in fold.fills() if fill.instrument == definition.id]
            signed = sum(fill.quantity if fill.side == BUY else -fill.quantity for fill in own)
            assert fold.exposure(f"sim.{definition.id.symbol}").position == signed
    in_order = _fold(
        _started(),
        *(_entry(life.order) for life in lives),
        *(_entry(report) for life in lives for report in life.reports),
    )
    assert _facts(fold) == _facts(in_order)
    assert not fold.open_orders()
    money = sum(
        Decimal(fill.price * fill.quantity) * Decimal("0.0001") * (1 if fill.side == BUY else -1) + Decimal(fill.fee)
        for fill in fold.fills()
    )
    assert fold.cash == Decimal(100_000) - money


@settings(max_examples=50)
@given(history=_histories(), cut=st.integers(0, 30))
def test_folding_again_gives_the_same_bytes_and_the_same_effects(
    history: tuple[list[_Life], list[ExecutionReport]], cut: int
) -> None:
    lives, arriving = history
    journal = [_started(), *(_entry(life.order) for life in lives), *(_entry(report) for report in arriving)]
    journal.insert(min(cut, len(journal)) or 1, _started(2))
    journal = [entry if index < cut else _at_epoch(entry) for index, entry in enumerate(journal)]
    once, twice = _fold(), _fold()
    for entry in journal:
        effects = once.apply(entry)
        copied = JournalEntry()
        copied.ParseFromString(encode(entry))
        again = twice.apply(copied)
        assert [(e.kind, e.message_id, encode(e.message)) for e in effects] == [
            (e.kind, e.message_id, encode(e.message)) for e in again
        ]
        assert encode(once.state()) == encode(twice.state())


def _at_epoch(entry: JournalEntry) -> JournalEntry:
    moved = JournalEntry()
    moved.CopyFrom(entry)
    moved.epoch = max(entry.epoch, 2) if not entry.HasField("epoch_started") else entry.epoch
    return moved


def test_published_ids_are_unique() -> None:
    order = _order(1)
    fold = _fold(_started())
    effects = fold.apply(_entry(order))
    effects += fold.apply(_entry(_report(order, PARTIALLY_FILLED, [_fill(order, 1, 4)])))
    effects += fold.apply(_entry(_report(order, FILLED, [_fill(order, 1, 4), _fill(order, 2, 6)])))
    assert [effect.kind for effect in effects] == [
        "order", "order", "fill", "quality", "order", "fill", "quality",
    ]  # fmt: skip
    assert len({effect.message_id for effect in effects}) == len(effects)


# What cannot be.


@pytest.mark.parametrize("state", [state for state in OrderState.values() if state not in (PENDING, DENIED)])
def test_an_order_begins_as_pending_or_denied(state: OrderState) -> None:
    with pytest.raises(IllegalTransition, match="cannot follow nothing"):
        _fold(_started(), _entry(_order(1, state=state)))


def test_a_second_order_entry_for_the_same_order_is_illegal() -> None:
    with pytest.raises(IllegalTransition, match="PENDING revision 1 cannot follow PENDING revision 1"):
        _fold(_started(), _entry(_order(1)), _entry(_order(1)))


@pytest.mark.parametrize("end", [FILLED, CANCELED, REJECTED])
def test_what_has_ended_does_not_expire(end: OrderState) -> None:
    order = _order(1)
    fills = [_fill(order, 1, 10)] if end == FILLED else []
    fold = _fold(_started(), _entry(order), _entry(_report(order, end, fills)))
    with pytest.raises(IllegalTransition):
        fold.apply(_entry(_expired(order, revision=3)))


def test_an_expiry_must_be_the_next_revision() -> None:
    with pytest.raises(IllegalTransition, match="EXPIRED revision 5 cannot follow PENDING revision 1"):
        _fold(_started(), _entry(_order(1)), _entry(_expired(_order(1), revision=5)))


def _illegal_reports() -> list[tuple[str, ExecutionReport]]:
    order, other = _order(1), _order(2)
    larger, another_side = _order(1, quantity=11), _order(1, side=SELL)
    moved, empty = _fill(order, 1, 4), _fill(order, 1, 0)
    moved.side = SELL
    return [
        ("no such order", _report(other, ACCEPTED)),
        ("quantity was 11", _report(larger, ACCEPTED)),
        ("side was 2", _report(another_side, ACCEPTED)),
        ("filled 11 of 10", _report(order, FILLED, [_fill(order, 1, 11)])),
        ("filled 4 of 10, reported as FILLED", _report(order, FILLED, [_fill(order, 1, 4)])),
        ("filled 4", _report(order, REJECTED, [_fill(order, 1, 4)])),
        ("not of this order", _report(order, PARTIALLY_FILLED, [_fill(other, 1, 4)])),
        (f"fill {moved.fill_id.hex()} is not", _report(order, PARTIALLY_FILLED, [moved])),
        ("is not of this order", _report(order, PARTIALLY_FILLED, [empty])),
        ("two contents", _report(order, PARTIALLY_FILLED, [_fill(order, 1, 4), _fill(order, 1, 3)])),
        ("reported PENDING", _report(order, PENDING)),
        ("reported EXPIRED", _report(order, EXPIRED)),
    ]


@pytest.mark.parametrize(("words", "report"), _illegal_reports())
def test_an_impossible_report_is_refused_and_changes_nothing(words: str, report: ExecutionReport) -> None:
    fold = _fold(_started(), _entry(_order(1)))
    before = encode(fold.state()), _known(fold, _order(1))
    with pytest.raises(IllegalReport, match=words):
        fold.apply(_entry(report))
    assert (encode(fold.state()), _known(fold, _order(1))) == before


@pytest.mark.parametrize(("first", "second"), [(CANCELED, REJECTED), (REJECTED, CANCELED)])
def test_two_different_ends_are_refused(first: OrderState, second: OrderState) -> None:
    order = _order(1)
    fold = _fold(_started(), _entry(order), _entry(_report(order, first)))
    with pytest.raises(IllegalReport):
        fold.merged(_report(order, second))


def test_more_than_was_ordered_is_refused_over_several_reports() -> None:
    order = _order(1)
    fold = _fold(_started(), _entry(order), _entry(_report(order, PARTIALLY_FILLED, [_fill(order, 1, 6)])))
    with pytest.raises(IllegalReport, match="filled 11 of 10"):
        fold.merged(_report(order, PARTIALLY_FILLED, [_fill(order, 2, 5)]))


def test_a_fill_of_a_denied_order_is_refused() -> None:
    order = _order(1, state=DENIED)
    fold = _fold(_started(), _entry(order))
    with pytest.raises(IllegalReport, match="ours is DENIED"):
        fold.merged(_report(order, ACCEPTED))


def test_an_expired_order_that_was_filled_after_all_is_booked() -> None:
    order = _order(1)
    fold = _fold(_started(), _entry(order), _entry(_expired(order)))
    assert not fold.open_orders()
    fold.apply(_entry(_report(order, FILLED, [_fill(order, 1, 10)])))
    assert fold.exposure("sim.btc-usdt-perp").position == 10
    assert _known(fold, order).state == FILLED


def test_a_fill_without_a_definition_stops_before_anything_changes() -> None:
    order = _order(1)
    fold = AccountFold("paper", {}, OrderRate.of(CONFIG))
    for entry in (_started(), _entry(order)):
        fold.apply(entry)
    before = encode(fold.state())
    with pytest.raises(Fatal, match=r"sim\.btc-usdt-perp\.1"):
        fold.apply(_entry(_report(order, FILLED, [_fill(order, 1, 10)])))
    assert encode(fold.state()) == before
    assert _known(fold, order).state == PENDING


# Money, permission, epochs.


def test_cash_fees_and_equity_are_exact() -> None:
    buy, sell = _order(1), _order(2, SELL, 4)
    fold = _fold(
        _started(),
        _entry(buy),
        _entry(_report(buy, FILLED, [_fill(buy, 1, 10, price=500_001, fee="0.2500005")])),
        _entry(sell),
        _entry(_report(sell, FILLED, [_fill(sell, 1, 4, price=500_003, fee="0.1")])),
    )
    # 0.010 at 50,000.1 bought, 0.004 at 50,000.3 sold, 0.006 left at the price of the last fill
    assert fold.cash == Decimal("99699.9997000") - Decimal("0.2500005") - Decimal("0.1") + Decimal("0.0005")
    assert fold.state().fees == "0.3500005"
    assert Decimal(fold.state().equity) == fold.cash + Decimal("300.0018")
    assert fold.equity_at({"sim.btc-usdt-perp": Decimal(60_000)}) == fold.cash + 360


def test_the_first_epoch_sets_the_balance_and_later_ones_do_not() -> None:
    fold = _fold(_started(), _started(2, equity=5))
    assert (fold.cash, fold.epoch, fold.state().peak_equity) == (Decimal(100_000), 2, "100000")


def test_an_older_epoch_is_fenced_off() -> None:
    fold = _fold(_started(), _started(2), _entry(_order(1), epoch=1))
    assert fold.orders() == []
    assert fold.fenced == 1
    fold.apply(_started(1))
    assert (fold.epoch, fold.fenced) == (2, 2)


def test_two_writers_in_one_epoch_are_noticed() -> None:
    with pytest.raises(Fatal, match="two writers started epoch 1"):
        _fold(_started(), _started())


def test_nobody_writes_before_his_epoch_has_started() -> None:
    with pytest.raises(Fatal, match="before it started"):
        _fold(_started(), _entry(_order(1), epoch=2))


def test_permission_is_what_the_journal_last_said() -> None:
    order = _order(1)
    fold = _fold(_started(), _entry(order), _entry(_report(order, FILLED, [_fill(order, 1, 10)])))
    halted = RiskStateChanged(state=RiskState.RISK_STATE_HALTED, equity="95000", peak_equity="100000")
    (effect,) = fold.apply(_entry(halted))
    assert effect.kind == "quality"
    assert (fold.state().risk_state, fold.state().equity) == (RiskState.RISK_STATE_HALTED, "95000")


def test_each_published_state_has_its_own_time() -> None:
    order = _order(1)
    fold = _fold(_started(), _entry(order))
    times = []
    for number in (1, 2):
        fills = [_fill(order, each, 3) for each in range(1, number + 1)]
        fold.apply(_entry(_report(order, PARTIALLY_FILLED, fills)))
        times.append(fold.state().as_of_ns)
    assert times[0] < times[1]


def test_shard_epochs_only_rise() -> None:
    fold = _fold(_started())
    for epoch in (3, 2):
        fold.apply(journal_entry(subjects.journal_key(7), EpochStarted(), epoch=epoch, at_ns=1))
    assert fold.shard_epochs == {7: 3}


@pytest.mark.parametrize(
    "entry",
    [
        journal_entry(KEY, DeadlineFired(), epoch=1, at_ns=1),
        journal_entry("account.other", Published(), epoch=1, at_ns=1),
        journal_entry(subjects.journal_key(7), Published(), epoch=1, at_ns=1),
    ],
    ids=["kind", "account", "shard"],
)
def test_a_foreign_entry_is_refused(entry: JournalEntry) -> None:
    with pytest.raises(Fatal, match="does not hold"):
        _fold(_started(), entry)


def test_open_orders_count_at_what_is_left_of_them() -> None:
    buy, sell, eth = _order(1), _order(2, SELL, 7), _order(3, BUY, 5, of=ETH)
    fold = _fold(_started(), *(_entry(order) for order in (buy, sell, eth)))
    fold.apply(_entry(_report(buy, PARTIALLY_FILLED, [_fill(buy, 1, 4)])))
    exposure = fold.exposure("sim.btc-usdt-perp")
    assert (exposure.position, exposure.open_buys, exposure.open_sells) == (4, 6, 7)
    assert (exposure.expected, exposure.worst) == (3, 10)
    assert [order.order_id for order in fold.open_orders("sim.eth-usdt-perp")] == [eth.order_id]
    assert {order.state for order in fold.open_orders()} <= OPEN
    # 10 lots of 0.001 at 50,000 and 5 at 2,000
    mids = {"sim.btc-usdt-perp": Decimal(50_000), "sim.eth-usdt-perp": Decimal(2_000)}
    assert fold.gross_without("sim.eth-usdt-perp", mids) == 500
    assert fold.gross_without("sim.btc-usdt-perp", mids) == 10
    assert fold.newest_valid_until("sim.btc-usdt-perp") == 502


def test_only_orders_that_left_take_from_the_rate() -> None:
    full = OrderRate.of(CONFIG)
    assert _fold(_started(), _entry(_order(1, state=DENIED))).rate == full
    assert _fold(_started(), _entry(_order(1))).rate == full.taken(1)
