"""A process whose gateway has a planted bug: it knows no trade again that it logged before it was killed."""

from __future__ import annotations

import sys

from huracan.ports import Record
from huracan.service.__main__ import main
from huracan_gateway import recall


def _none(record: Record) -> tuple[int, list[int]]:
    return 0, []


if __name__ == "__main__":
    recall._trades = _none
    sys.exit(main())
