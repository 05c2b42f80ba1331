"""The orchestrator on virtual time: written ahead, asked again, decided in time, recovered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import pytest
from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.bus.memory import HUB, Stored
from huracan.clock import MILLISECOND_NS, STEP_NS, step_close
from huracan.contracts.codec import encode
from huracan.contracts.context import Context, context, mood_state
from huracan.contracts.decision import Decision, SignalDirection, TradingSignal
from huracan.contracts.features import WINDOW_ROWS, FeatureWindow, feature_window
from huracan.contracts.journal import JournalEntry
from huracan.contracts.market import InstrumentDefinition
from huracan.contracts.opinion import AbstainReason, Opinion, opinion, reason_name
from huracan.contracts.ops import StepAcknowledged, service_changed
from huracan.ids import decision_id
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.world import World
from huracan.ticklog.memory import LOG
from huracan_orchestrator import service
from huracan_orchestrator.config import DeadlineConfig, GateConfig
from huracan_orchestrator.fold import Fold
from huracan_orchestrator.service import MARK_EVERY, NAME, Orchestrator

from .market import BTC, ETH, KEY

FIRST = 17_000_000_000
START_NS = step_close(FIRST)
EXPERTS = ("regime", "flow", "sentiment")


JOURNAL = subjects.journal_key(BTC.shard)


@dataclass
class Cuts:
    """Lose everything on the ways that are cut; deliver the rest at once."""

    cut: set[tuple[str, str]] = field(default_factory=set)
    faulty: bool = True

    def carry(self, source: str, target: str, deliver: Callable[[], None]) -> None:
        if (source, target) not in self.cut:
            deliver()


class Desk:
    """One orchestrator, and everything it hears and says."""

    def __init__(self, clock: VirtualClock, *, live: bool = True) -> None:
        self.clock = clock
        self.ways = Cuts()
        self.world = World(clock, seed=1, transport=self.ways)
        self.bus = self.world.ports("desk").bus
        self.heard: list[tuple[int, str, Message]] = []
        self._live = live
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        inbox = self.bus.inbox()
        for pattern in ("sig.v1.decision.>", "sig.v1.signal.>", "rpc.v1.>", "ops.v1.orchestrator.step"):
            inbox.subscribe(pattern)
        async for delivery in inbox:
            self.heard.append((self.clock.now_ns() - START_NS, delivery.subject, delivery.decode()))

    async def start(self) -> Orchestrator:
        deadlines = DeadlineConfig() if self._live else None
        self.world.start(NAME, lambda ports: Orchestrator(GateConfig(), ports, shard=BTC.shard, deadlines=deadlines))
        await self.settle()
        started = self.world.services[NAME]
        assert isinstance(started, Orchestrator)
        return started

    async def settle(self, ms: float = 0.0) -> None:
        await self.clock.sleep_until(self.clock.now_ns() + int(ms * MILLISECOND_NS) + 1)

    async def say(self, *messages: FeatureWindow | Opinion | Context) -> None:
        for message in messages:
            match message:
                case FeatureWindow():
                    await self.bus.publish(subjects.features("micro", message.instrument), message)
                case Opinion():
                    subject = subjects.opinion(message.expert, message.shard, message.instrument)
                    await self.bus.publish(subject, message)
                case Context():
                    subject = subjects.context(message.ref.kind, message.ref.key)
                    await self.bus.publish_acknowledged(subject, message, message_id=encode(message))
        await self.settle()

    async def tell(self, expert: str, *, running: bool) -> None:
        changed = service_changed(expert, running=running, at_ns=self.clock.now_ns())
        subject = subjects.ops(expert, "service")
        await self.bus.publish_acknowledged(subject, changed, message_id=encode(changed))
        await self.settle()

    def decisions(self) -> list[Decision]:
        """Return what is stored on the bus."""
        stored = [entry for entry in self.world.bus.stream if entry.subject.startswith("sig.v1.decision.")]
        return [Decision.FromString(entry.data) for entry in stored]

    def of(self, kind: type[Message]) -> list[int]:
        """Return when, in milliseconds after the first close, messages of a kind were heard."""
        return [at_ns // MILLISECOND_NS for at_ns, _, message in self.heard if isinstance(message, kind)]

    async def journal(self) -> list[JournalEntry]:
        records = await self.world.log.node("desk").read(subjects.JOURNAL_TOPIC, JOURNAL, 0)
        return [record.message for record in records if isinstance(record.message, JournalEntry)]


def _run(scenario: Callable[[Desk], Awaitable[None]], *, live: bool = True) -> Desk:
    async def main(clock: VirtualClock) -> Desk:
        desk = Desk(clock, live=live)
        await scenario(desk)
        await desk.world.stop()
        assert _folded(await desk.journal()) == {encode(decision) for decision in desk.decisions()}
        return desk

    return run_virtual(main, start_ns=START_NS)


def _folded(journal: Iterable[JournalEntry]) -> set[bytes]:
    fold = Fold()
    return {encode(decision) for entry in journal for decision in fold.apply(entry)}


def _window(step: int = FIRST, *, gateway_epoch: int = 1, instrument: InstrumentDefinition = BTC) -> FeatureWindow:
    return feature_window(
        instrument=instrument,
        epoch=gateway_epoch,
        feature_set="micro",
        feature_set_digest=bytes(32),
        interval_ns=STEP_NS,
        step=step,
        first_step=FIRST,
        close_ns=step_close(step),
        values=np.zeros((WINDOW_ROWS, 1), dtype=np.float32),
        valid_rows=WINDOW_ROWS,
        first_ingest_seq=1,
        last_ingest_seq=2,
        last_frame_ns=step_close(step),
        book_synced=True,
        best_bid=600_000,
        best_ask=600_001,
    )


def _opinion(expert: str, step: int = FIRST, *, gateway_epoch: int = 1) -> Opinion:
    return opinion(
        _window(step, gateway_epoch=gateway_epoch),
        expert=expert,
        engine_digest=expert.encode(),
        horizon_ns=10**9,
        validity_ns=300 * MILLISECOND_NS,
        contexts=[],
        p_down=0.125,
        p_flat=0.25,
        p_up=0.625,
    )


def _all(step: int = FIRST) -> list[Opinion]:
    return [_opinion(expert, step) for expert in EXPERTS]


# The ordinary way.


def test_a_window_and_its_opinions_become_one_decision_a_public_signal_and_an_acknowledged_step() -> None:
    async def scenario(desk: Desk) -> None:
        orchestrator = await desk.start()
        await desk.say(_window(), *_all())
        [decision] = desk.decisions()
        assert decision.decision_id == decision_id("core", KEY, 1, FIRST)
        assert (decision.size, decision.votes[0].weight) == (50, 1 / 3)
        said = [(subject, message) for _, subject, message in desk.heard]
        tail = f"{BTC.shard:02d}.sim.btc-usdt-perp"
        assert [subject for subject, _ in said] == [
            f"sig.v1.signal.core.{tail}",
            f"sig.v1.decision.core.{tail}",
            "ops.v1.orchestrator.step",
        ]
        signal = said[0][1]
        assert isinstance(signal, TradingSignal)
        assert (signal.direction, signal.position_size) == (SignalDirection.BUY, 0.05)
        assert said[2][1] == StepAcknowledged(service=NAME, instrument=BTC.id, step=FIRST)
        assert (orchestrator.counts["windows"], orchestrator.counts["decisions"]) == (1, 1)

    _run(scenario)


def test_a_decision_carries_its_epoch_in_the_header() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.say(_window(), *_all())
        assert [entry.epoch for entry in desk.world.bus.stream if entry.subject.startswith("sig.")] == [1]

    _run(scenario)


def test_opinions_that_overtake_their_window_are_kept_for_it() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.say(*_all(), _opinion("flow"), _window())
        assert [decision.votes[1].opinion_id for decision in desk.decisions()] == [_opinion("flow").opinion_id]
        assert desk.of(Decision) == [0]

    _run(scenario)


def test_opinions_kept_for_windows_that_never_come_are_bounded_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "EARLY_KEPT", 2)

    async def scenario(desk: Desk) -> None:
        orchestrator = await desk.start()
        await desk.say(*_all(FIRST + 1)[:2], *_all(FIRST + 2), *_all(FIRST + 3))
        assert orchestrator.counts["opinions.unused"] == 2

    _run(scenario)


def test_late_and_double_opinions_are_refused_and_counted_and_not_journaled() -> None:
    async def scenario(desk: Desk) -> None:
        orchestrator = await desk.start()
        await desk.say(_window(), _opinion("flow"), _opinion("flow"), *_all()[::2])
        await desk.say(*_all())
        await desk.settle(301)
        await desk.say(_opinion("flow", gateway_epoch=2))
        assert orchestrator.counts["opinions.refused"] == 5
        assert sum(entry.HasField("opinion") for entry in await desk.journal()) == 3

    _run(scenario)


def test_windows_again_or_of_an_older_gateway_are_refused_and_counted() -> None:
    async def scenario(desk: Desk) -> None:
        orchestrator = await desk.start()
        await desk.say(_window(FIRST + 1, gateway_epoch=2), _window(FIRST + 1, gateway_epoch=2), _window(FIRST + 2))
        assert orchestrator.counts["windows.refused.out_of_order"] == 1
        assert orchestrator.counts["windows.refused.old_epoch"] == 1
        assert orchestrator.counts["windows"] == 1
        await desk.settle(200)

    _run(scenario)


def test_windows_of_another_shard_are_not_ours() -> None:
    async def scenario(desk: Desk) -> None:
        orchestrator = await desk.start()
        await desk.say(_window(instrument=ETH))
        assert orchestrator.counts["windows"] == 0

    _run(scenario)


def test_poison_is_counted_and_not_fatal() -> None:
    async def scenario(desk: Desk) -> None:
        orchestrator = await desk.start()
        bus = desk.world.bus
        bus.send(
            "desk", Stored(f"sig.v1.flow.{BTC.shard:02d}.sim.btc-usdt-perp", "huracan.opinion.v1.Opinion", 0, b"\xff")
        )
        bus.keep(Stored("ctx.v1.mood.x", "huracan.gone.v1.Gone", 0, b""), b"1")
        await desk.say(_window(), *_all())
        assert orchestrator.counts["poison.undecodable"] == 1
        assert orchestrator.counts["poison.unknown_schema"] == 1
        assert len(desk.decisions()) == 1

    _run(scenario)


def test_contexts_are_journaled_before_the_opinions_that_name_them() -> None:
    mood = context(
        kind="mood",
        key="BTC",
        version=1,
        epoch=1,
        as_of_ns=0,
        effective_from_ns=0,
        valid_until_ns=0,
        payload=mood_state(polarity=0.5, weight=1, headlines=1, last_news_id=b""),
        engine_digest=b"",
    )

    async def scenario(desk: Desk) -> None:
        await desk.say(mood)
        await desk.start()
        await desk.say(_window())
        assert [entry.WhichOneof("entry") for entry in await desk.journal()][:3] == [
            "epoch_started",
            "context",
            "window_opened",
        ]
        await desk.settle(60)

    _run(scenario)


# Written ahead.


def test_nothing_is_said_before_it_is_in_the_log() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.say(_window(), *_all()[:2])
        desk.ways.cut = {(NAME, LOG)}
        await desk.say(_opinion("sentiment"))
        await desk.settle(2_000)
        assert desk.decisions() == []
        assert desk.heard == []
        assert len(await desk.journal()) == 4
        desk.ways.cut = set()
        await desk.settle(2_000)
        assert len(desk.decisions()) == 1
        assert (await desk.journal())[4].opinion == _opinion("sentiment")

    _run(scenario, live=False)


def test_an_append_whose_answer_is_lost_is_in_the_log_once() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        desk.ways.cut = {(LOG, NAME)}
        await desk.say(_window())
        await desk.settle(200)
        assert desk.decisions() == []
        desk.ways.cut = set()
        await desk.settle(2_000)
        await desk.say(*_all())
        assert len(await desk.journal()) == 5
        assert len(desk.decisions()) == 1

    _run(scenario, live=False)


def test_a_decision_is_published_until_it_is_acknowledged_and_stored_once() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        desk.ways.cut = {(HUB, NAME)}
        await desk.say(_window(), *_all())
        await desk.settle(500)
        assert len(desk.decisions()) == 1
        assert desk.of(StepAcknowledged) == []
        desk.ways.cut = set()
        await desk.settle(2_000)
        assert len(desk.decisions()) == 1
        assert len(desk.of(StepAcknowledged)) == 1

    _run(scenario, live=False)


# In time.


def test_the_silent_are_asked_again_after_25_ms_and_decided_without_after_50() -> None:
    async def scenario(desk: Desk) -> None:
        orchestrator = await desk.start()
        await desk.say(_window(), _opinion("flow"))
        await desk.settle(100)
        asked = [(at_ns, subject) for at_ns, subject, message in desk.heard if message == _window()]
        assert asked == [
            (25 * MILLISECOND_NS, "rpc.v1.regime.opine"),
            (25 * MILLISECOND_NS, "rpc.v1.sentiment.opine"),
        ]
        assert desk.of(Decision) == [50]
        [decision] = desk.decisions()
        assert [vote.weight for vote in decision.votes] == [0, 1, 0]
        assert orchestrator.counts["asked_again.regime"] == 1
        assert orchestrator.fold.counts["silent.sentiment"] == 1

    _run(scenario)


def test_whoever_answers_when_asked_again_counts() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.say(_window(), *_all()[:2])
        await desk.settle(30)
        await desk.say(_opinion("sentiment"))
        assert desk.of(Decision) == [30]
        await desk.settle(100)
        assert [[vote.weight for vote in decision.votes] for decision in desk.decisions()] == [[1 / 3] * 3]

    _run(scenario)


def test_a_window_decided_in_time_is_neither_asked_about_nor_decided_again() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.say(_window(), *_all())
        await desk.settle(100)
        assert desk.of(FeatureWindow) == []
        assert len(await desk.journal()) == 5

    _run(scenario)


def test_a_window_that_comes_after_its_deadline_is_decided_at_once_without_opinions() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.settle(300)
        await desk.say(_window())
        [decision] = desk.decisions()
        assert reason_name(decision.reason) == "ALL_ABSTAINED"
        assert desk.of(Decision) == [300]

    _run(scenario)


def test_a_window_past_its_validity_is_late() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.settle(501)
        await desk.say(_window(), *_all())
        assert [reason_name(decision.reason) for decision in desk.decisions()] == ["LATE"]

    _run(scenario)


def test_a_replay_has_no_deadline() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.say(_window(), *_all()[:2])
        await desk.settle(450)
        assert desk.decisions() == []
        await desk.say(_opinion("sentiment"))
        assert len(desk.decisions()) == 1

    _run(scenario, live=False)


def test_an_expert_that_is_reported_gone_is_not_waited_for_until_it_is_back() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.tell("sentiment", running=False)
        await desk.start()
        await desk.say(_window(), *_all()[:2])
        assert len(desk.decisions()) == 1
        await desk.tell("sentiment", running=True)
        await desk.tell("executor", running=False)
        await desk.settle(100)
        await desk.say(_window(FIRST + 1), *_all(FIRST + 1)[:2])
        assert len(desk.decisions()) == 1
        await desk.tell("sentiment", running=False)
        assert len(desk.decisions()) == 2

    _run(scenario, live=False)


# Killed and started again.


def test_a_window_open_at_a_kill_is_decided_by_the_next_as_a_gap_and_later_ones_as_usual() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.say(_window(), _opinion("flow"))
        await desk.world.kill(NAME)
        await desk.start()
        [gap] = desk.decisions()
        assert (reason_name(gap.reason), gap.epoch, gap.step) == ("EPOCH_GAP", 1, FIRST)
        assert gap.decision_id == decision_id("core", KEY, 1, FIRST)
        await desk.settle(100)
        await desk.say(_window(FIRST + 1), *_all(FIRST + 1))
        assert [(decision.epoch, decision.abstained) for decision in desk.decisions()] == [(1, True), (2, False)]

    _run(scenario)


def test_a_decision_that_was_written_but_not_published_is_published_under_its_id_after_a_kill() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        desk.ways.cut = {(NAME, HUB)}
        await desk.say(_window(), *_all())
        await desk.world.kill(NAME)
        assert desk.decisions() == []
        desk.ways.cut = set()
        await desk.start()
        [decision] = desk.decisions()
        assert (decision.decision_id, decision.abstained) == (decision_id("core", KEY, 1, FIRST), False)

    _run(scenario)


@pytest.mark.parametrize("kills", [1, 3])
def test_however_often_it_is_killed_every_decision_is_stored_once(kills: int) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        for step in range(FIRST, FIRST + 10):
            await desk.clock.sleep_until(step_close(step))
            await desk.say(_window(step), *_all(step))
        for _ in range(kills):
            await desk.world.kill(NAME)
            await desk.start()
        assert [decision.step for decision in desk.decisions()] == list(range(FIRST, FIRST + 10))
        assert {decision.epoch for decision in desk.decisions()} == {1}
        assert [entry.epoch for entry in await desk.journal() if entry.HasField("epoch_started")] == [
            *range(1, kills + 2)
        ]

    _run(scenario)


def test_what_is_marked_as_published_is_not_published_again() -> None:
    extra = 3

    async def scenario(desk: Desk) -> None:
        await desk.start()
        for step in range(FIRST, FIRST + MARK_EVERY + extra):
            await desk.clock.sleep_until(step_close(step))
            await desk.say(_window(step), *_all(step))
        journal = await desk.journal()
        [mark] = [at for at, entry in enumerate(journal) if entry.HasField("published")]
        assert journal[mark].published.through == mark - 1
        await desk.world.kill(NAME)
        before = len(desk.of(TradingSignal))
        await desk.start()
        assert len(desk.of(TradingSignal)) - before == extra
        assert len(desk.decisions()) == MARK_EVERY + extra

    _run(scenario)


def test_a_signal_whose_time_is_over_is_not_said_again_after_a_kill() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.say(_window(), *_all())
        await desk.clock.sleep_until(step_close(FIRST + 4))
        await desk.say(_window(FIRST + 4), *_all(FIRST + 4))
        await desk.settle(101)
        await desk.world.kill(NAME)
        desk.heard.clear()
        await desk.start()
        signals = [message for _, _, message in desk.heard if isinstance(message, TradingSignal)]
        assert [signal.timestamp for signal in signals] == [step_close(FIRST + 4)]

    _run(scenario)


def test_a_start_whose_appends_are_lost_at_first_still_owns_one_epoch() -> None:
    async def scenario(desk: Desk) -> None:
        desk.ways.cut = {(LOG, NAME)}
        await desk.start()
        await desk.settle(300)
        desk.ways.cut = set()
        await desk.settle(2_000)
        assert [entry.epoch for entry in await desk.journal()] == [1]
        await desk.say(_window(FIRST + 23), *_all(FIRST + 23))
        assert len(desk.decisions()) == 1

    _run(scenario, live=False)


def test_the_configuration_of_each_epoch_is_in_the_journal() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        [entry] = await desk.journal()
        assert GateConfig.model_validate_json(entry.epoch_started.config_json) == GateConfig()
        assert entry.epoch_started.config_digest == GateConfig().digest()

    _run(scenario)


def test_a_deadline_does_not_overtake_an_opinion_that_is_still_being_written() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.say(_window())
        desk.ways.cut = {(LOG, NAME)}
        await desk.settle(40)
        await desk.say(_opinion("flow"))
        await desk.settle(8)
        desk.ways.cut = set()
        await desk.settle(200)
        [decision] = desk.decisions()
        assert decision.votes[1].weight == 1

    _run(scenario)


def test_two_steps_open_at_once_are_decided_each_at_its_own_deadline() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.settle(20)
        await desk.say(_window())
        await desk.clock.sleep_until(step_close(FIRST + 1))
        await desk.say(_window(FIRST + 1))
        await desk.settle(100)
        assert desk.of(Decision) == [50, 150]
        assert {decision.reason for decision in desk.decisions()} == {AbstainReason.ABSTAIN_REASON_ALL_ABSTAINED}

    _run(scenario)
