"""The topics that Huracan keeps on Kafka, and the step that makes them."""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from huracan.bus import subjects
from huracan.errors import BadInput, Fatal
from huracan.ids import PARTITIONS
from huracan.ticklog.kafka.client import closed, judged, options, started
from huracan.ticklog.kafka.config import KafkaConfig

LOGS = (subjects.TICKS_TOPIC, subjects.FEATURES_TOPIC, subjects.JOURNAL_TOPIC)
TOPICS = (*LOGS, *map(subjects.dead_letters, LOGS))
"""Every topic, each with `PARTITIONS` partitions."""

_MILLISECONDS_AN_HOUR = 3_600_000
_FOR_EVER = -1
_RETENTION = "retention.ms"
_OF_THE_TOPIC = 1
"""`ConfigSource` of a setting that was made for one topic, in Kafka's protocol."""
_MAKE_WITHIN_MS = 30_000


def retention_ms(config: KafkaConfig, topic: str) -> int:
    """Return how long a topic keeps a record; -1: for ever, as the journal, for decisions are folded from it."""
    hours = {
        subjects.TICKS_TOPIC: config.ticks_retention_h,
        subjects.FEATURES_TOPIC: config.features_retention_h,
        subjects.JOURNAL_TOPIC: 0,
    }.get(topic, config.dead_letters_retention_h)
    return hours * _MILLISECONDS_AN_HOUR or _FOR_EVER


async def make_topics(config: KafkaConfig) -> list[str]:
    """Make the topics that are not there and return their names; keep the others as long as the settings now say.

    Raises BadInput, naming the topic, when one has another number of partitions (its keys would be looked for where
    they are not), Recoverable when no broker answers, Fatal when it refuses.
    """
    admin = await administrator(config)
    try:
        missing = await _missing(admin)
        wanted = [
            NewTopic(
                name=topic,
                num_partitions=PARTITIONS,
                replication_factor=config.replication,
                topic_configs={
                    _RETENTION: str(retention_ms(config, topic)),
                    "min.insync.replicas": str(max(1, config.replication - 1)),
                },
            )
            for topic in missing
        ]
        answer = await admin.create_topics(wanted, timeout_ms=_MAKE_WITHIN_MS) if wanted else None
        for topic, code, *said in answer.topic_errors if answer else ():
            kind = errors.for_code(code)
            if kind not in (errors.NoError, errors.TopicAlreadyExistsError):  # another may make them too
                raise Fatal(f"topic {topic} could not be made: {kind.__name__}: {' '.join(map(str, said))}")
        await _keep_as_long(admin, {topic: retention_ms(config, topic) for topic in TOPICS if topic not in missing})
        return missing
    except errors.KafkaError as error:
        raise judged(error, "making topics") from None
    finally:
        await closed(admin.close())


async def _keep_as_long(admin: AIOKafkaAdminClient, wanted_ms: Mapping[str, int]) -> None:
    """Set how long topics keep records, where they do otherwise; whatever else was set of them stays."""
    if not wanted_ms:
        return
    changed = []
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in wanted_ms]
    (described,) = await admin.describe_configs(asked)
    for code, said, _, topic, entries in described.resources:
        _refused(code, f"{topic}: {said}")
        if {name: value for name, value, *_ in entries}[_RETENTION] != str(wanted_ms[topic]):
            # The request replaces all of a topic's own settings: those that were made for it go with it.
            own = {name: value for name, value, _, source, *_ in entries if source == _OF_THE_TOPIC}
            own[_RETENTION] = str(wanted_ms[topic])
            changed.append(ConfigResource(ConfigResourceType.TOPIC, topic, own))
    if changed:
        (answer,) = await admin.alter_configs(changed)
        for code, said, _, topic in answer.resources:
            _refused(code, f"{topic}: {said}")


def _refused(code: int, told: str) -> None:
    kind = errors.for_code(code)
    if kind is not errors.NoError:
        raise kind(told)


async def check_topics(config: KafkaConfig) -> None:
    """Raise BadInput, naming the topic, when one is not there or has another number of partitions.

    Raises Recoverable when no broker answers.
    """
    admin = await administrator(config)
    try:
        missing = await _missing(admin)
    except errors.KafkaError as error:
        raise judged(error, "looking at the topics") from None
    finally:
        await closed(admin.close())
    if missing:
        raise BadInput(f"topic {missing[0]} is not on {config.servers}; make the topics first (tools/kafka topics)")


async def administrator(config: KafkaConfig) -> AIOKafkaAdminClient:
    """Return a client for topics and rights; raise Recoverable or BadInput as `started` does."""
    return await started(
        lambda: AIOKafkaAdminClient(**options(config, "huracan-topics")), lambda admin: admin.close(), config
    )


async def _missing(admin: AIOKafkaAdminClient) -> list[str]:
    """Return the topics that are not there; BadInput for one that is, and divided in another way."""
    missing = []
    for described in await admin.describe_topics(list(TOPICS)):
        topic, kind = described["topic"], errors.for_code(described["error_code"])
        if kind is errors.UnknownTopicOrPartitionError:
            missing.append(topic)
        elif kind is not errors.NoError:
            raise kind(topic)
        elif (found := len(described["partitions"])) != PARTITIONS:
            raise BadInput(
                f"topic {topic} has {found} partitions, not {PARTITIONS}: keys would be looked for where they are not; "
                "delete it, or name other servers"
            )
    return missing
