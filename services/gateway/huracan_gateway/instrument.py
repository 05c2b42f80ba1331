"""One instrument: events in; order book, ticks, bars and windows out. Pure: knows no bus and no clock."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from huracan.bus import subjects
from huracan.clock import MILLISECOND_NS, MINUTE_NS, STEP_NS, step_close, step_of, step_open
from huracan.contracts.context import ContextRef
from huracan.contracts.features import WINDOW_ROWS, FeatureRow, FeatureWindow, feature_row, feature_window
from huracan.contracts.market import (
    FLAG_ANOMALY,
    FLAG_UNSYNCED,
    FUNDING_UNIT,
    MARK_UNIT,
    Anomaly,
    AnomalyPolicy,
    Bar,
    InstrumentDefinition,
    Reliability,
    TickBatch,
    TickKind,
    anomaly,
    anomaly_kind_name,
    tick_batch,
)
from huracan.contracts.ops import GapDetected, gap_detected
from huracan.errors import SequenceGap
from huracan.features.bar import BAR, BarState
from huracan.features.micro import MICRO, MicroState
from huracan.features.venues import VenueTop
from huracan.features.window import WindowBuffer
from huracan.market.bars import BarBuilder
from huracan.market.book import BID, Applied, Level, SyncedBook
from huracan_gateway.adapter import Adapter, Checksum, TradeIds
from huracan_gateway.anomaly import AnomalyDetector, Found
from huracan_gateway.book_check import BookCheck
from huracan_gateway.events import Depth, Event, Liquidation, Mark, Quote, Snapshot, Trade
from huracan_gateway.quality import QualityConfig
from huracan_gateway.reject import Reason, Rejected
from huracan_gateway.reliability import ReliabilityMeter
from huracan_gateway.rows import Rows
from huracan_gateway.validate import PriceBand

FEATURE_DEPTH = 5
"""Levels a side that features read."""
_TRADE, _QUOTE = TickKind.TICK_KIND_TRADE, TickKind.TICK_KIND_QUOTE
_DEPTH, _SNAPSHOT = TickKind.TICK_KIND_DEPTH, TickKind.TICK_KIND_SNAPSHOT
_MARK, _INDEX = TickKind.TICK_KIND_MARK, TickKind.TICK_KIND_INDEX
_FUNDING, _LIQUIDATION = TickKind.TICK_KIND_FUNDING, TickKind.TICK_KIND_LIQUIDATION
TRADES_REMEMBERED = 16_384
"""Trades that are known again where the venue's ids have no order: more than a reconnect can bring a second time."""
TOPS_KEPT = 16
"""Steps that another venue's may be behind this one's: it is held open for a second at most (`max_close_delay_ms`)."""
_NONE: list[Level] = [(0, 0)]
"""The one row of a snapshot without levels: being its first, it clears the book."""
_NO_ROW = np.full(BAR.columns, np.nan, dtype=np.float32)
"""Of a bar that leaves the window before the window is asked for."""
BAR_INTERVALS = {subjects.BAR_1M: MINUTE_NS, subjects.BAR_15M: 15 * MINUTE_NS}


class Bars:
    """Bars of one interval, their features and windows."""

    def __init__(self, definition: InstrumentDefinition, epoch: int, name: str, interval_ns: int) -> None:
        self.name = name
        self.interval_ns = interval_ns
        self.builder = BarBuilder(definition, interval_ns)
        self._definition = definition
        self._epoch = epoch
        self._state = BarState()
        self._windows = WindowBuffer(BAR)

    def warm(self, history: Sequence[Bar], first_frame_ns: int) -> FeatureWindow | None:
        """Take the bars before the first frame and return the window that ends with the newest; None without any.

        No features are made of those too old to have a row in it.
        """
        for bar in history[:-WINDOW_ROWS]:
            self._state.take(bar)
            self._windows.push(bar.open_ns // self.interval_ns, _NO_ROW, 0, 0)
        windows = [self.push(bar, last_frame_ns=first_frame_ns) for bar in history[-WINDOW_ROWS:]]
        return windows[-1] if windows else None

    def push(self, bar: Bar, last_ingest_seq: int = 0, last_frame_ns: int = 0) -> FeatureWindow | None:
        """Take a closed bar and return the window that ends with it; None for a partial bar, which enters no window."""
        if bar.partial:
            return None
        step = bar.open_ns // self.interval_ns
        self._windows.push(step, self._state.push(bar), last_ingest_seq, last_ingest_seq)
        return feature_window(
            instrument=self._definition,
            epoch=self._epoch,
            feature_set=BAR.name,
            feature_set_digest=BAR.digest,
            interval_ns=self.interval_ns,
            step=step,
            first_step=self._windows.first_step,
            close_ns=bar.open_ns + self.interval_ns,
            values=self._windows.matrix(),
            valid_rows=self._windows.valid_rows,
            first_ingest_seq=self._windows.first_ingest_seq,
            last_ingest_seq=self._windows.last_ingest_seq,
            last_frame_ns=last_frame_ns,
            book_synced=True,
            bar=bar,
        )


@dataclass(frozen=True, slots=True)
class ClosedStep:
    """What the close of a step gives."""

    row: FeatureRow
    window: FeatureWindow
    bars: list[tuple[str, FeatureWindow]]


class Instrument:
    """Everything the gateway knows of one instrument within one epoch."""

    def __init__(
        self,
        definition: InstrumentDefinition,
        *,
        epoch: int,
        batch_rows: int,
        adapter: Adapter,
        quality: QualityConfig | None = None,
    ) -> None:
        self.definition = definition
        self.book = SyncedBook()
        self.check = BookCheck()
        self.counts: Counter[str] = Counter()
        self.batches: list[TickBatch] = []
        """Full batches of ticks, for the log."""
        self.gaps: list[GapDetected] = []
        """Broken sequences, for whoever watches."""
        self.anomalies: list[Anomaly] = []
        """What was out of the ordinary, for whoever watches."""
        self.reliability: list[Reliability] = []
        """Hours that have ended."""
        quality = quality or QualityConfig()
        self.meter = ReliabilityMeter(definition, quality.reliability, epoch=epoch)
        self._quality = quality
        self.next_step: int | None = None
        """The step that closes next; None while no step closes."""
        self.last_frame_ns = 0
        self.last_ingest_seq = 0
        self.bars = [Bars(definition, epoch, name, interval) for name, interval in BAR_INTERVALS.items()]
        self._epoch = epoch
        self._batch_rows = batch_rows
        self._batch = 0
        self._watermark_ns = 0
        self._rows = Rows()
        self._micro = MicroState(
            float(definition.price_increment), float(definition.size_increment) * float(definition.multiplier)
        )
        self._tops: deque[tuple[int, VenueTop]] = deque(maxlen=TOPS_KEPT)
        self._windows = WindowBuffer(MICRO)
        self._first_ingest_seq = 1
        self._last_trade_id: int | None = None
        self._last_quote_id = 0
        self._frames_digest = bytes(32)
        self._rested = False
        self._trade_ids = adapter.trade_ids
        self._quotes_repeat = adapter.quotes_repeat
        self._recent_trades: set[int] = set()
        self._oldest_trades: deque[int] = deque()
        self._checksum: Checksum | None = adapter.checksum(definition) if adapter.checksum is not None else None
        self._detector = AnomalyDetector(definition, quality.anomalies)
        self._band = PriceBand(definition, quality.validation)
        self._sequenced = 0
        self._flags = 0
        self._held_until_ns = 0
        self._depth_ns = 0
        """When the newest update or snapshot of the book came."""
        self._quote_ns = 0
        self._agreed_ns = 0
        """When the book last was not behind the newest quote at the close of a step."""
        self._takes: dict[type[Event], Callable[[Any, int, int], None]] = {
            Quote: self._quote,
            Trade: self._trade,
            Depth: self._depth,
            Snapshot: self._snapshot,
            Mark: self._mark,
            Liquidation: self._liquidation,
        }

    def due(self, now_ns: int) -> bool:
        """Return whether a step ends at or before a receive time."""
        return self.next_step is not None and step_close(self.next_step) <= now_ns

    @property
    def gave(self) -> bool:
        """Return whether there is anything for the log, or for whoever watches."""
        return bool(self.batches or self.anomalies or self.gaps or self.reliability)

    @property
    def filling(self) -> bool:
        """Return whether rows wait for their batch to be full."""
        return len(self._rows) > 0

    def observe_from(self, ns: int) -> None:
        """Bars that open at or after this receive time are whole."""
        for bars in self.bars:
            bars.builder.observe_from(ns)

    def take(self, event: Event, *, recv_ns: int, ingest_seq: int) -> None:
        """Take one event; raise Rejected, with nothing of it in book, features or log, when it contradicts what came
        before or itself.
        """
        synced = self.book.synced
        self._flags = 0
        self._takes[type(event)](event, recv_ns, ingest_seq)
        self.last_frame_ns = recv_ns
        self.last_ingest_seq = ingest_seq
        if self.next_step is None and self.book.synced:
            self.next_step = step_of(recv_ns)
            if self._rested:
                self.observe_from(recv_ns)
                self._rested = False
            if not synced:
                self._micro.close(step_open(self.next_step))  # what came before belongs to no step
        if len(self._rows) >= self._batch_rows:
            self.flush(recv_ns)

    def _judge(self, event: Event, recv_ns: int, ingest_seq: int) -> None:
        """Refuse what cannot be; tell what is out of the ordinary, and do about it what the policy says."""
        self._band.check(event, recv_ns)
        for found in self._detector.judge(event, recv_ns):
            self._tell(found, recv_ns, ingest_seq)
        for kind in self._detector.active:
            policy = self._quality.anomalies.policy_of(kind)
            if policy == AnomalyPolicy.ANOMALY_POLICY_DROP and isinstance(event, Trade | Quote):
                raise Rejected(Reason.ANOMALY, f"{anomaly_kind_name(kind)} is dropped here")
            self._flags = FLAG_ANOMALY

    def _tell(self, found: Found, at_ns: int, ingest_seq: int) -> AnomalyPolicy:
        policy = self._quality.anomalies.policy_of(found.kind)
        if policy == AnomalyPolicy.ANOMALY_POLICY_HOLD:
            self._held_until_ns = at_ns + self._quality.hold_ms * MILLISECOND_NS
        self.counts[f"anomalies.{anomaly_kind_name(found.kind)}"] += 1
        self.anomalies.append(
            anomaly(
                instrument=self.definition.id,
                kind=found.kind,
                policy=policy,
                at_ns=at_ns,
                epoch=self._epoch,
                ingest_seq=ingest_seq,
                score=found.score,
                threshold=found.threshold,
                evidence=found.evidence,
            )
        )
        return policy

    def diverged(self, found: Found, at_ns: int) -> None:
        """Tell that this instrument has left those of its kind at other venues."""
        self._tell(found, at_ns, self.last_ingest_seq)

    def bind(self, recv_ns: int, raw: bytes) -> None:
        """Chain a frame that was taken into the digest that later windows carry."""
        self._frames_digest = sha256(self._frames_digest + recv_ns.to_bytes(8, "big") + raw).digest()
        self.meter.frame(recv_ns)

    def _quote(self, quote: Quote, recv_ns: int, ingest_seq: int) -> None:
        if min(quote.bid, quote.ask, quote.bid_size, quote.ask_size) <= 0:
            raise Rejected(Reason.NOT_POSITIVE, f"best bid or ask was {quote}")
        if quote.bid >= quote.ask:
            raise Rejected(Reason.CROSSED, f"best bid was {quote.bid}, best ask {quote.ask}, in price increments")
        if quote.update_id and not (self._quotes_repeat and quote.update_id == self._last_quote_id):
            self._in_order("update id", quote.update_id, self._last_quote_id)
        self._judge(quote, recv_ns, ingest_seq)
        self._last_quote_id = quote.update_id
        self._quote_ns = recv_ns
        self._micro.quote(quote.bid, quote.bid_size, quote.ask, quote.ask_size)
        self.check.quoted(quote)
        best_bid, best_ask = [(quote.bid, quote.bid_size)], [(quote.ask, quote.ask_size)]
        self._rows.add(ingest_seq, quote.event_ns, recv_ns, quote.update_id, _QUOTE, self._flags, best_bid, best_ask)

    def _trade(self, trade: Trade, recv_ns: int, ingest_seq: int) -> None:
        if min(trade.price, trade.size) <= 0:
            raise Rejected(Reason.NOT_POSITIVE, f"price was {trade.price}, size {trade.size}, in increments")
        last = self._last_trade_id
        if self._trade_ids is TradeIds.NAMES:
            if trade.trade_id in self._recent_trades:
                raise Rejected(Reason.DUPLICATE, f"trade {trade.trade_id:016x} was taken before")
        elif last is not None:
            self._in_order("trade id", trade.trade_id, last)
        self._judge(trade, recv_ns, ingest_seq)
        if self._trade_ids is TradeIds.NAMES:
            self._remember(trade.trade_id)
        if last is not None and trade.trade_id > last + 1 and self._trade_ids is TradeIds.CONTIGUOUS:
            self._gap("trade", last + 1, trade.trade_id, recv_ns, ingest_seq, "trades are missing; carried on")
        self._last_trade_id = trade.trade_id
        self._sequenced += 1
        self.meter.trade(trade.price, recv_ns)
        self._micro.trade(trade.price, trade.size, trade.side, recv_ns)
        for bars in self.bars:
            bars.builder.trade(recv_ns, trade.price, trade.size)
        level = [(trade.price, trade.size)]
        bought, sold = (level, []) if trade.side == BID else ([], level)
        self._rows.add(ingest_seq, trade.event_ns, recv_ns, trade.trade_id, _TRADE, self._flags, bought, sold)

    @property
    def known_trades(self) -> list[int]:
        """Return the ids of trades that are known again, oldest first."""
        if self._trade_ids is TradeIds.NAMES:
            return list(self._oldest_trades)
        return [] if self._last_trade_id is None else [self._last_trade_id]

    def know_trades(self, trade_ids: Iterable[int]) -> None:
        """Know trades, oldest first, that were taken before this instrument was made."""
        for trade_id in trade_ids:
            self._last_trade_id = trade_id
            if self._trade_ids is TradeIds.NAMES:
                self._remember(trade_id)

    def _remember(self, trade_id: int) -> None:
        self._recent_trades.add(trade_id)
        self._oldest_trades.append(trade_id)
        if len(self._oldest_trades) > TRADES_REMEMBERED:
            self._recent_trades.discard(self._oldest_trades.popleft())

    def _in_order(self, field: str, was: int, last: int) -> None:
        if was <= last:
            reason = Reason.DUPLICATE if was == last else Reason.OUT_OF_ORDER
            raise Rejected(reason, f"{field} was {was} after {last}")

    def _depth(self, depth: Depth, recv_ns: int, ingest_seq: int) -> None:
        update = depth.update
        self._judge(depth, recv_ns, ingest_seq)
        self._depth_ns = recv_ns
        try:
            applied = self.book.apply(update)
        except SequenceGap as gap:
            applied = Applied.BUFFERED
            self._lost("depth", gap.expected, gap.was, recv_ns, ingest_seq)
        if applied is Applied.OUTDATED:
            raise Rejected(Reason.DUPLICATE, f"u was {update.final}, the book is at {self.book.final}")
        self._sequenced += 1
        if applied is Applied.APPLIED:
            self._updated(depth.sequence or update.final, depth.checksum, recv_ns, ingest_seq)
            if self.book.synced and (update.bids or update.asks):
                self._depth_features()
        flags = self._flags if self.book.synced else self._flags | FLAG_UNSYNCED
        self._rows.add(ingest_seq, depth.event_ns, recv_ns, update.final, _DEPTH, flags, update.bids, update.asks)

    def _snapshot(self, snapshot: Snapshot, recv_ns: int, ingest_seq: int) -> None:
        known = self.book.synced and snapshot.last_update_id < self.book.final
        if known and not snapshot.restart:
            raise Rejected(Reason.OUT_OF_ORDER, f"lastUpdateId was {snapshot.last_update_id}, behind {self.book.final}")
        best_bid = max((price for price, size in snapshot.bids if size), default=0)
        best_ask = min((price for price, size in snapshot.asks if size), default=best_bid + 1)
        if best_bid >= best_ask:
            raise Rejected(Reason.CROSSED, f"best bid was {best_bid}, best ask {best_ask}, in price increments")
        self.counts["snapshots"] += 1
        self._depth_ns = recv_ns
        pending = self.book.snapshot(snapshot.last_update_id, snapshot.bids, snapshot.asks, restart=snapshot.restart)
        if snapshot.restart:
            self.check.lost()
            self._last_quote_id = 0  # the venue may count from the beginning again
        if snapshot.checksum is not None and not self._verified(snapshot.checksum, recv_ns, ingest_seq):
            return
        for update in pending:  # catching up is no order flow: features see the book that comes of it
            try:
                if self.book.apply(update) is Applied.APPLIED:
                    self._updated(update.final, None, recv_ns, ingest_seq)
            except SequenceGap as gap:
                self._lost("depth", gap.expected, gap.was, recv_ns, ingest_seq)
        if self.book.synced:
            self._depth_features()
            self._whole_book(snapshot.event_ns, recv_ns, ingest_seq)

    def _whole_book(self, event_ns: int, recv_ns: int, ingest_seq: int) -> None:
        bids, asks = self.book.book.levels()
        self._rows.add(
            ingest_seq,
            event_ns,
            recv_ns,
            self.book.final,
            _SNAPSHOT,
            self._flags,
            bids if bids or asks else _NONE,
            asks,
        )

    def _verified(self, checksum: int, recv_ns: int, ingest_seq: int) -> bool:
        """Return whether the book is the venue's by its own checksum; drop it where it is not."""
        if self._checksum is None:
            return True
        self.counts["checksums"] += 1
        own = self._checksum(self.book.book)
        if own == checksum:
            return True
        self.counts["checksums.wrong"] += 1
        self.book.drop()
        self._lost("depth", own, checksum, recv_ns, ingest_seq, "checksum was another; book dropped")
        return False

    def _updated(self, sequence: int, checksum: int | None, recv_ns: int, ingest_seq: int) -> None:
        if checksum is not None and not self._verified(checksum, recv_ns, ingest_seq):
            return
        bid, ask = self.book.book.best_bid(), self.book.book.best_ask()
        if bid is not None and ask is not None and bid[0] >= ask[0]:
            self.book.drop()
            self._lost("depth", bid[0], ask[0], recv_ns, ingest_seq, "best bid was not below best ask; book dropped")
            return
        self.check.updated(sequence, (bid, ask))

    def _mark(self, mark: Mark, recv_ns: int, ingest_seq: int) -> None:
        rows = (
            (_MARK, mark.mark, MARK_UNIT, 0),
            (_INDEX, mark.index, MARK_UNIT, 0),
            (_FUNDING, mark.funding_rate, FUNDING_UNIT, mark.next_funding_ns),
        )
        for kind, value, unit, size in rows:
            if value is not None:
                level = [(int(value / unit), size)]
                self._micro.carry.take(kind, *level[0], recv_ns)
                self._rows.add(ingest_seq, mark.event_ns, recv_ns, 0, kind, self._flags, level, [])

    def _liquidation(self, liquidation: Liquidation, recv_ns: int, ingest_seq: int) -> None:
        if min(liquidation.price, liquidation.size) <= 0:
            raise Rejected(Reason.NOT_POSITIVE, f"liquidation was {liquidation}")
        self._micro.liquidations.add(liquidation.size, liquidation.side)
        level = [(liquidation.price, liquidation.size)]
        bought, sold = (level, []) if liquidation.side == BID else ([], level)
        self._rows.add(ingest_seq, liquidation.event_ns, recv_ns, 0, _LIQUIDATION, self._flags, bought, sold)

    def lose_book(self) -> None:
        """Drop the book, in doubt for another reason than what came; every reader of the log loses it too."""
        if not self.book.synced:
            return
        self.book.drop()
        self.counts["books_lost"] += 1
        self._forget_book(self.last_frame_ns, self.last_ingest_seq)

    def _forget_book(self, recv_ns: int, ingest_seq: int) -> None:
        self._micro.lost_book()
        self.check.lost()
        self._rows.add(ingest_seq, recv_ns, recv_ns, 0, _SNAPSHOT, self._flags, _NONE, [])

    def _watch_book(self, close_ns: int) -> None:
        """Drop a book that no update has reached while the venue's best bid and ask are others."""
        quote, book = self.check.last_quote, self.book.book
        if quote is None or not self.book.synced or self._quote_ns <= self._depth_ns:
            self._agreed_ns = close_ns
            return
        if ((quote.bid, quote.bid_size), (quote.ask, quote.ask_size)) == (book.best_bid(), book.best_ask()):
            self._agreed_ns = close_ns
            return
        silent_ms = (close_ns - max(self._agreed_ns, self._depth_ns)) // MILLISECOND_NS
        if silent_ms > self._quality.book_silent_ms:
            final = self.book.final
            self.book.drop()
            action = f"no update for {silent_ms} ms though the best moved; book dropped"
            self._lost("depth", final + 1, final, self.last_frame_ns, self.last_ingest_seq, action)

    def _depth_features(self) -> None:
        book = self.book.book
        self._micro.depth(book.bids(FEATURE_DEPTH), book.asks(FEATURE_DEPTH))

    def _lost(
        self,
        stream: str,
        expected: int,
        was: int,
        recv_ns: int,
        ingest_seq: int,
        action: str = "book dropped",
    ) -> None:
        """Let every reader of the log lose the book too."""
        self._gap(stream, expected, was, recv_ns, ingest_seq, action)
        self._tell(self._detector.desynced(expected, was), recv_ns, ingest_seq)
        self._forget_book(recv_ns, ingest_seq)

    def _gap(self, stream: str, expected: int, was: int, recv_ns: int, ingest_seq: int, action: str) -> None:
        self.counts[f"gaps.{stream}"] += 1
        self.meter.lost(max(was - expected, 1) if stream == "trade" else 1, 0)
        self.gaps.append(
            gap_detected(
                instrument=self.definition.id,
                stream=stream,
                expected=expected,
                was=was,
                at_ns=recv_ns,
                ingest_seq=ingest_seq,
                action=action,
            )
        )

    def flush(self, watermark_ns: int) -> None:
        """Make a batch of the rows so far; every frame received before the watermark is in it or an earlier one."""
        self._batch += 1
        self._watermark_ns = max(self._watermark_ns, watermark_ns)
        self.counts["rows_logged"] += len(self._rows)
        self.batches.append(
            tick_batch(
                instrument=self.definition,
                epoch=self._epoch,
                batch=self._batch,
                columns=self._rows.columns(),
                watermark_ns=self._watermark_ns,
            )
        )
        self._rows = Rows()

    def top_of(self, step: int) -> VenueTop | None:
        """Return what others compare themselves with as of one of the last steps; None where it has not closed."""
        return next((top for closed, top in self._tops if closed == step), None)

    def close(self, contexts: list[ContextRef], others: Sequence[VenueTop] = ()) -> ClosedStep:
        """Close the next step: its row, its window with the contexts in force, and the windows of bars that ended.

        `others` are the tops of the same underlying at other venues as of the step before.
        """
        assert self.next_step is not None
        step = self.next_step
        close_ns = step_close(step)
        self.next_step = step + 1
        for found in self._detector.elapsed(close_ns, self.last_frame_ns):
            self._tell(found, close_ns, 0)
        self._watch_book(close_ns)
        self.meter.lost(0, self._sequenced)
        self._sequenced = 0
        self.reliability += self.meter.close_through(close_ns)
        self.flush(close_ns)
        values = self._micro.close(close_ns, others)
        self._tops.append((step, self._micro.top_here))
        first, last = self._first_ingest_seq, self.last_ingest_seq
        if first > last:
            first = last = 0
        self._windows.push(step, values, first, last)
        row = feature_row(
            instrument=self.definition,
            epoch=self._epoch,
            feature_set=MICRO.name,
            feature_set_digest=MICRO.digest,
            step=step,
            close_ns=close_ns,
            first_ingest_seq=first,
            last_ingest_seq=last,
            values=values,
        )
        self._first_ingest_seq = self.last_ingest_seq + 1
        return ClosedStep(row, self._window(step, close_ns, contexts), self._closed_bars(close_ns))

    def _window(self, step: int, close_ns: int, contexts: list[ContextRef]) -> FeatureWindow:
        bid, ask = self.book.book.best_bid(), self.book.book.best_ask()
        return feature_window(
            instrument=self.definition,
            epoch=self._epoch,
            feature_set=MICRO.name,
            feature_set_digest=MICRO.digest,
            interval_ns=STEP_NS,
            step=step,
            first_step=self._windows.first_step,
            close_ns=close_ns,
            values=self._windows.matrix(),
            valid_rows=self._windows.valid_rows,
            first_ingest_seq=self._windows.first_ingest_seq,
            last_ingest_seq=self._windows.last_ingest_seq,
            last_frame_ns=self.last_frame_ns,
            book_synced=self.book.synced and close_ns > self._held_until_ns,
            best_bid=bid[0] if bid else 0,
            best_ask=ask[0] if ask else 0,
            expected_contexts=contexts,
            frames_digest=self._frames_digest,
        )

    def _closed_bars(self, close_ns: int) -> list[tuple[str, FeatureWindow]]:
        windows = []
        for bars in self.bars:
            for bar in bars.builder.close_through(close_ns):
                window = bars.push(bar, self.last_ingest_seq, self.last_frame_ns)
                if window is not None:
                    windows.append((bars.name, window))
        return windows

    def rest(self) -> None:
        """Stop closing steps: nothing came for too long. The next frame begins a new run of steps, and of bars."""
        self.next_step = None
        self._rested = True
