"""Who may do what with our topics on Kafka: the rights of a service's user, made from the access that it names."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from aiokafka import errors
from aiokafka.protocol.admin import CreateAclsRequest

from huracan.bus.access import Access
from huracan.errors import Fatal
from huracan.ticklog.kafka.client import closed, judged
from huracan.ticklog.kafka.config import KafkaConfig
from huracan.ticklog.kafka.topics import TOPICS, administrator


class Operation(IntEnum):
    """What may be done with a topic, by its number in Kafka's protocol (`AclOperation`)."""

    READ = 3
    WRITE = 4
    DESCRIBE = 8


class Right(NamedTuple):
    """One operation on one topic."""

    topic: str
    operation: Operation


_TOPIC, _LITERAL, _ALLOW = 2, 3, 3
"""`ResourceType`, `PatternType` and `AclPermissionType` of Kafka's protocol."""


def rights(access: Access) -> list[Right]:
    """Return what a service needs: to see every topic, to read what it reads, to write what it writes, and look back.

    Kafka knows topics and no keys: whoever may write a topic may write under any of its keys.
    """
    written = {topic for topic, _ in access.append}
    read = {*written, *access.read, *access.follow, *access.keys}
    return [
        *(Right(topic, Operation.DESCRIBE) for topic in TOPICS),
        *(Right(topic, Operation.READ) for topic in TOPICS if topic in read),
        *(Right(topic, Operation.WRITE) for topic in TOPICS if topic in written),
    ]


async def grant(config: KafkaConfig, user: str, granted: Iterable[Right]) -> None:
    """Give a user rights, from any host; those that it has already stay.

    Raises Recoverable when no broker answers, Fatal when it refuses, as one without an authorizer does.
    """
    admin = await administrator(config)
    try:
        for right in granted:
            asked = CreateAclsRequest(_TOPIC, right.topic, _LITERAL, f"User:{user}", "*", right.operation, _ALLOW)
            answer = await admin._send_request(asked)  # noqa: SLF001 - the library has the request, and no way to send it
            for code, said in answer.creation_responses:
                kind = errors.for_code(code)
                if kind is not errors.NoError:
                    raise Fatal(f"{config.servers} gave {user} no right to {right.topic}: {said or kind.__name__}")
    except errors.KafkaError as error:
        raise judged(error, f"giving {user} rights") from None
    finally:
        await closed(admin.close())
