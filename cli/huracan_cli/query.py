"""`huracan query`: rows of the database for people and machines, and times as people write them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from rich import box
from rich.table import Table
from rich.text import Text

from huracan.clock import MILLISECOND_NS
from huracan.errors import BadInput
from huracan.store.query import TABLE_NAMES, Cell, Page, desk, page, query
from huracan_cli.colours import COLOURS
from huracan_cli.tail import printable

__all__ = ["TABLE_NAMES", "Cell", "Page", "desk", "page", "parse_time", "query", "render", "text_of_time"]

SHORT_ID = 12
"""Characters of an id that people see: enough for `huracan explain`."""
LEAST_NS = 10**17
"""Times before 1973 are seconds or milliseconds that somebody took for nanoseconds."""
_DIGITS = len(str(2**63))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FRACTION = re.compile(r"[.,](\d+)")

_INSTRUMENT = "instrument"
_SHOWN: dict[str, tuple[str, ...]] = {
    "decisions": ("close_ns", _INSTRUMENT, "direction", "size", "confidence", "reason", "decision_id"),
    "opinions": ("close_ns", _INSTRUMENT, "expert", "p_down", "p_flat", "p_up", "reason", "opinion_id"),
    "contexts": ("as_of_ns", "kind", "key", "version", "epoch", "valid_until_ns"),
    "orders": (
        *("created_ns", _INSTRUMENT, "side", "quantity", "limit_price"),
        *("state", "filled_quantity", "reason", "account", "order_id"),
    ),
    "fills": ("matched_ns", _INSTRUMENT, "side", "quantity", "price", "fee", "account", "order_id"),
    "accounts": ("as_of_ns", "account", "epoch", "equity", "cash", "fees", "risk_state"),
    "bars": ("open_ns", _INSTRUMENT, "interval_ns", "open", "high", "low", "close", "volume", "trades", "partial"),
    "anomalies": ("at_ns", _INSTRUMENT, "kind", "policy", "score", "threshold", "evidence"),
    "reliability": ("hour_ns", _INSTRUMENT, "score", "frames", "from_ns", "to_ns", "parts"),
    "feed_changes": ("at_ns", _INSTRUMENT, "state", "provider", "attempt", "detail"),
    "instruments": (
        *("valid_from_ns", _INSTRUMENT, "definition_version", "venue_symbol", "type"),
        *("settle", "price_increment", "size_increment", "multiplier"),
    ),
    "orchestrator_stats": ("started_ns", "service", "at_ns", "counts"),
    "uptime_logs": ("at_ns", "service", "running"),
    "positions": ("as_of_ns", _INSTRUMENT, "account", "quantity"),
    "pnl": ("day_ns", "account", "first_equity", "last_equity", "pnl", "fees"),
    "ticks": ("recv_ns", _INSTRUMENT, "kind", "side", "price", "size", "ingest_seq", "venue_seq", "event_ns"),
    "alerts": ("at_ns", "severity", "kind", "about", "detail", "source"),
    "lineage": (
        *("decision_id", "position", "kind", "opinion_id", "weight"),
        *("context_kind", "context_key", "context_version"),
    ),
}
"""Columns that people see."""
_COUNTS_OF = {"size": "lots", "quantity": "lots", "filled_quantity": "lots", "limit_price": "ticks", "price": "ticks"}
"""Columns that count increments of the instrument."""


def parse_time(text: str, field: str = "time") -> int:
    """Return nanoseconds since the Unix epoch of an ISO 8601 time, UTC where it names no zone, or of nanoseconds.

    Raises BadInput, naming the field, for anything else and for numbers that are no nanoseconds since 1973.
    """
    text = text.strip()
    if text.isascii() and text.isdecimal():
        # The length first, for Python reads no number of thousands of digits.
        if len(text) <= _DIGITS and LEAST_NS <= int(text) < 2**63:
            return int(text)
        raise BadInput(f"{field} was {text}, which is no time in nanoseconds: give one from {LEAST_NS} on, or ISO 8601")
    fraction = _FRACTION.search(text)
    digits = fraction[1] if fraction else ""
    try:
        moment = datetime.fromisoformat(text)
        if len(digits) > 9:
            raise ValueError
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        raise BadInput(
            f"{field} was {text!r}: give ISO 8601, as 2026-03-01T14:30:00Z, or nanoseconds since 1970"
        ) from None
    # The parser drops what is finer than a microsecond.
    return since // timedelta(microseconds=1) * 1_000 + int(digits[6:].ljust(3, "0"))


def text_of_time(ns: int) -> str:
    """Return nanoseconds since the Unix epoch as people read them: UTC, to the millisecond."""
    return f"{_EPOCH + timedelta(milliseconds=ns // MILLISECOND_NS):%Y-%m-%d %H:%M:%S.%f}"[:-3]


def render(table: str, rows: Sequence[dict[str, Cell]]) -> Table:
    """Return the rows of a table as people read them: times in UTC, long ids shortened, empty for null.

    What venues wrote cannot steer the terminal.
    """
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1), header_style="bold")
    for name in _SHOWN[table]:
        numeric = any(isinstance(row.get(name), int | float) for row in rows) and not name.endswith("_ns")
        shown.add_column(_heading(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(_text(name, row) for name in _SHOWN[table]))
    return shown


def _heading(name: str) -> str:
    if name in _COUNTS_OF:
        return f"{name.removesuffix('_price').removesuffix('_quantity')} ({_COUNTS_OF[name]})"
    return name.removesuffix("_ns")


def _text(name: str, row: dict[str, Cell]) -> Text:
    if name == _INSTRUMENT:
        return Text(printable(f"{row['venue']}.{row['symbol']}"))
    value = row[name]
    if value is None:
        return Text("")
    if name == "interval_ns" and isinstance(value, int):
        return Text(f"{value / 1e9:g} s")
    if name.endswith("_ns") and isinstance(value, int):
        return Text(text_of_time(value))
    if name.endswith("_id"):
        return Text(str(value)[:SHORT_ID])
    if isinstance(value, float):
        return Text(f"{value:.4f}")
    return Text(printable(str(value)), style=COLOURS.get(str(value), ""))
