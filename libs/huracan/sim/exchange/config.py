"""Configuration of the simulated exchange. Rates are per second of event time, prices in the quote currency."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from huracan.config import Config
from huracan.sim.told import Listing

Asset = Literal["SIM", "SIMA", "SIMB"]
"""Reserved, and the only ones accepted, so that simulated data can always be told from real data."""
Venue = Literal["binance_usdm", "okx", "bybit"]

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000


def _listing(venue: Venue, asset: Asset, tick: str, lot: str, contract: str = "1") -> Listing:
    return Listing(venue=venue, asset=asset, tick=Decimal(tick), lot=Decimal(lot), contract=Decimal(contract))


LISTED: Final[Mapping[tuple[Venue, Asset], Listing]] = MappingProxyType(
    {
        ("binance_usdm", "SIM"): _listing("binance_usdm", "SIM", "0.1", "0.001"),
        ("okx", "SIM"): _listing("okx", "SIM", "0.1", "0.01", "0.01"),
        ("bybit", "SIM"): _listing("bybit", "SIM", "0.1", "0.001"),
        ("binance_usdm", "SIMA"): _listing("binance_usdm", "SIMA", "0.01", "0.001"),
        ("okx", "SIMA"): _listing("okx", "SIMA", "0.01", "0.01", "0.1"),
        ("bybit", "SIMA"): _listing("bybit", "SIMA", "0.01", "0.01"),
        ("binance_usdm", "SIMB"): _listing("binance_usdm", "SIMB", "0.01", "0.01"),
        ("okx", "SIMB"): _listing("okx", "SIMB", "0.01", "0.01"),
        ("bybit", "SIMB"): _listing("bybit", "SIMB", "0.01", "0.1"),
    }
)
"""Every instrument there can be. Increments are those of the BTC, ETH and SOL perpetuals of the venue, to whose
price levels the assets come near."""


class Regime(StrEnum):
    """What the whole market is like."""

    CALM = "calm"
    TURBULENT = "turbulent"
    TRENDING = "trending"
    RANGING = "ranging"


class AnomalyKind(StrEnum):
    """What can be injected; `size` of each is said here."""

    PRICE_JUMP = "price_jump"
    """The fair price of the asset moves by `size` bps (signed) for good; every venue is swept to it as it sees it."""
    SPREAD = "spread"
    """Everything within `size` / 2 bps of the mid is withdrawn, and nothing is quoted there meanwhile."""
    VOLUME = "volume"
    """Market orders come `size` times as often."""
    QUOTE_STUFFING = "quote_stuffing"
    """Limit orders and cancels come `size` times as often."""
    SILENCE = "silence"
    """Nothing happens at the listing and nothing is told of it, mark prices included; `size` means nothing. A venue
    that serves it may repeat what it told last (Bybit: the best bid and ask, every 3 s)."""
    DIVERGENCE = "divergence"
    """The listing goes `size` bps (signed) away from the fair price and, when it ends, comes back."""


class RegimeConfig(Config):
    """Configure one regime of the market."""

    mean_s: float = Field(ge=1, le=1e7)
    """Mean stay: stays are exponential, and the other three follow with equal chance, so that the share of time spent
    here is this over the sum of all four. Below 30 the regimes blur into one."""
    volatility_bps: float = Field(ge=0.1, le=500)
    """Standard deviation of the fair price's free walk over 15 minutes, for an asset whose `volatility` is 1. Above 150
    the books cannot follow and the venues part."""
    drift: float = Field(default=0.0, ge=0, le=20)
    """Drift over 15 minutes in units of the volatility; its sign is drawn at each stay."""
    pull_s: NonNegativeFloat = 0.0
    """Relaxation time towards where the stay began; 0 is none. Below 10 the price stands still."""
    flow: float = Field(default=1.0, ge=0.1, le=10)
    """Multiplies the baseline of all order flow."""
    depth: float = Field(default=1.0, ge=0.1, le=10)
    """Multiplies the size of limit orders; below 0.3 the price jumps."""


class AssetConfig(Config):
    """Configure one asset."""

    asset: Asset
    price: float = Field(ge=1, le=1e7)
    """Opening fair price. Far from the default the ticks of its listings are too coarse or too fine."""
    volatility: float = Field(default=1.0, ge=0.1, le=10)
    """Multiplies the volatility of every regime."""


SIM: Final = AssetConfig(asset="SIM", price=50_000.05)
SIMA: Final = AssetConfig(asset="SIMA", price=3_000.005, volatility=1.2)
SIMB: Final = AssetConfig(asset="SIMB", price=150.005, volatility=1.6)


class VenueConfig(Config):
    """Configure one venue."""

    venue: Venue
    delay_ms: float = Field(default=0.0, ge=0, le=1_000)
    """How much later than the fair price moves its traders know, and after the first venue's market orders theirs
    follow. Rounded down to 20 ms for the price. Above 500 the basis grows in turbulence."""
    activity: float = Field(default=1.0, ge=0.1, le=10)
    """Multiplies the rates of order flow."""
    depth_interval_ms: float = Field(default=50.0, ge=1, le=1_000)
    """Book changes of this long make one `Changed`. Anomalies, regimes and liquidations begin on it: above 200 late."""
    basis_bps: float = Field(default=0.3, ge=0, le=20)
    """Standard deviation of the slow, own deviation of its price from the fair price."""


BINANCE_USDM: Final = VenueConfig(venue="binance_usdm")
OKX: Final = VenueConfig(venue="okx", delay_ms=40, activity=0.9, depth_interval_ms=100)
BYBIT: Final = VenueConfig(venue="bybit", delay_ms=80, activity=0.7, depth_interval_ms=20)


class AnomalyConfig(Config):
    """Configure one anomaly at a known time."""

    kind: AnomalyKind
    listing: str
    """`venue.asset`; a price jump happens to every listing of the asset."""
    from_s: NonNegativeFloat
    """After the start; it begins with the listing's next `Changed`."""
    duration_s: float = Field(default=5.0, ge=0.1, le=3_600)
    """For a price jump: within which it is to be found."""
    size: float = Field(default=10.0, ge=-1_000, le=1_000)
    """See `AnomalyKind`. Below 5 (bps or times) it drowns in what is usual; above 100 bps books refill for seconds."""

    @model_validator(mode="after")
    def _size_has_a_meaning(self) -> Self:
        if self.kind in (AnomalyKind.SPREAD, AnomalyKind.VOLUME, AnomalyKind.QUOTE_STUFFING) and self.size < 1:
            raise ValueError(f"size: of a {self.kind} must be 1 or more, was {self.size}")
        return self


class SimulatedExchangeConfig(Config):
    """Configure a simulated exchange; raises pydantic's ValidationError for a value outside its range."""

    seed: NonNegativeInt = 0
    """Names the market: one seed, one sequence of events."""
    start_ns: PositiveInt = Field(default=1_700_000_150_000_000_000, le=2**61)
    """Event time of the beginning, as in the simulated market of one instrument: 2023-11-14 22:15:50 UTC."""
    duration_s: PositiveFloat | None = Field(default=None, le=1e9)
    """Event time covered; None is for ever."""
    first_trade_id: PositiveInt = Field(default=1, le=2**47)
    """Number of the first trade of each listing. Who has read a market takes one that begins again with numbers that it
    had before for the same, and its trades for known."""
    assets: tuple[AssetConfig, ...] = Field(default=(SIM,), min_length=1, max_length=3)
    """Each is listed on each venue. Another one changes no event of those before."""
    venues: tuple[VenueConfig, ...] = Field(default=(BINANCE_USDM, OKX, BYBIT), min_length=1, max_length=3)
    """The first leads. Another one at the end changes mark, index and funding of those before, and nothing else."""
    correlation: float = Field(default=0.7, ge=0, le=0.99)
    """Of the fair prices' returns, for every pair of assets: the share of variance that is common."""

    calm: RegimeConfig = RegimeConfig(mean_s=600, volatility_bps=7)
    turbulent: RegimeConfig = RegimeConfig(mean_s=180, volatility_bps=45, flow=2.0, depth=0.6)
    trending: RegimeConfig = RegimeConfig(mean_s=300, volatility_bps=15, drift=4.0, flow=1.3)
    ranging: RegimeConfig = RegimeConfig(mean_s=420, volatility_bps=20, pull_s=30)
    first_regime: Regime | None = None
    """What it begins with; None draws it by the shares of time."""

    market_orders_per_s: float = Field(default=6.0, ge=0.01, le=1e3)
    """Mean of both sides together while `flow` is 1, on a venue of activity 1. Above a quarter of `quotes_per_s` the
    best is eaten faster than it refills."""
    quotes_per_s: float = Field(default=100.0, ge=0.1, le=1e4)
    """Limit orders and cancels in the same terms; a cancel that finds its level empty changes nothing."""
    limit_share: float = Field(default=0.48, ge=0.3, le=0.7)
    """Of limit orders among them: cancels take more away at once, so the book is stationary only around a half."""
    self_excitation: float = Field(default=0.45, ge=0, lt=1)
    """Mean number of market orders of the same side that one brings forth. With `cross_excitation` it is the branching
    ratio, which must be below 1; above 0.9 rates swing by an order of magnitude."""
    cross_excitation: float = Field(default=0.1, ge=0, lt=1)
    """The same for the other side."""
    quote_excitation: float = Field(default=0.4, ge=0, lt=1)
    """Mean number of quotes that a quote brings forth: the branching ratio of quotes."""
    trade_to_quote: float = Field(default=2.0, ge=0, le=50)
    """Mean number of quotes that a market order brings forth."""
    lead_excitation: float = Field(default=0.08, ge=0, lt=1)
    """Mean number of market orders of the same side that one on the first venue brings forth on each other venue."""
    excitation_decay_s: float = Field(default=0.25, ge=1e-3, le=60)
    """Time constant of the exponential kernels: all of the above come within about three of these."""
    market_order_quote: float = Field(default=15_000.0, ge=1, le=1e8)
    """Mean worth of a market order, in quote currency."""
    limit_order_quote: float = Field(default=25_000.0, ge=1, le=1e8)
    """The same for limit orders at the best; a third of the above the best is gone with each trade."""
    lean_bps: float = Field(default=0.5, ge=0.01, le=50)
    """Distance of a mid from its fair price, at least two ticks, at which the flow is one-sided. The smaller, the
    closer venues stay and the sooner flow turns into price; below 0.1 the price shows no pressure, only jumps."""
    arbitrage_bps: float = Field(default=1.0, ge=0.05, le=100)
    """Beyond this distance, at least three ticks, a market order that goes the right way takes everything up to the
    fair price."""

    mark_interval_s: float = Field(default=1.0, ge=0.1, le=60)
    """Time between two `Marked` of a listing, aligned to the epoch."""
    basis_memory_s: float = Field(default=60.0, ge=1, le=1e4)
    """Time constant of the smoothing of the basis in the mark price; below 10 a spike on one venue moves the mark."""
    interest_rate: float = Field(default=0.0001, ge=-0.01, le=0.01)
    """Per 8 h, as on the venues; the funding rate leans to it while the premium is small."""
    funding_damping: float = Field(default=0.0005, ge=0, le=0.01)
    """The funding rate is this much nearer to `interest_rate` than the premium is, at most."""
    funding_cap: float = Field(default=0.0075, ge=0.0001, le=0.05)
    """The funding rate stays within plus or minus this."""

    leveraged_share: float = Field(default=0.15, ge=0, le=1)
    """Share of market orders that open a leveraged position."""
    positions_at_start: int = Field(default=300, ge=0, le=10_000)
    """Leveraged positions of each side when the market begins."""
    most_positions: PositiveInt = Field(default=2_000, le=100_000)
    """The stock holds no more of either side; further ones are not followed."""
    margin_bps: float = Field(default=80.0, ge=5, le=5_000)
    """Mean distance from a position's entry to where it is closed by force, exponential above 15 bps: 80 is a leverage
    of about 80 with a maintenance margin of 0.4 %."""
    fast_move_bps: float = Field(default=5.0, ge=0.1, le=1_000)
    """A position is closed by force only when the mid has moved this much against it within `fast_move_s`; in a slower
    move its owner adds margin in time, and it leaves the stock."""
    fast_move_s: int = Field(default=10, ge=1, le=600)
    """See above."""
    liquidations_per_s: float = Field(default=4.0, ge=0.1, le=100)
    """Most for a listing, in bursts of up to a second's worth: what bounds a cascade besides the stock itself."""

    anomalies: tuple[AnomalyConfig, ...] = ()
    """At known times."""
    anomalies_per_hour: float = Field(default=0.0, ge=0, le=3_600)
    """For each listing, at seeded times, of seeded kind and size, besides those above; one at a time."""
    history_days: int = Field(default=30, ge=1, le=90)
    """Bars reach this far back before the start, and no more of the market's own are kept. A day of one asset takes
    some 30 ms when first asked for."""

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if len({asset.asset for asset in self.assets}) < len(self.assets):
            raise ValueError("assets: the same asset was given twice; name each once")
        if len({venue.venue for venue in self.venues}) < len(self.venues):
            raise ValueError("venues: the same venue was given twice; name each once")
        if self.self_excitation + self.cross_excitation >= 1:
            raise ValueError(
                "self_excitation, cross_excitation: the branching ratio, their sum, must be below 1, "
                f"was {self.self_excitation + self.cross_excitation}"
            )
        for venue in self.venues:
            if min(self.baseline_per_s(venue)) <= 0:
                raise ValueError(
                    f"venues: {venue.venue} would have no order flow of its own; raise its activity, or lower "
                    "lead_excitation, trade_to_quote or the excitations"
                )
        keys = {listing.key for listing in self.listings}
        for anomaly in self.anomalies:
            if anomaly.listing not in keys:
                raise ValueError(f"anomalies: listing must be one of {', '.join(sorted(keys))}, was {anomaly.listing}")
        return self

    @property
    def listings(self) -> tuple[Listing, ...]:
        """Return every listing, by asset and then by venue."""
        return tuple(LISTED[venue.venue, asset.asset] for asset in self.assets for venue in self.venues)

    @property
    def regimes(self) -> Mapping[Regime, RegimeConfig]:
        """Return the four regimes by name."""
        return {
            Regime.CALM: self.calm,
            Regime.TURBULENT: self.turbulent,
            Regime.TRENDING: self.trending,
            Regime.RANGING: self.ranging,
        }

    @property
    def end_ns(self) -> int | None:
        """Return the event time at which the market ends, or None."""
        return None if self.duration_s is None else self.start_ns + round(self.duration_s * NS_PER_S)

    def baseline_per_s(self, venue: VenueConfig) -> tuple[float, float]:
        """Return the baseline of market orders (each side) and of quotes that leads to the stated mean rates."""
        one_side = self.market_orders_per_s / 2
        market = one_side * venue.activity * (1 - self.self_excitation - self.cross_excitation)
        if venue != self.venues[0]:
            market -= one_side * self.venues[0].activity * self.lead_excitation
        quotes = self.quotes_per_s * (1 - self.quote_excitation) - self.trade_to_quote * self.market_orders_per_s
        return market, quotes * venue.activity
