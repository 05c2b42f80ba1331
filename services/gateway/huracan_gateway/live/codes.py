"""What venues say in the body of an answer that has a good status: error codes, told apart by what can be done.

Sources: OKX API guide v5 "Error Code" (`code`, a text, "0" when all is well); Bybit API documentation v5 "Error Codes"
(`retCode`, a number, 0 when all is well). Binance answers errors with a status.
"""

from __future__ import annotations

from enum import Enum, auto

import msgspec

from huracan_gateway.reading import DAMAGED

LONGEST_ERROR_BYTES = 1_024
"""An answer that is an error is short; longer ones are not looked into."""


class Meaning(Enum):
    """What an error code is about."""

    RATE_LIMITED = auto()
    """Too many requests: wait."""
    NO_SUCH_INSTRUMENT = auto()
    """Of a request that names nothing but a symbol: the venue does not know it."""
    OTHER = auto()


class _Error(msgspec.Struct):
    code: str | int | None = None
    retCode: int | None = None  # noqa: N815 - the venue's name
    msg: str | None = None
    retMsg: str | None = None  # noqa: N815 - the venue's name


_ERROR = msgspec.json.Decoder(_Error)
_OKX = {
    "50011": Meaning.RATE_LIMITED,
    "50040": Meaning.RATE_LIMITED,
    "51000": Meaning.NO_SUCH_INSTRUMENT,
    "51001": Meaning.NO_SUCH_INSTRUMENT,
}
_BYBIT = {
    10001: Meaning.NO_SUCH_INSTRUMENT,
    10006: Meaning.RATE_LIMITED,
    10018: Meaning.RATE_LIMITED,
    10429: Meaning.RATE_LIMITED,
}


def error_in(body: bytes) -> tuple[Meaning, str] | None:
    """Return what an answer says went wrong, with the venue's text; None where it says nothing of the kind."""
    if len(body) > LONGEST_ERROR_BYTES or not body.lstrip().startswith(b"{"):
        return None
    try:
        said = _ERROR.decode(body)
    except DAMAGED:
        return None
    if said.retCode:
        return _BYBIT.get(said.retCode, Meaning.OTHER), f"retCode {said.retCode}: {said.retMsg or ''}"
    if isinstance(said.code, str) and said.code != "0":
        return _OKX.get(said.code, Meaning.OTHER), f"code {said.code}: {said.msg or ''}"
    return None
