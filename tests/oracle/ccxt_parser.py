"""Read venue frames with ccxt's parsers, offline, and say what they say: JSON lines in, JSON lines out.

Runs in an environment of its own (`.venv/oracle`), which knows nothing of Huracan. A line in is a session with one
instrument, `{"venue", "definition", "frames": [[how, text], ...]}`; `how` is `stream` for a websocket message, else
what was asked for: `instrument`, `snapshot`, `trades` or `bars`. A line out is `{"said": [[...], ...], "book": [...]}`:
for each frame what ccxt told its user, and every level of the book at the end.

Numbers are text. ccxt makes floats of most; the shortest text that gives such a float again is the venue's own, up to
15 digits, which none here exceeds.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any

from ccxt.base.errors import BaseError
from ccxt.pro.binance import binance
from ccxt.pro.binancecoinm import binancecoinm
from ccxt.pro.binanceusdm import binanceusdm
from ccxt.pro.bybit import bybit
from ccxt.pro.okx import okx

DEPTH = 20
"""Levels a side that are told after each update."""
VENUES = {
    "binance_usdm": (binanceusdm, "wss://fstream.binance.com/stream", "linear"),
    "binance_coinm": (binancecoinm, "wss://dstream.binance.com/stream", "linear"),
    "binance_spot": (binance, "wss://stream.binance.com:9443/stream", "spot"),
    "okx": (okx, "wss://ws.okx.com:8443/ws/v5/public", ""),
    "bybit": (bybit, "wss://stream.bybit.com/v5/public/linear", ""),
}
"""ccxt's class, the address by which it tells spot from futures, and its name of the rule for Binance's books.

For COIN-M it would itself take spot's rule while it catches up with a book that was asked for, and drop updates."""
OKX_BOOKS = ("books", "books-l2-tbt", "books50-l2-tbt")

Said = dict[str, Any]


def text(number: object) -> str | None:
    """Return a number as the shortest text that gives it again."""
    return None if number is None else str(number)


def levels(side: Sequence[Sequence[object]], most: int | None = None) -> list[list[str | None]]:
    """Return price and size of levels, best first."""
    return [[text(level[0]), text(level[1])] for level in side[:most]]


class Client:
    """Stands for ccxt's connection: remembers what would have been handed to a user."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.subscriptions: dict[str, bool] = {}
        self.resolved: dict[str, Any] = {}
        self.rejected: list[str] = []

    def resolve(self, result: object, name: str) -> object:
        """Take a result under the name by which a user waits for it."""
        self.resolved[name] = result
        return result

    def reject(self, error: object, name: str | None = None) -> None:
        """Take an error."""
        self.rejected.append(f"{name}: {error}")


class Reader:
    """One ccxt exchange with one market."""

    def __init__(self, venue: str, definition: Any) -> None:
        make, url, self._book_rule = VENUES[venue]
        self._venue = venue
        pairs_on_margin: dict[str, list[str]] = {
            "crossMarginPairsData": [],
            "isolatedMarginPairsData": [],
        }  # it would ask for these first
        self._exchange = make({"enableRateLimit": False, "options": pairs_on_margin})
        self._exchange.fetch = self._answer
        self._body: Any = None
        self._definition = definition
        self._client = Client(url)

    async def start(self) -> None:
        """Have ccxt know the market."""
        self._market = await self._parse_market(self._definition)
        self._exchange.set_markets([self._market])
        self._symbol = self._market["symbol"]
        names = [f"orderbook::{self._symbol}", *(f"{channel}:{self._symbol}" for channel in OKX_BOOKS)]
        self._client.subscriptions = dict.fromkeys(names, True)
        if self._venue.startswith("binance"):
            self._exchange.orderbooks[self._symbol] = self._exchange.order_book({}, 1000)

    async def _answer(self, url: str, *_: object, **__: object) -> Any:
        if self._body is None:
            raise BaseError(f"{url} was asked for, and there is no network here")
        return self._body

    async def _parse_market(self, definition: Any) -> Any:
        if self._venue != "bybit":
            return self._exchange.parse_market(definition["symbols"][0] if "symbols" in definition else definition)
        category = "inverse" if definition["contractType"].startswith("Inverse") else "linear"
        self._body = {"retCode": 0, "retMsg": "OK", "result": {"category": category, "list": [definition]}}
        return (await self._exchange.fetch_future_markets({"category": category}))[0]

    async def read(self, how: str, frame: Any) -> list[Said]:
        """Return what ccxt says of a frame."""
        if how == "stream":
            return self._of_stream(frame)
        self._body = frame
        asked = {"instrument": self._instrument, "snapshot": self._snapshot, "trades": self._trades, "bars": self._bars}
        return await asked[how](frame)

    def book(self) -> list[list[list[str | None]]]:
        """Return every level of the book: bids, then asks."""
        book = self._exchange.orderbooks.get(self._symbol)
        return [levels(book["bids"]), levels(book["asks"])] if book else [[], []]

    def _of_stream(self, frame: Any) -> list[Said]:
        exchange, client, symbol = self._exchange, self._client, self._symbol
        exchange.trades, exchange.bidsasks, exchange.fundingRates, exchange.liquidations = {}, {}, {}, None
        client.resolved, client.rejected = {}, []
        try:
            exchange.handle_message(client, frame)
        except BaseError as error:
            return [{"kind": "error", "text": str(error)}]
        said = [{"kind": "error", "text": error} for error in client.rejected]
        said += [trade(each) for each in exchange.trades.get(symbol, ())]
        said += [quote(each) for each in exchange.bidsasks.values()]
        said += self._marks()
        said += [funding(each) for each in exchange.fundingRates.values()]
        said += self._liquidations(frame)
        return said + self._books()

    def _marks(self) -> list[Said]:
        if not any(name.startswith(("markPrice:", "mark-price:", "ticker:")) for name in self._client.resolved):
            return []
        ticker = self._exchange.tickers[self._symbol]
        known = mark(ticker)
        if self._venue == "bybit":
            told = funding(self._exchange.parse_funding_rate(ticker["info"], self._market))
            known |= {name: told[name] for name in ("funding_rate", "next_funding")}
        return [known]

    def _liquidations(self, frame: Any) -> list[Said]:
        if self._exchange.liquidations is None:
            return []
        if self._venue != "okx":
            return [liquidation(each) for each in self._exchange.liquidations]
        # it reads the first of a contract's closings: each is given to it alone
        return [
            liquidation(self._exchange.parse_ws_liquidation({**contract, "details": [closing]}))
            for contract in frame["data"]
            if contract["instId"] == self._market["id"]
            for closing in contract["details"]
        ]

    def _books(self) -> list[Said]:
        book = self._exchange.orderbooks.get(self._symbol)
        if not any(result is book for result in self._client.resolved.values()):
            return []
        return [whole("book", book, DEPTH)]

    async def _instrument(self, frame: Any) -> list[Said]:
        return [instrument(await self._parse_market(frame))]

    async def _snapshot(self, frame: Any) -> list[Said]:
        said = [whole("snapshot", await self._exchange.fetch_order_book(self._symbol))]
        if not self._venue.startswith("binance"):
            return said
        self._client.resolved, self._client.rejected = {}, []
        subscription = {"symbol": self._symbol, "type": self._book_rule, "params": {}}
        await self._exchange.fetch_order_book_snapshot(self._client, {}, subscription)
        return said + [{"kind": "error", "text": error} for error in self._client.rejected] + self._books()

    async def _trades(self, _: Any) -> list[Said]:
        return [trade(each) for each in await self._exchange.fetch_trades(self._symbol)]

    async def _bars(self, _: Any) -> list[Said]:
        names = ("time", "open", "high", "low", "close", "volume")
        bars = await self._exchange.fetch_ohlcv(self._symbol, "1m")
        return [{"kind": "bar", **dict(zip(names, map(text, bar), strict=True))} for bar in bars]


def trade(parsed: Any) -> Said:
    """Return a trade of ccxt's in our words."""
    fields = {"id": "id", "price": "price", "size": "amount", "side": "side", "time": "timestamp"}
    return {"kind": "trade", **{ours: text(parsed[theirs]) for ours, theirs in fields.items()}}


def quote(parsed: Any) -> Said:
    """Return a ticker of ccxt's as the best bid and ask."""
    fields = {"bid": "bid", "bid_size": "bidVolume", "ask": "ask", "ask_size": "askVolume", "time": "timestamp"}
    return {"kind": "quote", **{ours: text(parsed[theirs]) for ours, theirs in fields.items()}}


def mark(parsed: Any) -> Said:
    """Return a ticker of ccxt's as mark and index price."""
    fields = {"mark": "markPrice", "index": "indexPrice", "time": "timestamp"}
    told = {ours: text(parsed[theirs]) for ours, theirs in fields.items()}
    return {"kind": "mark", **told, "funding_rate": None, "next_funding": None}


def funding(parsed: Any) -> Said:
    """Return a funding rate of ccxt's."""
    fields = {
        "mark": "markPrice", "index": "indexPrice", "funding_rate": "fundingRate", "next_funding": "fundingTimestamp",
        "time": "timestamp",
    }  # fmt: skip
    return {"kind": "mark", **{ours: text(parsed[theirs]) for ours, theirs in fields.items()}}


def liquidation(parsed: Any) -> Said:
    """Return a liquidation of ccxt's."""
    fields = {"price": "price", "size": "contracts", "side": "side", "time": "timestamp"}
    return {"kind": "liquidation", **{ours: text(parsed[theirs]) for ours, theirs in fields.items()}}


def whole(kind: str, book: Any, most: int | None = None) -> Said:
    """Return a book of ccxt's, best levels first."""
    told = {"bids": levels(book["bids"], most), "asks": levels(book["asks"], most)}
    return {"kind": kind, **told, "id": text(book["nonce"]), "time": text(book["timestamp"])}


def instrument(market: Any) -> Said:
    """Return a market of ccxt's."""
    return {
        "kind": "instrument",
        "price_increment": text(market["precision"]["price"]),
        "size_increment": text(market["precision"]["amount"]),
        "multiplier": text(market["contractSize"]),
        "base": market["base"],
        "quote": market["quote"],
        "settle": market["settle"],
        "type": market["type"],
        "linear": market["linear"],
        "inverse": market["inverse"],
        "expiry": text(market["expiry"]),
        "trading": market["active"],
    }


async def session(told: Any) -> Said:
    """Read the frames of a session in their order."""
    definition = json.loads(told["definition"])
    reader, best = Reader(told["venue"], definition), Reader(told["venue"], definition)
    await reader.start()
    await best.start()
    said = []
    for how, frame in told["frames"]:
        # ccxt keeps one book a symbol: one connection has Bybit's best levels, another the order book
        alone = told["venue"] == "bybit" and '"orderbook.1.' in frame
        results = await (best if alone else reader).read(how, json.loads(frame))
        said.append([each for each in results if each["kind"] != "book"] if alone else results)
    return {"said": said, "book": reader.book()}


async def main() -> None:
    """Answer each line of standard input."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(await session(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
