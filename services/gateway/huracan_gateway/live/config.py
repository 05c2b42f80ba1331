"""Configuration of a live feed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator
from yarl import URL

from huracan.config import Config


class FallbackConfig(Config):
    """What takes over when the websocket is silent."""

    kind: Literal["rest", "none"] = "rest"
    """`rest` polls order book and trades; `none` waits, as where another venue takes over."""
    poll_interval_ms: PositiveInt = 1_000
    """Between two polls of book and trades. Below 500 two requests a poll eat up most venues' limits; above 5,000 the
    gateway takes the instrument for inactive between them."""


class LiveConfig(Config):
    """How the feed of one instrument is kept alive."""

    venue: str = Field(min_length=1)
    """Token of the venue: the adapter's."""
    symbol: str = Field(min_length=1)
    """The venue's own name of the instrument, as `BTCUSDT` or `BTC-USDT-SWAP`."""
    websocket_url: str | None = Field(default=None, pattern=r"^wss?://.+")
    """Another public stream than the venue's own: its test network, or a proxy."""
    rest_url: str | None = Field(default=None, pattern=r"^https?://.+")
    """Another REST interface than the venue's own."""
    silent_after_ms: PositiveInt = 2_000
    """Without market data on the websocket for this long the fallback takes over. Below 500 it fires on quiet markets,
    above 5,000 the gateway has stopped closing steps."""
    fallback: FallbackConfig = FallbackConfig()
    """Who gives the data meanwhile."""
    calm_ms: PositiveInt = 1_000
    """Market data must have come for this long, without silence, before the fallback ends: a flapping line must not
    win. 300 to 10,000."""
    stable_after_s: PositiveFloat = 30.0
    """A connection, or an order book, that held this long was good: the back-off begins again from its shortest wait.
    10 to 300."""
    muted_after_s: PositiveFloat = 60.0
    """A connection that answers heartbeats, but has carried no market data for this long, is replaced: its
    subscriptions are lost. Not below the venue's own silence limit; 30 to 300."""
    connects_per_minute: PositiveFloat = 20.0
    """How often a connection, or a request that must be answered, is tried again in the long run; the first six times
    within 7 s. Venues ban addresses that try more than 60 a minute; below 6 an outage is noticed to end late."""
    connect_timeout_s: PositiveFloat = 10.0
    """Longest wait for a handshake; far venues need 2, above 20 a dead address blocks too long."""
    request_timeout_s: PositiveFloat = 10.0
    """Longest wait for a whole answer to a request. 3 to 30."""
    answer_within_s: PositiveFloat = 30.0
    """Longest wait for an answer that must come to begin at all, retries and imposed pauses included. 10 to 300."""
    max_body_bytes: PositiveInt = 32 << 20
    """Largest answer that is read; a venue's list of all instruments has a few million bytes."""
    rate_limited_pause_s: PositiveFloat = 30.0
    """Pause after being rate limited by a venue that does not say for how long; one that says is given a day at most.
    Venues ban for minutes who asks on: not below 10."""
    snapshot_within_ms: PositiveInt = 5_000
    """An order book that was asked for by subscribing again, and has not come after this long, is asked for again.
    2,000 to 30,000."""
    book_begins_within_ms: PositiveInt = 1_000
    """A snapshot is asked for once book updates come, so that they continue it; on a quiet market after this long."""
    definition_every_s: NonNegativeFloat = 3_600.0
    """How often the instrument's definition is asked for again; increments change a few times a year, with notice. 0:
    never."""
    queue_lines: PositiveInt = Field(default=65_536, ge=16)
    """Lines that wait for the gateway: seconds of the busiest market. When full, the oldest half goes, is counted as
    skipped, and a snapshot is asked for."""

    @field_validator("symbol")
    @classmethod
    def _can_be_asked_for(cls, symbol: str) -> str:
        if " " in symbol or not symbol.isprintable():
            raise ValueError("no symbol has a space or a control character in it")
        return symbol

    @field_validator("websocket_url", "rest_url")
    @classmethod
    def _can_be_connected_to(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            host = URL(url).host
        except ValueError as error:
            raise ValueError(f"no address can be like that: {error}") from None
        try:
            (host or "").encode("idna")
        except UnicodeError:
            host = None
        if not host or any(letter.isspace() for letter in url):
            raise ValueError("no address can be like that: its host cannot be looked up")
        return url
