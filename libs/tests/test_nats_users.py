"""Who may do what, as the server has it: a service what its access names, a desk to hear its own, a watcher to hear."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from nats.aio.msg import Msg
from pydantic import SecretStr

from huracan.bus import subjects
from huracan.bus.access import Access
from huracan.bus.nats.bus import NatsBus, NatsDelivery, NatsInbox
from huracan.bus.nats.connection import Connection, NatsLogin
from huracan.bus.nats.streams import make_streams
from huracan.bus.nats.users import (
    EVERYTHING,
    desk_permissions,
    service_permissions,
    watcher_permissions,
)
from huracan.clock import SystemClock
from huracan.contracts.market import Bar
from huracan.embedded.nats import NatsServer, NatsUser
from huracan.embedded.ports import free_port
from huracan.embedded.supervisor import running
from huracan.errors import Fatal
from huracan.ids import derived_id
from huracan.ticklog.jetstream import JetStreamLog

DLQ = subjects.dead_letters(subjects.JOURNAL_TOPIC)
ACCESS = Access(
    publish=("exec.v1.paper.>", "feat.v1.micro.>"),
    subscribe=("sig.v1.flow.>",),
    consume=(("executor.paper", "sig.v1.decision.core.>"),),
    latest=("ctx.v1.>",),
    everything=("news.v1.*",),
    append=((subjects.JOURNAL_TOPIC, "account.paper"), (subjects.JOURNAL_TOPIC, "context"), (DLQ, "executor")),
    read=(subjects.JOURNAL_TOPIC, subjects.TICKS_TOPIC),
    follow=(subjects.TICKS_TOPIC,),
)
PERMISSIONS = {
    "admin": EVERYTHING,
    "executor": service_permissions("executor", ACCESS),
    "other": service_permissions("other", Access()),
    "desk": desk_permissions("desk", strategies=("core",), accounts=("paper",)),
    "watcher": watcher_permissions("watcher"),
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a server with these users, and give its URL."""
    directory: Path = tmp_path_factory.mktemp("users")
    server = NatsServer(directory=directory / "nats", port=free_port(), monitor_port=free_port())
    users = [
        NatsUser(name=name, password=f"{name}'s", publish=allowed.publish, subscribe=allowed.subscribe)
        for name, allowed in PERMISSIONS.items()
    ]
    with running(server.prepare(users)):
        yield server.url


Buses = dict[str, NatsBus]


def _run(url: str, scenario: Callable[[Buses], Awaitable[None]]) -> None:
    async def main() -> None:
        logins = [NatsLogin(url=url, name=name, password=SecretStr(f"{name}'s")) for name in PERMISSIONS]
        connections = [Connection(login) for login in logins]
        async with asyncio.timeout(60):
            try:
                for connection in connections:
                    await connection.open()
                await make_streams(connections[0])
                await scenario({c.login.name: NatsBus(c, wall=SystemClock()) for c in connections})
            finally:
                await asyncio.gather(*(connection.close() for connection in connections))

    asyncio.run(main())


def _number(delivery: NatsDelivery) -> int:
    message = delivery.decode()
    assert isinstance(message, Bar)
    return message.trades


async def _store(bus: NatsBus, subject: str, number: int) -> None:
    await bus.publish_acknowledged(subject, Bar(trades=number), message_id=derived_id(subject, number))


async def _refused(bus: NatsBus, count: int) -> None:
    async with asyncio.timeout(30):
        while bus.connection.counts["refused"] < count:  # noqa: ASYNC110 - the server's affair
            await asyncio.sleep(0.01)


async def _is_refused(inbox: NatsInbox, match: str) -> None:
    with pytest.raises(Fatal, match=match):
        await inbox.take(1)


def test_a_service_reads_and_writes_what_its_access_names(url: str) -> None:
    async def scenario(buses: Buses) -> None:
        admin, bus = buses["admin"], buses["executor"]
        written = {"sig.v1.decision.core.00.sim.btc": 1, "ctx.v1.regime.btc": 2, "news.v1.wire": 3}
        inbox = bus.inbox()
        inbox.consume("sig.v1.decision.core.>", durable="executor.paper")
        inbox.latest("ctx.v1.>")
        inbox.everything("news.v1.*")
        inbox.subscribe("sig.v1.flow.>", group="executor")
        await bus.prepared()
        await bus.connection.flush()
        for subject, number in written.items():
            await _store(admin, subject, number)
        await admin.publish("sig.v1.flow.00.sim.btc", Bar(trades=4))
        taken = [await anext(inbox) for _ in range(4)]
        for delivery in taken:
            delivery.ack()
        assert {d.subject: _number(d) for d in taken} == {**written, "sig.v1.flow.00.sim.btc": 4}
        await _store(bus, "exec.v1.paper.order.sim.btc", 1)
        await bus.publish("feat.v1.micro.00.sim.btc", Bar())
        await bus.drain()
        assert await inbox.take(1) == []
        await bus.connection.flush()
        assert bus.connection.counts["refused"] == 0

    _run(url, scenario)


def test_a_service_keeps_and_follows_the_logs_that_its_access_names(url: str) -> None:
    async def scenario(buses: Buses) -> None:
        log, ticks = JetStreamLog(buses["executor"]), JetStreamLog(buses["admin"])
        for topic, key in (
            (subjects.JOURNAL_TOPIC, "account.paper"),
            (subjects.JOURNAL_TOPIC, "context.regime.btc"),
            (DLQ, "executor"),
        ):
            await log.append(topic, key, Bar(trades=1), record_id=b"1")
        assert len(await log.read(subjects.JOURNAL_TOPIC, "account.paper", 0)) == 1
        assert await log.last(subjects.JOURNAL_TOPIC, "context.regime.btc") is not None
        for topic, key in ((subjects.JOURNAL_TOPIC, "account.other"), (subjects.JOURNAL_TOPIC, "shard.00"), (DLQ, "x")):
            with pytest.raises(Fatal, match=r"user 'executor' has no permission for publish on log\.v1"):
                await log.append(topic, key, Bar(), record_id=b"1")
        for number in range(3):
            offset = await ticks.append(subjects.TICKS_TOPIC, "sim.btc", Bar(trades=number), record_id=bytes([number]))
            await log.wait(subjects.TICKS_TOPIC, "sim.btc", offset)
            assert len(await log.read(subjects.TICKS_TOPIC, "sim.btc", offset)) == 1
            following = asyncio.create_task(log.wait(subjects.TICKS_TOPIC, "sim.btc", offset + 1))
        await ticks.append(subjects.TICKS_TOPIC, "sim.btc", Bar(trades=3), record_id=b"3")
        await following
        with pytest.raises(Fatal, match=r"no permission for publish on \$JS\.API\.DIRECT\.GET\.FEATURES"):
            await log.read(subjects.FEATURES_TOPIC, "sim.btc", 0)
        reading = Access(read=(subjects.TICKS_TOPIC,))
        assert "$JS.API.CONSUMER" not in str(service_permissions("executor", reading))

    _run(url, scenario)


def test_publishing_elsewhere_is_fatal_and_names_user_and_subject(url: str) -> None:
    async def scenario(buses: Buses) -> None:
        bus = buses["executor"]
        with pytest.raises(Fatal, match=r"^user 'executor' has no permission for publish on exec\.v1\.other\.order"):
            await _store(bus, "exec.v1.other.order.sim.btc", 1)
        await bus.publish("sig.v1.Flow", Bar())
        await _refused(bus, 2)
        with pytest.raises(Fatal, match=r"^user 'executor' has no permission for publish on sig\.v1\.Flow$"):
            await bus.publish("sig.v1.Flow", Bar())
        await _store(bus, "exec.v1.paper.order.sim.btc", 2)

    _run(url, scenario)


def test_listening_elsewhere_is_fatal_to_whoever_takes(url: str) -> None:
    async def scenario(buses: Buses) -> None:
        bus = buses["executor"]
        inboxes = [bus.inbox() for _ in range(3)]
        inboxes[0].subscribe("sig.v1.Regime.>")
        inboxes[1].subscribe("sig.v1.flow.>")
        inboxes[1].subscribe(">", group="all")
        inboxes[2].subscribe("sig.v1.flow.>")
        await _is_refused(inboxes[0], r"user 'executor' has no permission for subscription on sig\.v1\.regime\.>")
        await _is_refused(inboxes[1], "user 'executor' has no permission for subscription on >")
        await buses["admin"].publish("sig.v1.flow.x", Bar(trades=5))
        assert _number(await anext(inboxes[2])) == 5

    _run(url, scenario)


@pytest.mark.parametrize(
    ("pattern", "durable"),
    [
        ("sig.v1.decision.>", "executor.paper"),
        ("sig.v1.decision.core.>", "executor.other"),
        ("exec.v1.>", "executor.paper"),
    ],
)
def test_consuming_another_pattern_or_under_another_name_is_fatal(url: str, pattern: str, durable: str) -> None:
    async def scenario(buses: Buses) -> None:
        inbox = buses["executor"].inbox()
        inbox.consume(pattern, durable=durable)
        await _is_refused(inbox, r"user 'executor' has no permission for publish on \$JS\.API\.CONSUMER\.CREATE\.BUS")
        with pytest.raises(Fatal, match="no permission"):
            await buses["executor"].publish("exec.v1.paper.x", Bar())

    _run(url, scenario)


@pytest.mark.parametrize("verb", ["latest", "everything"])
def test_following_another_pattern_is_fatal(url: str, verb: str) -> None:
    async def scenario(buses: Buses) -> None:
        inbox = buses["executor"].inbox()
        getattr(inbox, verb)("exec.v1.>")
        await _is_refused(inbox, "user 'executor' has no permission for publish on")

    _run(url, scenario)


@pytest.mark.parametrize("listener", ["other", "executor", "desk", "watcher"])
def test_nobody_hears_the_answers_to_another(url: str, listener: str) -> None:
    async def scenario(buses: Buses) -> None:
        refused: list[str] = []
        connection = buses[listener].connection
        connection.on_refused.append(lambda subject, _: refused.append(subject))
        heard: list[Msg] = []

        async def receive(message: Msg) -> None:
            heard.append(message)

        for subject in ("_INBOX_admin.>", ">", "$JS.>", "log.v1.>"):
            await connection.subscribe(subject, receive)
        await connection.flush()
        assert refused == ["_inbox_admin.>", ">", "$js.>", "log.v1.>"]
        await _store(buses["admin"], "ctx.v1.a.b", 1)
        await connection.flush()
        assert heard == []

    _run(url, scenario)


def test_a_desk_hears_its_strategy_and_its_account_and_no_other(url: str) -> None:
    async def scenario(buses: Buses) -> None:
        admin, desk = buses["admin"], buses["desk"]
        mine = ("sig.v1.decision.core.>", "sig.v1.signal.core.>", "exec.v1.paper.>")
        inbox = desk.inbox()
        for pattern in mine:
            inbox.subscribe(pattern)
        await desk.prepared()
        await desk.connection.flush()
        for number, pattern in enumerate(mine):
            await admin.publish(pattern.replace(">", "x"), Bar(trades=number))
        assert [_number(await anext(inbox)) for _ in mine] == [0, 1, 2]
        for pattern in ("exec.v1.other.>", "exec.v1.>", "sig.v1.decision.>", "sig.v1.flow.>", ">", "log.v1.>"):
            inbox = desk.inbox()
            inbox.subscribe(pattern)
            await _is_refused(inbox, "user 'desk' has no permission for subscription on")

    _run(url, scenario)


@pytest.mark.parametrize("listener", ["desk", "watcher"])
def test_who_only_hears_publishes_nothing_and_asks_jetstream_nothing(url: str, listener: str) -> None:
    async def scenario(buses: Buses) -> None:
        bus = buses[listener]
        heard = buses["admin"].inbox()
        heard.subscribe("exec.v1.paper.>")
        await buses["admin"].prepared()
        await buses["admin"].connection.flush()
        with pytest.raises(Fatal, match=f"user '{listener}' has no permission for publish on exec"):
            await _store(bus, "exec.v1.paper.order.sim.btc", 9)
        await bus.publish("exec.v1.paper.fill.sim.btc", Bar())
        await _refused(bus, 2)
        for question in ("$JS.API.STREAM.INFO.BUS", "$JS.API.INFO", "$JS.API.STREAM.DELETE.BUS"):
            with pytest.raises(Fatal, match="no permission for publish on"):
                await bus.connection.ask(question)
        inbox = bus.inbox()
        inbox.latest("ctx.v1.>")
        await _is_refused(inbox, "no permission for publish on")
        with pytest.raises(Fatal, match="no permission"):
            await JetStreamLog(bus).read(subjects.JOURNAL_TOPIC, "shard.00", 0)
        await buses["admin"].publish("exec.v1.paper.x", Bar(trades=7))
        assert _number(await anext(heard)) == 7

    _run(url, scenario)


def test_a_watcher_hears_what_is_said_in_the_open(url: str) -> None:
    async def scenario(buses: Buses) -> None:
        inbox = buses["watcher"].inbox()
        for pattern in ("sig.v1.>", "exec.v1.>", "ops.v1.>"):
            inbox.subscribe(pattern)
        await buses["watcher"].prepared()
        await buses["watcher"].connection.flush()
        await buses["admin"].publish("exec.v1.any.order.sim.btc", Bar(trades=1))
        assert _number(await anext(inbox)) == 1

    _run(url, scenario)


def test_a_service_whose_name_is_not_its_user_is_told_that_it_cannot_hear_answers(url: str) -> None:
    async def scenario(buses: Buses) -> None:
        connection = Connection(NatsLogin(url=url, name="gateway", user="executor", password=SecretStr("executor's")))
        await connection.open()
        bus = NatsBus(connection, wall=SystemClock())
        await _refused(bus, 1)
        with pytest.raises(Fatal, match="user 'executor' may not hear the answers to 'gateway': give them one name"):
            await _store(bus, "exec.v1.paper.x", 1)
        await connection.close()

    _run(url, scenario)
