"""Headlines to mood contexts: the mean polarity of recent headlines, the newer the heavier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import Message

from huracan.clock import NANOSECONDS
from huracan.contracts.context import MOOD, MoodState, mood_state
from huracan.contracts.market import NewsItem
from huracan.expert.port import ContextDraft
from huracan.expert.score import engine_digest
from huracan_sentiment.config import MoodConfig
from huracan_sentiment.polarity import Polarity, lexicon_digest, polarity_of_headlines

METHOD = "mood vader 1"


@dataclass(frozen=True, slots=True, order=True)
class Headline:
    """What is kept of a headline; ordered by time."""

    published_ns: int
    news_id: bytes
    polarity: float


class MoodContextBuilder:
    """Build the mood of each configured underlying from headlines; time is theirs, never the wall's.

    A mood depends on the set of headlines seen, not on their order; a headline seen before changes nothing.
    """

    inputs: tuple[str, ...] = ("news.v1.>",)

    def __init__(self, config: MoodConfig, polarity: Polarity | None = None) -> None:
        self._config = config
        self._polarity = polarity or polarity_of_headlines()
        self._engine_digest = engine_digest(METHOD, config, lexicon_digest())
        self._headlines: dict[str, list[Headline]] = {underlying: [] for underlying in config.underlyings}

    def observe(self, message: Message) -> Sequence[ContextDraft]:
        """Take one headline and return the moods that it changes."""
        if not isinstance(message, NewsItem):
            return []
        named = {underlying.upper() for underlying in message.underlyings}
        concerned = [each for each in self._headlines if not named or each in named]
        if not concerned:
            return []
        headline = Headline(message.published_ns, message.news_id, self._polarity(message.title))
        return [self._draft(each) for each in concerned if self._keep(each, headline)]

    def _keep(self, underlying: str, headline: Headline) -> bool:
        """Keep a headline in its place; return whether it is new and recent enough to count."""
        kept = self._headlines[underlying]
        if any(each.news_id == headline.news_id for each in kept):
            return False
        together = sorted([*kept, headline])
        oldest = together[-1].published_ns - self._config.memory_s * NANOSECONDS
        recent = [each for each in together if each.published_ns >= oldest][-self._config.max_headlines :]
        self._headlines[underlying] = recent
        return headline in recent

    def _draft(self, underlying: str) -> ContextDraft:
        as_of_ns = self._headlines[underlying][-1].published_ns
        return ContextDraft(
            kind=MOOD,
            key=underlying,
            as_of_ns=as_of_ns,
            valid_until_ns=as_of_ns + self._config.valid_for_s * NANOSECONDS,
            payload=mood(self._headlines[underlying], self._config.half_life_s),
            engine_digest=self._engine_digest,
        )


def mood(headlines: Sequence[Headline], half_life_s: int) -> MoodState:
    """Return the mood at the time of the newest of some headlines, oldest first; weights halve every
    half-life."""
    newest = headlines[-1]
    weights = [0.5 ** ((newest.published_ns - each.published_ns) / NANOSECONDS / half_life_s) for each in headlines]
    weight = math.fsum(weights)
    return mood_state(
        polarity=math.fsum(w * each.polarity for w, each in zip(weights, headlines, strict=True)) / weight,
        weight=weight,
        headlines=len(headlines),
        last_news_id=newest.news_id,
    )
