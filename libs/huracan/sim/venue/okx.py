"""Speak the public protocol of OKX v5 for linear swaps.

Sources: OKX v5 API documentation, "WebSocket" (Connect, Subscribe, Unsubscribe, Notification, Checksum), "Order Book
Trading > Market Data" (order book, trades, candlesticks channels and endpoints), "Public Data" (instruments, funding
rate, mark price, index tickers, liquidation orders channels) and "Error Code > WebSocket".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Final
from zlib import crc32

import msgspec

from huracan.clock import MILLISECOND_NS, NANOSECONDS
from huracan.sim.told import Best, Level, Liquidated, Listing, Marked, Trade
from huracan.sim.venue.board import (
    FUNDING_EVERY_H,
    TICK_NS,
    Answer,
    Board,
    Query,
    Route,
    Topic,
    integer,
    interval_ns,
    milliseconds,
    text_of,
)
from huracan.sim.venue.book import Sides, difference, rows
from huracan.sim.venue.connection import Connection, Rules
from huracan.sim.venue.desk import DeskOf
from huracan.sim.venue.market import Market
from huracan.sim.venue.misbehaviour import Channel

BOOK_DEPTH: Final = 400
BOOK_EVERY_NS: Final = 10 * TICK_NS
BOOK_SILENT_NS: Final = 60 * NANOSECONDS
"""Without any change an empty update is sent after this long."""
CHECKSUM_DEPTH: Final = 25
ROW_END: Final = ',"0","1"'
"""A deprecated field, and the number of orders, which is not simulated."""
LIQUIDATIONS: Final = "liquidation-orders:SWAP"
CHANNELS: Final = {
    "trades": Channel.TRADE,
    "bbo-tbt": Channel.BEST,
    "books": Channel.BOOK,
    "mark-price": Channel.MARK,
    "funding-rate": Channel.FUNDING,
}
NO_INSTRUMENT: Final = Answer(b'{"code":"51001","msg":"Instrument ID does not exist","data":[]}')
NO_BAR: Final = Answer(b'{"code":"51000","msg":"Parameter bar error","data":[]}', 400)


def checksum(bids: Iterable[tuple[str, str]], asks: Iterable[tuple[str, str]]) -> int:
    """Return the CRC-32, signed, of `bid:size:ask:size:…` over the best 25 of each side, as texts are sent."""
    words: list[str] = []
    left, right = list(bids)[:CHECKSUM_DEPTH], list(asks)[:CHECKSUM_DEPTH]
    for at in range(max(len(left), len(right))):
        for side in (left, right):
            if at < len(side):
                words += side[at]
    unsigned = crc32(":".join(words).encode())
    return unsigned - (1 << 32) if unsigned >= 1 << 31 else unsigned


class SwapBoard(Board):
    """One swap on OKX."""

    def __init__(self, listing: Listing, market: Market) -> None:
        super().__init__(listing, market, f"{listing.asset}-{listing.quote}-SWAP", trimmed=True)
        self.family = f"{listing.asset}-{listing.quote}"
        self._index = f"index-tickers:{self.family}"
        self._books = self._topic("books")
        self._shown: Sides = self.book.top(BOOK_DEPTH)
        self._shown_id = self.book.last_id
        self._shown_at_ns = self.book.at_ns
        self._sent_ns = self.now_ns
        self._live = False
        self._opening = self._rest_book(BOOK_DEPTH)

    def _topic(self, channel: str) -> Topic:
        topic = self.topic(f"{channel}:{self.symbol}")
        assert topic is not None, "the channel is one of ours"
        return topic

    def channel(self, name: str) -> Channel | None:
        """Return what a stream's name is about; None when there is no such stream."""
        if name == LIQUIDATIONS:
            return Channel.LIQUIDATION
        if name == self._index:
            return Channel.MARK
        channel, _, symbol = name.partition(":")
        return CHANNELS.get(channel) if symbol == self.symbol else None

    def join(self, topic: Topic, connection: Connection) -> None:
        """Subscribe a connection: a book's snapshot comes with the next batch, other streams' last word at once."""
        if topic.channel is Channel.BOOK:
            topic.joining[connection] = None
            return
        topic.subscribers[connection] = None
        last = self._last_word(topic)
        if last is not None:
            alone = Topic(topic.name, topic.channel, topic.symbol)
            alone.subscribers[connection] = None
            alone.publish(last)

    def _last_word(self, topic: Topic) -> str | None:
        if topic.channel is Channel.BEST:
            return None if self.best is None else self._best(self.best)
        if self.marked is None or topic.channel is Channel.LIQUIDATION or topic.channel is Channel.TRADE:
            return None
        if topic.name == self._index:
            return self._index_price(self.marked)
        return self._funding(self.marked) if topic.channel is Channel.FUNDING else self._mark(self.marked)

    def _wrapped(self, channel: str, data: str) -> str:
        return f'{{"arg":{{"channel":"{channel}","instId":"{self.symbol}"}},"data":[{data}]}}'

    def tick(self, at_ns: int) -> None:
        """Send the book's changes every 100 ms: updates to those who have a snapshot, then snapshots to the others."""
        topic = self._books
        if at_ns % BOOK_EVERY_NS:
            return
        if not (topic.subscribers or topic.joining):
            self._live = False
            return
        now = self.book.top(BOOK_DEPTH)
        if self._live and topic.subscribers:
            self._update(topic, now)
        self._shown, self._shown_id, self._live = now, self.book.last_id, True
        self._shown_at_ns = self.book.at_ns
        if topic.joining:
            topic.welcome(self._book("snapshot", -1, now[0].items(), now[1].items()))

    def _update(self, topic: Topic, now: Sides) -> None:
        bids, asks = difference(self._shown[0], now[0]), difference(self._shown[1], now[1])
        if bids or asks:
            topic.publish(self._book("update", self._shown_id, bids, asks))
        elif self.now_ns - self._sent_ns >= BOOK_SILENT_NS:
            topic.publish(self._book("update", self.book.last_id, (), ()))
        else:
            return
        self._sent_ns = self.now_ns

    def _book(self, action: str, previous: int, bids: Iterable[Level], asks: Iterable[Level]) -> str:
        return (
            f'{{"arg":{{"channel":"books","instId":"{self.symbol}"}},"action":"{action}","data":[{{'
            f'"asks":[{self._rows(asks)}],"bids":[{self._rows(bids)}],"ts":"{self.book.at_ns // MILLISECOND_NS}",'
            f'"checksum":{self._checksum()},"seqId":{self.book.last_id},"prevSeqId":{previous}}}]}}'
        )

    def _rows(self, levels: Iterable[Level]) -> str:
        return rows(levels, self.price, self.size, ROW_END)

    def _checksum(self) -> int:
        price, size = self.price.text, self.size.text
        bids, asks = self.book.top(CHECKSUM_DEPTH)
        return checksum(
            [(price(ticks), size(lots)) for ticks, lots in bids.items()],
            [(price(ticks), size(lots)) for ticks, lots in asks.items()],
        )

    def on_best(self, best: Best) -> None:
        """Send the best bid and ask."""
        topic = self._topic("bbo-tbt")
        if topic.subscribers:
            topic.publish(self._best(best))

    def _best(self, best: Best) -> str:
        return self._wrapped(
            "bbo-tbt",
            f'{{"asks":[{self._rows([best.ask])}],"bids":[{self._rows([best.bid])}],'
            f'"ts":"{best.at_ns // MILLISECOND_NS}","seqId":{best.update_id}}}',
        )

    def on_trade(self, trade: Trade) -> None:
        """Send a trade."""
        topic = self._topic("trades")
        if topic.subscribers:
            topic.publish(self.trade_text(topic.name, trade))

    def trade_text(self, name: str, trade: Trade) -> str:  # noqa: ARG002 - trades have one stream here
        """Return the message that tells one trade."""
        return self._wrapped("trades", self._trade(trade, ',"count":"1"'))

    def _trade(self, trade: Trade, more: str = "") -> str:
        return (
            f'{{"instId":"{self.symbol}","tradeId":"{trade.trade_id}","px":"{self.price.text(trade.ticks)}",'
            f'"sz":"{self.size.text(trade.lots)}","side":"{"buy" if trade.side > 0 else "sell"}",'
            f'"ts":"{trade.at_ns // MILLISECOND_NS}"{more}}}'
        )

    def on_marked(self, marked: Marked, before: Marked | None) -> None:
        """Send the mark price, the index, and the funding rate where it is another."""
        self._topic("mark-price").publish(self._mark(marked))
        index = self.topics.get(self._index)
        if index is not None:
            index.publish(self._index_price(marked))
        funding = (marked.funding_rate, marked.next_funding_ns)
        if before is None or funding != (before.funding_rate, before.next_funding_ns):
            self._topic("funding-rate").publish(self._funding(marked))

    def _mark(self, marked: Marked) -> str:
        return self._wrapped(
            "mark-price",
            f'{{"instType":"SWAP","instId":"{self.symbol}","markPx":"{marked.mark:f}",'
            f'"ts":"{marked.at_ns // MILLISECOND_NS}"}}',
        )

    def _index_price(self, marked: Marked) -> str:
        return (
            f'{{"arg":{{"channel":"index-tickers","instId":"{self.family}"}},"data":[{{"instId":"{self.family}",'
            f'"idxPx":"{marked.index:f}","ts":"{marked.at_ns // MILLISECOND_NS}"}}]}}'
        )

    def _funding(self, marked: Marked) -> str:
        due_ms = marked.next_funding_ns // MILLISECOND_NS
        return self._wrapped(
            "funding-rate",
            f'{{"instType":"SWAP","instId":"{self.symbol}","method":"current_period",'
            f'"fundingRate":"{marked.funding_rate:f}","nextFundingRate":"","fundingTime":"{due_ms}",'
            f'"nextFundingTime":"{due_ms + FUNDING_EVERY_H * 3_600_000}","ts":"{marked.at_ns // MILLISECOND_NS}"}}',
        )

    def on_liquidated(self, liquidated: Liquidated) -> None:
        """Send a liquidation order; the stream is that of all swaps."""
        topic = self.topics.get(LIQUIDATIONS)
        if topic is not None:
            bought = liquidated.side > 0
            topic.publish(
                f'{{"arg":{{"channel":"liquidation-orders","instType":"SWAP"}},"data":[{{"instType":"SWAP",'
                f'"instId":"{self.symbol}","instFamily":"{self.family}","uly":"{self.family}","details":[{{'
                f'"side":"{"buy" if bought else "sell"}","posSide":"{"short" if bought else "long"}",'
                f'"bkPx":"{self.price.text(liquidated.ticks)}","sz":"{self.size.text(liquidated.lots)}",'
                f'"bkLoss":"0","ccy":"","ts":"{liquidated.at_ns // MILLISECOND_NS}"}}]}}]}}'
            )

    def books(self, depth: int) -> Answer:
        """Return the book as of the last update that was sent, and the opening one as what is stale."""
        return Answer(self._rest_book(depth), 200, self.symbol, self._opening)

    def _rest_book(self, depth: int) -> bytes:
        shown = self._shown if self._live else self.book.top(BOOK_DEPTH)
        bids, asks = (dict(islice(side.items(), depth)) for side in shown)
        number, at_ns = (self._shown_id, self._shown_at_ns) if self._live else (self.book.last_id, self.book.at_ns)
        return (
            f'{{"code":"0","msg":"","data":[{{"asks":[{self._rows(asks.items())}],"bids":[{self._rows(bids.items())}],'
            f'"ts":"{at_ns // MILLISECOND_NS}","seqId":{number}}}]}}'
        ).encode()

    def latest_trades(self, count: int) -> Answer:
        """Return the latest trades, newest first."""
        return _answer((self._trade(trade) for trade in reversed(list(self.trades)[-count:])), self.symbol)

    def candlesticks(self, length_ns: int, end_ms: int | None, count: int) -> Answer:
        """Return closed bars that open before a time, newest first."""
        price, size, listing = self.price.text, self.size.text, self.listing
        return _answer(
            (
                f'["{bar.open_ns // MILLISECOND_NS}","{price(bar.open)}","{price(bar.high)}","{price(bar.low)}",'
                f'"{price(bar.close)}","{size(bar.lots)}","{bar.lots * listing.lot * listing.contract:f}",'
                f'"{self.turnover(bar)}","1"]'
                for bar in reversed(self.candles(length_ns, end_ms, count))
            ),
            self.symbol,
        )

    def definition(self) -> str:
        """Return its entry among the instruments."""
        listing = self.listing
        return (
            f'{{"alias":"","auctionEndTime":"","baseCcy":"","category":"1","ctMult":"1","ctType":"linear",'
            f'"ctVal":"{listing.contract}","ctValCcy":"{listing.asset}","expTime":"","instFamily":"{self.family}",'
            f'"instId":"{self.symbol}","instType":"SWAP","lever":"50","listTime":"1611916828000",'
            f'"lotSz":"{listing.lot}","maxLmtSz":"100000000","maxMktSz":"30000","minSz":"{listing.lot}","optType":"",'
            f'"quoteCcy":"","ruleType":"normal","settleCcy":"{listing.quote}","state":"live","stk":"",'
            f'"tickSz":"{listing.tick}","uly":"{self.family}"}}'
        )


class _Argument(msgspec.Struct):
    channel: str
    instId: str = ""  # noqa: N815 - the venue's name
    instType: str = ""  # noqa: N815 - the venue's name

    @property
    def name(self) -> str:
        return f"{self.channel}:{self.instId or self.instType}"

    @property
    def text(self) -> str:
        key, value = ("instId", self.instId) if self.instId else ("instType", self.instType)
        return f'{{"channel":{text_of(self.channel)},"{key}":{text_of(value)}}}'


class _Request(msgspec.Struct):
    op: str
    args: list[_Argument]
    id: str = ""


_REQUEST = msgspec.json.Decoder(_Request)


class Okx(DeskOf[SwapBoard]):
    """OKX v5."""

    token = "okx"  # noqa: S105 - a venue's name
    rules = Rules(idle_after_s=30.0, idle_code=4004)
    websocket_paths: Sequence[str] = ("/ws/v5/public",)
    unlisted = NO_INSTRUMENT

    def show(self, listing: Listing, market: Market) -> SwapBoard:
        """Return a board of a listing."""
        return SwapBoard(listing, market)

    def board_of(self, query: Query) -> SwapBoard | None:
        """Return the board that a query names; None when it names none."""
        return self.shown.get(query.get("instId", ""))

    def heard(self, connection: Connection, message: str, *, limited: Callable[[], bool]) -> None:
        """Answer ping, subscribe and unsubscribe."""
        if message == "ping":
            connection.reply(b"pong")
            return
        try:
            request = _REQUEST.decode(message)
        except msgspec.DecodeError:
            _refuse(connection, "60012", f"Invalid request: {message[:200]}")
            return
        number = f'"id":{text_of(request.id)},' if request.id else ""
        if limited():
            _refuse(connection, "60014", "Requests too frequent", number)
        elif request.op not in {"subscribe", "unsubscribe"}:
            _refuse(connection, "60012", f"Invalid request: {message[:200]}", number)
        else:
            for argument in request.args:
                self._carry_out(connection, request.op, argument, number)

    def _carry_out(self, connection: Connection, operation: str, argument: _Argument, number: str) -> None:
        taken = f'{{{number}"event":"{operation}","arg":{argument.text},"connId":"{connection.name}"}}'.encode()
        if operation == "unsubscribe":
            self.unsubscribe(connection, argument.name)
            connection.reply(taken)
        elif any(board.topic(argument.name) for board in self.shown.values()):
            connection.reply(taken)
            self.subscribe(connection, argument.name)
        else:
            what = f"channel:{argument.channel},instId:{argument.instId}"
            advice = "Please use the correct URL, channel and parameters referring to API document."
            _refuse(connection, "60018", f"Wrong URL or {what} doesn't exist. {advice}", number)

    def routes(self) -> Mapping[str, Route]:
        """Return what is answered, by path under the venue's prefix."""
        return {
            "/api/v5/public/instruments": self._instruments,
            "/api/v5/market/books": self.of_board(_books),
            "/api/v5/market/trades": self.of_board(_trades),
            "/api/v5/market/candles": self.of_board(_candles),
            "/api/v5/market/history-candles": self.of_board(_candles),
        }

    def too_many(self) -> bytes:
        """Return the body of a 429."""
        return b'{"code":"50011","msg":"Too Many Requests","data":[]}'

    def _instruments(self, query: Query) -> Answer:
        wanted = query.get("instId")
        found = self.wanted(wanted)
        if query.get("instType") != "SWAP" or (wanted and not found):
            return NO_INSTRUMENT
        return _answer((board.definition() for board in found), wanted)


def _books(board: SwapBoard, query: Query) -> Answer:
    return board.books(integer(query, "sz", 1, BOOK_DEPTH))


def _trades(board: SwapBoard, query: Query) -> Answer:
    return board.latest_trades(integer(query, "limit", 100, 500))


def _candles(board: SwapBoard, query: Query) -> Answer:
    length_ns = interval_ns(query.get("bar", "1m").removesuffix("utc"))
    if length_ns is None:
        return NO_BAR
    return board.candlesticks(length_ns, milliseconds(query, "after"), integer(query, "limit", 100, 300))


def _refuse(connection: Connection, code: str, told: str, number: str = "") -> None:
    connection.reply(
        f'{{{number}"event":"error","code":"{code}","msg":{text_of(told)},"connId":"{connection.name}"}}'.encode()
    )


def _answer(items: Iterable[str], symbol: str | None) -> Answer:
    return Answer(f'{{"code":"0","msg":"","data":[{",".join(items)}]}}'.encode(), 200, symbol)
