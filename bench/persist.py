"""Ticks into the log and out again, on a Kafka broker of its own: `make bench-persist`.

Two ways to keep the same ticks: one record a tick (a protobuf `MarketData` of some 50 bytes, many in one call), and one
record a `TickBatch` of 256. Each is appended by this process until the broker has acknowledged every record, and read,
decoded and counted by another process while it is; the rate is over the time until the last is counted. Beside them,
the same without us: the library's own `send`, and librdkafka where confluent-kafka is installed. All in one run.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import json
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.contracts import codec
from huracan.contracts.market import TickBatch, tick_columns
from huracan.contracts.trading.data.v1.trading_data_pb2 import MarketData
from huracan.embedded.kafka import KafkaServer
from huracan.embedded.ports import free_port
from huracan.embedded.supervisor import running
from huracan.ids import derived_id
from huracan.service.loop import new_event_loop
from huracan.ticklog.kafka.config import KafkaConfig
from huracan.ticklog.kafka.log import KafkaLog
from huracan.ticklog.kafka.topics import make_topics

ROWS = 256
AT_ONCE = 4_096
"""Records in one call of `append_all`."""
CALLS = 4
"""Such calls on their way at once."""
FETCHED = 5_000
ACK_MS = 60_000
"""A call's time: the bench measures a busy machine, it does not give up on it."""
SHARES: Mapping[Literal["none", "zstd", "lz4", "gzip"], float] = {"none": 1, "zstd": 1, "lz4": 0.5, "gzip": 0.05}
"""Compressions, and how much of the load each is given: the slow ones less."""
START_NS = 1_723_161_255_000_000_000


@dataclass(frozen=True, slots=True)
class Measured:
    """How long it took, and how much of it was this process's and the reader's work."""

    name: str
    ticks: int
    records: int
    acknowledged_s: float
    counted_s: float
    writer_cpu_s: float
    reader_cpu_s: float


def single(number: int) -> MarketData:
    """Return one tick as a record of its own."""
    return MarketData(
        symbol="BTCUSDT", timestamp=START_NS + number, price=60_000.0 + number % 97, volume=0.5, bid_price=59_999.9
    )


def batch(number: int) -> TickBatch:
    """Return 256 ticks with changing prices, as the gateway logs them."""
    rows = np.arange(number * ROWS, (number + 1) * ROWS)
    prices, sizes = 600_000 + (rows * 7919) % 997, 1 + (rows * 104_729) % 5_003
    return TickBatch(
        epoch=1,
        batch=number,
        rows=ROWS,
        ingest_seq=rows.astype("<i8").tobytes(),
        event_ns=(START_NS + rows * 2_131).astype("<i8").tobytes(),
        recv_ns=(START_NS + rows * 2_137 + 311).astype("<i8").tobytes(),
        venue_seq=(rows * 3).astype("<i8").tobytes(),
        kind=np.ones(ROWS, dtype="<u1").tobytes(),
        flags=np.zeros(ROWS, dtype="<u1").tobytes(),
        side=(1 - 2 * (rows % 2)).astype("<i1").tobytes(),
        price=prices.astype("<i8").tobytes(),
        size=sizes.astype("<i8").tobytes(),
    )


def _ticks_of(message: Message) -> int:
    return len(tick_columns(message).price) if isinstance(message, TickBatch) else 1


async def _count(servers: str, key: str, first: int, ticks: int, ready: Callable[[], None]) -> int:
    """Read, decode and count what comes under a key until there are enough; return how many there were."""
    place, counted, name = TopicPartition(subjects.TICKS_TOPIC, subjects.partition(key)), 0, key.encode()
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, max_partition_fetch_bytes=4 << 20)
    await consumer.start()
    consumer.assign([place])
    consumer.seek(place, first)
    ready()
    while counted < ticks:
        for records in (await consumer.getmany(timeout_ms=1_000, max_records=FETCHED)).values():
            for record in records:
                if record.key == name:
                    counted += _ticks_of(codec.decode(record.headers[0][1].decode(), record.value))
    await consumer.stop()
    return counted


async def _count_with_librdkafka(servers: str, key: str, first: int, ticks: int, ready: Callable[[], None]) -> int:
    """Do the same with confluent-kafka."""
    kafka, counted, name = librdkafka(), 0, key.encode()
    consumer = kafka.Consumer({"bootstrap.servers": servers, "group.id": "bench", "enable.auto.commit": False})
    consumer.assign([kafka.TopicPartition(subjects.TICKS_TOPIC, subjects.partition(key), first)])
    ready()
    while counted < ticks:
        for record in consumer.consume(FETCHED, 0.01):
            if record.error() is None and record.key() == name:
                counted += _ticks_of(codec.decode(record.headers()[0][1].decode(), record.value()))
    consumer.close()
    return counted


def librdkafka() -> Any:
    """Return confluent-kafka, which is no dependency of ours; raise ModuleNotFoundError where it is not installed."""
    return importlib.import_module("confluent_kafka")


Count = Callable[[str, str, int, int, Callable[[], None]], Awaitable[int]]


def reader(count: Count, servers: str, key: str, first: int, ticks: int, told: Connection) -> None:
    """Count in a process of its own; tell when ready, then what was counted and the processor time it took."""
    began_s = time.process_time()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        counted = runner.run(_counted(count, servers, key, first, ticks, told))
    told.send((counted, time.process_time() - began_s))


async def _counted(count: Count, servers: str, key: str, first: int, ticks: int, told: Connection) -> int:
    return await count(servers, key, first, ticks, lambda: told.send("ready"))


@lru_cache(maxsize=4)
def _ids(count: int) -> list[bytes]:
    return [derived_id(number) for number in range(count)]


async def _in_calls(log: KafkaLog, key: str, records: Sequence[tuple[Message, bytes]]) -> None:
    """Append with some calls on their way at once, in order."""
    at_once = asyncio.Semaphore(CALLS)

    async def call(start: int) -> None:
        try:
            await log.append_all(subjects.TICKS_TOPIC, key, records[start : start + AT_ONCE])
        finally:
            at_once.release()

    async with asyncio.TaskGroup() as calls:
        for start in range(0, len(records), AT_ONCE):
            await at_once.acquire()
            calls.create_task(call(start))


async def logged(config: KafkaConfig, key: str, messages: Sequence[Message]) -> float:
    """Append messages, each under its id, and return the seconds until all are acknowledged."""
    log = KafkaLog(config, name="bench")
    await log.open()
    await log.append(subjects.TICKS_TOPIC, key + "-warm", messages[0], record_id=b"warm")
    records = list(zip(messages, _ids(len(messages)), strict=True))
    gc.freeze()  # a gateway has no such heap of messages to look through
    began_s = time.perf_counter()
    await _in_calls(log, key, records)
    took_s = time.perf_counter() - began_s
    await log.close()
    return took_s


async def sent(config: KafkaConfig, key: str, messages: Sequence[Message]) -> float:
    """Send messages with the library alone: idempotent, one `send` each, at most 4,096 unacknowledged."""
    schema, window = codec.schema_of(messages[0]).encode(), asyncio.Semaphore(4_096)
    async with AIOKafkaProducer(
        bootstrap_servers=config.servers,
        enable_idempotence=True,
        compression_type=None if config.compression == "none" else config.compression,
        max_batch_size=config.max_batch_bytes,
    ) as producer:
        began_s = time.perf_counter()
        for message in messages:
            await window.acquire()
            stored = await producer.send(
                subjects.TICKS_TOPIC,
                codec.encode(message),
                key.encode(),
                partition=subjects.partition(key),
                headers=[("Huracan-Schema", schema)],
            )
            stored.add_done_callback(lambda _: window.release())
        await producer.flush()
        return time.perf_counter() - began_s


async def sent_by_librdkafka(config: KafkaConfig, key: str, messages: Sequence[Message]) -> float:
    """Send messages with confluent-kafka: idempotent, with our headers and an answer for each, no look-back."""
    producer = librdkafka().Producer(
        {
            "bootstrap.servers": config.servers,
            "enable.idempotence": True,
            "compression.type": config.compression,
            "batch.num.messages": AT_ONCE,
            "linger.ms": 5,
        }
    )
    acknowledged, schema = 0, codec.schema_of(messages[0]).encode()
    partition, name, ids = subjects.partition(key), key.encode(), _ids(len(messages))

    def told(error: object, _: object) -> None:
        nonlocal acknowledged
        acknowledged += error is None

    began_s = time.perf_counter()
    for number, message in enumerate(messages):
        headers = [("Huracan-Schema", schema), ("Huracan-Epoch", b"0"), ("Huracan-Record-Id", ids[number])]
        producer.produce(
            subjects.TICKS_TOPIC, codec.encode(message), name, partition, headers=headers, on_delivery=told
        )
        if number % AT_ONCE == 0:
            producer.poll(0)
            while len(producer) > CALLS * AT_ONCE:
                producer.poll(0.01)
    producer.flush()
    if acknowledged != len(messages):
        raise SystemExit(f"librdkafka had {acknowledged} of {len(messages)} records acknowledged")
    return time.perf_counter() - began_s


Write = Callable[[KafkaConfig, str, Sequence[Message]], Awaitable[float]]


def measured(
    name: str, config: KafkaConfig, messages: Sequence[Message], write: Write, count: Count = _count
) -> Measured:
    """Write while another process reads, and return how long both took."""
    _ids(len(messages))
    key, ticks = f"bench.{name.replace(' ', '_').replace('-', '_')}", sum(map(_ticks_of, messages))
    here, there = multiprocessing.Pipe()
    first = asyncio.run(_end(config.servers, key))
    counting = multiprocessing.get_context("spawn").Process(
        target=reader, args=(count, config.servers, key, first, ticks, there), daemon=True
    )
    counting.start()
    assert here.recv() == "ready"
    cpu_s, began_s = time.process_time(), time.perf_counter()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        acknowledged_s = runner.run(_written(write, config, key, messages))
    counted, reader_cpu_s = here.recv()
    counted_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    counting.join()
    if counted != ticks:
        raise SystemExit(f"{name}: {counted} ticks were counted at the far end, {ticks} were acknowledged")
    return Measured(name, ticks, len(messages), acknowledged_s, counted_s, cpu_s, reader_cpu_s)


async def _written(write: Write, config: KafkaConfig, key: str, messages: Sequence[Message]) -> float:
    return await write(config, key, messages)


async def _end(servers: str, key: str) -> int:
    place = TopicPartition(subjects.TICKS_TOPIC, subjects.partition(key))
    async with AIOKafkaConsumer(bootstrap_servers=servers) as consumer:
        offsets: dict[TopicPartition, int] = await consumer.end_offsets([place])
        return offsets[place]


def _librdkafka_rows(config: KafkaConfig, messages: Sequence[Message]) -> list[Measured]:
    try:
        librdkafka()
    except ModuleNotFoundError:
        print("confluent-kafka is not here, and not measured: .venv/bin/uv pip install confluent-kafka")  # noqa: T201
        return []
    name = "record a tick, librdkafka"
    return [measured(name, config, messages, sent_by_librdkafka, _count_with_librdkafka)]


def main() -> None:
    """Measure, print a table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--ticks", type=int, default=200_000, help="of one record each; batches carry ten times as many"
    )
    parser.add_argument("--out", type=Path, default=Path("out/bench/persist.json"))
    given = parser.parse_args()
    singles = [single(number) for number in range(given.ticks)]
    batches = [batch(number) for number in range(given.ticks * 10 // ROWS)]
    with tempfile.TemporaryDirectory() as folder:
        server = KafkaServer(directory=Path(folder, "kafka"), port=free_port(), controller_port=free_port())
        with running(server.prepare()):
            plain = KafkaConfig(servers=server.address, ack_timeout_ms=ACK_MS)
            asyncio.run(make_topics(plain))
            measured("warm up", plain, singles[: given.ticks // 4], logged)
            found = [measured("record a tick, library send", plain, singles[: given.ticks // 4], sent)]
            found += _librdkafka_rows(plain, singles)
            for kind, messages in (("tick", singles), ("batch", batches)):
                for compression, share in SHARES.items():
                    config = KafkaConfig(servers=server.address, compression=compression, ack_timeout_ms=ACK_MS)
                    some = messages[: round(len(messages) * share)]
                    found.append(measured(f"record a {kind}, {compression}", config, some, logged))
    rows, baseline = [], found[0].ticks / found[0].acknowledged_s
    for row in found:
        for what, seconds in (("acknowledged", row.acknowledged_s), ("counted", row.counted_s)):
            rate = row.ticks / seconds
            rows.append(
                {"name": f"{row.name}: {what}", "value": rate, "unit": "ticks/s", "baseline": baseline}
                | {"ratio": rate / baseline}
            )
        print(  # noqa: T201
            f"{row.name:30} {row.ticks / row.acknowledged_s:12,.0f} ticks/s acknowledged  "
            f"{row.ticks / row.counted_s:12,.0f} counted  {row.ticks / row.acknowledged_s / baseline:7.2f} of send  "
            f"{row.writer_cpu_s / row.records * 1e6:7.2f} + {row.reader_cpu_s / row.records * 1e6:6.2f} µs a record"
        )
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    told = {"machine": machine, "load": os.getloadavg()[0], "ticks": given.ticks, "rows": rows}
    given.out.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
