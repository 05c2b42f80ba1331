"""The sentiment expert, put together."""

from __future__ import annotations

from huracan.expert.port import Expert
from huracan_sentiment.builder import MoodContextBuilder
from huracan_sentiment.config import SentimentConfig
from huracan_sentiment.responder import MoodResponder


def expert(config: SentimentConfig | None = None) -> Expert:
    """Return the sentiment expert: the responder, and the builder that writes moods."""
    config = config or SentimentConfig()
    return Expert(responder=MoodResponder(config), builders=(MoodContextBuilder(config.mood),))
