"""Speak the public protocol of Bybit v5 for linear perpetuals.

Sources: Bybit v5 API documentation, "WebSocket Stream > Connect" (heartbeat, subscribing), "Public > Orderbook",
"Trade", "Ticker", "All Liquidation", and "Market" (Get Instruments Info, Get Orderbook, Get Recent Public Trades,
Get Kline).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final
from zlib import crc32

import msgspec

from huracan.clock import MILLISECOND_NS, MINUTE_NS, NANOSECONDS
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
    milliseconds,
    text_of,
)
from huracan.sim.venue.book import Sides, difference, rows
from huracan.sim.venue.connection import Connection, Rules
from huracan.sim.venue.desk import DeskOf
from huracan.sim.venue.market import Market
from huracan.sim.venue.misbehaviour import Channel

BOOK_EVERY_NS: Final = {50: 2 * TICK_NS, 200: 10 * TICK_NS, 1_000: 20 * TICK_NS}
"""By depth; one level is sent with every change."""
BEST_SILENT_NS: Final = 3 * NANOSECONDS
"""Without any change the best is sent again after this long, under the same id."""
FIRST_UPDATE: Final = 18_521_288
"""Of a topic, far above the numbers of REST, which have nothing to do with it; 1 would say that the venue restarted."""
INTERVALS_NS: Final = {
    **{str(minutes): minutes * MINUTE_NS for minutes in (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)},
    "D": 1_440 * MINUTE_NS,
    "W": 10_080 * MINUTE_NS,
}
CHANNELS: Final = {
    "publicTrade": Channel.TRADE,
    "orderbook.1": Channel.BEST,
    **dict.fromkeys((f"orderbook.{depth}" for depth in BOOK_EVERY_NS), Channel.BOOK),
    "tickers": Channel.MARK,
    "allLiquidation": Channel.LIQUIDATION,
}


def _refused(told: str) -> Answer:
    return Answer(f'{{"retCode":10001,"retMsg":{text_of(told)},"result":{{}},"retExtInfo":{{}},"time":0}}'.encode())


UNLISTED: Final = _refused("params error: Symbol Is Invalid")


class _Shown:
    """A book of some depth as its subscribers know it."""

    def __init__(self, topic: Topic, depth: int) -> None:
        self.topic = topic
        self.depth = depth
        self.every_ns = BOOK_EVERY_NS[depth]
        self.sides: Sides = ({}, {})
        self.update = FIRST_UPDATE
        self.live = False


class LinearBoard(Board):
    """One linear perpetual on Bybit."""

    def __init__(self, listing: Listing, market: Market) -> None:
        super().__init__(listing, market, f"{listing.asset}{listing.quote}")
        self._books = [_Shown(self._topic(f"orderbook.{depth}"), depth) for depth in BOOK_EVERY_NS]
        self._pending: list[Trade] = []
        self._best_sent_ns = 0
        self._best_update = FIRST_UPDATE
        self._execution = f"{crc32(listing.key.encode()):08x}-0000-5000-8000"
        self._opening = self._rest_book(1_000)

    def _topic(self, kind: str) -> Topic:
        topic = self.topic(f"{kind}.{self.symbol}")
        assert topic is not None, "the topic is one of ours"
        return topic

    def channel(self, name: str) -> Channel | None:
        """Return what a stream's name is about; None when there is no such stream."""
        kind, _, symbol = name.rpartition(".")
        return CHANNELS.get(kind) if symbol == self.symbol else None

    def join(self, topic: Topic, connection: Connection) -> None:
        """Subscribe a connection; books and tickers begin with a snapshot, books with the next batch."""
        if topic.channel is Channel.BOOK:
            topic.joining[connection] = None
        elif topic.channel is Channel.BEST:
            topic.joining[connection] = None
            if self.best is not None:
                topic.welcome(self._best(self.best))
        elif topic.channel is Channel.MARK:
            topic.joining[connection] = None
            if self.marked is not None:
                topic.welcome(self._ticker("snapshot", self._ticker_fields(self.marked)))
        else:
            topic.subscribers[connection] = None

    def tick(self, at_ns: int) -> None:
        """Send trades, and the books of the depths that are due."""
        if self._pending:
            self._publish_trades()
        if self.best is not None and at_ns - self._best_sent_ns >= BEST_SILENT_NS:
            self._topic("orderbook.1").publish(self._best(self.best))
            self._best_sent_ns = at_ns
        for shown in self._books:
            if at_ns % shown.every_ns == 0:
                self._show(shown)

    def _show(self, shown: _Shown) -> None:
        topic = shown.topic
        if not (topic.subscribers or topic.joining):
            shown.live = False
            return
        now = self.book.top(shown.depth)
        bids, asks = difference(shown.sides[0], now[0]), difference(shown.sides[1], now[1])
        if bids or asks:
            shown.update += 1
        shown.sides = now
        if shown.live and (bids or asks):
            topic.publish(self._book(topic, "delta", bids, asks, shown.update))
        shown.live = True
        if topic.joining:
            topic.welcome(self._book(topic, "snapshot", now[0].items(), now[1].items(), shown.update))

    def _book(self, topic: Topic, kind: str, bids: Iterable[Level], asks: Iterable[Level], update: int) -> str:
        at_ms = self.book.at_ns // MILLISECOND_NS
        return (
            f'{{"topic":"{topic.name}","type":"{kind}","ts":{at_ms},"data":{{"s":"{self.symbol}",'
            f'"b":[{self._rows(bids)}],"a":[{self._rows(asks)}],"u":{update},"seq":{self.book.last_id}}},'
            f'"cts":{at_ms}}}'
        )

    def _rows(self, levels: Iterable[Level]) -> str:
        return rows(levels, self.price, self.size)

    def on_best(self, best: Best) -> None:
        """Send the best bid and ask: a snapshot of one level each."""
        self._best_update += 1
        self._best_sent_ns = best.at_ns
        topic = self._topic("orderbook.1")
        if topic.subscribers or topic.joining:
            text = self._best(best)
            topic.publish(text)
            topic.welcome(text)

    def _best(self, best: Best) -> str:
        at_ms = best.at_ns // MILLISECOND_NS
        return (
            f'{{"topic":"orderbook.1.{self.symbol}","type":"snapshot","ts":{at_ms},"data":{{"s":"{self.symbol}",'
            f'"b":[{self._rows([best.bid])}],"a":[{self._rows([best.ask])}],"u":{self._best_update},'
            f'"seq":{best.update_id}}},"cts":{at_ms}}}'
        )

    def on_trade(self, trade: Trade) -> None:
        """Put a trade into the next message."""
        self._pending.append(trade)

    def _publish_trades(self) -> None:
        trades, self._pending = self._pending, []
        topic = self._topic("publicTrade")
        if topic.subscribers:
            topic.publish(self._trades(topic.name, trades))

    def trade_text(self, name: str, trade: Trade) -> str:
        """Return the message that tells one trade."""
        return self._trades(name, [trade])

    def _trades(self, name: str, trades: Sequence[Trade]) -> str:
        told = ",".join(
            f'{{"T":{trade.at_ns // MILLISECOND_NS},"s":"{self.symbol}","S":"{_side(trade.side)}",'
            f'"v":"{self.size.text(trade.lots)}","p":"{self.price.text(trade.ticks)}","L":"ZeroPlusTick",'
            f'"i":"{self._execution_id(trade)}","BT":false,"RPI":false,"seq":{trade.trade_id}}}'
            for trade in trades
        )
        return f'{{"topic":"{name}","type":"snapshot","ts":{trades[-1].at_ns // MILLISECOND_NS},"data":[{told}]}}'

    def _execution_id(self, trade: Trade) -> str:
        return f"{self._execution}-{trade.trade_id:012x}"

    def on_marked(self, marked: Marked, before: Marked | None) -> None:
        """Send the fields of the ticker that changed: mark price, index and funding are one stream here."""
        topic = self._topic("tickers")
        if not (topic.subscribers or topic.joining):
            return
        fields = self._ticker_fields(marked)
        old = {} if before is None else self._ticker_fields(before)
        changed = {name: value for name, value in fields.items() if old.get(name) != value}
        if changed:
            topic.publish(self._ticker("delta", changed))
        topic.welcome(self._ticker("snapshot", fields))

    def _ticker_fields(self, marked: Marked) -> Mapping[str, str]:
        return {
            "markPrice": f"{marked.mark:f}",
            "indexPrice": f"{marked.index:f}",
            "fundingRate": f"{marked.funding_rate:f}",
            "nextFundingTime": str(marked.next_funding_ns // MILLISECOND_NS),
            "fundingIntervalHour": str(FUNDING_EVERY_H),
        }

    def _ticker(self, kind: str, fields: Mapping[str, str]) -> str:
        told = ",".join(f'"{name}":"{value}"' for name, value in fields.items())
        at_ms = (self.marked.at_ns if self.marked else self.now_ns) // MILLISECOND_NS
        return (
            f'{{"topic":"tickers.{self.symbol}","type":"{kind}","data":{{"symbol":"{self.symbol}",{told}}},'
            f'"cs":{self.book.last_id},"ts":{at_ms}}}'
        )

    def on_liquidated(self, liquidated: Liquidated) -> None:
        """Send a liquidation; its side is that of the position, Buy for a long one, which a sale closes."""
        topic = self._topic("allLiquidation")
        at_ms = liquidated.at_ns // MILLISECOND_NS
        topic.publish(
            f'{{"topic":"{topic.name}","type":"snapshot","ts":{at_ms},"data":[{{"T":{at_ms},"s":"{self.symbol}",'
            f'"S":"{_side(-liquidated.side)}","v":"{self.size.text(liquidated.lots)}",'
            f'"p":"{self.price.text(liquidated.ticks)}"}}]}}'
        )

    def orderbook(self, depth: int) -> Answer:
        """Return the book, and the opening one as what is stale."""
        return Answer(self._rest_book(depth), 200, self.symbol, self._opening)

    def _rest_book(self, depth: int) -> bytes:
        bids, asks = self.book.top(depth)
        at_ms = self.book.at_ns // MILLISECOND_NS
        return self.wrapped(
            f'{{"s":"{self.symbol}","b":[{self._rows(bids.items())}],"a":[{self._rows(asks.items())}],"ts":{at_ms},'
            f'"u":{self.book.last_id},"seq":{self.book.last_id},"cts":{at_ms}}}'
        )

    def wrapped(self, result: str) -> bytes:
        """Return a result in the form of every answer."""
        return f'{{"retCode":0,"retMsg":"OK","result":{result},"retExtInfo":{{}},"time":{self.now_ms}}}'.encode()

    def latest_trades(self, count: int) -> Answer:
        """Return the latest trades, newest first."""
        told = ",".join(
            f'{{"execId":"{self._execution_id(trade)}","symbol":"{self.symbol}",'
            f'"price":"{self.price.text(trade.ticks)}","size":"{self.size.text(trade.lots)}",'
            f'"side":"{_side(trade.side)}","time":"{trade.at_ns // MILLISECOND_NS}","isBlockTrade":false,'
            f'"isRPITrade":false,"seq":"{trade.trade_id}"}}'
            for trade in reversed(list(self.trades)[-count:])
        )
        return Answer(self.wrapped(f'{{"category":"linear","list":[{told}]}}'), 200, self.symbol)

    def kline(self, length_ns: int, end_ms: int | None, count: int) -> Answer:
        """Return closed bars that open up to and at a time, newest first."""
        price, size = self.price.text, self.size.text
        told = ",".join(
            f'["{bar.open_ns // MILLISECOND_NS}","{price(bar.open)}","{price(bar.high)}","{price(bar.low)}",'
            f'"{price(bar.close)}","{size(bar.lots)}","{self.turnover(bar)}"]'
            for bar in reversed(self.candles(length_ns, None if end_ms is None else end_ms + 1, count))
        )
        listed = f'{{"symbol":"{self.symbol}","category":"linear","list":[{told}]}}'
        return Answer(self.wrapped(listed), 200, self.symbol)

    def definition(self) -> str:
        """Return its entry among the instruments."""
        listing = self.listing
        return (
            f'{{"symbol":"{self.symbol}","contractType":"LinearPerpetual","status":"Trading",'
            f'"baseCoin":"{listing.asset}","quoteCoin":"{listing.quote}","launchTime":"1584230400000",'
            f'"deliveryTime":"0","deliveryFeeRate":"","priceScale":"2","leverageFilter":{{"minLeverage":"1",'
            f'"maxLeverage":"100.00","leverageStep":"0.01"}},"priceFilter":{{"minPrice":"{listing.tick}",'
            f'"maxPrice":"10000000","tickSize":"{listing.tick}"}},"lotSizeFilter":{{"maxOrderQty":"1190.000",'
            f'"minOrderQty":"{listing.lot}","qtyStep":"{listing.lot}","postOnlyMaxOrderQty":"1190.000",'
            f'"maxMktOrderQty":"500.000","minNotionalValue":"5"}},"unifiedMarginTrade":true,'
            f'"fundingInterval":{FUNDING_EVERY_H * 60},"settleCoin":"{listing.quote}","copyTrading":"both",'
            f'"isPreListing":false,"symbolType":""}}'
        )


class _Request(msgspec.Struct):
    op: str
    req_id: str = ""
    args: list[str] = []


_REQUEST = msgspec.json.Decoder(_Request)


class Bybit(DeskOf[LinearBoard]):
    """Bybit v5."""

    token = "bybit"  # noqa: S105 - a venue's name
    rules = Rules(idle_after_s=600.0)
    websocket_paths: Sequence[str] = ("/v5/public/linear",)
    unlisted = UNLISTED

    def show(self, listing: Listing, market: Market) -> LinearBoard:
        """Return a board of a listing."""
        return LinearBoard(listing, market)

    def board_of(self, query: Query) -> LinearBoard | None:
        """Return the board that a query names; None when it names none."""
        return self.shown.get(query.get("symbol", "")) if query.get("category") == "linear" else None

    def heard(self, connection: Connection, message: str, *, limited: Callable[[], bool]) -> None:
        """Answer ping, subscribe and unsubscribe."""
        try:
            request = _REQUEST.decode(message)
        except msgspec.DecodeError:
            _reply(connection, _Request("", ""), "error:params error", success=False)
            return
        if request.op == "ping":
            _reply(connection, request, "pong", success=True)
        elif limited():
            _reply(connection, request, "Too many visits!", success=False)
        elif request.op == "subscribe":
            self._subscribe(connection, request)
        elif request.op == "unsubscribe":
            for name in request.args:
                self.unsubscribe(connection, name)
            _reply(connection, request, "", success=True)
        else:
            _reply(connection, request, f"error:unknown op {request.op}", success=False)

    def _subscribe(self, connection: Connection, request: _Request) -> None:
        """Take all topics or, where one is none or there already, not one."""
        for name in request.args:
            if not any(board.topic(name) for board in self.shown.values()):
                _reply(connection, request, f"error:handler not found,topic:{name}", success=False)
                return
            if name in connection.subscribed:
                _reply(connection, request, f"error:already subscribed,topic:{name}", success=False)
                return
        _reply(connection, request, "", success=True)
        for name in request.args:
            self.subscribe(connection, name)

    def routes(self) -> Mapping[str, Route]:
        """Return what is answered, by path under the venue's prefix."""
        return {
            "/v5/market/instruments-info": self._instruments,
            "/v5/market/orderbook": self.of_board(_orderbook),
            "/v5/market/recent-trade": self.of_board(_trades),
            "/v5/market/kline": self.of_board(_kline),
        }

    def too_many(self) -> bytes:
        """Return the body of a 429."""
        return b'{"retCode":10006,"retMsg":"Too many visits!","result":{},"retExtInfo":{},"time":0}'

    def _instruments(self, query: Query) -> Answer:
        wanted = query.get("symbol")
        found = self.wanted(wanted)
        if query.get("category") != "linear" or not found:
            return UNLISTED
        listed = ",".join(board.definition() for board in found)
        result = f'{{"category":"linear","list":[{listed}],"nextPageCursor":""}}'
        return Answer(found[0].wrapped(result), 200, wanted)


def _orderbook(board: LinearBoard, query: Query) -> Answer:
    return board.orderbook(integer(query, "limit", 25, 1_000))


def _trades(board: LinearBoard, query: Query) -> Answer:
    return board.latest_trades(integer(query, "limit", 500, 1_000))


def _kline(board: LinearBoard, query: Query) -> Answer:
    length_ns = INTERVALS_NS.get(query.get("interval", ""))
    if length_ns is None:
        return _refused("Invalid period!")
    return board.kline(length_ns, milliseconds(query, "end"), integer(query, "limit", 200, 1_000))


def _side(side: int) -> str:
    return "Buy" if side > 0 else "Sell"


def _reply(connection: Connection, request: _Request, told: str, *, success: bool) -> None:
    connection.reply(
        f'{{"success":{"true" if success else "false"},"ret_msg":{text_of(told)},"conn_id":"{connection.name}",'
        f'"req_id":{text_of(request.req_id)},"op":{text_of(request.op)}}}'.encode()
    )
