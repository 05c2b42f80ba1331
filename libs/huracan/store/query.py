"""Look into the tables: the newest rows of one by instrument and time, page by page, all or what a desk may see."""

# ruff: noqa: S608 - every name in a statement comes from `huracan.store.tables`; values are bound

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import asyncpg

from huracan.errors import BadInput
from huracan.store.derived import ALERTS, POSITIONS, Alert, Position
from huracan.store.logged import HEADER, OFFSET, ROW, SCHEMA, TICKS
from huracan.store.postgres import connected
from huracan.store.tables import LINEAGE_SCHEMA, LINEAGE_TABLE, TABLES, Lineage

LONGEST_LISTING = 10_000
"""Most rows of one answer."""
WITHIN_S = 10.0
"""Longest time a query may take."""
CONNECT_WITHIN_S = 10.0
DESK_ROLE = "authenticated"
"""Role of whoever signed in: policies show it what is its own."""
_LAST_NS = 2**63 - 1
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

Cell = str | int | float | bool | None
"""Exact decimals are text without an exponent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who asks: a role of the database, and claims that policies go by."""

    role: str
    claims: Mapping[str, str]


def desk(user_id: str) -> Identity:
    """Return a desk, by the UUID of its user; raise BadInput for what is none."""
    if not _UUID.fullmatch(user_id):
        raise BadInput(f"desk was {user_id!r}: give the UUID of its user, as 00000000-0000-4000-8000-000000000001")
    return Identity(role=DESK_ROLE, claims={"sub": user_id, "role": DESK_ROLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Rows of an answer, and where the next one goes on."""

    rows: list[dict[str, Cell]]
    after: str | None
    """Give it with the same question for the rows that follow; None where there are no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """How a table is listed."""

    source: str
    columns: tuple[str, ...]
    newest: tuple[str, ...]
    """Columns of the order, unique together: the time that a filter is about first. All descend, but those with a -."""
    by_instrument: bool = True


_NEWEST = {
    "decisions": ("close_ns", "decision_id"),
    "opinions": ("close_ns", "opinion_id"),
    "contexts": ("as_of_ns", "kind", "key", "version"),
    "orders": ("created_ns", "order_id"),
    "fills": ("matched_ns", "fill_id"),
    "accounts": ("as_of_ns", "account", "epoch"),
    "bars": ("open_ns", "venue", "symbol", "interval_ns"),
    "anomalies": ("at_ns", "anomaly_id"),
    "reliability": ("hour_ns", "venue", "symbol"),
    "feed_changes": ("at_ns", "change_id"),
    "instruments": ("valid_from_ns", "venue", "symbol", "definition_version"),
    "orchestrator_stats": ("started_ns", "service"),
    "uptime_logs": ("at_ns", "service", "running"),
}
"""Order of each table: where it can be, that of an index."""
_DECISIONS = next(table.sql for table in TABLES if table.name == "decisions")
LISTINGS: dict[str, Listing] = {
    **{
        table.name: Listing(
            source=table.sql,
            columns=tuple(column.name for column in table.fields),
            newest=_NEWEST[table.name],
            by_instrument=any(column.name == "symbol" for column in table.fields),
        )
        for table in TABLES
    },
    LINEAGE_TABLE: Listing(
        source=f"{LINEAGE_SCHEMA}.{LINEAGE_TABLE} join (select close_ns, decision_id, venue, symbol from {_DECISIONS})"
        " as decided using (close_ns, decision_id)",
        columns=Lineage._fields,
        newest=("close_ns", "decision_id", "-position"),
    ),
    "positions": Listing(source=POSITIONS, columns=Position._fields, newest=("as_of_ns", "account", "venue", "symbol")),
    "pnl": Listing(
        source="trading.daily_pnl",
        columns=("account", "day_ns", "first_equity", "last_equity", "pnl", "fees"),
        newest=("day_ns", "account"),
        by_instrument=False,
    ),
    TICKS.name: Listing(
        # Records without rows are no ticks.
        source=f"(select * from {TICKS.sql} where {ROW} is not null) as ticks",
        columns=tuple(name for name in TICKS.types if name not in (SCHEMA, HEADER)),
        newest=(TICKS.by_day, "venue", "symbol", OFFSET, ROW),
    ),
    "alerts": Listing(source=ALERTS, columns=Alert._fields, newest=("at_ns", "alert_id"), by_instrument=False),
}
_NO_CURSOR = "after was not given with this question: take that of the page before, and ask for the same"
TABLE_NAMES = tuple(LISTINGS)
"""What can be queried; lineage takes its instrument from its decision."""


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
    """Return the rows of the first page: see `page`."""
    found = await page(
        url, table, instrument=instrument, since_ns=since_ns, until_ns=until_ns, limit=limit, timeout_s=timeout_s
    )
    return found.rows


async def page(
    url: str,
    table: str,
    *,
    instrument: str | None = None,
    since_ns: int | None = None,
    until_ns: int | None = None,
    limit: int = 50,
    after: str | None = None,
    identity: Identity | None = None,
    timeout_s: float = WITHIN_S,
) -> Page:
    """Return the newest rows of a table, newest first, with its columns but for the message.

    `instrument` is `venue.symbol` or a symbol of any venue. Times are the market's, nanoseconds since the Unix epoch,
    from `since_ns` on and before `until_ns`. `limit` is 1 to LONGEST_LISTING. `after` is that of the page before, of
    the same question: rows that came meanwhile shift nothing. With an identity the database shows what that may see,
    and no more. Raises BadInput for a table that there is not, a filter that does not apply to it, a value out of
    range, a query of more than `timeout_s`, an identity that the user of the URL may not take, a table that it may not
    see, and a database that was not migrated or refuses us; Recoverable while the server is away.
    """
    listing = _checked(table, instrument, since_ns, until_ns, limit)
    question = _digest(table, instrument, since_ns, until_ns)
    begins = _begins(after, question, len(listing.newest)) if after is not None else None
    asked, values = statement(listing, instrument, since_ns, until_ns, limit, begins)
    async with connected(url, timeout_s=CONNECT_WITHIN_S, command_timeout_s=timeout_s + CONNECT_WITHIN_S) as connection:
        try:
            async with connection.transaction(readonly=True):
                # Within the transaction, for poolers take no settings with the connection.
                bound_ms = str(max(round(timeout_s * 1_000), 1))
                await connection.execute("select set_config('statement_timeout', $1, true)", bound_ms)
                if identity is not None:
                    await become(connection, identity)
                records = await connection.fetch(asked, *values)
        except asyncpg.QueryCanceledError:
            raise BadInput(
                f"query of {table} took more than {timeout_s:g} s: name an instrument, or a time that is less long"
            ) from None
        except asyncpg.InsufficientPrivilegeError:
            if identity is None:
                raise
            raise BadInput(f"{table} are not shown to {identity.role}: ask for another table") from None
        except asyncpg.DataError:
            if begins is None:
                raise
            raise BadInput(_NO_CURSOR) from None
    rows = [{name: _cell(value) for name, value in record.items()} for record in records]
    more = len(rows) > limit
    return Page(rows=rows[:limit], after=_cursor(question, listing, rows[limit - 1]) if more else None)


async def become(connection: asyncpg.Connection[asyncpg.Record], identity: Identity) -> None:
    """Be somebody until the end of the transaction: the role, and the claims that policies go by.

    Raises BadInput where the user of the connection may not take the role.
    """
    try:
        await connection.execute(
            "select set_config('request.jwt.claims', $1, true), set_config('role', $2, true)",
            json.dumps(dict(identity.claims)),
            identity.role,
        )
    except asyncpg.InsufficientPrivilegeError:
        raise BadInput(
            f"user of the database URL may not become {identity.role}: grant it that role, or name another user"
        ) from None


def _checked(table: str, instrument: str | None, since_ns: int | None, until_ns: int | None, limit: int) -> Listing:
    listing = LISTINGS.get(table)
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


def statement(
    listing: Listing,
    instrument: str | None,
    since_ns: int | None,
    until_ns: int | None,
    limit: int,
    begins: Sequence[Cell] | None,
) -> tuple[str, list[object]]:
    """Return the statement of a question with its values: `limit` rows and one more, from after `begins` on."""
    venue, _, symbol = (instrument or "").partition(".") if "." in (instrument or "") else ("", "", instrument or "")
    time = listing.newest[0]
    filters: list[tuple[str, Cell]] = [
        ("venue =", venue or None),
        ("symbol =", symbol or None),
        (f"{time} >=", since_ns),
        (f"{time} <", until_ns),
    ]
    if begins is not None:
        # Said again of the time alone, for rows of columns leave no partition out.
        filters.append((f"{time} <=", begins[0]))
    # One more than asked for tells whether there are more.
    values: list[object] = [limit + 1]
    conditions = ["true"]
    for condition, value in filters:
        if value is not None:
            values.append(value)
            conditions.append(f"{condition} ${len(values)}")
    if begins is not None:
        places = ", ".join(f"${number}" for number in range(len(values) + 1, len(values) + 1 + len(begins)))
        values.extend(begins)
        conditions.append(f"({', '.join(listing.newest)}) < ({places})")
    asked = (
        f"select {', '.join(listing.columns)} from {listing.source} where {' and '.join(conditions)}"
        f" order by {', '.join(f'{column} desc' for column in listing.newest)} limit $1"
    )
    return asked, values


def _digest(*question: str | int | None) -> str:
    return hashlib.sha256(json.dumps(question).encode()).hexdigest()[:16]


def _cursor(question: str, listing: Listing, row: Mapping[str, Cell]) -> str:
    """Return where the page after a row begins."""
    values: list[Cell] = []
    for column in listing.newest:
        value = row[column.removeprefix("-")]
        values.append(-value if column.startswith("-") and isinstance(value, int) else value)
    return base64.urlsafe_b64encode(json.dumps([question, *values]).encode()).decode().rstrip("=")


def _begins(after: str, question: str, count: int) -> list[Cell]:
    try:
        values: list[Cell]
        asked, *values = json.loads(base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)))
    except (ValueError, TypeError, RecursionError):
        raise BadInput(_NO_CURSOR) from None
    if asked != question or len(values) != count or not all(isinstance(value, str | int) for value in values):
        raise BadInput(_NO_CURSOR)
    return values


def _cell(value: Cell | Decimal) -> Cell:
    return f"{value:f}" if isinstance(value, Decimal) else value
