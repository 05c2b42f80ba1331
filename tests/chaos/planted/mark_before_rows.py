"""A process whose persister has a planted bug: the mark is in the database before the rows, in its own transaction."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from huracan.ports import Record
from huracan.service.__main__ import main
from huracan.store.marks import keep_records
from huracan.store.postgres import PostgresStore

APART_S = 0.3
"""Between the two transactions, so that what strikes soon strikes here."""


class _WithoutRows:
    """A connection that keeps back what is to be copied."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.copies: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def copy_records_to_table(self, *given: Any, **named: Any) -> None:
        self.copies.append((given, named))


async def _save_records(self: PostgresStore, topic: str, key: str, records: Sequence[Record]) -> int:
    async with self._connection() as connection, connection.transaction():
        marking: Any = _WithoutRows(connection)
        new = await keep_records(marking, topic, key, records)
    if marking.copies:
        await asyncio.sleep(APART_S)
        async with self._connection() as connection, connection.transaction():
            for given, named in marking.copies:
                await connection.copy_records_to_table(*given, **named)
    return new


if __name__ == "__main__":
    PostgresStore.save_records = _save_records  # type: ignore[method-assign]
    sys.exit(main())
