"""The sentiment expert as an installed service."""

from __future__ import annotations

from huracan.contracts.context import MOOD
from huracan.expert.spec import expert_spec
from huracan_sentiment.builder import MoodContextBuilder
from huracan_sentiment.config import SentimentConfig
from huracan_sentiment.expert import expert

SPEC = expert_spec("sentiment", SentimentConfig, expert, builds=(MOOD,), builds_from=MoodContextBuilder.inputs)
