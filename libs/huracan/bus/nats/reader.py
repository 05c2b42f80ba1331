"""Read a stream at least once: pull requests renewed for ever, a consumer that is gone made again where it was."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from huracan.bus.nats.connection import Connection, NotThere
from huracan.errors import Recoverable

BATCH = 512
"""Messages asked for at once."""
EXPIRES_S = 30.0
"""How long the server keeps a request that it cannot fill."""
HEARTBEAT_S = 1.0
"""A server that holds a request says so this often; after two silent ones the request is made again."""
MAX_UNACKNOWLEDGED = 1_024
"""Messages under way to one reader; past it the rest wait in the stream."""
ACKNOWLEDGED_KEPT = 4_096
"""Acknowledged messages that a reader remembers: a server that was killed has forgotten the last ones and sends them
again. What is older may be handed on twice."""
ACK_WAIT_S = 2.0
"""An unacknowledged message comes again after this long: to whoever took over from a killed reader."""
UNUSED_AFTER_S = 60.0
"""The server forgets a reader without a durable name after this long without a request."""
RETRY_S = 0.1
CATCH_UP_TIMEOUT_S = 5.0
"""Longest wait for a backlog before a reader stops; what is left is there for whoever comes next."""

Start = Literal["all", "last_per_subject"]

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """A message of a stream with its place in it."""

    message: Msg
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What to read."""

    stream: str
    pattern: str
    name: str
    """The consumer's name on the server: without dots, wildcards and spaces."""
    durable: bool
    """Whether the server keeps the place for whoever comes next under this name."""
    start: Start | int = "all"
    """Where a reader begins that has no place yet: a number is a stream sequence."""


class Reader:
    """Hand every matching message of a stream to a callback, in order, over reconnects and server restarts.

    A message that comes again while it is still in hand, or although it was acknowledged here, is not handed on again.
    When it can never go on, because this user may not read or the stream refuses it, `failed` is told.
    """

    def __init__(
        self,
        connection: Connection,
        reading: Reading,
        deliver: Callable[[StreamMessage], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self.reading = reading
        self.newest = 0
        """Stream sequence of the newest message handed on, here or by whoever had the durable name before."""
        self._connection = connection
        self._deliver = deliver
        self._failed = failed
        self._in_hand: set[int] = set()
        self._acknowledged: OrderedDict[int, None] = OrderedDict()
        self._left = 0
        self._heard = asyncio.Event()
        self._lost = False
        self._discarded_to = 0
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Make the consumer and begin; raise Fatal when this user may not, or the stream refuses it."""
        self._inbox = self._connection.new_inbox()
        try:
            self._subscription = await self._connection.subscribe(self._inbox, self._receive)
            self._connection.on_reconnected.append(self._reconnected)
            await self._again(self._make)
        except Exception as error:
            await self.stop()
            self._failed(error)
            raise
        self._task = asyncio.create_task(self._pull(), name=f"read {self.reading.name}")
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._failed(error)

    async def stop(self) -> None:
        """Ask for no more; what is in hand can still be acknowledged."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._reconnected in self._connection.on_reconnected:
            self._connection.on_reconnected.remove(self._reconnected)
        if self._subscription is not None:
            await self._connection.unsubscribe(self._subscription)

    async def catch_up(self) -> None:
        """Return once all that the stream has now is here, or after 5 s in which the server has not said so.

        Of a durable that includes what another had in hand when it was killed: that comes again after `ACK_WAIT_S`.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CATCH_UP_TIMEOUT_S):
                while await self._misses():  # noqa: ASYNC110 - the server's affair
                    await asyncio.sleep(RETRY_S / 10)

    async def _misses(self) -> bool:
        """Return whether the server has, or another had, what is not here yet: its answer may overtake a message."""
        subject = f"$JS.API.CONSUMER.INFO.{self.reading.stream}.{self.reading.name}"
        try:
            told: Any = await self._connection.ask(subject)
        except Recoverable:
            return True
        return bool(told["num_pending"] or told["num_ack_pending"] > len(self._in_hand))

    def acknowledge(self, received: StreamMessage) -> None:
        """Tell the server that a message is dealt with; one that it does not hear of comes again."""
        self._in_hand.discard(received.sequence)
        self._acknowledged[received.sequence] = None
        if len(self._acknowledged) > ACKNOWLEDGED_KEPT:
            self._acknowledged.popitem(last=False)
        self._tell(received.message, b"+ACK")

    def _tell(self, message: Msg, what: bytes) -> None:
        self._connection.send_soon(message.reply, what)

    async def _again(self, attempt: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await attempt()
            except Recoverable as error:
                logger.warning("bus.reader_waits", reader=self.reading.name, error=str(error))
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _make(self) -> None:
        """Find a durable consumer or make it; make any other anew, to begin after the newest message handed on."""
        reading = self.reading
        if not reading.durable:
            with contextlib.suppress(NotThere):
                await self._connection.ask(f"$JS.API.CONSUMER.DELETE.{reading.stream}.{reading.name}")
        config: dict[str, object] = {
            "name": reading.name,
            "filter_subject": reading.pattern,
            "ack_policy": "explicit",
            "ack_wait": int(ACK_WAIT_S * 1e9),
            "max_ack_pending": MAX_UNACKNOWLEDGED,
            "replay_policy": "instant",
        }
        if reading.durable:
            config["durable_name"] = reading.name
        else:
            config["inactive_threshold"] = int(UNUSED_AFTER_S * 1e9)
            config["mem_storage"] = True
        start = self.newest + 1 if self.newest and not reading.durable else reading.start
        if isinstance(start, int):
            config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": max(start, 1)}
        else:
            config["deliver_policy"] = start
        subject = f"$JS.API.CONSUMER.CREATE.{reading.stream}.{reading.name}.{reading.pattern}"
        state: Any = await self._connection.ask(subject, {"stream_name": reading.stream, "config": config})
        if reading.durable and not self.newest:
            done = state["ack_floor"] if state["num_ack_pending"] else state["delivered"]
            self.newest = done["stream_seq"]
        if reading.durable:
            await self._count_discarded()

    async def _count_discarded(self) -> None:
        """Count what a full stream threw away before this durable came to it, with what was of other subjects."""
        told: Any = await self._connection.ask(f"$JS.API.STREAM.INFO.{self.reading.stream}")
        before = told["state"]["first_seq"] - 1
        discarded = before - max(self.newest, self._discarded_to)
        if discarded > 0:
            self._discarded_to = before
            self._connection.counts["discarded"] += discarded
            logger.warning("bus.discarded", reader=self.reading.name, stream=self.reading.stream, at_most=discarded)

    async def _pull(self) -> None:
        """Keep one request open; when the server forgot the consumer, make it again."""
        while True:
            try:
                if self._lost:
                    await self._make()
                    self._lost = False
                await self._request()
            except Recoverable:
                await asyncio.sleep(RETRY_S)
                continue
            while self._left > 0 and not self._lost:
                self._heard.clear()
                try:
                    async with asyncio.timeout(2 * HEARTBEAT_S):
                        await self._heard.wait()
                except TimeoutError:
                    self._left = 0

    async def _request(self) -> None:
        reading = self.reading
        self._left = BATCH
        wanted = {"batch": BATCH, "expires": int(EXPIRES_S * 1e9), "idle_heartbeat": int(HEARTBEAT_S * 1e9)}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{reading.stream}.{reading.name}"
        await self._connection.publish(subject, json.dumps(wanted).encode(), reply=self._inbox)

    async def _receive(self, message: Msg) -> None:
        self._heard.set()
        status = message.headers.get("Status") if message.headers else None
        if status is not None and not message.reply.startswith("$JS.ACK"):
            self._told(status, (message.headers or {}).get("Description", ""))
            return
        self._left -= 1
        received = StreamMessage(message, _sequence(message.reply))
        if received.sequence in self._in_hand:
            self._tell(message, b"+WPI")
            return
        if received.sequence in self._acknowledged or (not self.reading.durable and received.sequence <= self.newest):
            self._tell(message, b"+ACK")  # the server was killed before it heard, or a consumer was made again
            return
        self._in_hand.add(received.sequence)
        self.newest = max(self.newest, received.sequence)
        self._deliver(received)

    def _told(self, status: str, description: str) -> None:
        """Take what the server says of the request: 100 it holds it, 404 and 408 it is over, else it is in trouble."""
        if status == "100":
            return
        self._left = 0
        if status not in ("404", "408"):
            self._lost = True
            logger.info("bus.reader_lost", reader=self.reading.name, status=status, description=description)

    async def _reconnected(self) -> None:
        self._left, self._lost = 0, True
        self._heard.set()


def _sequence(reply: str) -> int:
    """Return the stream sequence that an acknowledgement subject names: $JS.ACK.[domain.account.]stream.consumer.…"""
    tokens = reply.split(".")
    return int(tokens[5] if len(tokens) == 9 else tokens[7])
