"""The host of an expert: windows answered, contexts numbered, both continued after a kill."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import pytest
from google.protobuf.message import Message
from numpy.typing import NDArray

from huracan.bus import subjects
from huracan.bus.memory import HUB, Stored
from huracan.clock import STEP_NS, step_close, step_open
from huracan.contracts.codec import digest
from huracan.contracts.context import (
    Context,
    ContextRef,
    DriftLevel,
    DriftState,
    MoodState,
    context_name,
    mood_state,
)
from huracan.contracts.features import WINDOW_ROWS, FeatureWindow, feature_window
from huracan.contracts.market import NewsItem, linear_perpetual
from huracan.contracts.opinion import AbstainReason, Opinion, reason_name
from huracan.contracts.ops import (
    DeadLetter,
    DriftChanged,
    HeatMap,
    ServiceChanged,
    StepAcknowledged,
    drift_changed,
    heat_map,
)
from huracan.expert.engines import VERSIONS_KEPT
from huracan.expert.port import ContextDraft, Expert, Forecast
from huracan.expert.service import ExpertService
from huracan.inference.engine import Engine
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.world import World

STEP = 17_000_000_000
START_NS = step_open(STEP)
NAME = "mood"
SHOWN = 7
"""The headline whose context is also shown to people."""
BTC = linear_perpetual("BTC", venue="sim", price_increment=Decimal("0.1"), size_increment=Decimal("0.001"))


@dataclass
class Answers:
    """Says up as far as the mood says so."""

    name: str = NAME
    feature_set_digest: bytes = b"\1" * 32
    engine_digest: bytes = b"\2" * 32
    horizon_ns: int = 10**9
    validity_ns: int = 300_000_000
    context_kinds: tuple[str, ...] = ("mood",)
    without_context: AbstainReason = AbstainReason.ABSTAIN_REASON_NO_INPUT
    engines: tuple[Engine, ...] = ()

    def forecast(self, window: NDArray[np.float32], contexts: Mapping[str, Context]) -> Forecast | AbstainReason:
        p_up = contexts["mood"].mood.polarity
        return Forecast(p_down=0.0, p_flat=1 - p_up, p_up=p_up)


@dataclass
class Counts:
    """Gives a context for each headline: its number is in the title."""

    inputs: tuple[str, ...] = ("news.v1.>",)
    seen: list[int] = field(default_factory=list)

    def observe(self, message: Message) -> Sequence[ContextDraft]:
        assert isinstance(message, NewsItem)
        number = int(message.title)
        self.seen.append(number)
        if number < 0:
            return []
        return [
            ContextDraft(
                kind="mood",
                key="BTC",
                as_of_ns=message.published_ns,
                valid_until_ns=START_NS + 10**15,
                payload=_mood(number),
                engine_digest=b"\3" * 32,
                shows=_map(number) if number == SHOWN else None,
            )
        ]


def _map(number: int) -> HeatMap:
    return heat_map("mood", ["BTC"], ["BTC"], np.full((1, 1), number / 16), low=-1, high=1, as_of_ns=START_NS)


def _mood(number: int) -> MoodState:
    return mood_state(polarity=number / 16, weight=1, headlines=number, last_news_id=b"")


@dataclass
class Cuts:
    """Lose everything on the ways that are cut; deliver the rest at once."""

    cut: set[tuple[str, str]] = field(default_factory=set)
    faulty: bool = True

    def carry(self, source: str, target: str, deliver: Callable[[], None]) -> None:
        if (source, target) not in self.cut:
            deliver()


class Desk:
    """One expert, and all that it hears and says."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.ways = Cuts()
        self.world = World(clock, seed=1, transport=self.ways)
        self.bus = self.world.ports("desk").bus
        self.heard: list[Message] = []
        self.builders: list[Counts] = []
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        inbox = self.bus.inbox()
        for pattern in ("sig.v1.mood.>", "ops.v1.mood.step", "ops.v1.mood.heat_map"):
            inbox.subscribe(pattern)
        async for delivery in inbox:
            self.heard.append(delivery.decode())

    def _expert(self) -> Expert:
        self.builders.append(Counts())
        return Expert(Answers(), (self.builders[-1],))

    async def start(self) -> ExpertService:
        self.world.start(NAME, lambda ports: ExpertService(self._expert(), ports))
        await self.settle()
        started = self.world.services[NAME]
        assert isinstance(started, ExpertService)
        return started

    async def settle(self, ns: int = 1) -> None:
        await self.clock.sleep_until(self.clock.now_ns() + ns)

    async def ask(self, window: FeatureWindow, subject: str = "") -> None:
        await self.bus.publish(subject or subjects.features("micro", window.instrument), window)
        await self.settle()

    async def news(self, *numbers: int) -> None:
        for number in numbers:
            item = NewsItem(news_id=str(number).encode(), published_ns=START_NS + abs(number), title=str(number))
            await self.bus.publish_acknowledged(subjects.news("wire"), item, message_id=item.news_id)
        await self.settle()

    def opinions(self) -> list[Opinion]:
        return [message for message in self.heard if isinstance(message, Opinion)]

    def contexts(self) -> list[Context]:
        """Return the contexts on the bus, in the order in which they were stored."""
        stored = [entry for entry in self.world.bus.stream if entry.subject.startswith("ctx.")]
        return [Context.FromString(entry.data) for entry in stored]


def _run(scenario: Callable[[Desk], Awaitable[None]]) -> None:
    async def main(clock: VirtualClock) -> None:
        desk = Desk(clock)
        await scenario(desk)
        await desk.world.stop()

    run_virtual(main, start_ns=START_NS)


def _window(step: int = STEP, *, epoch: int = 1, version: int = 1) -> FeatureWindow:
    return feature_window(
        instrument=BTC,
        epoch=epoch,
        feature_set="micro",
        feature_set_digest=b"\1" * 32,
        interval_ns=STEP_NS,
        step=step,
        first_step=STEP,
        close_ns=step_close(step),
        values=np.zeros((WINDOW_ROWS, 1), dtype=np.float32),
        valid_rows=WINDOW_ROWS,
        first_ingest_seq=1,
        last_ingest_seq=2,
        last_frame_ns=step_close(step),
        book_synced=True,
        expected_contexts=[ContextRef(kind="mood", key="BTC", version=version)],
    )


# What is heard beside the questions.


@dataclass
class Listens:
    """Gives a context for each window that it hears."""

    inputs: tuple[str, ...] = ("feat.v1.micro.>",)

    def observe(self, message: Message) -> Sequence[ContextDraft]:
        assert isinstance(message, FeatureWindow)
        return [
            ContextDraft(
                kind="mood",
                key="heard",
                as_of_ns=message.close_ns,
                valid_until_ns=START_NS + 10**15,
                payload=_mood(message.step - STEP),
                engine_digest=b"\4" * 32,
                shows=drift_changed(BTC.id, DriftLevel.DRIFT_LEVEL_OK, DriftState(), at_ns=message.close_ns),
            )
        ]


def test_a_watcher_hears_every_window_that_one_of_the_copies_answers_and_what_it_shows_is_an_event() -> None:
    async def scenario(desk: Desk) -> None:
        desk.world.start("first", lambda ports: ExpertService(Expert(Answers(), watchers=(Listens(),)), ports))
        desk.world.start("second", lambda ports: ExpertService(Expert(Answers()), ports))
        inbox = desk.bus.inbox()
        inbox.subscribe("ops.v1.mood.drift")
        await desk.settle()
        for step in range(4):
            await desk.ask(_window(STEP + step))
        assert len(desk.opinions()) == 4
        assert [made.mood.headlines for made in desk.contexts()] == [0, 1, 2, 3]
        assert [type(delivery.decode()) for delivery in await inbox.take(10)] == [DriftChanged] * 4

    _run(scenario)


# Windows.


def test_what_people_are_shown_of_a_context_goes_out_once_beside_it() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.news(1, SHOWN, SHOWN)
        assert [made.mood.headlines for made in desk.contexts()] == [1, SHOWN]
        assert [message for message in desk.heard if isinstance(message, HeatMap)] == [_map(SHOWN)]

    _run(scenario)


def test_each_window_is_answered_once_and_its_step_acknowledged_after_the_answer() -> None:
    async def scenario(desk: Desk) -> None:
        service = await desk.start()
        await desk.news(8)
        await desk.ask(_window())
        await desk.ask(_window(STEP + 1))
        assert [type(message) for message in desk.heard] == [Opinion, StepAcknowledged] * 2
        assert [opinion.step for opinion in desk.opinions()] == [STEP, STEP + 1]
        assert desk.opinions()[0].p_up == 0.5
        assert desk.opinions()[0].window_digest == digest(_window())
        assert desk.heard[1] == StepAcknowledged(service=NAME, instrument=BTC.id, step=STEP)
        assert service.counts["opinions"] == 2

    _run(scenario)


def test_without_the_context_it_names_a_window_is_answered_by_an_abstention() -> None:
    async def scenario(desk: Desk) -> None:
        service = await desk.start()
        await desk.news(8)
        await desk.ask(_window(version=2))
        assert [reason_name(opinion.reason) for opinion in desk.opinions()] == ["CONTEXT_MISSING"]
        assert service.counts["abstained"] == 1

    _run(scenario)


def test_asked_again_it_gives_the_same_answer_under_the_same_id() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.news(8)
        await desk.ask(_window())
        await desk.ask(_window(), "rpc.v1.mood.opine")
        first, second = desk.opinions()
        assert first == second

    _run(scenario)


def test_an_opinion_goes_to_the_shard_and_instrument_of_its_window_with_the_gateways_epoch() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        inbox = desk.bus.inbox()
        inbox.subscribe(f"sig.v1.mood.{BTC.shard:02d}.sim.btc-usdt-perp")
        await desk.ask(_window(epoch=3))
        delivery = await anext(inbox)
        assert delivery.epoch == 3

    _run(scenario)


def test_a_window_of_an_older_gateway_is_refused_and_counted() -> None:
    async def scenario(desk: Desk) -> None:
        service = await desk.start()
        await desk.ask(_window(epoch=2))
        await desk.ask(_window(STEP + 1, epoch=1))
        await desk.ask(_window(STEP + 2, epoch=2))
        assert [opinion.step for opinion in desk.opinions()] == [STEP, STEP + 2]
        assert service.counts["refused.old_epoch"] == 1

    _run(scenario)


def test_windows_of_bars_are_not_asked_about() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.ask(_window(), subjects.features("bar_1m", BTC))
        assert desk.heard == []

    _run(scenario)


def test_two_of_the_same_expert_share_the_windows() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        desk.world.start("second", lambda ports: ExpertService(Expert(Answers()), ports))
        await desk.settle()
        for step in range(STEP, STEP + 6):
            await desk.ask(_window(step))
        assert [opinion.step for opinion in desk.opinions()] == list(range(STEP, STEP + 6))
        assert desk.world.counts["second"]["abstained"] == 3

    _run(scenario)


def test_poison_is_counted_and_kept_and_stops_nothing() -> None:
    async def scenario(desk: Desk) -> None:
        service = await desk.start()
        desk.world.bus.keep(Stored("news.v1.wire", "huracan.market.v1.NewsItem", 0, b"\xff"), b"1")
        desk.world.bus.keep(Stored("ctx.v1.mood.x", "huracan.gone.v1.Gone", 0, b""), b"2")
        await desk.news(1)
        assert (service.counts["poison.undecodable"], service.counts["poison.unknown_schema"]) == (1, 1)
        assert len(desk.contexts()) == 1
        letters = await desk.world.log.node("x").read(subjects.dead_letters(subjects.JOURNAL_TOPIC), NAME, 0)
        assert [
            (letter.raw, letter.schema) for record in letters if isinstance(letter := record.message, DeadLetter)
        ] == [
            (b"\xff", "huracan.market.v1.NewsItem"),
            (b"", "huracan.gone.v1.Gone"),
        ]

    _run(scenario)


# Contexts.


def test_contexts_are_numbered_from_one_with_the_digest_of_their_payload() -> None:
    async def scenario(desk: Desk) -> None:
        service = await desk.start()
        await desk.news(1, -2, 3, 4)
        made = desk.contexts()
        assert [context.ref.version for context in made] == [1, 2, 3]
        assert {context.epoch for context in made} == {1}
        assert [context.mood.headlines for context in made] == [1, 3, 4]
        assert made[2].payload_digest == digest(_mood(4))
        assert (made[2].as_of_ns, made[2].engine_digest) == (START_NS + 4, b"\3" * 32)
        assert service.counts["contexts"] == 3

    _run(scenario)


@pytest.mark.parametrize(
    ("after_ns", "step"),
    [(0, STEP), (1, STEP + 1), (STEP_NS - 1, STEP + 1), (STEP_NS, STEP + 1), (STEP_NS + 1, STEP + 2)],
)
def test_a_context_counts_from_the_first_step_that_opens_after_its_publication(after_ns: int, step: int) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.clock.sleep_until(START_NS + STEP_NS * 10 + after_ns)
        await desk.news(1)
        assert desk.contexts()[0].effective_from_ns == step_open(step + 10)

    _run(scenario)


def test_headlines_that_came_before_it_started_count() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.news(1, 2)
        await desk.start()
        assert [context.ref.version for context in desk.contexts()] == [1, 2]

    _run(scenario)


def test_after_a_kill_versions_go_on_under_a_higher_epoch_and_nothing_is_said_twice() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.news(1, 2)
        await desk.world.kill(NAME)
        await desk.news(3)
        await desk.start()
        await desk.news(4)
        said = [(context.ref.version, context.epoch, context.mood.headlines) for context in desk.contexts()]
        assert said == [(1, 1, 1), (2, 1, 2), (3, 2, 3), (4, 2, 4)]
        assert desk.builders[1].seen == [1, 2, 3, 4]

    _run(scenario)


def test_entries_that_cannot_be_read_keep_no_expert_from_a_version_and_an_epoch_that_none_had() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.news(1, 2)
        (key,) = {subjects.context_key(*context_name(context.ref)) for context in desk.contexts()}
        await desk.world.kill(NAME)
        for number in range(2):
            desk.world.log.put(subjects.JOURNAL_TOPIC, key, "huracan.later.v1.Thing", b"", b"later %d" % number)
        await desk.start()
        await desk.news(3, 4)
        said = [(context.ref.version, context.epoch) for context in desk.contexts()]
        assert said == [(1, 1), (2, 1), (5, 4), (6, 4)]

    _run(scenario)


def test_after_a_kill_the_newest_context_is_at_hand_for_the_next_window() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.news(1, 2)
        await desk.world.kill(NAME)
        await desk.start()
        await desk.ask(_window(version=2))
        assert [opinion.p_up for opinion in desk.opinions()] == [2 / 16]

    _run(scenario)


def test_old_versions_are_kept_as_long_as_windows_may_name_them() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.news(*range(1, VERSIONS_KEPT + 2))
        for version in (1, 2, VERSIONS_KEPT + 1):
            await desk.ask(_window(STEP + version, version=version))
        assert [opinion.abstained for opinion in desk.opinions()] == [True, False, False]

    _run(scenario)


def test_a_context_of_an_older_builder_or_an_older_version_is_not_learned() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        for version, epoch, number in ((5, 2, 5), (6, 1, 6), (5, 3, 7), (4, 3, 8)):
            made = Context(
                ref=ContextRef(kind="mood", key="BTC", version=version),
                epoch=epoch,
                as_of_ns=START_NS,
                valid_until_ns=START_NS + 10**15,
                mood=_mood(number),
            )
            message_id = f"{version}.{epoch}".encode()
            await desk.bus.publish_acknowledged(subjects.context("mood", "BTC"), made, message_id=message_id)
        for version in (4, 5, 6):
            await desk.ask(_window(STEP + version, version=version))
        assert [opinion.p_up for opinion in desk.opinions()] == [0.0, 5 / 16, 0.0]

    _run(scenario)


def test_a_context_is_published_until_it_is_acknowledged_and_stored_once() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        desk.ways.cut = {(NAME, HUB)}
        await desk.news(1)
        await desk.settle(10**9)
        assert desk.contexts() == []
        desk.ways.cut = set()
        await desk.settle(2 * 10**9)
        assert [context.ref.version for context in desk.contexts()] == [1]

    _run(scenario)


def test_it_announces_itself_once_it_listens() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        inbox = desk.bus.inbox()
        inbox.latest("ops.v1.mood.service")
        assert (await anext(inbox)).decode() == ServiceChanged(service=NAME, running=True, at_ns=START_NS)

    _run(scenario)
