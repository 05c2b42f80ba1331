"""Bytes on the wire: schema names, deterministic encoding, refusing decoding."""

from __future__ import annotations

import hashlib

from google.protobuf.message import DecodeError, Message

from huracan.contracts.huracan.context.v1 import context_pb2
from huracan.contracts.huracan.decision.v1 import decision_pb2
from huracan.contracts.huracan.execution.v1 import execution_pb2
from huracan.contracts.huracan.features.v1 import features_pb2
from huracan.contracts.huracan.journal.v1 import journal_pb2
from huracan.contracts.huracan.market.v1 import market_pb2
from huracan.contracts.huracan.opinion.v1 import opinion_pb2
from huracan.contracts.huracan.ops.v1 import ops_pb2
from huracan.contracts.trading.data.v1 import trading_data_pb2
from huracan.errors import PoisonMessage

SCHEMAS: dict[str, type[Message]] = {
    kind.DESCRIPTOR.full_name: kind
    for module in (
        trading_data_pb2,
        market_pb2,
        features_pb2,
        context_pb2,
        opinion_pb2,
        decision_pb2,
        execution_pb2,
        journal_pb2,
        ops_pb2,
    )
    for kind in (getattr(module, name) for name in module.DESCRIPTOR.message_types_by_name)
}
"""Every message that may travel, by its full name."""


def schema_of(message: Message) -> str:
    """Return the schema name that goes into the `Huracan-Schema` header."""
    name: str = message.DESCRIPTOR.full_name
    return name


def encode(message: Message) -> bytes:
    """Return the deterministic bytes of a message."""
    return message.SerializeToString(deterministic=True)


def digest(message: Message) -> bytes:
    """Return the SHA-256 of the deterministic bytes of a message."""
    return hashlib.sha256(encode(message)).digest()


def decode(schema: str, data: bytes) -> Message:
    """Return the message of a schema; raise PoisonMessage for an unknown schema or broken bytes."""
    kind = SCHEMAS.get(schema)
    if kind is None:
        raise PoisonMessage("unknown_schema", f"schema was {schema!r}")
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise PoisonMessage("undecodable", f"{schema}: {error}") from None
    return message
