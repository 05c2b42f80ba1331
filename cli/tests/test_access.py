"""What services may touch is what they do touch: nothing beyond it works on a server, nothing in it is for nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.bus.access import Access
from huracan.bus.memory import Stored
from huracan.clock import NANOSECONDS, STEP_NS
from huracan.contracts.features import FeatureWindow
from huracan.contracts.ops import EngineAction, EngineRequest
from huracan.expert.engines import Library
from huracan.inference.bundle import Manifest, load_bundle, write_bundle
from huracan.ports import Bus, Delivery, Inbox, Record, TickLog
from huracan.service.service import spec
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.market import SimulatedMarketConfig, write_history, write_recording
from huracan.sim.world import Factory, World
from huracan_cli.composition import (
    BUNDLES,
    EXPERTS,
    SERVICES,
    Inputs,
    configs,
    factories,
    gateway,
    gateway_config,
    history_of,
)
from huracan_gateway.feed import RecordingFeed
from huracan_orchestrator.config import DeadlineConfig

ENGINES = {"flow": "flow", "regime": "experts", "regime.detector": "regime"}
"""Engines that may be exchanged, and the bundle of each in this release."""
UNTIL_DRIFT_IS_TOLD = 1_600
"""Steps of 100 ms."""
MARKET = SimulatedMarketConfig(seed=11, duration_s=10.0, regime_switch_s=4.0)


@dataclass
class Used:
    """What one service has touched: the kinds of Access, each with the subjects, patterns and topics it named."""

    publish: set[str] = field(default_factory=set)
    subscribe: set[str] = field(default_factory=set)
    consume: set[tuple[str, str]] = field(default_factory=set)
    latest: set[str] = field(default_factory=set)
    everything: set[str] = field(default_factory=set)
    append: set[tuple[str, str]] = field(default_factory=set)
    read: set[str] = field(default_factory=set)
    follow: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)


class WatchedInbox:
    """An inbox that notes what is asked of it."""

    def __init__(self, inbox: Inbox, used: Used) -> None:
        self._inbox = inbox
        self._used = used

    def subscribe(self, pattern: str, *, group: str = "") -> None:
        """Note and subscribe."""
        self._used.subscribe.add(pattern)
        self._inbox.subscribe(pattern, group=group)

    def consume(self, pattern: str, *, durable: str) -> None:
        """Note and consume."""
        self._used.consume.add((durable, pattern))
        self._inbox.consume(pattern, durable=durable)

    def latest(self, pattern: str) -> None:
        """Note and follow."""
        self._used.latest.add(pattern)
        self._inbox.latest(pattern)

    def everything(self, pattern: str) -> None:
        """Note and follow."""
        self._used.everything.add(pattern)
        self._inbox.everything(pattern)

    def __aiter__(self) -> AsyncIterator[Delivery]:
        """Iterate as the inbox does."""
        return self._inbox.__aiter__()

    async def __anext__(self) -> Delivery:
        """Wait for the next message."""
        return await self._inbox.__anext__()

    async def take(self, limit: int) -> Sequence[Delivery]:
        """Take what is here."""
        return await self._inbox.take(limit)

    def close(self) -> None:
        """Stop receiving."""
        self._inbox.close()


class WatchedBus:
    """A bus that notes what is published."""

    def __init__(self, bus: Bus, used: Used) -> None:
        self._bus = bus
        self._used = used

    async def publish(self, subject: str, message: Message, *, epoch: int = 0) -> None:
        """Note and publish."""
        self._used.publish.add(subject)
        await self._bus.publish(subject, message, epoch=epoch)

    async def publish_acknowledged(self, subject: str, message: Message, *, message_id: bytes, epoch: int = 0) -> None:
        """Note and publish."""
        self._used.publish.add(subject)
        await self._bus.publish_acknowledged(subject, message, message_id=message_id, epoch=epoch)

    def inbox(self) -> Inbox:
        """Return an inbox that is watched."""
        return WatchedInbox(self._bus.inbox(), self._used)

    async def drain(self) -> None:
        """Drain the bus."""
        await self._bus.drain()


class WatchedLog:
    """A log that notes what is appended and read."""

    def __init__(self, log: TickLog, used: Used) -> None:
        self._log = log
        self._used = used

    async def append(self, topic: str, key: str, message: Message, *, record_id: bytes) -> int:
        """Note and append."""
        self._used.append.add((topic, key))
        return await self._log.append(topic, key, message, record_id=record_id)

    async def append_all(self, topic: str, key: str, records: Sequence[tuple[Message, bytes]]) -> Sequence[int]:
        """Note and append."""
        self._used.append.add((topic, key))
        return await self._log.append_all(topic, key, records)

    async def read(self, topic: str, key: str, offset: int, *, limit: int | None = None) -> Sequence[Record]:
        """Note and read."""
        self._used.read.add(topic)
        return await self._log.read(topic, key, offset, limit=limit)

    async def keys(self, topic: str) -> Sequence[str]:
        """Note and list."""
        self._used.keys.add(topic)
        return await self._log.keys(topic)

    async def last(self, topic: str, key: str) -> Record | None:
        """Note and read."""
        self._used.read.add(topic)
        return await self._log.last(topic, key)

    async def wait(self, topic: str, key: str, offset: int) -> None:
        """Note and wait."""
        self._used.follow.add(topic)
        await self._log.wait(topic, key, offset)


def _watched(factory: Factory, used: Used) -> Factory:
    return lambda ports: factory(
        dataclasses.replace(ports, bus=WatchedBus(ports.bus, used), log=WatchedLog(ports.log, used))
    )


@dataclass(frozen=True)
class Seen:
    """What each service may touch, and what it did."""

    allowed: dict[str, Access]
    used: dict[str, Used]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """Run every service through a short market with everything in it that makes them do all they ever do."""
    directory = tmp_path_factory.mktemp("access")
    feed = RecordingFeed(_recording(directory))
    start_ns, engines = feed.head.first_recv_ns, _engines(directory)
    inputs = Inputs(
        definitions=[feed.definition],
        first_recv_ns=start_ns,
        history=history_of(feed.definition, _history(directory)),
        news=_news(directory, start_ns),
        library=engines,
    )
    deadlines = DeadlineConfig()
    made = {
        **factories(inputs, deadlines=deadlines),
        "gateway": gateway(inputs, feed, lockstep=True),
    }
    configured = {
        **configs(inputs, deadlines=deadlines),
        "gateway": gateway_config(inputs, lockstep=True),
    }
    used = {name: Used() for name in made}

    async def main(clock: VirtualClock) -> None:
        world = World(clock, seed=0)
        for name in (*SERVICES, "gateway"):
            world.start(name, _watched(made[name], used[name]))
        windows = world.bus.node("test").inbox()
        windows.subscribe("feat.v1.micro.>")
        await clock.sleep_until(start_ns + NANOSECONDS)
        _send_what_nobody_can_read(world)
        await _send_the_bars_of_another(world)
        await _offer_other_engines(world, engines)
        await world.finish("gateway")
        last = _window((await windows.take(1_000))[-1])
        for _ in range(UNTIL_DRIFT_IS_TOLD):
            await _send_the_next_window(world, last)
        await clock.sleep_until(last.close_ns)
        for name in EXPERTS:
            await world.kill(name)
        await _send_the_next_window(world, last)  # which the experts, who are gone, will not answer
        await clock.sleep_until(clock.now_ns() + 2 * STEP_NS)
        await world.stop()

    run_virtual(main, start_ns=start_ns)
    return Seen(allowed={name: spec(name).access(config) for name, config in configured.items()}, used=used)


def _recording(directory: Path) -> Path:
    """Write a market with one frame in it that is none."""
    path = directory / "market.jsonl"
    write_recording(MARKET, path)
    lines = path.read_text().splitlines(keepends=True)
    at = lines[50].partition(" ")[0]
    path.write_text("".join([*lines[:50], f"{at} {{}}\n", *lines[50:]]))
    return path


def _history(directory: Path) -> Path:
    path = directory / "history.parquet"
    write_history(MARKET, path, bars=600)
    return path


def _news(directory: Path, start_ns: int) -> Path:
    path = directory / "news.csv"
    path.write_text(f"time,title\n{start_ns + 2 * NANOSECONDS},Rally on strong gains\n")
    return path


def _engines(directory: Path) -> Path:
    for name in ENGINES.values():
        bundle = load_bundle(BUNDLES / name)
        milder = Manifest.model_validate(bundle.manifest.model_dump() | {"temperature": 1.1})
        write_bundle(directory / "engines" / name, milder, bundle.contents)
    return directory / "engines"


async def _offer_other_engines(world: World, engines: Path) -> None:
    """Have each expert that has an engine try another."""
    names = {name.name: name for _, name in Library(engines).bundles().values()}
    for key, name in ENGINES.items():
        request = EngineRequest(
            key=key,
            action=EngineAction.ENGINE_ACTION_OFFER,
            bundle=names[name].digest.hex(),
            author="ann",
            reason="better",
        )
        await world.bus.node("test").publish(subjects.rpc(key.partition(".")[0], "engine"), request)


def _send_what_nobody_can_read(world: World) -> None:
    """Put bytes that are no message where each service reads."""
    for subject in ("ctx.v1.regime.nobody", "sig.v1.decision.core.00.sim.nobody"):
        world.bus.keep(Stored(subject, "huracan.context.v1.Context", 1, b"\xff"), subject.encode())


async def _send_the_bars_of_another(world: World) -> None:
    """Send the bars of the market as those of another instrument, with which it then goes together."""
    stored = next(each for each in world.bus.stream if each.subject.startswith("feat.v1.bar_15m."))
    window = FeatureWindow.FromString(stored.data)
    window.instrument.id.symbol = "another"
    subject = subjects.features("bar_15m", window.instrument)
    await world.bus.node("test").publish_acknowledged(subject, window, message_id=b"another")


def _window(delivery: Delivery) -> FeatureWindow:
    window = delivery.decode()
    assert isinstance(window, FeatureWindow)
    return window


async def _send_the_next_window(world: World, window: FeatureWindow) -> None:
    """Make a window that of the next step, and send it."""
    window.step += 1
    window.close_ns += STEP_NS
    subject = subjects.features("micro", window.instrument)
    await world.bus.node("test").publish(subject, window, epoch=window.epoch)


def _begins(used: tuple[str, str], allowed: tuple[str, str]) -> bool:
    """Whether a topic and key fall under a topic and the beginning of its keys."""
    (topic, key), (named, beginning) = used, allowed
    return topic == named and (not beginning or key == beginning or key.startswith(f"{beginning}."))


@pytest.mark.parametrize("service", ["gateway", *SERVICES])
def test_a_service_touches_nothing_beyond_its_access(service: str, seen: Seen) -> None:
    allowed, used = seen.allowed[service], seen.used[service]
    assert {
        name for name in used.publish if not any(subjects.matches(pattern, name) for pattern in allowed.publish)
    } == set()
    assert {entry for entry in used.append if not any(_begins(entry, prefix) for prefix in allowed.append)} == set()
    assert used.subscribe <= set(allowed.subscribe)
    assert used.consume <= set(allowed.consume)
    assert used.latest <= set(allowed.latest)
    assert used.everything <= set(allowed.everything)
    assert used.read <= set(allowed.read)
    assert used.follow <= set(allowed.follow)
    assert used.keys <= set(allowed.keys)


@pytest.mark.parametrize("service", ["gateway", *SERVICES])
def test_a_service_has_no_access_that_it_does_not_use(service: str, seen: Seen) -> None:
    allowed, used = seen.allowed[service], seen.used[service]
    assert {
        pattern for pattern in allowed.publish if not any(subjects.matches(pattern, name) for name in used.publish)
    } == set()
    assert {entry for entry in allowed.append if not any(_begins(name, entry) for name in used.append)} == set()
    assert set(allowed.subscribe) <= used.subscribe
    assert set(allowed.consume) <= used.consume
    assert set(allowed.latest) <= used.latest
    assert set(allowed.everything) <= used.everything
    assert set(allowed.read) <= used.read
    assert set(allowed.follow) <= used.follow
    assert set(allowed.keys) <= used.keys


@pytest.mark.parametrize("service", ["gateway", *SERVICES])
def test_no_other_service_may_speak_where_a_service_speaks(service: str, seen: Seen) -> None:
    others = {name: access for name, access in seen.allowed.items() if name != service}
    shared = {
        (name, subject)
        for subject in seen.used[service].publish
        for name, access in others.items()
        if any(subjects.matches(pattern, subject) for pattern in access.publish)
    }
    assert shared == set()
