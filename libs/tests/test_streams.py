"""The streams on a real server: what they keep of the gateway's word, and how an older release's come to keep it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from huracan.bus import subjects
from huracan.bus.nats import streams
from huracan.bus.nats.bus import NatsBus
from huracan.bus.nats.connection import Connection, NatsLogin
from huracan.bus.nats.streams import ACKNOWLEDGED, BUS, STREAMS, Stream, make_streams, stream_of
from huracan.clock import SystemClock
from huracan.contracts.market import Anomaly, Reliability
from huracan.contracts.ops import FeedChanged, GapDetected
from huracan.embedded.nats import NatsServer, NatsUser
from huracan.embedded.ports import free_port
from huracan.embedded.supervisor import running
from huracan.errors import Recoverable

WORD = {
    subjects.ops("gateway", "anomaly"): Anomaly(anomaly_id=b"1"),
    subjects.ops("gateway", "reliability"): Reliability(hour_ns=1, to_ns=2),
    subjects.ops("gateway", "feed"): FeedChanged(change_id=b"1"),
}


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Run a server without any streams, and give its URL."""
    server = NatsServer(directory=tmp_path / "nats", port=free_port(), monitor_port=free_port())
    with running(server.prepare([NatsUser(name="admin", password="p", publish=(">",), subscribe=(">",))])):
        yield server.url


def _run(url: str, scenario: Callable[[Connection], Awaitable[None]]) -> None:
    async def main() -> None:
        connection = Connection(NatsLogin(url=url, name="admin", password=SecretStr("p")))
        async with asyncio.timeout(60):
            try:
                await connection.open()
                await scenario(connection)
            finally:
                await connection.close()

    asyncio.run(main())


async def _say(bus: NatsBus) -> None:
    for number, (subject, message) in enumerate(WORD.items()):
        await bus.publish_acknowledged(subject, message, message_id=bytes([number]))


async def _kept(connection: Connection) -> object:
    state = (await connection.ask(f"$JS.API.STREAM.INFO.{BUS.name}"))["state"]
    assert isinstance(state, dict)
    return state["messages"]


def test_anomalies_reliability_and_feeds_are_kept_once_and_gaps_are_not(url: str) -> None:
    async def scenario(connection: Connection) -> None:
        await make_streams(connection)
        bus = NatsBus(connection, wall=SystemClock())
        await _say(bus)
        await _say(bus)
        with pytest.raises(Recoverable, match="nobody answers"):
            await bus.publish_acknowledged(subjects.ops("gateway", "gap"), GapDetected(), message_id=b"gap")
        inbox = bus.inbox()
        for subject in WORD:
            inbox.consume(subject, durable="persister")
        await bus.prepared()
        heard = [await anext(inbox) for _ in WORD]
        assert {delivery.subject: delivery.decode() for delivery in heard} == WORD
        assert await _kept(connection) == len(WORD)
        inbox.close()

    _run(url, scenario)


def test_the_streams_of_an_older_release_are_brought_up_to_date_with_what_they_hold(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = Stream(BUS.name, tuple(subject for subject in ACKNOWLEDGED if subject not in WORD), BUS.max_bytes)

    async def scenario(connection: Connection) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(streams, "STREAMS", tuple(older if stream is BUS else stream for stream in STREAMS))
            await make_streams(connection)
        bus = NatsBus(connection, wall=SystemClock())
        await bus.publish_acknowledged(subjects.ops("gateway", "service"), FeedChanged(), message_id=b"before")
        await make_streams(connection)
        await _say(bus)
        assert await _kept(connection) == 1 + len(WORD)

    _run(url, scenario)


def test_what_a_full_stream_discarded_while_it_waited_for_a_durable_is_counted_once(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = dataclasses.replace(BUS, max_bytes=1 << 20)
    monkeypatch.setattr(streams, "STREAMS", tuple(small if stream is BUS else stream for stream in STREAMS))
    subject = subjects.ops("gateway", "feed")

    async def scenario(connection: Connection) -> None:
        await make_streams(connection)
        bus = NatsBus(connection, wall=SystemClock())
        inbox = bus.inbox()
        inbox.consume(subject, durable="persister")
        await bus.prepared()
        assert connection.counts["discarded"] == 0
        inbox.close()
        await bus.prepared()
        for number in range(200):
            news = FeedChanged(change_id=bytes([number]), detail="x" * 10_000)
            await bus.publish_acknowledged(subject, news, message_id=news.change_id)
        kept = int(str(await _kept(connection)))
        assert 0 < kept < 200
        inbox = bus.inbox()
        inbox.consume(subject, durable="persister")
        await bus.prepared()
        assert connection.counts["discarded"] == 200 - kept
        for _ in range(kept):
            (await anext(inbox)).ack()
        for reconnected in connection.on_reconnected:
            await reconnected()
        await inbox.catch_up()
        assert connection.counts["discarded"] == 200 - kept
        inbox.close()
        await bus.prepared()

    _run(url, scenario)


def test_no_subject_is_in_two_streams() -> None:
    patterns = [(stream.name, subject) for stream in STREAMS for subject in stream.subjects]
    for name, pattern in patterns:
        for other, subject in patterns:
            assert name == other or not subjects.matches(pattern, subject), (pattern, subject)
    assert {stream_of(subject) for subject in WORD} == {BUS.name}
