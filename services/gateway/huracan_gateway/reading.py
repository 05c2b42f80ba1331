"""The fields of the JSON that venues send, each read alone: a refusal names the field, and what it was."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TypeVar

import msgspec

from huracan.clock import MILLISECOND_NS
from huracan.contracts.market import FUNDING_UNIT, MARK_UNIT
from huracan_gateway.reject import Reason, Rejected

T = TypeVar("T")

DAMAGED = (msgspec.DecodeError, ValueError, RecursionError)
"""What damaged JSON raises: bad syntax; no UTF-8, or an integer of thousands of digits; nesting without end."""
_EARLIEST_MS, _LATEST_MS = 1_483_228_800_000, 4_102_444_800_000
"""2017 to 2100: what an event time may be at all."""
_MOST_DIGITS = 19
"""Of an integer of 64 bits."""
_DECIMAL = re.compile(r"-?\d{1,18}(\.\d{1,30})?", re.ASCII)
_INCREMENT = re.compile(r"\d{1,18}(\.\d{1,30})?(E[+-]\d)?|\dE-[12]\d", re.ASCII)


def typed(decoder: msgspec.json.Decoder[T], data: bytes) -> T:
    """Return what JSON says in the form of a decoder; raise Rejected for other or damaged JSON."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise Rejected(Reason.BAD_FIELD, str(error)) from None
    except DAMAGED as error:
        raise Rejected(Reason.BAD_JSON, f"{error}; began with {bytes(data)[:60]!r}") from None


def event_ns(event_ms: int, field: str) -> int:
    """Return a time in nanoseconds; raise Rejected for one before 2017 or after 2100."""
    if _EARLIEST_MS <= event_ms <= _LATEST_MS:
        return event_ms * MILLISECOND_NS
    if event_ms < 0:
        raise Rejected(Reason.NEGATIVE_TIME, f"{field} was negative")
    raise Rejected(Reason.IMPOSSIBLE_TIME, f"{field} was {shown(event_ms)} ms")


def event_ns_of(text: str, field: str) -> int:
    """Return a time, told as milliseconds in text, in nanoseconds; raise Rejected as `event_ns` and for other text."""
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS:
        return event_ns(int(text), field)
    raise Rejected(Reason.BAD_FIELD, f"{field} was {text[:40]!r}")


def checked_id(value: int, field: str) -> int:
    """Return an id; raise Rejected for one that does not fit the log's columns."""
    if 0 <= value < 2**63:
        return value
    raise Rejected(Reason.BAD_FIELD, f"{field} was {shown(value)}")


def id_of(text: str, field: str) -> int:
    """Return an id that is told as text; raise Rejected for what is none, or does not fit the log's columns."""
    if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS:
        return checked_id(int(text), field)
    raise Rejected(Reason.BAD_FIELD, f"{field} was {text[:40]!r}")


def decimal_of(text: str, field: str) -> Decimal:
    """Return the number that plain decimal text says; raise Rejected for any other text."""
    if not _DECIMAL.fullmatch(text):
        raise Rejected(Reason.NOT_A_NUMBER, f"{field} was {text[:40]!r}")
    return Decimal(text)


def positive(text: str, field: str) -> Decimal:
    """Return the number above 0 that plain decimal text says; raise Rejected for any other text."""
    value = decimal_of(text, field)
    if value <= 0:
        raise Rejected(Reason.NOT_POSITIVE, f"{field} was {text[:40]}")
    return value


def increment_of(text: str, field: str) -> Decimal:
    """Return an increment of ours, which may be written with an exponent; raise Rejected for what is none above 0."""
    if not _INCREMENT.fullmatch(text):
        raise Rejected(Reason.NOT_A_NUMBER, f"{field} was {text[:40]!r}")
    return positive(f"{Decimal(text):f}", field)


def mark_price(text: str, field: str) -> Decimal:
    """Return a mark or index price; raise Rejected for one that is not above 0 or too large to be kept."""
    return _kept(positive(text, field), MARK_UNIT, field)


def funding_rate(text: str, field: str) -> Decimal:
    """Return a funding rate per period, as a ratio; raise Rejected for one too large to be kept."""
    return _kept(decimal_of(text, field), FUNDING_UNIT, field)


def _kept(value: Decimal, unit: Decimal, field: str) -> Decimal:
    if abs(value) >= unit * 2**63:
        raise Rejected(Reason.NOT_A_NUMBER, f"{field} was {value}, beyond what can be kept")
    return value


def shown(value: int) -> str:
    """Return an integer as text short enough for a refusal."""
    return str(value) if abs(value) < 2**64 else "beyond 64 bits"
