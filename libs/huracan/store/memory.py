"""The store in memory: each message once under its id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from google.protobuf.message import Message

from huracan.contracts import codec
from huracan.store.tables import TABLE_OF

M = TypeVar("M", bound=Message)


class MemoryStore:
    """The Store port without a server. What it keeps and returns are copies."""

    def __init__(self) -> None:
        self._rows: dict[type[Message], dict[tuple[object, ...], tuple[int, bytes]]] = {kind: {} for kind in TABLE_OF}

    async def save(self, messages: Sequence[Message]) -> int:
        """Keep the messages and return how many were new; raise KeyError for a kind that has no table."""
        new = 0
        for message in messages:
            table, rows = TABLE_OF[type(message)], self._rows[type(message)]
            key, revision = table.key(message), table.revision(message)
            kept = rows.get(key)
            new += kept is None
            if kept is None or kept[0] < revision:
                rows[key] = (revision, codec.encode(message))
        return new

    async def load(self, kind: type[M]) -> list[M]:
        """Return all messages of a kind in the order of its table."""
        rows = [kind.FromString(data) for _, data in self._rows[kind].values()]
        return sorted(rows, key=TABLE_OF[kind].order)

    async def maintain(self, now_ns: int, *, keep_days: int | None = None) -> dict[str, int]:  # noqa: ARG002 - the port's
        """Do nothing: memory has room for every day."""
        return {}
