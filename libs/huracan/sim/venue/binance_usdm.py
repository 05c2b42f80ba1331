"""Speak the public protocol of Binance USD-M futures.

Sources: Binance USD-M futures documentation, "Websocket Market Streams" (Connect, Live Subscribing/Unsubscribing, Diff.
Book Depth, Individual Symbol Book Ticker, Aggregate Trade, Mark Price, Liquidation Order Streams, How to manage a local
order book correctly) and "Market Data Endpoints" (`GET /fapi/v1/exchangeInfo`, `depth`, `trades`, `aggTrades`,
`klines`). `<symbol>@trade` is not in the documentation; the venue sends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from huracan.clock import MILLISECOND_NS, MINUTE_NS
from huracan.sim.told import Best, Book, Changed, Level, Liquidated, Listing, Marked, Trade
from huracan.sim.venue.board import (
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
from huracan.sim.venue.book import LiveBook, rows
from huracan.sim.venue.connection import Connection, Rules
from huracan.sim.venue.desk import DeskOf
from huracan.sim.venue.market import Market
from huracan.sim.venue.misbehaviour import Channel
from huracan.sim.venue.recording import Recorded, Recording

DEPTH_EVERY_NS: Final = {
    "depth@0ms": 5 * TICK_NS,
    "depth@100ms": 10 * TICK_NS,
    "depth": 25 * TICK_NS,
    "depth@250ms": 25 * TICK_NS,
    "depth@500ms": 50 * TICK_NS,
}
AGGREGATE: Final = "aggTrade"
CHANNELS: Final = {
    "trade": Channel.TRADE,
    AGGREGATE: Channel.TRADE,
    "bookTicker": Channel.BEST,
    "markPrice": Channel.MARK,
    "markPrice@1s": Channel.MARK,
    "forceOrder": Channel.LIQUIDATION,
    **dict.fromkeys(DEPTH_EVERY_NS, Channel.BOOK),
}
DEPTH_LIMITS: Final = (5, 10, 20, 50, 100, 500, 1_000)
DEPTH_WEIGHTS: Final = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1_000: 20}
BAD_SYMBOL: Final = Answer(b'{"code":-1121,"msg":"Invalid symbol."}', 400)
BAD_INTERVAL: Final = Answer(b'{"code":-1120,"msg":"Invalid interval."}', 400)


class _Batch:
    """Changes of the book since the last depthUpdate of a stream."""

    def __init__(self, topic: Topic, every_ns: int, last_id: int) -> None:
        self.topic = topic
        self.every_ns = every_ns
        self.previous = self.last = last_id
        self.first: int | None = None
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}


class UsdmBoard(Board):
    """One perpetual on Binance USD-M."""

    def __init__(self, listing: Listing, market: Market) -> None:
        super().__init__(listing, market, f"{listing.asset}{listing.quote}")
        self._prefix = f"{self.symbol.lower()}@"
        self._batches: list[_Batch] = []
        for speed, every_ns in DEPTH_EVERY_NS.items():
            topic = self.topic(self._prefix + speed)
            assert topic is not None, "every speed is a channel"
            self._batches.append(_Batch(topic, every_ns, self.book.last_id))
        self._opening = self._depth(1_000)

    def channel(self, name: str) -> Channel | None:
        """Return what a stream's name is about; None when there is no such stream."""
        return CHANNELS.get(name.removeprefix(self._prefix)) if name.startswith(self._prefix) else None

    def join(self, topic: Topic, connection: Connection) -> None:
        """Subscribe a connection; this venue sends no snapshots."""
        topic.subscribers[connection] = None

    def on_changed(self, changed: Changed) -> None:
        """Put what changed into the next depthUpdate of every speed."""
        for batch in self._batches:
            batch.first = changed.first_id if batch.first is None else batch.first
            batch.last = changed.last_id
            batch.bids.update(changed.bids)
            batch.asks.update(changed.asks)

    def tick(self, at_ns: int) -> None:
        """Send the depth updates that are due."""
        for batch in self._batches:
            if at_ns % batch.every_ns or batch.first is None:
                continue
            if batch.topic.subscribers:
                self._publish(batch)
            batch.previous, batch.first = batch.last, None
            batch.bids.clear()
            batch.asks.clear()

    def _publish(self, batch: _Batch) -> None:
        at_ms = self.book.at_ns // MILLISECOND_NS
        batch.topic.publish(
            f'{{"stream":"{batch.topic.name}","data":{{"e":"depthUpdate","E":{at_ms},"T":{at_ms},"s":"{self.symbol}",'
            f'"U":{batch.first},"u":{batch.last},"pu":{batch.previous},'
            f'"b":[{self._rows(sorted(batch.bids.items()))}],"a":[{self._rows(sorted(batch.asks.items()))}]}}}}'
        )

    def on_best(self, best: Best) -> None:
        """Send a bookTicker."""
        topic = self.topics.get(f"{self._prefix}bookTicker")
        if topic is None or not topic.subscribers:
            return
        price, size, at_ms = self.price.text, self.size.text, best.at_ns // MILLISECOND_NS
        (bid, bid_lots), (ask, ask_lots) = best.bid, best.ask
        topic.publish(
            f'{{"stream":"{topic.name}","data":{{"e":"bookTicker","u":{best.update_id},"s":"{self.symbol}",'
            f'"b":"{price(bid)}","B":"{size(bid_lots)}","a":"{price(ask)}","A":"{size(ask_lots)}",'
            f'"T":{at_ms},"E":{at_ms}}}}}'
        )

    def on_trade(self, trade: Trade) -> None:
        """Send a trade, and the same as an aggregate of one."""
        for stream in ("trade", AGGREGATE):
            topic = self.topics.get(self._prefix + stream)
            if topic is not None:
                topic.publish(self.trade_text(topic.name, trade))

    def trade_text(self, name: str, trade: Trade) -> str:
        """Return the message of a stream that tells one trade."""
        number, at_ms, maker = trade.trade_id, trade.at_ns // MILLISECOND_NS, "false" if trade.side > 0 else "true"
        price, size = self.price.text(trade.ticks), self.size.text(trade.lots)
        if name.endswith(AGGREGATE):
            return (
                f'{{"stream":"{name}","data":{{"e":"aggTrade","E":{at_ms},"a":{number},"s":"{self.symbol}",'
                f'"p":"{price}","q":"{size}","f":{number},"l":{number},"T":{at_ms},"m":{maker}}}}}'
            )
        return (
            f'{{"stream":"{name}","data":{{"e":"trade","E":{at_ms},"T":{at_ms},"s":"{self.symbol}",'
            f'"t":{number},"p":"{price}","q":"{size}","X":"MARKET","m":{maker}}}}}'
        )

    def on_marked(self, marked: Marked, before: Marked | None) -> None:  # noqa: ARG002 - all of it is sent each time
        """Send mark price and funding, which are one stream here."""
        for name in ("markPrice", "markPrice@1s"):
            topic = self.topics.get(self._prefix + name)
            if topic is not None:
                topic.publish(
                    f'{{"stream":"{topic.name}","data":{{"e":"markPriceUpdate","E":{marked.at_ns // MILLISECOND_NS},'
                    f'"s":"{self.symbol}","p":"{marked.mark:f}","i":"{marked.index:f}","P":"{marked.mark:f}",'
                    f'"r":"{marked.funding_rate:f}","T":{marked.next_funding_ns // MILLISECOND_NS}}}}}'
                )

    def on_liquidated(self, liquidated: Liquidated) -> None:
        """Send a forceOrder."""
        topic = self.topics.get(f"{self._prefix}forceOrder")
        if topic is not None:
            at_ms, side = liquidated.at_ns // MILLISECOND_NS, "BUY" if liquidated.side > 0 else "SELL"
            price, size = self.price.text(liquidated.ticks), self.size.text(liquidated.lots)
            topic.publish(
                f'{{"stream":"{topic.name}","data":{{"e":"forceOrder","E":{at_ms},"o":{{"s":"{self.symbol}",'
                f'"S":"{side}","o":"LIMIT","f":"IOC","q":"{size}","p":"{price}","ap":"{price}","X":"FILLED",'
                f'"l":"{size}","z":"{size}","T":{at_ms}}}}}}}'
            )

    def depth(self, limit: int) -> Answer:
        """Return the book, with the id of the last change in it, and the opening one as what is stale."""
        return Answer(self._depth(limit), 200, self.symbol, self._opening, DEPTH_WEIGHTS[limit])

    def _depth(self, limit: int) -> bytes:
        bids, asks = self.book.top(limit)
        return (
            f'{{"lastUpdateId":{self.book.last_id},"E":{self.now_ms},"T":{self.book.at_ns // MILLISECOND_NS},'
            f'"bids":[{self._rows(bids.items())}],"asks":[{self._rows(asks.items())}]}}'
        ).encode()

    def _rows(self, levels: Iterable[Level]) -> str:
        return rows(levels, self.price, self.size)

    def latest_trades(self, count: int, *, aggregated: bool) -> Answer:
        """Return the latest trades, oldest first."""
        return Answer(_list(self._trade(trade, aggregated) for trade in list(self.trades)[-count:]), 200, self.symbol)

    def _trade(self, trade: Trade, aggregated: bool) -> str:
        price, size = self.price.text(trade.ticks), self.size.text(trade.lots)
        number, at_ms, maker = trade.trade_id, trade.at_ns // MILLISECOND_NS, "false" if trade.side > 0 else "true"
        if aggregated:
            return f'{{"a":{number},"p":"{price}","q":"{size}","f":{number},"l":{number},"T":{at_ms},"m":{maker}}}'
        listing = self.listing
        paid = trade.ticks * listing.tick * trade.lots * listing.lot
        return (
            f'{{"id":{number},"price":"{price}","qty":"{size}","quoteQty":"{paid:f}","time":{at_ms},'
            f'"isBuyerMaker":{maker}}}'
        )

    def klines(self, length_ns: int, end_ms: int | None, count: int) -> Answer:
        """Return closed bars that open up to and at a time, oldest first."""
        price, size, length_ms = self.price.text, self.size.text, length_ns // MILLISECOND_NS
        bars = self.candles(length_ns, None if end_ms is None else end_ms + 1, count)
        return Answer(
            _list(
                f'[{bar.open_ns // MILLISECOND_NS},"{price(bar.open)}","{price(bar.high)}","{price(bar.low)}",'
                f'"{price(bar.close)}","{size(bar.lots)}",{bar.open_ns // MILLISECOND_NS + length_ms - 1},'
                f'"{self.turnover(bar)}",{bar.trades},"0","0","0"]'
                for bar in bars
            ),
            200,
            self.symbol,
        )

    def definition(self) -> str:
        """Return its entry in exchangeInfo."""
        return _definition(self.symbol, self.listing)


def _definition(symbol: str, listing: Listing) -> str:
    return (
        f'{{"symbol":"{symbol}","pair":"{symbol}","contractType":"PERPETUAL","deliveryDate":4133404800000,'
        f'"onboardDate":1569398400000,"status":"TRADING","baseAsset":"{listing.asset}",'
        f'"quoteAsset":"{listing.quote}","marginAsset":"{listing.quote}","pricePrecision":2,"quantityPrecision":3,'
        f'"baseAssetPrecision":8,"quotePrecision":8,"underlyingType":"COIN","underlyingSubType":[],'
        f'"triggerProtect":"0.0500","filters":[{{"filterType":"PRICE_FILTER","minPrice":"{listing.tick}",'
        f'"maxPrice":"10000000","tickSize":"{listing.tick}"}},{{"filterType":"LOT_SIZE","minQty":"{listing.lot}",'
        f'"maxQty":"1000","stepSize":"{listing.lot}"}},{{"filterType":"MARKET_LOT_SIZE","minQty":"{listing.lot}",'
        f'"maxQty":"120","stepSize":"{listing.lot}"}},{{"filterType":"MIN_NOTIONAL","notional":"5"}}],'
        f'"orderTypes":["LIMIT","MARKET"],"timeInForce":["GTC","IOC","FOK","GTX"]}}'
    )


class RecordedBoard(UsdmBoard):
    """A recorded perpetual: frames are sent as they were recorded, and only requests are answered from its book."""

    def __init__(self, recording: Recording) -> None:
        super().__init__(recording.listing, recording)
        self._recording = recording

    def play(self, recorded: Recorded) -> None:
        """Send a frame to the subscribers of its stream; books and trades to those of every stream of theirs.

        A recording has one speed of the book and one form of trades, whatever the client prefers.
        """
        match recorded.told:
            case Book() as book if book.last_id >= self.book.last_id:
                self.book = LiveBook(book)
            case Book() | None:
                pass
            case told:
                self.take(told)
        channel = self.channel(recorded.stream)
        alike = [self._prefix + other for other, of in CHANNELS.items() if of is channel]
        names = alike if channel in {Channel.BOOK, Channel.TRADE} else [recorded.stream]
        for name in names:
            topic = self.topics.get(name)
            if topic is not None:
                topic.publish_bytes(recorded.raw)

    def on_changed(self, changed: Changed) -> None:
        """Send nothing: the frame itself is sent."""

    def on_best(self, best: Best) -> None:
        """Send nothing: the frame itself is sent."""

    def on_trade(self, trade: Trade) -> None:
        """Send nothing: the frame itself is sent."""

    def on_marked(self, marked: Marked, before: Marked | None) -> None:
        """Send nothing: the frame itself is sent."""

    def on_liquidated(self, liquidated: Liquidated) -> None:
        """Send nothing: the frame itself is sent."""

    def tick(self, at_ns: int) -> None:
        """Send nothing: the frames themselves are sent."""

    def definition(self) -> str:
        """Return its entry in exchangeInfo, with the increments that its prices and sizes imply."""
        return _definition(self.symbol, self._recording.implied)


class _Request(msgspec.Struct):
    method: str
    id: int | str | None = None
    params: list[str] = []


_REQUEST = msgspec.json.Decoder(_Request)


class BinanceUsdm(DeskOf[UsdmBoard]):
    """Binance USD-M."""

    token = "binance_usdm"  # noqa: S105 - a venue's name
    rules = Rules(ping_every_s=180.0, pong_within_s=600.0, messages_per_s=10)
    websocket_paths: Sequence[str] = ("/stream", "/public/stream", "/market/stream")
    unlisted = BAD_SYMBOL

    def __init__(self) -> None:
        super().__init__()
        self._minute = self._weight = 0

    def show(self, listing: Listing, market: Market) -> UsdmBoard:
        """Return a board of a listing."""
        return UsdmBoard(listing, market)

    def board_of(self, query: Query) -> UsdmBoard | None:
        """Return the board that a query names; None when it names none."""
        return self.shown.get(query.get("symbol", ""))

    def headers(self, weight: int, now_ns: int) -> Mapping[str, str]:
        """Return the weight used in this minute."""
        if now_ns // MINUTE_NS != self._minute:
            self._minute, self._weight = now_ns // MINUTE_NS, 0
        self._weight += weight
        return {"X-MBX-USED-WEIGHT-1M": str(self._weight)}

    def opened(self, connection: Connection, query: Query) -> None:
        """Subscribe to the streams of the address. Unknown ones are taken in silence, as the venue does."""
        for name in filter(None, query.get("streams", "").split("/")):
            self._subscribe(connection, name)

    def _subscribe(self, connection: Connection, name: str) -> None:
        if not self.subscribe(connection, name):
            connection.subscribed[name] = set()

    def heard(self, connection: Connection, message: str, *, limited: Callable[[], bool]) -> None:
        """Answer SUBSCRIBE, UNSUBSCRIBE and LIST_SUBSCRIPTIONS."""
        try:
            request = _REQUEST.decode(message)
        except msgspec.DecodeError as error:
            connection.reply(f'{{"error":{{"code":2,"msg":{text_of(f"Invalid request: {error}")}}}}}'.encode())
            return
        number = msgspec.json.encode(request.id).decode()
        if limited():
            connection.reply(f'{{"error":{{"code":-1003,"msg":"Too many requests."}},"id":{number}}}'.encode())
            return
        result = "null"
        match request.method:
            case "SUBSCRIBE":
                for name in request.params:
                    self._subscribe(connection, name)
            case "UNSUBSCRIBE":
                for name in request.params:
                    self.unsubscribe(connection, name)
            case "LIST_SUBSCRIPTIONS":
                result = msgspec.json.encode([*connection.subscribed]).decode()
            case method:
                told = text_of(f"Invalid request: unknown variant {method!r}")
                connection.reply(f'{{"error":{{"code":2,"msg":{told}}},"id":{number}}}'.encode())
                return
        connection.reply(f'{{"result":{result},"id":{number}}}'.encode())

    def routes(self) -> Mapping[str, Route]:
        """Return what is answered, by path under the venue's prefix."""
        return {
            "/fapi/v1/exchangeInfo": self._exchange_info,
            "/fapi/v1/depth": self.of_board(_depth),
            "/fapi/v1/trades": self.of_board(partial(_trades, aggregated=False)),
            "/fapi/v1/aggTrades": self.of_board(partial(_trades, aggregated=True)),
            "/fapi/v1/klines": self.of_board(_klines),
        }

    def too_many(self) -> bytes:
        """Return the body of a 429."""
        return b'{"code":-1003,"msg":"Too many requests; current limit of IP is 2400 requests per minute."}'

    def _exchange_info(self, query: Query) -> Answer:  # noqa: ARG002 - this venue lists all
        now_ms = max((board.now_ms for board in self.shown.values()), default=0)
        listed = ",".join(board.definition() for board in self.shown.values())
        return Answer(
            f'{{"exchangeFilters":[],"rateLimits":[{{"interval":"MINUTE","intervalNum":1,"limit":2400,'
            f'"rateLimitType":"REQUEST_WEIGHT"}}],"serverTime":{now_ms},"assets":[],"symbols":[{listed}],'
            f'"timezone":"UTC"}}'.encode()
        )


def _depth(board: UsdmBoard, query: Query) -> Answer:
    limit = integer(query, "limit", 500, 1_000)
    if limit not in DEPTH_LIMITS:
        return Answer(b'{"code":-4021,"msg":"Invalid depth limit."}', 400)
    return board.depth(limit)


def _trades(board: UsdmBoard, query: Query, *, aggregated: bool) -> Answer:
    return board.latest_trades(integer(query, "limit", 500, 1_000), aggregated=aggregated)


def _klines(board: UsdmBoard, query: Query) -> Answer:
    length_ns = interval_ns(query.get("interval", ""))
    if length_ns is None:
        return BAD_INTERVAL
    return board.klines(length_ns, milliseconds(query, "endTime"), integer(query, "limit", 500, 1_500))


def _list(items: Iterable[str]) -> bytes:
    return f"[{','.join(items)}]".encode()
