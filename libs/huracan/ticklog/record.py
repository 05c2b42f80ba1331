"""What all logs do with the bytes of a record."""

from __future__ import annotations

from huracan.contracts import codec
from huracan.errors import PoisonMessage, PoisonRecord
from huracan.ports import Record


def record_of(place: str, offset: int, schema: str, data: bytes) -> Record:
    """Return a record of a place in the log; raise PoisonRecord that names place and offset when it cannot be read."""
    try:
        return Record(offset, codec.decode(schema, data))
    except PoisonMessage as error:
        detail = f"{place} at offset {offset}: {error.detail}"
        raise PoisonRecord(error.reason, detail, offset=offset, schema=schema, raw=data) from None
