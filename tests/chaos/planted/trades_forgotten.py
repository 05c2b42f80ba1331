"""A process whose gateway has a planted bug: by no id does it know a trade again that it logged before it was killed."""

from __future__ import annotations

import sys

import huracan_gateway.service
from huracan.ports import TickLog
from huracan.service.__main__ import main


async def _none(_log: TickLog, _key: str) -> list[int]:
    return []


if __name__ == "__main__":
    huracan_gateway.service.recalled_trades = _none
    sys.exit(main())
