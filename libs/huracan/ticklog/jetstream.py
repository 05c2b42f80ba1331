"""The TickLog port on JetStream: one stream a topic, one subject a key, the stream sequence as the offset."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Mapping, Sequence

from google.protobuf.message import Message
from nats.aio.msg import Msg

from huracan.bus import subjects
from huracan.bus.nats.bus import SCHEMA, NatsBus, follower_name
from huracan.bus.nats.reader import MAX_UNACKNOWLEDGED, Reader, Reading, StreamMessage
from huracan.bus.nats.streams import STREAM_OF_TOPIC, stream_of
from huracan.errors import Fatal, PartlyAppended, Recoverable
from huracan.ids import derived_id
from huracan.ports import Record
from huracan.ticklog.record import fitting, record_of

BATCH = 1_000
"""Records that the server sends for one request."""
RETRY_S = 0.1

_END, _NOTHING = "204", "404"


class JetStreamLog:
    """Append acknowledged, once under each id; read straight from the stream; follow a key once it is waited for."""

    def __init__(self, bus: NatsBus) -> None:
        self._bus = bus
        self._connection = bus.connection
        self._tails: dict[tuple[str, str], _Tail] = {}
        self._known: dict[tuple[str, str], int] = {}

    async def append(self, topic: str, key: str, message: Message, *, record_id: bytes) -> int:
        """Append once under the id and return the offset; raise Recoverable when no acknowledgement came."""
        subject = subjects.log(topic, key)
        message_id = derived_id(subject, record_id)  # the stream knows ids over all its subjects, a key has its own
        kept = fitting(message, self._connection.max_payload * 7 // 8)  # the rest is for its headers
        return self._know(topic, key, await self._bus.store(subject, kept, message_id=message_id))

    async def append_all(self, topic: str, key: str, records: Sequence[tuple[Message, bytes]]) -> list[int]:
        """Append in order, each once under its id; raise PartlyAppended when no acknowledgement came of one.

        Each waits for the one before it: a server that refuses one may take the next, and order would be lost.
        """
        offsets: list[int] = []
        for message, record_id in records:
            try:
                offsets.append(await self.append(topic, key, message, record_id=record_id))
            except Recoverable as error:
                raise PartlyAppended(str(error), acknowledged=len(offsets)) from None
        return offsets

    async def read(self, topic: str, key: str, offset: int, *, limit: int | None = None) -> Sequence[Record]:
        """Return the records from an offset on that are there now, oldest first, at most `limit`.

        Waits for a server that is away.
        """
        tail = self._tails.get((topic, key))
        if tail is not None and offset >= tail.first and tail.has_up_to(self._known.get((topic, key), 0)):
            return tail.read(offset)[:limit]
        messages = await self._read(STREAM_OF_TOPIC[topic], subjects.log(topic, key), offset, limit)
        records = [_record(topic, message) for message in messages]
        self._know(topic, key, records[-1].offset if records else 0)
        return records

    def _know(self, topic: str, key: str, offset: int) -> int:
        """Note that there is a record at an offset: who was told of it must find it."""
        self._known[topic, key] = max(offset, self._known.get((topic, key), 0))
        return offset

    async def published(self, pattern: str) -> list[tuple[str, Message]]:
        """Return subject and message of all that the acknowledged path has under a pattern, oldest first."""
        messages = await self._read(stream_of(pattern), pattern, 0)
        return [((message.headers or {})["Nats-Subject"], _record(pattern, message).message) for message in messages]

    async def _read(self, stream: str, pattern: str, offset: int, limit: int | None = None) -> list[Msg]:
        messages: list[Msg] = []
        wanted = max(offset, 1)
        while True:
            size = BATCH if limit is None else min(BATCH, limit - len(messages))
            batch = await self._get(stream, {"seq": wanted, "next_by_subj": pattern, "batch": size})
            messages += batch[:-1]
            last = batch[-1].headers or {}
            if len(messages) == limit:
                return messages
            if last.get("Status") == _NOTHING or int(last.get("Nats-Num-Pending", "0")) == 0:
                return messages
            wanted = _offset(messages[-1]) + 1

    async def last(self, topic: str, key: str) -> Record | None:
        """Return the newest record, or None when there is none; wait for a server that is away."""
        found = await self._last(topic, key)
        return None if found is None else _record(topic, found)

    async def _last(self, topic: str, key: str) -> Msg | None:
        (found,) = await self._get(STREAM_OF_TOPIC[topic], {"last_by_subj": subjects.log(topic, key)})
        if _status(found) == _NOTHING:
            return None
        self._know(topic, key, _offset(found))
        return found

    async def wait(self, topic: str, key: str, offset: int) -> None:
        """Return once there is a record at this offset or after it: from now on the key is followed."""
        if (topic, key) not in self._tails:
            last = await self._last(topic, key)
            first = 0 if last is None else _offset(last) + 1
            if offset < first:
                return
            if (topic, key) not in self._tails:  # another may have come here meanwhile
                self._tails[topic, key] = _Tail(self._bus, topic, key, first)
        await self._tails[topic, key].wait(offset)

    async def keys(self, topic: str) -> list[str]:
        """Return the keys of a topic that have records, sorted; wait for a server that is away."""
        pattern = subjects.log_pattern(topic)
        asked = f"$JS.API.STREAM.INFO.{STREAM_OF_TOPIC[topic]}"
        while True:
            try:
                state = (await self._connection.ask(asked, {"subjects_filter": pattern}))["state"]
                break
            except Recoverable:
                await asyncio.sleep(RETRY_S)
        assert isinstance(state, dict)
        return sorted(subjects.log_key(topic, subject) for subject in state.get("subjects") or {})

    async def _get(self, stream: str, wanted: Mapping[str, object]) -> list[Msg]:
        """Return what a direct get gives: records, then, of a batch, a status."""
        subject, question = f"$JS.API.DIRECT.GET.{stream}", json.dumps(wanted).encode()
        while True:
            try:
                if "batch" in wanted:
                    answers = await self._connection.request_many(subject, question)
                else:
                    answers = [await self._connection.request(subject, question)]
            except Recoverable:
                await asyncio.sleep(RETRY_S)
                continue
            if _status(answers[-1]) in (_END, _NOTHING, ""):
                return answers
            # 503: JetStream is not ready yet; 408 and 413 do not happen to a valid request.
            await asyncio.sleep(RETRY_S)


class _Tail:
    """A key that is followed: its records from an offset on, as they come, until they are read.

    It is made by someone who had read all there was, so a record lies before its first offset unless that is 0.
    """

    def __init__(self, bus: NatsBus, topic: str, key: str, offset: int) -> None:
        self.first = offset
        """Records before it are not here."""
        stream, pattern = STREAM_OF_TOPIC[topic], subjects.log(topic, key)
        name = follower_name(bus.connection.login.name, "tail", pattern)
        reading = Reading(stream=stream, pattern=pattern, name=name, durable=False, start=offset)
        self._reader = Reader(bus.connection, reading, self._deliver, self._fail)
        self._topic = topic
        self._beginning = offset
        self._newest = offset - 1
        self._records: deque[StreamMessage] = deque()
        self._grown = asyncio.Event()
        self._failure: Exception | None = None
        self._starting = asyncio.create_task(self._start())

    async def _start(self) -> None:
        with contextlib.suppress(Fatal):  # whoever waits is told
            await self._reader.start()

    def _deliver(self, received: StreamMessage) -> None:
        self._records.append(received)
        self._newest = received.sequence
        self._grown.set()

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._grown.set()

    def has_up_to(self, offset: int) -> bool:
        """Return whether it has all up to an offset, and as far as it knows all that there is."""
        return self._newest >= offset and not self._is_full

    @property
    def _is_full(self) -> bool:
        return len(self._records) >= MAX_UNACKNOWLEDGED

    def read(self, offset: int) -> list[Record]:
        """Return the records from an offset on; those before it are done with."""
        self._forget(offset)
        return [_record(self._topic, received.message, received.sequence) for received in self._records]

    def _forget(self, offset: int) -> None:
        while self._records and self._records[0].sequence < offset:
            self._reader.acknowledge(self._records.popleft())
        self.first = max(self.first, offset)

    async def wait(self, offset: int) -> None:
        """Return once there is a record at this offset or after it; raise what keeps the key from being followed."""
        while self._newest < offset and offset >= self._beginning:
            if self._failure is not None:
                raise self._failure
            if self._is_full:
                self._forget(offset)
            self._grown.clear()
            await self._grown.wait()


def _status(message: Msg) -> str:
    return (message.headers or {}).get("Status", "")


def _record(place: str, message: Msg, sequence: int | None = None) -> Record:
    schema = (message.headers or {}).get(SCHEMA, "")
    return record_of(place, _offset(message) if sequence is None else sequence, schema, message.data)


def _offset(message: Msg) -> int:
    return int((message.headers or {})["Nats-Sequence"])
