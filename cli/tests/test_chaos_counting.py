"""The ledger's counting: each fault that can be at rest is planted, and seen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from decimal import Decimal

import pytest

from huracan.clock import step_close
from huracan.contracts.decision import Decision
from huracan.contracts.execution import Fill, Order, Side
from huracan.contracts.journal import DeadlineFired, EpochStarted, Payload, WindowOpened, journal_entry
from huracan.contracts.market import (
    FLAG_FIRST,
    TickBatch,
    TickColumns,
    TickKind,
    instrument_key,
    linear_perpetual,
    tick_batch,
)
from huracan.ids import fill_id
from huracan.ports import Record
from huracan.store.ticks import TickRow
from huracan_cli.chaos.ledger import (
    Ledger,
    count_decisions,
    count_fills,
    count_ticks,
    deaf,
    judge_nothing,
    trades_of,
)
from huracan_orchestrator.config import GateConfig
from huracan_orchestrator.fold import Fold

BTC = linear_perpetual("BTC", venue="binance_usdm", price_increment=Decimal("0.1"), size_increment=Decimal("0.001"))
KEY = instrument_key(BTC.id)
STEP = 17_000_000_000


def _faults(ledger: Ledger) -> tuple[int, int, int]:
    return ledger.lost, ledger.duplicated, ledger.out_of_order


# Trades.


def _batch(number: int, *trades: int, epoch: int = 1) -> TickBatch:
    """Return a batch of trades, of which each frame brought one."""
    one, trade = [1] * len(trades), [int(TickKind.TICK_KIND_TRADE)] * len(trades)
    columns = TickColumns(list(trades), one, one, list(trades), trade, [0] * len(trades), one, one, one)
    return tick_batch(instrument=BTC, epoch=epoch, batch=number, columns=columns, watermark_ns=1)


def _rows(batches: Sequence[TickBatch]) -> list[TickRow]:
    """Return the rows at rest of batches that are in the log in this order, from offset 0."""
    return [
        TickRow(
            offset, row, BTC.id.venue, BTC.id.symbol, batch.epoch, batch.batch, number, TickKind.TICK_KIND_TRADE, number
        )
        for offset, batch in enumerate(batches)
        for row, number in enumerate(memoryview(batch.venue_seq).cast("q"))
    ]


def _ticks(told: Sequence[int], batches: Sequence[TickBatch]) -> Ledger:
    ledger = Ledger(1)
    count_ticks(ledger, KEY, told, _rows(batches), [Record(*each) for each in enumerate(batches)])
    return ledger


def test_batches_that_are_at_rest_in_the_wrong_order_are_out_of_order() -> None:
    assert _ticks([1, 2, 3], [_batch(1, 1), _batch(2, 2, 3)]).broken == []
    ledger = _ticks([1, 2, 3], [_batch(2, 2, 3), _batch(1, 1)])
    assert _faults(ledger) == (0, 0, 1)
    assert ledger.broken == [f"trades of {KEY}: 1 out of order: 1"]


def test_rows_are_in_the_order_of_the_log_in_whatever_order_they_are_given() -> None:
    rows = _rows([_batch(1, 1, 2), _batch(2, 3)])
    assert trades_of(reversed(rows)) == {KEY: [1, 2, 3]}


def test_what_a_replaced_writer_still_wrote_is_neither_doubled_nor_out_of_order() -> None:
    batches = [_batch(1, 1), _batch(1, 2, epoch=2), _batch(2, 1, 2), _batch(2, 3, epoch=2)]
    assert _ticks([1, 2, 3], batches).broken == []


# Decisions.

STEPS = (STEP, STEP + 1, STEP + 2)
HEARD = {KEY: dict.fromkeys(STEPS).keys()}


def _window(step: int) -> list[Payload]:
    opened = WindowOpened(
        instrument=BTC, gateway_epoch=1, step=step, first_step=STEP, close_ns=step_close(step), best_bid=9, best_ask=10
    )
    return [opened, DeadlineFired(instrument=BTC.id, gateway_epoch=1, step=step)]


CONFIG = GateConfig()
STARTED = EpochStarted(config_json=CONFIG.canonical_json(), config_digest=CONFIG.digest())
JOURNAL = [
    journal_entry("shard.06", payload, epoch=1, at_ns=0)
    for payload in (STARTED, *(payload for step in STEPS for payload in _window(step)))
]
MIND = Fold()
DECISIONS = [decision for entry in JOURNAL for decision in MIND.apply(entry)]


def _decided(said: Sequence[Decision], kept: Sequence[Decision]) -> Ledger:
    ledger = Ledger(1)
    count_decisions(ledger, HEARD, journal=JOURNAL, said=said, kept=kept)
    assert (ledger.windows, ledger.decisions) == (3, 3)
    return ledger


Planted = Callable[[list[Decision]], list[Decision]]
LOST, DOUBLED, SWAPPED = (
    lambda all_of_them: all_of_them[:1] + all_of_them[2:],
    lambda all_of_them: [*all_of_them, all_of_them[1]],
    lambda all_of_them: [all_of_them[1], all_of_them[0], *all_of_them[2:]],
)


@pytest.mark.parametrize(
    ("planted", "said", "at_rest"),
    [(LOST, (1, 0, 0), (1, 0, 0)), (DOUBLED, (0, 1, 0), (0, 1, 0)), (SWAPPED, (0, 0, 1), (0, 0, 0))],
)
def test_a_planted_fault_of_decisions_is_counted(
    planted: Planted, said: tuple[int, int, int], at_rest: tuple[int, int, int]
) -> None:
    assert _decided(DECISIONS, DECISIONS).broken == []
    assert _faults(_decided(planted(DECISIONS), DECISIONS)) == said
    assert _faults(_decided(DECISIONS, planted(DECISIONS))) == at_rest


def test_a_window_without_a_decision_is_lost() -> None:
    ledger = Ledger(1)
    count_decisions(ledger, HEARD, journal=JOURNAL[:-2], said=DECISIONS[:-1], kept=DECISIONS[:-1])
    assert ledger.broken == [f"windows of {KEY}, decided: 1 lost: {STEPS[-1]}"]


# Fills.

ORDER = Order(
    order_id=b"order",
    decision_id=b"decision",
    instrument=BTC.id,
    side=Side.SIDE_BUY,
    quantity=5,
    limit_price=101,
    updated_ns=15,
    valid_until_ns=99,
)
ASKS = tick_batch(
    instrument=BTC,
    epoch=1,
    batch=1,
    columns=TickColumns(
        [1, 1],
        [10, 10],
        [10, 10],
        [0, 0],
        [TickKind.TICK_KIND_SNAPSHOT] * 2,
        [FLAG_FIRST, 0],
        [-1, -1],
        [100, 101],
        [2, 9],
    ),
    watermark_ns=20,
)
FILLS = [
    Fill(fill_id=fill_id(b"order", number), instrument=BTC.id, price=price, quantity=quantity)
    for number, (price, quantity) in enumerate([(100, 2), (101, 3)], start=1)
]


def _filled(said: Sequence[Fill], kept: Sequence[Fill], orders: Sequence[Order] = (ORDER,)) -> Ledger:
    journal = [journal_entry("venue.paper", order, epoch=1, at_ns=0) for order in orders]
    ledger = Ledger(1)
    count_fills(ledger, {KEY: [ASKS]}, journal=journal, said=said, kept=kept)
    return ledger


def test_a_planted_fault_of_fills_is_counted() -> None:
    whole = _filled(FILLS, FILLS)
    assert (whole.orders, whole.fills, whole.broken) == (1, 2, [])
    for wrong, counted in ((FILLS[:1], (1, 0, 0)), ([*FILLS, FILLS[0]], (0, 1, 0))):
        assert _faults(_filled(wrong, FILLS)) == counted
        assert _faults(_filled(FILLS, wrong)) == counted
    assert _faults(_filled(FILLS[::-1], FILLS[::-1])) == (0, 0, 1)  # said so; at rest they have no order


def test_a_decision_that_gave_two_orders_is_counted() -> None:
    twice = Order()
    twice.CopyFrom(ORDER)
    twice.order_id, twice.limit_price = b"again", 1
    assert _faults(_filled(FILLS, FILLS, (ORDER, twice))) == (0, 1, 0)


# What there was none of, and who did not listen.


def test_a_ledger_of_nothing_is_broken_and_one_without_fills_says_so() -> None:
    nothing = Ledger(1)
    judge_nothing(nothing, desk=True)
    assert [line.partition(":")[0] for line in nothing.broken] == ["ticks", "windows", "decisions"]
    assert [line.partition(":")[0] for line in nothing.unshown] == ["orders", "fills"]
    undecided = Ledger(1, ticks=1)
    judge_nothing(undecided, desk=False)
    assert (undecided.broken, undecided.unshown) == ([], [])


def test_a_witness_that_stopped_hearing_is_told() -> None:
    async def fails() -> None:
        raise ValueError("a window that cannot be read")

    async def ends() -> None:
        return

    async def main() -> list[list[str]]:
        hearing = asyncio.create_task(asyncio.Event().wait())
        tasks = [asyncio.create_task(fails()), asyncio.create_task(ends()), asyncio.create_task(asyncio.sleep(60))]
        tasks[-1].cancel()
        await asyncio.wait(tasks)
        told = [*map(deaf, tasks), deaf(hearing)]
        hearing.cancel()
        return told

    failed, ended, cancelled, whole = asyncio.run(main())
    assert "ValueError('a window that cannot be read')" in failed[0]
    assert "its inbox ended" in ended[0]
    assert "it was cancelled" in cancelled[0]
    assert whole == []
