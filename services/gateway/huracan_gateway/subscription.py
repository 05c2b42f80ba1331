"""Messages that subscribe to streams, for venues that are asked by message rather than by address."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

STREAMS_IN_A_MESSAGE = 50
"""A few KB."""


def in_messages(
    request: Callable[[str, Sequence[str], int], object], operation: str, wanted: Sequence[str], number: int
) -> list[bytes]:
    """Return the messages that carry out an operation (`subscribe`, `unsubscribe`) on streams, some at a time.

    `request` returns what a message says, of the operation, its streams and the request number.
    """
    chunks = (wanted[at : at + STREAMS_IN_A_MESSAGE] for at in range(0, len(wanted), STREAMS_IN_A_MESSAGE))
    return [msgspec.json.encode(request(operation, chunk, number)) for chunk in chunks]
