"""A NATS server that is killed, hangs or throws its clients out: all goes on, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from nats.aio.msg import Msg
from pydantic import SecretStr

from huracan.bus.nats import bus as nats_bus
from huracan.bus.nats import connection as nats_connection
from huracan.bus.nats import reader
from huracan.bus.nats.bus import NatsBus, NatsDelivery, NatsInbox
from huracan.bus.nats.connection import Connection, NatsLogin
from huracan.bus.nats.streams import make_streams
from huracan.bus.outbox import Outbox
from huracan.clock import SystemClock
from huracan.contracts.market import Bar
from huracan.embedded.nats import NatsServer, NatsUser
from huracan.embedded.ports import free_port
from huracan.embedded.supervisor import Supervisor
from huracan.errors import BadInput, Recoverable
from huracan.ids import derived_id
from huracan.ports import Ports
from huracan.rng import SeededRng
from huracan.store.memory import MemoryStore
from huracan.ticklog.jetstream import JetStreamLog

USER = NatsUser(name="admin", password="right", publish=(">",), subscribe=(">",))
SENT, STORED = "feat.v1.micro.a", "exec.v1.a"
TOPIC, KEY = "huracan.ticks.v1", "sim.btc"


@dataclass
class World:
    """A server of its own, which can be killed and started again on its port and data."""

    directory: Path
    connections: list[Connection] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server = NatsServer(directory=self.directory / "nats", port=free_port(), monitor_port=free_port())
        self.programs = Supervisor(SeededRng(1))

    async def start(self) -> None:
        await self.programs.start(self.server.prepare([USER]))

    async def kill(self) -> None:
        self.programs.send("nats", signal.SIGKILL)
        await self.programs.stop("nats")

    async def restart(self) -> None:
        await self.kill()
        await self.start()

    @property
    def pid(self) -> int:
        pid = self.programs.pid("nats")
        assert pid is not None
        return pid

    def login(self, name: str, password: str = USER.password) -> NatsLogin:
        return NatsLogin(url=self.server.url, name=name, user=USER.name, password=SecretStr(password))

    async def bus(self, name: str) -> NatsBus:
        connection = Connection(self.login(name))
        await connection.open()
        self.connections.append(connection)
        return NatsBus(connection, wall=SystemClock())

    def run(self, work: Awaitable[None]) -> None:
        """Run something beside, until the end."""
        self.tasks.append(asyncio.ensure_future(work))


def _run(directory: Path, scenario: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        world = World(directory)
        try:
            async with asyncio.timeout(60):
                await world.start()
                await make_streams((await world.bus("maker")).connection)
                await scenario(world)
        finally:
            for task in world.tasks:
                task.cancel()
            await asyncio.gather(*world.tasks, return_exceptions=True)
            await asyncio.gather(*(connection.close() for connection in world.connections))
            if world.programs.pid("nats") is not None:
                world.programs.send("nats", signal.SIGCONT)
            await world.programs.stop_all()

    asyncio.run(main())
    gc.collect()  # a connection that was given up and left open is this test's failure, not that of the next one


def _number(delivery: NatsDelivery) -> int:
    message = delivery.decode()
    assert isinstance(message, Bar)
    return message.trades


async def _collect(inbox: NatsInbox, numbers: list[int]) -> None:
    async for delivery in inbox:
        numbers.append(_number(delivery))
        delivery.ack()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not condition():  # noqa: ASYNC110 - a process has no event of ours to set
            await asyncio.sleep(0.01)


async def _back(world: World) -> None:
    await _until(lambda: all(connection.connected for connection in world.connections))


async def _put(bus: NatsBus, *numbers: int) -> None:
    """Store messages through an outbox: each is tried again until it is acknowledged."""
    ports = Ports(bus=bus, log=JetStreamLog(bus), clock=SystemClock(), store=MemoryStore(), rng=SeededRng(1))
    outbox = Outbox(ports)
    for number in numbers:
        await outbox.put(STORED, Bar(trades=number), message_id=derived_id(number))
        await outbox.flush()


async def _stored(bus: NatsBus) -> list[int]:
    return [m.trades for _, m in await JetStreamLog(bus).published(STORED) if isinstance(m, Bar)]


def test_all_goes_on_over_three_kills_and_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path) -> None:
    per_life = 300

    async def scenario(world: World) -> None:
        writer, node = await world.bus("writer"), await world.bus("node")
        numbers: dict[str, list[int]] = {"durable": [], "follower": [], "sent": [], "log": []}
        durable, follower, sent = node.inbox(), node.inbox(), node.inbox()
        durable.consume(STORED, durable="durable")
        follower.everything(STORED)
        sent.subscribe(SENT)
        for inbox, name in ((durable, "durable"), (follower, "follower"), (sent, "sent")):
            world.run(_collect(inbox, numbers[name]))
        log = JetStreamLog(writer)
        world.run(_tail(JetStreamLog(node), numbers["log"]))
        await node.prepared()
        for life in range(4):
            wanted = range(life * per_life, (life + 1) * per_life)
            putting = asyncio.create_task(_put(writer, *wanted))
            if life < 3:
                await _until(lambda: len(numbers["durable"]) > wanted[100])  # noqa: B023
                await world.restart()
            await putting
            await _back(world)
            await _until(lambda: len(numbers["log"]) == life)  # noqa: B023
            await log.append(TOPIC, KEY, Bar(trades=life), record_id=bytes([life]))
            await _until(lambda: node.connection.counts["reconnects"] == min(life + 1, 3))  # noqa: B023
            await node.connection.flush()
            await writer.publish(SENT, Bar(trades=life))
        every = list(range(4 * per_life))
        await _until(lambda: len(numbers["durable"]) >= len(every))
        await _until(lambda: len(numbers["follower"]) == len(every))
        await _until(lambda: len(numbers["sent"]) == 4)
        await _until(lambda: len(numbers["log"]) == 4)
        assert await _stored(writer) == every
        assert numbers["follower"] == every
        assert sorted(numbers["durable"]) == every
        assert numbers["sent"] == numbers["log"] == [0, 1, 2, 3]
        assert writer.connection.counts["reconnects"] == 3
        assert not writer.connection.gone.is_set()

    _run(tmp_path, scenario)


async def _tail(log: JetStreamLog, numbers: list[int]) -> None:
    offset = 0
    while True:
        await log.wait(TOPIC, KEY, offset)
        for record in await log.read(TOPIC, KEY, offset):
            assert isinstance(record.message, Bar)
            assert record.offset >= offset
            numbers.append(record.message.trades)
            offset = record.offset + 1


def test_what_is_in_hand_over_a_restart_is_not_handed_on_again_and_its_acknowledgement_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "ACK_WAIT_S", 0.3)

    async def scenario(world: World) -> None:
        bus = await world.bus("reader")
        await _put(bus, *range(20))
        inbox = bus.inbox()
        inbox.consume(STORED, durable="reader")
        held = [await anext(inbox) for _ in range(20)]
        await world.kill()
        await _until(lambda: not bus.connection.connected)
        for delivery in held[:10]:
            delivery.ack()
        await world.start()
        await _back(world)
        await _put(bus, 20)
        assert _number(await anext(inbox)) == 20
        working: list[bytes] = []
        tell = reader.Reader._tell

        def count(self: reader.Reader, message: Msg, what: bytes) -> None:
            working.append(what)
            tell(self, message, what)

        monkeypatch.setattr(reader.Reader, "_tell", count)
        await _until(lambda: working.count(b"+WPI") >= 10)
        assert len(inbox._queue) == 0
        for delivery in held[10:]:
            delivery.ack()

    _run(tmp_path, scenario)


def test_while_the_server_is_away_the_newest_message_of_each_subject_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_bus, "OUTBOUND_BOUND", 3)

    async def scenario(world: World) -> None:
        writer, node = await world.bus("writer"), await world.bus("node")
        inbox = node.inbox()
        inbox.subscribe("feat.v1.>")
        await node.prepared()
        await node.connection.flush()
        await world.kill()
        await _until(lambda: not writer.connection.connected)
        for number in range(10):
            for name in "abcd":
                await writer.publish(f"feat.v1.{name}", Bar(trades=number))
        assert len(writer._outbound) == 3
        assert writer.counts["published"] == 0
        waiting = [(subject, 9) for subject in writer._outbound]
        assert writer.counts["conflated"] + writer.counts["unsent"] + len(waiting) == 40

        reconnected = asyncio.Event()
        writer.connection.on_reconnected.insert(0, reconnected.wait)  # type: ignore[arg-type]
        await world.start()
        await _back(world)
        await _until(lambda: node.connection.counts["reconnects"] == 1)
        await node.connection.flush()
        fresher = waiting.pop()[0]
        await writer.publish(fresher, Bar(trades=10))
        reconnected.set()
        taken = []
        for _ in range(3):
            delivery = await anext(inbox)
            taken.append((delivery.subject, _number(delivery)))
        assert taken == [(fresher, 10), *waiting]
        assert writer.counts["published"] == 3

    _run(tmp_path, scenario)


def test_a_request_whose_connection_breaks_is_recoverable_and_tried_again_it_is_stored_once(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        bus = await world.bus("writer")
        os.kill(world.pid, signal.SIGSTOP)
        asking = [
            asyncio.create_task(bus.publish_acknowledged(STORED, Bar(trades=number), message_id=derived_id(number)))
            for number in range(10)
        ]
        fetching = asyncio.create_task(bus.connection.request_many("$JS.API.DIRECT.GET.BUS", b'{"batch":1,"seq":1}'))
        await _until(lambda: len(bus.connection._waiting) == 10)
        await bus.connection.publish("feat.v1.x", b"")
        await world.restart()
        for task in (*asking, fetching):
            with pytest.raises(Recoverable, match="went away"):
                await task
        await _put(bus, *range(10))
        assert sorted(await _stored(bus)) == list(range(10))

    _run(tmp_path, scenario)


def test_a_connection_waits_for_a_server_that_is_not_there_yet(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.kill()
        opening = asyncio.create_task(world.bus("early"))
        await asyncio.sleep(0)
        assert not opening.done()
        await world.start()
        await (await opening).publish(SENT, Bar())

    _run(tmp_path, scenario)


def test_a_wrong_password_is_bad_input_and_leaves_nothing_open(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        connection = Connection(world.login("stranger", "wrong"))
        with pytest.raises(BadInput, match="refused user 'admin': check its password"):
            await connection.open()
        assert connection.closed
        assert not connection.gone.is_set()

    _run(tmp_path, scenario)


def test_a_connection_that_the_server_closes_for_good_is_gone(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        bus = await world.bus("node")
        configuration = world.server.directory / "nats-server.conf"
        configuration.write_text(configuration.read_text().replace('password: "right"', 'password: "other"'))
        world.programs.send("nats", signal.SIGHUP)
        await bus.connection.gone.wait()
        assert bus.connection.closed
        with pytest.raises(Recoverable, match="is away"):
            await bus.publish_acknowledged(STORED, Bar(), message_id=b"1")
        await bus.publish(SENT, Bar())
        await bus.drain()

    _run(tmp_path, scenario)


def test_a_connection_closed_by_us_is_not_gone(tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        bus = await world.bus("node")
        await bus.connection.close()
        assert bus.connection.closed
        assert not bus.connection.gone.is_set()

    _run(tmp_path, scenario)


@pytest.mark.parametrize("waiting_bytes", [0, 16_000_000], ids=["nothing", "more than the socket takes"])
def test_a_server_that_hangs_keeps_nobody_from_draining_and_closing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waiting_bytes: int
) -> None:
    for module, name in ((nats_connection, "DRAIN_TIMEOUT_S"), (reader, "CATCH_UP_TIMEOUT_S")):
        monkeypatch.setattr(module, name, 0.5)
    monkeypatch.setattr(nats_connection, "FLUSH_TIMEOUT_S", 0.1)

    async def scenario(world: World) -> None:
        bus = await world.bus("node")
        inbox = bus.inbox()
        inbox.consume(STORED, durable="reader")
        inbox.subscribe(SENT)
        await bus.prepared()
        os.kill(world.pid, signal.SIGSTOP)
        for _ in range(waiting_bytes // 1_000_000):
            await bus.connection.publish(SENT, bytes(1_000_000))
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await bus.drain()
        assert await inbox.take(1) == []
        await bus.connection.close()
        assert bus.connection.closed
        assert loop.time() - began_s < 20
        os.kill(world.pid, signal.SIGCONT)

    _run(tmp_path, scenario)


def test_a_server_that_hangs_with_full_buffers_is_given_up_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_connection, "PING_INTERVAL_S", 0.1)
    monkeypatch.setattr(nats_connection, "FLUSH_TIMEOUT_S", 0.1)
    monkeypatch.setattr(nats_connection, "CONNECT_TIMEOUT_S", 0.3)

    async def scenario(world: World) -> None:
        bus = await world.bus("node")
        inbox = bus.inbox()
        inbox.subscribe("feat.v1.after")
        await bus.prepared()
        os.kill(world.pid, signal.SIGSTOP)
        with contextlib.suppress(Recoverable):
            for _ in range(16):
                await bus.connection.publish(SENT, bytes(1_000_000))
        await _until(lambda: bus.connection.counts["disconnects"] > 0)
        await bus.publish("feat.v1.after", Bar(trades=1))
        os.kill(world.pid, signal.SIGCONT)
        assert _number(await anext(inbox)) == 1

    _run(tmp_path, scenario)


def test_a_bus_whose_server_never_came_back_is_drained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_bus, "PREPARE_TIMEOUT_S", 0.1)
    monkeypatch.setattr(reader, "CATCH_UP_TIMEOUT_S", 0.1)

    async def scenario(world: World) -> None:
        bus = await world.bus("node")
        await world.kill()
        await _until(lambda: not bus.connection.connected)
        inbox = bus.inbox()
        inbox.consume(STORED, durable="reader")
        publishing = asyncio.create_task(bus.publish(SENT, Bar()))
        await bus.drain()
        assert await inbox.take(1) == []
        await publishing
        assert list(bus._outbound) == [SENT]

    _run(tmp_path, scenario)
