"""What is kept of a message, and what must not be kept."""

from __future__ import annotations

from google.protobuf.message import Message

from huracan.contracts.features import FeatureWindow
from huracan.errors import PoisonMessage
from huracan.ports import Delivery
from huracan.store.tables import TABLE_OF

MOST_EPOCH = (1 << 64) - 1
"""The contracts and the spill have 64 bits for an epoch; a header has room for more."""


def kept_of(delivery: Delivery, message: Message) -> Message:
    """Return what is kept of a message: of a window of bars, the bar.

    Raises PoisonMessage for what has no table, and for an epoch that nothing of Huracan's can hold.
    """
    if delivery.epoch > MOST_EPOCH:
        raise PoisonMessage("malformed", f"{delivery.subject}: epoch was {delivery.epoch}, beyond 64 bits")
    kept = message.bar if isinstance(message, FeatureWindow) else message
    if type(kept) not in TABLE_OF:
        raise PoisonMessage("unexpected_kind", f"{delivery.subject} carried {delivery.raw[0]}, which has no table")
    return kept
