"""Connections to Apache Kafka: their settings from ours, and its errors as what we must do about them."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from aiokafka import errors
from aiokafka.conn import create_conn

from huracan.errors import BadInput, Fatal, HuracanError, Recoverable
from huracan.ticklog.kafka.config import KafkaConfig

T = TypeVar("T")

REQUEST_TIMEOUT_MS = 10_000
"""Time for one answer; a server that is frozen is tried anew after it."""
RETRY_S = 0.1
CLOSE_WITHIN_S = 3.0
"""Time for a client to say goodbye to a server that may be away."""

logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it meets we raise, or wait for


class Client(Protocol):
    """A consumer, producer or administrator of the library."""

    async def start(self) -> None: ...


C = TypeVar("C", bound=Client)


def options(config: KafkaConfig, name: str) -> dict[str, Any]:
    """Return the library's settings of a connection; BadInput, naming the field, for a file that cannot be used."""
    return {
        "bootstrap_servers": [server.strip() for server in config.servers.split(",")],
        "client_id": name,
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
        "security_protocol": config.protocol,
        "ssl_context": _trust(config) if config.tls else None,
        "sasl_mechanism": config.sasl or "PLAIN",
        "sasl_plain_username": config.user,
        "sasl_plain_password": config.password.get_secret_value() if config.password else None,
    }


def _trust(config: KafkaConfig) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        if config.ca_file is not None:
            context = ssl.create_default_context(cafile=str(config.ca_file))
    except OSError as error:  # also when it is no certificate
        raise BadInput(f"kafka.ca_file was {config.ca_file}, which cannot be used: {error}") from None
    if config.certificate_file is not None and config.key_file is not None:
        try:
            context.load_cert_chain(config.certificate_file, config.key_file)
        except OSError as error:
            names = f"{config.certificate_file} and {config.key_file}"
            raise BadInput(f"kafka.certificate_file and key_file were {names}, unusable: {error}") from None
    return context


async def started(make: Callable[[], C], stop: Callable[[C], Awaitable[None]], config: KafkaConfig) -> C:
    """Make a client and start it.

    Raises Recoverable when no server answers, and BadInput, naming the field, when one refuses who we are or cannot
    be trusted.
    """
    client = make()
    try:
        await client.start()
    except BaseException as error:
        await closed(stop(client))
        if isinstance(error, (errors.KafkaError, OSError, TimeoutError)):
            raise await _why(config) from None
        raise
    return client


async def _why(config: KafkaConfig) -> HuracanError:
    """Return why no server can be talked to: the library tells that to its log alone."""
    given = options(config, "huracan")
    servers, said = given.pop("bootstrap_servers"), ""
    for server in servers:
        host, _, port = server.rpartition(":")
        try:
            connection = await create_conn(host.strip("[]"), int(port), **given)
        except (errors.SaslAuthenticationFailed, errors.AuthenticationFailedError) as error:
            return BadInput(f"kafka.password of user {config.user!r} was refused by {server}: {error}")
        except errors.UnsupportedSaslMechanismError as error:
            return BadInput(f"kafka.sasl was {config.sasl}, which {server} does not offer: {error}")
        except ssl.SSLCertVerificationError as error:
            return BadInput(f"kafka.ca_file does not vouch for {server}: {error.verify_message}; name its authority")
        except (errors.KafkaError, OSError, TimeoutError) as error:
            said = f"{server}: {error!r}"
        else:
            connection.close()
            said = f"{server}: it answers, but not with what it keeps"
    return Recoverable(f"no Kafka broker answers at {config.servers} ({said}) over {config.protocol}; is one up there?")


async def closed(closing: Awaitable[None]) -> None:
    """Wait for a client to close, but not for ever, and whatever it meets."""
    with suppress(errors.KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(CLOSE_WITHIN_S):
            await closing


async def until_there(attempt: Callable[[], Awaitable[T]]) -> T:
    """Return what an attempt returns, tried again while the servers are away."""
    while True:
        with suppress(Recoverable):
            return await attempt()
        await asyncio.sleep(RETRY_S)


def judged(error: errors.KafkaError, doing: str) -> HuracanError:
    """Return what a failure means for whoever wanted something: Recoverable unless trying again cannot help."""
    if isinstance(error, errors.MessageSizeTooLargeError | errors.RecordListTooLargeError):
        return Fatal(f"{doing}: the broker takes no record as large; raise its message.max.bytes: {error}")
    if isinstance(error, errors.TopicAuthorizationFailedError | errors.ClusterAuthorizationFailedError):
        return Fatal(f"{doing}: the broker does not allow it; give kafka.user the right to: {error}")
    if isinstance(error, errors.UnknownTopicOrPartitionError | errors.InvalidTopicError):
        return Fatal(f"{doing}: there is no such topic; make the topics first (tools/kafka topics)")
    if isinstance(error, errors.CorruptRecordException):
        return Fatal(f"{doing}: the broker's disk gives other bytes than were written: {error}")
    return Recoverable(f"{doing}: {type(error).__name__}: {error}")
