"""Settings of the sentiment expert."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from huracan.config import Config

Underlying = Annotated[str, Field(pattern=r"^[A-Z0-9]+$")]


class MoodConfig(Config):
    """How headlines become a mood."""

    underlyings: tuple[Underlying, ...] = Field(default=("BTC",), min_length=1)
    """Underlyings that moods are kept for, upper case; headlines that name none count for all of them."""
    half_life_s: int = Field(default=7200, ge=60, le=604_800)
    """Age at which a headline counts half. Below ten minutes one headline is the mood; above a day it is
    history."""
    memory_s: int = Field(default=86_400, ge=60, le=2_592_000)
    """Headlines older than this, against the newest, are forgotten; twelve half-lives leave 0.02 % of a
    weight."""
    max_headlines: int = Field(default=2000, ge=1, le=100_000)
    """Headlines kept for an underlying, the newest: the bound on memory."""
    valid_for_s: int = Field(default=21_600, ge=60, le=604_800)
    """A mood may be used this long after its newest headline: silence is no mood. Three half-lives by
    default."""


class SentimentConfig(Config):
    """Parameters of the sentiment expert; README.md says what they rest on."""

    mood: MoodConfig = MoodConfig()
    flat_share: float = Field(default=0.6, gt=0, lt=1)
    """Probability of a move too small to matter, whatever the mood: a prior, not calibrated."""
    largest_tilt: float = Field(default=0.3, ge=0, lt=1)
    """P(up) - P(down) for an unanimous mood that rests on very many headlines; at most 1 - flat_share."""
    prior_weight: float = Field(default=3.0, gt=0, le=1000)
    """Fresh headlines at which half of the tilt is believed: small samples are shrunk towards no mood."""
    horizon_ms: int = Field(default=900_000, ge=1000, le=86_400_000)
    """How far ahead the forecast looks."""
    validity_ms: int = Field(default=900_000, ge=1000, le=3_600_000)
    """How long an opinion may be used after its step; SEMANTICS says 15 minutes."""

    @model_validator(mode="after")
    def _tilt_fits(self) -> Self:
        if self.largest_tilt > 1 - self.flat_share:
            raise ValueError(f"largest_tilt was {self.largest_tilt}: flat_share {self.flat_share} leaves less room")
        return self
