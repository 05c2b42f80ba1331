"""Simulate whole markets: reserved assets on several venues, correlated, with books, liquidations and known anomalies.

`SimulatedExchange(config).events()` yields what `huracan.sim.told` defines, in integers of each listing's increments;
venues' raw frames are made from it elsewhere.

What drives what: a one-factor model with market-wide regimes gives each asset a fair price that nobody sees
(`prices.py`). Each listing has a price-level book whose order flow is a Hawkes process (`hawkes.py`) that leans to the
fair price as its venue sees it: later than the first venue does, and off by a slow basis (`listed.py`). Market orders
on the first venue also excite those of the others. Mark price, index and funding come from the mids (`exchange.py`),
liquidations from a stock of leveraged positions (`positions.py`), anomalies from a list and a seeded rate
(`anomalies.py`, truth in `SimulatedExchange.injected`), bars from before the start from the same law, walked backwards
(`candles.py`).

Parameters: all are fields of `SimulatedExchangeConfig` (`config.py`), with unit, reason and safe range. Fixed by
definition: the assets SIM, SIMA and SIMB (reserved: simulated data never carries a real symbol) and their increments on
each venue (`LISTED`), taken from the venues' BTC, ETH and SOL perpetuals.

What holds: update ids of a listing rise by one with each change and trade ids with each trade; `Changed` events leave
no id out; after each of them the best levels are those of the last `Best` whose id is not above its last one; books are
never crossed nor empty. A liquidation's trades come right before its `Liquidated`, of which price and size are the last
trade's and the sum.

Determinism: every draw is `random()` of a seeded stream named after what it is for, shaped with `math`. Another asset
changes no event of the others; another venue at the end changes index, mark and funding of the others and nothing else.

Not modelled: single orders, queue position, icebergs, our own orders and their impact; venues' matching halts, gaps and
reordered frames (the fault bus makes those); a spot market, so the index is made of the perpetuals themselves and the
funding rate stays near the interest rate; the payment of funding; open interest; fees; daily and weekly patterns; news
other than injected jumps; options.

Known limits: with one decay the excitation is short, while real order signs have a memory of hours (Lillo & Farmer
2004); signs here persist as long as the book lags behind the fair price. Returns have the tails of switching volatility
and sweeps, not a power law. The first venue always leads. In turbulence much above the default the books trail the fair
price and the basis widens. Bars from before the start have no noise of the book in them, so that single minutes are
smoother than the market's own. The predictability is put in by hand: profit made here says nothing about a real
market.
"""

from huracan.sim.exchange.anomalies import Injected
from huracan.sim.exchange.config import (
    BINANCE_USDM,
    BYBIT,
    LISTED,
    OKX,
    SIM,
    SIMA,
    SIMB,
    AnomalyConfig,
    AnomalyKind,
    AssetConfig,
    Regime,
    RegimeConfig,
    SimulatedExchangeConfig,
    VenueConfig,
)
from huracan.sim.exchange.exchange import SimulatedExchange

__all__ = [
    "BINANCE_USDM",
    "BYBIT",
    "LISTED",
    "OKX",
    "SIM",
    "SIMA",
    "SIMB",
    "AnomalyConfig",
    "AnomalyKind",
    "AssetConfig",
    "Injected",
    "Regime",
    "RegimeConfig",
    "SimulatedExchange",
    "SimulatedExchangeConfig",
    "VenueConfig",
]
