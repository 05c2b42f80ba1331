"""Rows of `micro` made again from the ticks of the log: by the same engine, so to the same bytes.

A gateway ends a batch at the close of each step, with the close as its watermark: what a step rests on is what came in
the batches up to the first whose watermark is not before its close.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from huracan.clock import step_close, step_of, step_open
from huracan.contracts.market import FLAG_FIRST, FLAG_UNSYNCED, InstrumentDefinition, TickBatch, TickKind, tick_columns
from huracan.features.levels import LEVELS
from huracan.features.micro import MICRO, MicroState
from huracan.features.venues import VenueTop
from huracan.market.book import OrderBook

_TRADE, _QUOTE = TickKind.TICK_KIND_TRADE, TickKind.TICK_KIND_QUOTE
_SNAPSHOT, _DEPTH = TickKind.TICK_KIND_SNAPSHOT, TickKind.TICK_KIND_DEPTH
_LIQUIDATION = TickKind.TICK_KIND_LIQUIDATION

Row = tuple[int, int, int, int, int, int, int]
"""recv_ns, venue_seq, kind, flags, side, price, size."""


def micro_rows(
    batches: Iterable[TickBatch],
    steps: Sequence[int],
    others: Callable[[int], Sequence[VenueTop]] = lambda _step: (),
) -> NDArray[np.float32]:
    """Return the row of each closed step, shape (steps, columns), from the batches of one instrument and one epoch.

    Batches are in their order and of one definition; steps are those that were closed, ascending. `others` gives the
    tops of the same underlying at other venues at the close of the step before a step. Raises ValueError where batches
    end before the last step does.
    """
    left = iter(batches)
    logged: LoggedMicro | None = None
    rows = np.empty((len(steps), MICRO.columns), dtype=np.float32)
    for index, step in enumerate(steps):
        while logged is None or logged.watermark_ns < step_close(step):
            batch = next(left, None)
            if batch is None:
                raise ValueError(f"the batches end before step {step} closes")
            logged = logged or LoggedMicro(batch.instrument)
            logged.take(batch, step, runs=index > 0 and step == steps[index - 1] + 1)
        rows[index] = logged.close(step, others(step))
    return rows


class LoggedMicro:
    """The features of one instrument, fed from the log."""

    def __init__(self, definition: InstrumentDefinition) -> None:
        unit = float(definition.size_increment) * float(definition.multiplier)
        self.watermark_ns = 0
        """Every frame received before it was taken."""
        self.state = MicroState(float(definition.price_increment), unit)
        self._book = OrderBook()
        self._synced = False
        self._begun = -1

    def take(self, batch: TickBatch, step: int, *, runs: bool) -> None:
        """Take a batch; `step` is the next to close, and `runs` says whether the step before it was closed too."""
        columns = tick_columns(batch)
        frame: list[Row] = []
        rows = zip(
            columns.recv_ns,
            columns.venue_seq,
            columns.kind,
            columns.flags,
            columns.side,
            columns.price,
            columns.size,
            strict=True,
        )
        for row in rows:
            if row[3] & FLAG_FIRST and frame:
                self._take_frame(frame, step, runs)
                frame = []
            frame.append(row)
        if frame:
            self._take_frame(frame, step, runs)
        self.watermark_ns = batch.watermark_ns

    def close(self, step: int, others: Sequence[VenueTop] = ()) -> NDArray[np.float32]:
        """Close a step and return its features, shape (columns,)."""
        return self.state.close(step_close(step), others)

    def _take_frame(self, frame: list[Row], step: int, runs: bool) -> None:
        """Take a frame; what came before a run of steps began, with a book, belongs to no step."""
        synced, frame_step = self._synced, step_of(frame[0][0])
        self._take(frame)
        if self._synced and not runs and self._begun not in (step, frame_step):
            self._begun = frame_step
            if not synced:
                self.state.close(step_open(frame_step))

    def _take(self, frame: list[Row]) -> None:
        recv_ns, venue_seq, kind, flags, side, price, size = frame[0]
        if kind == _TRADE:
            self.state.trade(price, size, side, recv_ns)
        elif kind == _QUOTE:
            self.state.quote(price, size, *frame[1][5:])
        elif kind == _LIQUIDATION:
            self.state.liquidations.add(size, side)
        elif kind == _SNAPSHOT and not venue_seq and not price:
            self._synced = False
            self._book.clear()
            self.state.lost_book()
        elif kind in (_SNAPSHOT, _DEPTH):
            if not flags & FLAG_UNSYNCED:
                self._change(frame)
        else:
            self.state.carry.take(kind, price, size, recv_ns)

    def _change(self, frame: list[Row]) -> None:
        if frame[0][2] == _SNAPSHOT:
            self._book.clear()
            self._synced = True
        for *_, side, price, size in frame:
            self._book.set_level(side, price, size)
        self.state.depth(self._book.bids(LEVELS), self._book.asks(LEVELS))
