"""Exact decimal text to integers in increments, and the increments a book's own prices imply."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from fractions import Fraction

from huracan.market.book import Level
from huracan_gateway.reject import Reason, Rejected

_CACHE_BOUND = 200_000
_MAX_DIGITS = 18
"""Integers of more digits do not fit the int64 columns of the log."""
_LONGEST_ROUNDED = 28
"""Digits of a size that a venue can mean: 18, a point, and 8 or 9 behind it."""


class _Known(dict[str, int]):
    """What texts were read as; one that is not known yet is read."""

    def __init__(self, parse: Callable[[str], int]) -> None:
        super().__init__()
        self._parse = parse

    def __missing__(self, text: str) -> int:
        value = self._parse(text)
        if len(self) >= _CACHE_BOUND:
            self.clear()
        self[text] = value
        return value


class Scale:
    """Read decimal text as a number of increments. Prices repeat, so results are remembered."""

    def __init__(self, increment: Decimal) -> None:
        exponent = increment.as_tuple().exponent
        assert isinstance(exponent, int)
        self.increment = increment
        self._decimals = max(-exponent, 0)
        self._unit = int(increment.scaleb(self._decimals))
        self.known = _Known(self._parse)
        """Numbers of increments by text; raises Rejected, without the field, for what is no multiple."""

    def read(self, text: str, field: str) -> int:
        """Return the number of increments; raise Rejected naming the field for anything but an exact multiple."""
        try:
            return self.known[text]
        except Rejected as refused:
            raise Rejected(refused.reason, f"{field} {refused.detail}") from None

    def _parse(self, text: str) -> int:
        whole, _, fraction = text.partition(".")
        digits = whole + fraction
        if not (whole and digits.isascii() and digits.isdigit()):
            negative = text[:1] == "-" and text[1:2].isdigit()
            raise Rejected(Reason.NOT_POSITIVE if negative else Reason.NOT_A_NUMBER, f"was {text[:40]!r}")
        if len(whole) > _MAX_DIGITS:
            raise _too_long(text)
        kept, rest = fraction[: self._decimals], fraction[self._decimals :]
        number = int(whole + kept.ljust(self._decimals, "0"))
        value, remainder = divmod(number, self._unit)
        if remainder or rest.strip("0"):
            raise Rejected(Reason.OFF_INCREMENT, f"was {text[:40]}, not a multiple of {self.increment}")
        if value >= 2**63:
            raise _too_long(text)
        return value


class RoundedUpScale(Scale):
    """Read decimal text as the number of increments that holds it: what is finer is rounded up."""

    def _parse(self, text: str) -> int:
        try:
            return super()._parse(text)
        except Rejected as refused:
            if refused.reason is not Reason.OFF_INCREMENT or len(text) > _LONGEST_ROUNDED:
                raise
        whole = math.ceil(Fraction(text) / Fraction(self.increment))
        return super()._parse(f"{whole * self.increment:f}")


def _too_long(text: str) -> Rejected:
    return Rejected(Reason.NOT_A_NUMBER, f"was {text[:40]}, beyond what can be kept exactly")


def read_levels(prices: Scale, sizes: Scale, levels: Sequence[tuple[str, str]], field: str) -> list[Level]:
    """Return price and size of levels in increments; raise Rejected as `Scale.read` does, and for a price of 0."""
    price, size = prices.known, sizes.known
    try:
        read = [(price[at], size[of]) for at, of in levels]
    except Rejected as refused:
        raise Rejected(refused.reason, f"{field} {refused.detail}") from None
    for at, _ in read:
        if not at:
            raise Rejected(Reason.NOT_POSITIVE, f"{field} had a price of 0")
    return read


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
