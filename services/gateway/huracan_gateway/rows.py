"""Rows of frames, collected frame by frame and laid out as columns once a batch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from huracan.contracts.market import FLAG_FIRST, TickArrays
from huracan.market.book import ASK, BID, Level

_FIELDS = 8


class Rows:
    """The rows of a batch under construction: a frame's own values once, its levels one by one."""

    __slots__ = ("_frames", "_levels")

    def __init__(self) -> None:
        self._frames: list[int] = []
        self._levels: list[Level] = []

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._levels)

    def add(
        self,
        ingest_seq: int,
        event_ns: int,
        recv_ns: int,
        venue_seq: int,
        kind: int,
        flags: int,
        bids: Sequence[Level],
        asks: Sequence[Level],
    ) -> None:
        """Append the rows of one frame: prices and sizes on the bid or buying side, then on the other."""
        self._frames += (ingest_seq, event_ns, recv_ns, venue_seq, kind, flags, len(bids), len(asks))
        self._levels += bids
        self._levels += asks

    def columns(self) -> TickArrays:
        """Return the rows as columns; the first of each frame says so."""
        frames = np.array(self._frames, dtype=np.int64).reshape(-1, _FIELDS)
        sides = frames[:, 6:]
        counts = sides.sum(axis=1)
        ingest_seq, event_ns, recv_ns, venue_seq, kind, flags = np.repeat(frames[:, :6], counts, axis=0).T
        flags[(np.cumsum(counts) - counts)[counts > 0]] |= FLAG_FIRST
        levels = np.fromiter(chain.from_iterable(self._levels), dtype=np.int64, count=2 * len(self._levels))
        return TickArrays(
            ingest_seq=ingest_seq,
            event_ns=event_ns,
            recv_ns=recv_ns,
            venue_seq=venue_seq,
            kind=kind,
            flags=flags,
            side=np.repeat(np.tile([BID, ASK], len(frames)), sides.reshape(-1)),
            price=levels[::2],
            size=levels[1::2],
        )
