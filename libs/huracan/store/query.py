"""Look into the tables: the newest rows of one, by instrument and time, in a transaction that can only read."""

# ruff: noqa: S608 - every name in a statement comes from `huracan.store.tables`; values are bound

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import asyncpg

from huracan.errors import BadInput
from huracan.store.postgres import APPLICATION, translated
from huracan.store.tables import LINEAGE_SCHEMA, LINEAGE_TABLE, TABLES, Lineage

LONGEST_LISTING = 10_000
"""Most rows of one answer."""
WITHIN_S = 10.0
"""Longest time a query may take."""
CONNECT_WITHIN_S = 10.0
_LAST_NS = 2**63 - 1

Cell = str | int | float | bool | None
"""Exact decimals are text without an exponent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    source: str
    columns: tuple[str, ...]
    time: str
    newest: str
    by_instrument: bool = True


_DECISIONS = next(table.sql for table in TABLES if table.name == "decisions")
_TIMES = {
    "decisions": ("close_ns", "step desc, decision_id desc"),
    "opinions": ("close_ns", "step desc, opinion_id desc"),
    "contexts": ("as_of_ns", "as_of_ns desc, kind, key, version desc"),
    "orders": ("created_ns", "created_ns desc, order_id desc"),
    "fills": ("matched_ns", "matched_ns desc, fill_id desc"),
    "accounts": ("as_of_ns", "as_of_ns desc, account, epoch desc"),
    "bars": ("open_ns", "open_ns desc, venue, symbol, interval_ns"),
    "anomalies": ("at_ns", "at_ns desc, anomaly_id desc"),
    "reliability": ("hour_ns", "hour_ns desc, venue, symbol"),
    "feed_changes": ("at_ns", "at_ns desc, change_id desc"),
}
"""Column that a time filter is about, and the order that is newest first: where it can be, that of an index."""
_LISTINGS = {
    **{
        table.name: _Listing(
            source=table.sql,
            columns=tuple(column.name for column in table.fields),
            time=_TIMES[table.name][0],
            newest=_TIMES[table.name][1],
            by_instrument=any(column.name == "symbol" for column in table.fields),
        )
        for table in TABLES
    },
    LINEAGE_TABLE: _Listing(
        source=f"{LINEAGE_SCHEMA}.{LINEAGE_TABLE} as rests join {_DECISIONS} as decided using (decision_id)",
        columns=tuple(name if name == "decision_id" else f"rests.{name}" for name in Lineage._fields),
        time="decided.close_ns",
        newest="decided.step desc, decision_id desc, rests.position",
    ),
}
TABLE_NAMES = tuple(_LISTINGS)
"""What can be queried; lineage takes instrument and time from its decision."""


async def query(
    url: str,
    table: str,
    *,
    instrument: str | None = None,
    since_ns: int | None = None,
    until_ns: int | None = None,
    limit: int = 50,
    timeout_s: float = WITHIN_S,
) -> list[dict[str, Cell]]:
    """Return the newest rows of a table, newest first, with its columns but for the message.

    `instrument` is `venue.symbol` or a symbol of any venue. Times are the market's, nanoseconds since the Unix epoch,
    from `since_ns` on and before `until_ns`. `limit` is 1 to LONGEST_LISTING. Raises BadInput for a table that there
    is not, a filter that does not apply to it, a value out of range, a query of more than `timeout_s` and a database
    that was not migrated or refuses us; Recoverable while the server is away.
    """
    listing = _checked(table, instrument, since_ns, until_ns, limit)
    statement, values = _statement(listing, instrument, since_ns, until_ns, limit)
    with translated():
        connection = await asyncpg.connect(
            url, timeout=CONNECT_WITHIN_S, command_timeout=timeout_s + CONNECT_WITHIN_S, server_settings=APPLICATION
        )
        try:
            async with connection.transaction(readonly=True):
                # Within the transaction, for poolers take no settings with the connection.
                bound_ms = str(max(round(timeout_s * 1_000), 1))
                await connection.execute("select set_config('statement_timeout', $1, true)", bound_ms)
                records = await connection.fetch(statement, *values)
        except asyncpg.QueryCanceledError:
            raise BadInput(
                f"query of {table} took more than {timeout_s:g} s: name an instrument, or a time that is less long"
            ) from None
        finally:
            await connection.close(timeout=CONNECT_WITHIN_S)
    return [{name: _cell(value) for name, value in record.items()} for record in records]


def _checked(table: str, instrument: str | None, since_ns: int | None, until_ns: int | None, limit: int) -> _Listing:
    listing = _LISTINGS.get(table)
    if listing is None:
        raise BadInput(f"table was {table!r}: choose one of {', '.join(TABLE_NAMES)}")
    if instrument is not None and not listing.by_instrument:
        raise BadInput(f"instrument was {instrument!r}, and {table} are not kept by instrument: leave it out")
    if instrument is not None and not (instrument.isprintable() and instrument.rpartition(".")[2]):
        raise BadInput(f"instrument was {instrument!r}: give venue.symbol or symbol, as binance_usdm.btc-usdt-perp")
    for name, given in (("since", since_ns), ("until", until_ns)):
        if given is not None and not 0 <= given <= _LAST_NS:
            raise BadInput(f"{name} was {given}: give nanoseconds since 1970, 0 to {_LAST_NS}")
    if since_ns is not None and until_ns is not None and since_ns >= until_ns:
        raise BadInput(f"since was {since_ns}, not before until, {until_ns}: give an earlier one")
    if not 1 <= limit <= LONGEST_LISTING:
        raise BadInput(f"limit was {limit}: give 1 to {LONGEST_LISTING}")
    return listing


def _statement(
    listing: _Listing, instrument: str | None, since_ns: int | None, until_ns: int | None, limit: int
) -> tuple[str, list[object]]:
    venue, _, symbol = (instrument or "").partition(".") if "." in (instrument or "") else ("", "", instrument or "")
    filters = (
        ("venue =", venue or None),
        ("symbol =", symbol or None),
        (f"{listing.time} >=", since_ns),
        (f"{listing.time} <", until_ns),
    )
    values: list[object] = [limit]
    conditions = ["true"]
    for condition, value in filters:
        if value is not None:
            values.append(value)
            conditions.append(f"{condition} ${len(values)}")
    statement = (
        f"select {', '.join(listing.columns)} from {listing.source}"
        f" where {' and '.join(conditions)} order by {listing.newest} limit $1"
    )
    return statement, values


def _cell(value: Cell | Decimal) -> Cell:
    return f"{value:f}" if isinstance(value, Decimal) else value
