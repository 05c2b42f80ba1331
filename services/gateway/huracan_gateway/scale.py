"""Exact decimal text to integers in increments, and the increments a book's own prices imply."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal

from huracan_gateway.reject import Reason, Rejected

_CACHE_BOUND = 200_000
_MAX_DIGITS = 18
"""Integers of more digits do not fit the int64 columns of the log."""


class Scale:
    """Read decimal text as a number of increments. Prices repeat, so results are remembered."""

    def __init__(self, increment: Decimal) -> None:
        exponent = increment.as_tuple().exponent
        assert isinstance(exponent, int)
        self.increment = increment
        self._decimals = max(-exponent, 0)
        self._unit = int(increment.scaleb(self._decimals))
        self._known: dict[str, int] = {}

    def read(self, text: str, field: str) -> int:
        """Return the number of increments; raise Rejected naming the field for anything but an exact multiple."""
        known = self._known.get(text)
        if known is not None:
            return known
        if len(self._known) >= _CACHE_BOUND:
            self._known.clear()
        value = self._known[text] = self._parse(text, field)
        return value

    def _parse(self, text: str, field: str) -> int:
        whole, _, fraction = text.partition(".")
        digits = whole + fraction
        if not (whole and digits.isascii() and digits.isdigit()):
            negative = text[:1] == "-" and text[1:2].isdigit()
            raise Rejected(Reason.NOT_POSITIVE if negative else Reason.NOT_A_NUMBER, f"{field} was {text[:40]!r}")
        if len(whole) > _MAX_DIGITS:
            raise self._too_long(text, field)
        kept, rest = fraction[: self._decimals], fraction[self._decimals :]
        number = int(whole + kept.ljust(self._decimals, "0"))
        value, remainder = divmod(number, self._unit)
        if remainder or rest.strip("0"):
            raise Rejected(Reason.OFF_INCREMENT, f"{field} was {text[:40]}, not a multiple of {self.increment}")
        if value >= 2**63:
            raise self._too_long(text, field)
        return value

    def _too_long(self, text: str, field: str) -> Rejected:
        return Rejected(Reason.NOT_A_NUMBER, f"{field} was {text[:40]}, beyond what can be kept exactly")


def implied_increment(texts: Iterable[str]) -> Decimal:
    """Return the greatest increment of which all these decimal texts are multiples.

    A venue's REST book lists many neighbouring prices, so their common divisor is the increment itself. Raises
    ValueError or ArithmeticError for text that is no finite number, and when no number differs from zero.
    """
    values = [Decimal(text) for text in texts]
    exponents = [value.as_tuple().exponent for value in values]
    decimals = max(-exponent for exponent in exponents if isinstance(exponent, int))
    common = math.gcd(*(int(value.scaleb(decimals)) for value in values))
    if not common:
        raise ValueError("all numbers were zero")
    return Decimal(common).scaleb(-decimals)
