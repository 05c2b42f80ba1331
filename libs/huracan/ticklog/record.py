"""What all logs do with the bytes of a record."""

from __future__ import annotations

import hashlib

from google.protobuf.message import Message

from huracan.contracts import codec
from huracan.contracts.ops import DeadLetter
from huracan.errors import PoisonMessage, PoisonRecord
from huracan.ports import Record

TEXT_KEPT = 512
"""Characters that are kept of each text of a letter that is cut."""

_LENGTHS = 16
"""Bytes that say how long the fields of a letter are, and room for them to grow."""


def record_of(place: str, offset: int, schema: str, data: bytes) -> Record:
    """Return a record of a place in the log; raise PoisonRecord that names place and offset when it cannot be read."""
    try:
        return Record(offset, codec.decode(schema, data))
    except PoisonMessage as error:
        detail = f"{place} at offset {offset}: {error.detail}"
        raise PoisonRecord(error.reason, detail, offset=offset, schema=schema, raw=data) from None


def fitting(message: Message, limit: int) -> Message:
    """Return a message; of a dead letter of more than `limit` bytes, 14,000 or more, what fits.

    Others write what letters hold, so none is too large to be kept: one that was cut has the SHA-256 digest of what it
    is about in `whole_digest`, and its length in `detail`.
    """
    if not isinstance(message, DeadLetter) or message.ByteSize() <= limit:
        return message
    digest = hashlib.sha256(message.raw)
    cut = DeadLetter()
    cut.CopyFrom(message)
    cut.raw = b""
    cut.source, cut.schema, cut.reason = (text[:TEXT_KEPT] for text in (cut.source, cut.schema, cut.reason))
    cut.detail = f"{cut.detail[:TEXT_KEPT]}; cut from {len(message.raw)} bytes, SHA-256 {digest.hexdigest()}"
    cut.whole_digest = digest.digest()
    cut.raw = message.raw[: limit - cut.ByteSize() - _LENGTHS]
    return cut
