"""What is kept of a message, and what must not be kept."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from huracan.contracts import codec
from huracan.contracts.features import FeatureWindow
from huracan.errors import PoisonMessage
from huracan.ports import Delivery
from huracan.store.tables import TABLE_OF, TABLES, TEXT, Column

MOST_EPOCH = (1 << 64) - 1
"""The contracts and the spill have 64 bits for an epoch; a header has room for more."""
NEVER_EMPTY: dict[type[Message], tuple[Column[Any], ...]] = {
    table.kind: tuple(column for column in table.fields if column.key and column.type == TEXT) for table in TABLES
}
"""Ids and names under which a row is kept: of those without one the second would be taken for the first. Of the
numbers among keys each may be 0."""


def kept_of(delivery: Delivery, message: Message) -> Message:
    """Return what is kept of a message: of a window of bars, the bar.

    Raises PoisonMessage for what has no table, for an epoch that nothing of Huracan's can hold, and for what lacks an
    id or a name that its row is kept under: it never becomes a row of default values.
    """
    if delivery.epoch > MOST_EPOCH:
        raise PoisonMessage("malformed", f"{delivery.subject}: epoch was {delivery.epoch}, beyond 64 bits")
    parts = [message.bar, message.instrument] if isinstance(message, FeatureWindow) else [message]
    for part in parts:
        if type(part) not in TABLE_OF:
            raise PoisonMessage("unexpected_kind", f"{delivery.subject} carried {delivery.raw[0]}, which has no table")
        for column in NEVER_EMPTY[type(part)]:
            if not column.value(part):
                schema = codec.schema_of(part)
                raise PoisonMessage("incomplete", f"{delivery.subject}: {column.name} of {schema} was empty")
    return parts[0]
