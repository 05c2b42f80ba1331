"""What is Kafka's own: who may come in, how topics are divided, what a record looks like, how many are on their way."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition, errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from pydantic import SecretStr, ValidationError

from huracan.bus import subjects
from huracan.bus.access import Access
from huracan.bus.subjects import FEATURES_TOPIC, JOURNAL_TOPIC, TICKS_TOPIC
from huracan.contracts import codec
from huracan.contracts.features import FeatureRow
from huracan.contracts.market import Bar
from huracan.contracts.ops import DeadLetter
from huracan.embedded.kafka import KafkaServer, SecuredListeners
from huracan.embedded.ports import free_port
from huracan.errors import BadInput, Fatal, PoisonRecord, Recoverable
from huracan.ids import shard_of
from huracan.ticklog.kafka import topics, writer
from huracan.ticklog.kafka.acls import Operation, Right, grant, rights
from huracan.ticklog.kafka.client import judged
from huracan.ticklog.kafka.config import KafkaConfig
from huracan.ticklog.kafka.log import KafkaLog
from huracan.ticklog.kafka.reader import Readers, Take
from huracan.ticklog.kafka.topics import TOPICS, check_topics, make_topics, retention_ms

SECRET = "s3cret-and-nobodys-business"


class Broker(Protocol):
    """A broker that runs."""

    url: str
    secured: SecuredListeners
    ca_file: Path


def _run(config: KafkaConfig, scenario: Callable[[KafkaLog, str], Awaitable[None]]) -> None:
    async def main() -> None:
        log = KafkaLog(config, name="test")
        try:
            async with asyncio.timeout(60):
                await log.open()
                await scenario(log, f"sim.{secrets.token_hex(6)}")
        finally:
            await log.close()

    asyncio.run(main())


def _bars(count: int, start: int = 0) -> list[tuple[Bar, bytes]]:
    return [(Bar(trades=number), number.to_bytes(4, "big")) for number in range(start, start + count)]


# Where a key is.


@pytest.mark.parametrize(
    ("key", "partition"),
    [
        ("shard.00", 0),
        ("shard.07", 7),
        ("shard.63", 3),
        ("binance_usdm.btc-usdt-perp", 6),
        ("okx.btc-usdt-swap", 6),
        ("context.volatility.BTC", 6),
        ("sim.sim-usdt-perp", 2),
        ("account.paper", 2),
        ("gateway", 1),
    ],
)
def test_the_partition_of_a_key_never_changes(key: str, partition: int) -> None:
    assert subjects.partition(key) == partition


def test_what_is_of_one_underlying_is_in_the_partition_of_its_shard() -> None:
    for underlying in ("BTC", "ETH", "SOL", "1000PEPE"):
        shard = shard_of(underlying)
        keys = [
            f"okx.{underlying.lower()}-usdt-swap",
            f"bybit.{underlying.lower()}-usdt-perp",
            f"context.mood.{underlying}",
        ]
        assert {subjects.partition(key) for key in [*keys, subjects.journal_key(shard)]} == {shard % 12}


# Settings.


@pytest.mark.parametrize(
    ("given", "field", "reason"),
    [
        ({"servers": "kafka"}, "servers", "host:port"),
        ({"servers": "kafka:9092,other:99999"}, "servers", "host:port"),
        ({"servers": ""}, "servers", "host:port"),
        ({"ca_file": "ca.pem"}, "ca_file", "without tls"),
        ({"tls": True, "certificate_file": "own.pem"}, "key_file", "goes with certificate_file"),
        ({"tls": True, "key_file": "own.key"}, "key_file", "goes with certificate_file"),
        ({"sasl": "GSSAPI"}, "sasl", "'PLAIN'"),
        ({"sasl": "PLAIN", "servers": "kafka:9092", "user": "flow", "password": SECRET}, "sasl", "without tls"),
        ({"sasl": "SCRAM-SHA-256"}, "user", "goes with sasl"),
        ({"user": "flow", "password": SECRET}, "user", "goes with sasl"),
        ({"sasl": "SCRAM-SHA-256", "user": "flow"}, "password", "goes with user"),
        ({"password": SECRET}, "password", "goes with user"),
        ({"compression": "snappy"}, "compression", "'lz4'"),
        ({"in_flight": 0}, "in_flight", "greater than or equal to 1"),
        ({"ack_timeout_ms": 5}, "ack_timeout_ms", "greater than or equal to 100"),
        ({"max_batch_bytes": 10}, "max_batch_bytes", "greater than or equal to 16384"),
        ({"replication": 0}, "replication", "greater than or equal to 1"),
        ({"ticks_retention_h": 0}, "ticks_retention_h", "greater than or equal to 1"),
        ({"brokers": "kafka:9092"}, "brokers", "not permitted"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_field(given: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(ValidationError) as refused:
        KafkaConfig.model_validate(given)
    fault = refused.value.errors()[0]
    assert fault["loc"] == (field,)
    assert reason in fault["msg"]
    assert SECRET not in fault["msg"]


def test_a_password_is_masked_wherever_settings_are_shown() -> None:
    config = KafkaConfig(sasl="SCRAM-SHA-512", user="flow", password=SecretStr(SECRET))
    assert SECRET not in config.model_dump_json() + repr(config) + config.canonical_json()


def test_each_topic_is_kept_as_long_as_its_setting_says_and_the_journal_for_ever() -> None:
    config = KafkaConfig(ticks_retention_h=1, features_retention_h=2, dead_letters_retention_h=3)
    hours = [retention_ms(config, topic) / 3_600_000 for topic in TOPICS]
    assert hours == [1, 2, pytest.approx(-1 / 3_600_000), 3, 3, 3]


# Who comes in.


@pytest.mark.parametrize("sasl", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("tls", [False, True], ids=["plaintext", "tls"])
def test_a_user_with_the_right_password_comes_in(kafka_server: Broker, sasl: Any, tls: bool) -> None:
    async def scenario(log: KafkaLog, key: str) -> None:
        offset = await log.append(TICKS_TOPIC, key, Bar(trades=1), record_id=b"1")
        await log.wait(TICKS_TOPIC, key, offset)
        assert len(await log.read(TICKS_TOPIC, key, offset)) == 1

    _run(_secured(kafka_server, sasl=sasl, tls=tls), scenario)


def _secured(broker: Broker, *, tls: bool = True, **more: Any) -> KafkaConfig:
    secured = broker.secured
    user = more.pop("user", "flow")
    password = secured.users[user]
    given = {
        "servers": f"127.0.0.1:{secured.tls_port if tls else secured.sasl_port}",
        "sasl": "SCRAM-SHA-256",
        "user": user,
        "password": SecretStr(password),
        "tls": tls,
        "ca_file": broker.ca_file if tls else None,
    }
    return KafkaConfig.model_validate(given | more)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"password": SecretStr(SECRET)}, "kafka.password of user 'flow' was refused by 127.0.0.1"),
        ({"password": SecretStr(SECRET), "sasl": "PLAIN"}, "kafka.password of user 'flow' was refused by 127.0.0.1"),
        ({"ca_file": None}, "kafka.ca_file does not vouch for 127.0.0.1"),
        ({"ca_file": "nowhere.pem"}, "kafka.ca_file was nowhere.pem, which cannot be used"),
        ({"ca_file": __file__}, "kafka.ca_file was .*test_kafka.py, which cannot be used"),
        ({"certificate_file": "own.pem", "key_file": "own.key"}, "kafka.certificate_file and key_file were own.pem"),
    ],
)
def test_who_may_not_come_in_is_told_which_setting_is_wrong(
    kafka_server: Broker, more: dict[str, Any], told: str
) -> None:
    async def scenario(log: KafkaLog, key: str) -> None:
        raise AssertionError

    with pytest.raises(BadInput, match=told) as refused:
        _run(_secured(kafka_server, **more), scenario)
    assert SECRET not in str(refused.value)


def test_where_no_broker_is_opening_waits_and_one_look_is_recoverable() -> None:
    config = KafkaConfig(servers=f"127.0.0.1:{free_port()}", ack_timeout_ms=100)

    async def main() -> None:
        with pytest.raises(Recoverable, match=rf"no Kafka broker answers at {config.servers} .* over PLAINTEXT"):
            await check_topics(config)
        log = KafkaLog(config, name="test")
        opening = asyncio.create_task(log.open())
        with pytest.raises(Recoverable, match=r"acknowledged no append to huracan.ticks.v1 within 100 ms"):
            await log.append(TICKS_TOPIC, "sim.a", Bar(), record_id=b"1")
        assert not opening.done()
        opening.cancel()
        await log.close()

    asyncio.run(main())


# Topics.


def test_topics_are_made_once_with_what_the_settings_say(kafka_server: Broker) -> None:
    config = KafkaConfig(servers=kafka_server.url)

    async def main() -> None:
        assert await make_topics(config) == []
        await check_topics(config)
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_server.url)
        await admin.start()
        described = await admin.describe_topics(list(TOPICS))
        kept = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, JOURNAL_TOPIC)])
        await admin.close()
        assert {topic["topic"]: len(topic["partitions"]) for topic in described} == dict.fromkeys(TOPICS, 12)
        assert {entry[0]: entry[1] for entry in kept[0].resources[0][4]}["retention.ms"] == "-1"

    asyncio.run(main())


def test_how_long_a_topic_is_kept_follows_its_setting_and_the_rest_of_it_stays(kafka_server: Broker) -> None:
    async def until(admin: AIOKafkaAdminClient, retention_ms: int) -> None:
        """Wait until the broker says what its controller was told."""
        found: dict[str, str] = {}
        async with asyncio.timeout(60):
            while (found.get("retention.ms"), found.get("segment.ms")) != (str(retention_ms), "3600000"):
                (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, FEATURES_TOPIC)])
                found = {entry[0]: entry[1] for entry in answer.resources[0][4]}

    async def main() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_server.url)
        await admin.start()
        own = {"retention.ms": "1000000", "segment.ms": "3600000"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, FEATURES_TOPIC, own)])
        await until(admin, 1_000_000)
        for hours in (5, 168):
            assert await make_topics(KafkaConfig(servers=kafka_server.url, features_retention_h=hours)) == []
            await until(admin, hours * 3_600_000)
        await admin.close()

    asyncio.run(main())


def test_a_topic_that_is_divided_in_another_way_is_refused_by_name(
    kafka_server: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"huracan.other-{secrets.token_hex(4)}.v1"
    monkeypatch.setattr(topics, "TOPICS", (TICKS_TOPIC, name))
    config = KafkaConfig(servers=kafka_server.url)

    async def main() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka_server.url)
        await admin.start()
        with pytest.raises(BadInput, match=f"topic {name} is not on {config.servers}; make the topics first"):
            await check_topics(config)
        await admin.create_topics([NewTopic(name, 3, 1)])
        await admin.close()
        for look in (make_topics, check_topics):
            with pytest.raises(BadInput, match=f"topic {name} has 3 partitions, not 12"):
                await look(config)

    asyncio.run(main())


def test_a_topic_that_is_none_of_ours_is_refused_by_name(kafka_server: Broker) -> None:
    async def scenario(log: KafkaLog, key: str) -> None:
        for doing in (
            log.append("ticks", key, Bar(), record_id=b"1"),
            log.read("ticks", key, 0),
            log.last("ticks", key),
            log.wait("ticks", key, 0),
            log.keys("ticks"),
        ):
            with pytest.raises(BadInput, match=r"topic was 'ticks', which is none of ours: huracan.ticks.v1, "):
                await doing

    _run(KafkaConfig(servers=kafka_server.url), scenario)


# Rights.


def test_a_service_may_do_with_a_topic_what_its_access_names_and_is_told_where_it_may_not(kafka_server: Broker) -> None:
    config = _secured(kafka_server, user="executor", tls=False)
    access = Access(append=((JOURNAL_TOPIC, "account.paper"),), read=(TICKS_TOPIC,), follow=(TICKS_TOPIC,))

    async def main() -> None:
        operator = KafkaLog(KafkaConfig(servers=kafka_server.url), name="operator")
        stranger = KafkaLog(config, name="stranger")
        with pytest.raises(Fatal, match=r"give kafka\.user the right to"):
            await stranger.open()
        await stranger.close()
        await grant(KafkaConfig(servers=kafka_server.url), "executor", rights(access))
        executor = KafkaLog(config, name="executor")
        try:
            async with asyncio.timeout(60):
                await executor.open()
                key = f"sim.{secrets.token_hex(6)}"
                offset = await operator.append(TICKS_TOPIC, key, Bar(trades=1), record_id=b"1")
                await executor.wait(TICKS_TOPIC, key, offset)
                assert len(await executor.read(TICKS_TOPIC, key, offset)) == 1
                await executor.append(JOURNAL_TOPIC, key, Bar(trades=2), record_id=b"2")
                told = rf"appending to {TICKS_TOPIC}\[\d+\]: the broker does not allow it; give kafka.user the right to"
                with pytest.raises(Fatal, match=told):
                    await executor.append(TICKS_TOPIC, key, Bar(trades=3), record_id=b"3")
                with pytest.raises(Fatal, match=rf"{FEATURES_TOPIC}\[\d+\].*: the broker does not allow it"):
                    await executor.append(FEATURES_TOPIC, key, Bar(trades=3), record_id=b"3")
                await operator.append(FEATURES_TOPIC, key, Bar(trades=3), record_id=b"3")
                with pytest.raises(Fatal, match=rf"{FEATURES_TOPIC}\[\d+\].*: the broker does not allow it"):
                    await executor.read(FEATURES_TOPIC, key, 0)
                await executor.append(JOURNAL_TOPIC, key, Bar(trades=4), record_id=b"4")
                assert len(await operator.read(TICKS_TOPIC, key, 0)) == 1
        finally:
            await executor.close()
            await operator.close()

    asyncio.run(main())


def test_rights_are_the_least_that_an_access_needs() -> None:
    found = rights(
        Access(append=((JOURNAL_TOPIC, "a"), (JOURNAL_TOPIC, "b")), read=(TICKS_TOPIC,), keys=(TICKS_TOPIC,))
    )
    assert {right.topic for right in found if right.operation is Operation.DESCRIBE} == set(TOPICS)
    assert [right for right in found if right.operation is not Operation.DESCRIBE] == [
        Right(TICKS_TOPIC, Operation.READ),
        Right(JOURNAL_TOPIC, Operation.READ),
        Right(JOURNAL_TOPIC, Operation.WRITE),
    ]


# Records.


@pytest.mark.parametrize("compression", ["none", "gzip", "lz4", "zstd"])
def test_a_record_says_in_its_headers_what_it_is_who_wrote_it_and_its_id(
    kafka_server: Broker, compression: Any
) -> None:
    config = KafkaConfig(servers=kafka_server.url, compression=compression)
    row = FeatureRow(epoch=7, step=3, values=bytes(400))

    async def scenario(log: KafkaLog, key: str) -> None:
        offset = await log.append(FEATURES_TOPIC, key, row, record_id=b"\0id")
        place = TopicPartition(FEATURES_TOPIC, subjects.partition(key))
        async with AIOKafkaConsumer(bootstrap_servers=kafka_server.url) as consumer:
            consumer.assign([place])
            consumer.seek(place, offset)
            record = await consumer.getone()
        assert (record.offset, record.key, record.value) == (offset, key.encode(), codec.encode(row))
        assert dict(record.headers) == {
            "Huracan-Schema": b"huracan.features.v1.FeatureRow",
            "Huracan-Epoch": b"7",
            "Huracan-Record-Id": b"\0id",
        }

    _run(config, scenario)


def test_many_are_appended_in_one_call_each_once_and_in_order(kafka_server: Broker) -> None:
    async def scenario(log: KafkaLog, key: str) -> None:
        bars = _bars(10_000)
        offsets = await log.append_all(TICKS_TOPIC, key, bars)
        assert offsets == sorted(set(offsets))
        assert await log.append_all(TICKS_TOPIC, key, [*bars[-5:], *_bars(5, 10_000)]) == [
            *offsets[-5:],
            *range(offsets[-1] + 1, offsets[-1] + 6),
        ]
        assert [record.message for record in await log.read(TICKS_TOPIC, key, 0)] == [bar for bar, _ in _bars(10_005)]

    _run(KafkaConfig(servers=kafka_server.url, in_flight=500), scenario)


def test_no_more_records_are_on_their_way_than_the_bound_and_appending_waits(
    kafka_server: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: Counter[str] = Counter()
    settle = writer.PartitionWriter._settle

    def counted(self: writer.PartitionWriter, entries: Any, outcomes: Any) -> None:
        waiting["most"] = max(waiting["most"], len(self._pending))
        settle(self, entries, outcomes)

    monkeypatch.setattr(writer.PartitionWriter, "_settle", counted)

    async def scenario(log: KafkaLog, key: str) -> None:
        await asyncio.gather(*(log.append(TICKS_TOPIC, key, bar, record_id=record_id) for bar, record_id in _bars(200)))
        assert waiting["most"] == 8
        assert len(await log.read(TICKS_TOPIC, key, 0)) == 200

    _run(KafkaConfig(servers=kafka_server.url, in_flight=8), scenario)


def test_a_record_that_no_batch_can_hold_is_fatal_and_those_after_it_are_written(kafka_server: Broker) -> None:
    async def scenario(log: KafkaLog, key: str) -> None:
        with pytest.raises(
            Fatal, match=r"a huracan.features.v1.FeatureRow was 20\d{3} bytes, more than kafka.max_batch"
        ):
            await log.append(JOURNAL_TOPIC, key, FeatureRow(values=bytes(20_000)), record_id=b"1")
        await log.append(JOURNAL_TOPIC, key, FeatureRow(values=bytes(10_000)), record_id=b"2")

    _run(KafkaConfig(servers=kafka_server.url, max_batch_bytes=16_384), scenario)


@pytest.mark.parametrize(
    "headers",
    [
        [("Huracan-Schema", None), ("Huracan-Record-Id", None), ("Huracan-Epoch", None)],
        [("Huracan-Schema", b"\xff\x00")],
        [("Huracan-Schema", b"huracan.market.v1.Bar"), ("Huracan-Schema", None), ("", b"")],
    ],
    ids=["no values", "bytes", "twice"],
)
def test_whatever_headers_others_write_a_record_is_poison_at_most_and_its_key_is_written_and_read_on(
    kafka_server: Broker, headers: list[tuple[str, bytes | None]]
) -> None:
    async def scenario(log: KafkaLog, key: str) -> None:
        async with AIOKafkaProducer(bootstrap_servers=kafka_server.url) as stranger:
            at = (
                await stranger.send_and_wait(
                    TICKS_TOPIC, b"x", key.encode(), partition=subjects.partition(key), headers=headers
                )
            ).offset
        with pytest.raises(PoisonRecord, match=f"unknown_schema: .* at offset {at}"):
            await log.last(TICKS_TOPIC, key)
        offset = await log.append(TICKS_TOPIC, key, Bar(trades=1), record_id=b"1")
        await log.wait(TICKS_TOPIC, key, offset)
        with pytest.raises(PoisonRecord):
            await log.read(TICKS_TOPIC, key, at)
        assert [record.offset for record in await log.read(TICKS_TOPIC, key, at + 1)] == [offset]

    _run(KafkaConfig(servers=kafka_server.url), scenario)


def test_with_the_smallest_batches_a_letter_is_kept_whatever_its_size(kafka_server: Broker) -> None:
    async def scenario(log: KafkaLog, key: str) -> None:
        text = "\U0001f600" * 20_000
        letters = [
            DeadLetter(
                raw=secrets.token_bytes(100_000), source=text, schema=text, reason=text, detail=text, at_ns=at_ns
            )
            for at_ns in (1, 2**63 - 1)
        ]
        topic = subjects.dead_letters(TICKS_TOPIC)
        for letter in letters:
            await log.append(topic, key, letter, record_id=letter.raw[:16])
        kept = [record.message for record in await log.read(topic, key, 0)]
        assert [letter.whole_digest for letter in kept if isinstance(letter, DeadLetter)] == [
            hashlib.sha256(letter.raw).digest() for letter in letters
        ]

    _run(KafkaConfig(servers=kafka_server.url, max_batch_bytes=16_384), scenario)


def test_a_record_that_the_broker_finds_too_large_is_fatal_and_those_after_it_are_written(
    kafka_server: Broker,
) -> None:
    async def scenario(log: KafkaLog, key: str) -> None:
        with pytest.raises(Fatal, match=r"takes no record as large; raise its message.max.bytes"):
            await log.append(JOURNAL_TOPIC, key, FeatureRow(values=secrets.token_bytes(2_000_000)), record_id=b"1")
        offset = await log.append(JOURNAL_TOPIC, key, Bar(trades=2), record_id=b"2")
        assert [record.offset for record in await log.read(JOURNAL_TOPIC, key, 0)] == [offset]

    _run(KafkaConfig(servers=kafka_server.url, max_batch_bytes=4_000_000, compression="none"), scenario)


def test_a_producer_that_fails_is_replaced_and_what_it_had_on_its_way_is_there_once(
    kafka_server: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker stored a batch, and the producer says that it failed: the worst of what can be unknown."""

    async def scenario(log: KafkaLog, key: str) -> None:
        first = await log.append_all(TICKS_TOPIC, key, _bars(10))
        producer = (await log._producing.session()).producer
        send = producer.send_batch

        async def stored_and_failed(*given: Any, **more: Any) -> asyncio.Future[Any]:
            await (await send(*given, **more))
            raise errors.OutOfOrderSequenceNumber

        monkeypatch.setattr(producer, "send_batch", stored_and_failed)
        second = await log.append_all(TICKS_TOPIC, key, _bars(10, 10))
        assert (await log._producing.session()).producer is not producer
        read = await log.read(TICKS_TOPIC, key, 0)
        assert [record.offset for record in read] == [*first, *second]
        assert [record.message for record in read] == [bar for bar, _ in _bars(20)]

    _run(KafkaConfig(servers=kafka_server.url), scenario)


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (errors.TopicAuthorizationFailedError(TICKS_TOPIC), Fatal, "give kafka.user the right to"),
        (errors.UnknownTopicOrPartitionError(), Fatal, "make the topics first"),
        (errors.CorruptRecordException(), Fatal, "other bytes than were written"),
        (errors.NotLeaderForPartitionError(), Recoverable, "NotLeaderForPartitionError"),
    ],
)
def test_what_the_broker_says_is_told_as_what_to_do(error: errors.KafkaError, kind: type[Exception], told: str) -> None:
    failure = judged(error, "reading")
    assert isinstance(failure, kind)
    assert told in str(failure)


# The broker.


@pytest.mark.parametrize("user", ["", 'a"b', "a b", "a;b"])
def test_a_user_that_the_brokers_configuration_cannot_hold_is_refused(
    kafka_server: Broker, tmp_path: Path, user: str
) -> None:
    secured = SecuredListeners(
        sasl_port=free_port(), tls_port=free_port(), users={user: "x"}, keystore=tmp_path / "no", keystore_password="x"
    )
    server = KafkaServer(directory=tmp_path, port=free_port(), controller_port=free_port(), secured=secured)
    with pytest.raises(BadInput, match="other characters than letters"):
        server.prepare()


def test_a_port_that_is_taken_is_refused_by_name(kafka_server: Broker, tmp_path: Path) -> None:
    taken = int(kafka_server.url.rpartition(":")[2])
    with pytest.raises(BadInput, match=f"controller_port was {taken}"):
        KafkaServer(directory=tmp_path, port=free_port(), controller_port=taken).prepare()


def test_clients_of_a_broker_are_told_to_come_through_what_stands_in_front_of_it(tmp_path: Path) -> None:
    server = KafkaServer(directory=tmp_path, port=1_111, controller_port=2_222, advertised_port=3_333)
    told = dict(line.split("=", 1) for line in server._properties(tmp_path / "data").splitlines())
    assert told["advertised.listeners"] == "PLAINTEXT://127.0.0.1:3333"
    assert told["listeners"].startswith("PLAINTEXT://127.0.0.1:1111,")


# What reading costs.


def _by(log: KafkaLog, read: list[tuple[Readers, int]]) -> list[int]:
    return [offset for readers, offset in read if readers is log._readers]


def test_looking_again_where_nothing_came_reads_no_record(
    kafka_server: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[Readers, int]] = []
    config = KafkaConfig(servers=kafka_server.url)
    each = Readers.each

    async def counted(self: Readers, partition: TopicPartition, first: int, end: int, take: Take) -> None:
        def seen(record: Any) -> bool:
            read.append((self, record.offset))
            return take(record)

        await each(self, partition, first, end, seen)

    monkeypatch.setattr(Readers, "each", counted)

    async def scenario(writer: KafkaLog, key: str) -> None:
        log = KafkaLog(config, name="reader")
        await log.open()
        try:
            await look(writer, log, key)
        finally:
            await log.close()

    async def look(writer: KafkaLog, log: KafkaLog, key: str) -> None:
        silent, busy = f"{key}-silent", key  # of one underlying, so of one partition
        (start,) = await writer.append_all(TICKS_TOPIC, silent, _bars(1))
        await writer.append_all(TICKS_TOPIC, busy, _bars(50))
        last = await writer.append_all(TICKS_TOPIC, silent, _bars(1, 1))
        between = await writer.append_all(TICKS_TOPIC, busy, _bars(50, 50))
        assert {busy, silent} <= set(await log.keys(TICKS_TOPIC))
        assert [record.offset for record in await log.read(TICKS_TOPIC, silent, start)] == [start, *last]
        read.clear()
        for _ in range(3):
            assert {busy, silent} <= set(await log.keys(TICKS_TOPIC))
            assert await log.read(TICKS_TOPIC, silent, last[0] + 1, limit=10) == []
            assert await log.read(TICKS_TOPIC, silent, between[7]) == []
        assert not _by(log, read)
        new = await writer.append_all(TICKS_TOPIC, f"{key}-new", _bars(3))
        assert f"{key}-new" in await log.keys(TICKS_TOPIC)
        assert await log.read(TICKS_TOPIC, silent, last[0] + 1) == []
        assert _by(log, read) == [*new, *new]
        third = await writer.append_all(TICKS_TOPIC, silent, _bars(1, 2))
        for offset in (last[0] + 1, last[0] + 1, third[0]):
            assert [record.offset for record in await log.read(TICKS_TOPIC, silent, offset)] == third
        assert [record.offset for record in await log.read(TICKS_TOPIC, silent, 0)] == [start, *last, *third]
        assert await log.read(TICKS_TOPIC, silent, third[0] + 1) == []

    _run(config, scenario)
