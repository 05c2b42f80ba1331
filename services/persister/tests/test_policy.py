"""Which decisions are kept: those that change anything or lead to an order, each with its opinions."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.contracts.codec import encode, schema_of
from huracan.contracts.decision import Decision, Direction, Vote
from huracan.contracts.execution import Fill, Order
from huracan.contracts.market import InstrumentId
from huracan.contracts.opinion import AbstainReason, Opinion
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.world import World
from huracan_persister.config import PersisterConfig
from huracan_persister.policy import HELD, ORDER_WITHIN_NS, REMEMBERED, Chosen, KeepAll, KeepChanged, Received
from huracan_persister.service import NAME, Persister

BTC = InstrumentId(venue="sim", symbol="btc")
ETH = InstrumentId(venue="sim", symbol="eth")
VALID_NS = 1_000


@dataclass(frozen=True)
class Given:
    """A delivery of a message."""

    message: Message
    subject: str = "a"
    epoch: int = 0
    attempt: int = 1

    @property
    def raw(self) -> tuple[str, bytes]:
        return schema_of(self.message), encode(self.message)

    def decode(self) -> Message:
        return self.message

    def ack(self) -> None:
        pass


def _decision(number: int, size: int = 0, *, instrument: InstrumentId = BTC, strategy: str = "core") -> Decision:
    direction = Direction.DIRECTION_BUY if size else Direction.DIRECTION_HOLD
    vote = Vote(expert="flow", opinion_id=b"o%d" % number)
    return Decision(
        decision_id=b"d%d" % number,
        strategy=strategy,
        instrument=instrument,
        size=size,
        direction=direction,
        valid_until_ns=VALID_NS,
        votes=[vote, Vote(expert="regime")],
    )


def _opinion(number: int) -> Opinion:
    return Opinion(opinion_id=b"o%d" % number)


def _received(*messages: Message) -> list[Received]:
    return [(Given(message), message) for message in messages]


def _kept(chosen: Chosen) -> list[Message]:
    return [message for _, message in chosen.keep]


def test_all_is_kept_when_all_is_asked_for() -> None:
    received = _received(_decision(1), _decision(2), _opinion(1), Fill())
    policy = KeepAll()
    assert policy.choose(received, 10**18) == Chosen(keep=received)
    assert policy.rest() == []


def test_a_decision_is_kept_when_it_says_something_else_than_the_one_before() -> None:
    policy = KeepChanged(Counter())
    abstained = _decision(6)
    abstained.abstained, abstained.reason = True, AbstainReason.ABSTAIN_REASON_STALE
    said = [_decision(1), _decision(2), _decision(3, 5), _decision(4, 5), _decision(5), abstained]
    assert _kept(policy.choose(_received(*said), 0)) == [said[0], said[2], said[4], said[5]]


def test_what_is_changed_is_told_for_each_strategy_and_instrument() -> None:
    policy = KeepChanged(Counter())
    said = [_decision(1, 5), _decision(2, 6, instrument=ETH), _decision(3, 7, strategy="other"), _decision(4, 5)]
    assert _kept(policy.choose(_received(*said), 0)) == said[:3]


def test_a_decision_that_an_order_follows_from_is_kept_whichever_comes_first() -> None:
    policy = KeepChanged(Counter())
    policy.choose(_received(_decision(1)), 0)
    assert _kept(policy.choose(_received(_decision(2)), 0)) == []
    order = Order(order_id=b"1", decision_id=b"d2")
    assert _kept(policy.choose(_received(order), 0)) == [order, _decision(2)]
    early = Order(order_id=b"2", decision_id=b"d3")
    assert _kept(policy.choose(_received(early, _decision(3)), 0)) == [early, _decision(3)]


def test_opinions_are_kept_with_their_decision_and_not_without() -> None:
    policy = KeepChanged(Counter())
    assert _kept(policy.choose(_received(_opinion(1), _opinion(2)), 0)) == []
    assert _kept(policy.choose(_received(_decision(1)), 0)) == [_decision(1), _opinion(1)]
    assert _kept(policy.choose(_received(_decision(2), _decision(3, 9)), 0)) == [_decision(3, 9)]
    assert _kept(policy.choose(_received(_opinion(3), _opinion(3)), 0)) == [_opinion(3)]


def test_an_unchanged_decision_is_let_go_once_no_order_can_follow() -> None:
    counts: Counter[str] = Counter()
    policy = KeepChanged(counts)
    received = _received(_decision(1), _decision(2))
    assert policy.choose(received, VALID_NS - 1).done == []
    assert policy.choose([], VALID_NS + ORDER_WITHIN_NS).done == []
    assert policy.choose([], VALID_NS + ORDER_WITHIN_NS + 1).done == [received[1][0]]
    assert counts == {"decisions.unchanged": 1}
    assert policy.rest() == []


def test_after_an_outage_a_decision_waits_for_an_order_that_comes_late_too() -> None:
    policy, late_ns = KeepChanged(Counter()), 1_000 * ORDER_WITHIN_NS
    assert policy.choose(_received(_decision(1), _decision(2)), late_ns).done == []
    order = Order(order_id=b"1", decision_id=b"d2")
    assert _kept(policy.choose(_received(order), late_ns + ORDER_WITHIN_NS)) == [order, _decision(2)]


def test_in_doubt_a_decision_is_kept() -> None:
    counts: Counter[str] = Counter()
    policy = KeepChanged(counts)
    chosen = policy.choose(_received(*(_decision(number) for number in range(HELD + 3))), 0)
    assert _kept(chosen) == [_decision(number) for number in range(3)]
    assert counts == {"decisions.kept_in_doubt": 2}
    assert [message for _, message in policy.rest()] == [_decision(number) for number in range(3, HELD + 3)]


def test_what_is_remembered_of_opinions_is_bounded() -> None:
    policy = KeepChanged(Counter())
    policy.choose(_received(*(_opinion(number) for number in range(REMEMBERED + 1))), 0)
    assert _kept(policy.choose(_received(_decision(0, 1), _decision(1, 2)), 0)) == [
        _decision(0, 1),
        _decision(1, 2),
        _opinion(1),
    ]


def test_the_persister_saves_what_is_chosen_and_lets_go_of_the_rest() -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock, seed=1)
        world.start(NAME, lambda ports: Persister(ports, PersisterConfig(linger_ms=0, keep="changed")))
        await asyncio.sleep(0.001)
        bus = world.ports("desk").bus
        subject = subjects.decision("core", 6, BTC)
        for number, size in enumerate((0, 0, 0, 5)):
            await bus.publish(subjects.opinion("flow", 6, BTC), _opinion(number))
            await bus.publish_acknowledged(subject, _decision(number, size), message_id=b"%d" % number)
        order = Order(order_id=b"1", decision_id=b"d2")
        await bus.publish_acknowledged(subjects.execution("paper", "order", BTC), order, message_id=b"order")
        await asyncio.sleep(0.001)
        assert [row.decision_id for row in await world.store.load(Decision)] == [b"d0", b"d2", b"d3"]
        assert [row.opinion_id for row in await world.store.load(Opinion)] == [b"o0", b"o2", b"o3"]
        await asyncio.sleep(ORDER_WITHIN_NS / 1e9 + 1)
        await bus.publish_acknowledged(subject, _decision(4, 5), message_id=b"4")
        await asyncio.sleep(0.001)
        assert world.counts[NAME]["decisions.unchanged"] == 1
        await world.ports(NAME).bus.drain()
        await world.finish(NAME)
        assert [row.decision_id for row in await world.store.load(Decision)] == [*(b"d0", b"d2", b"d3", b"d4")]
        await world.stop()

    run_virtual(main, start_ns=1)
