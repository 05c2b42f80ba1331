"""The sentiment expert: headlines to moods, moods to odds."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from huracan.clock import NANOSECONDS
from huracan.contracts.context import Context, MoodState, context, mood_state
from huracan.contracts.features import WINDOW_ROWS, FeatureWindow
from huracan.contracts.market import NewsItem, news_item
from huracan.contracts.opinion import AbstainReason
from huracan.expert.check import check_expert
from huracan.expert.port import ContextDraft, Forecast
from huracan.features.micro import MICRO
from huracan_sentiment.builder import MoodContextBuilder
from huracan_sentiment.config import MoodConfig, SentimentConfig
from huracan_sentiment.expert import expert
from huracan_sentiment.polarity import WORDS, polarity_of_headlines
from huracan_sentiment.responder import MoodResponder

T0 = 1_702_968_041 * NANOSECONDS
HOUR = 3600 * NANOSECONDS
WINDOW = np.full((WINDOW_ROWS, MICRO.columns), np.nan, dtype=np.float32)


def _said(title: str) -> float:
    """Read the polarity off the title: headlines of these tests say it in so many words."""
    return float(title.split(maxsplit=1)[0])


def _news(polarity: float, at_ns: int, *underlyings: str, source: str = "desk") -> NewsItem:
    return news_item(source=source, published_ns=at_ns, title=f"{polarity} !", underlyings=underlyings)


def _builder(**config: object) -> MoodContextBuilder:
    return MoodContextBuilder(MoodConfig.model_validate(config), _said)


def _only(drafts: Iterable[ContextDraft]) -> ContextDraft:
    (draft,) = drafts
    return draft


def _state(draft: ContextDraft) -> MoodState:
    assert isinstance(draft.payload, MoodState)
    return draft.payload


def _context(polarity: float, weight: float, headlines: int = 1) -> Context:
    payload = mood_state(polarity=polarity, weight=weight, headlines=headlines, last_news_id=bytes(16))
    return context(
        kind="mood",
        key="BTC",
        version=1,
        epoch=1,
        as_of_ns=T0,
        effective_from_ns=T0,
        valid_until_ns=T0 + HOUR,
        payload=payload,
        engine_digest=bytes(32),
    )


def _forecast(polarity: float, weight: float, **config: object) -> Forecast:
    answer = MoodResponder(SentimentConfig.model_validate(config)).forecast(
        WINDOW, {"mood": _context(polarity, weight)}
    )
    assert isinstance(answer, Forecast)
    return answer


def test_the_sentiment_expert_keeps_the_laws() -> None:
    other = expert(SentimentConfig(flat_share=0.5))
    check_expert(expert(), MICRO, [_context(0.5, 2)], other=other)


def test_a_headline_becomes_a_mood_dated_by_the_headline() -> None:
    builder, news = _builder(), _news(0.5, T0, "BTC")
    draft = _only(builder.observe(news))
    assert (draft.kind, draft.key, draft.as_of_ns) == ("mood", "BTC", T0)
    assert draft.valid_until_ns == T0 + 6 * HOUR
    assert len(draft.engine_digest) == 32
    assert _state(draft) == mood_state(polarity=0.5, weight=1, headlines=1, last_news_id=news.news_id)


def test_a_headline_one_half_life_old_counts_half() -> None:
    builder = _builder(half_life_s=3600)
    builder.observe(_news(1, T0))
    state = _state(_only(builder.observe(_news(-1, T0 + HOUR))))
    assert state.weight == pytest.approx(1.5)
    assert state.polarity == pytest.approx((0.5 - 1) / 1.5)
    assert state.headlines == 2


def test_a_headline_seen_before_counts_once() -> None:
    builder, news = _builder(), _news(0.5, T0)
    assert builder.observe(news)
    assert builder.observe(news) == []
    assert _state(_only(builder.observe(_news(0.5, T0 + 1)))).headlines == 2


def test_the_same_words_from_another_source_are_another_headline() -> None:
    builder = _builder()
    builder.observe(_news(0.5, T0, source="a"))
    assert _state(_only(builder.observe(_news(0.5, T0, source="b")))).headlines == 2


@given(st.permutations(range(6)), st.lists(st.integers(0, 200_000), min_size=6, max_size=6))
def test_a_mood_depends_on_the_headlines_not_on_their_order(order: list[int], seconds: list[int]) -> None:
    news = [_news(i / 6, T0 + seconds[i] * NANOSECONDS, source=str(i)) for i in range(6)]

    def last(items: list[NewsItem]) -> bytes:
        builder = _builder()
        drafts = [draft for item in items for draft in builder.observe(item)]
        return _state(drafts[-1]).SerializeToString(deterministic=True)

    assert last([news[i] for i in order]) == last(sorted(news, key=lambda item: item.published_ns))


def test_headlines_that_name_none_count_for_every_underlying_and_others_for_theirs() -> None:
    builder = _builder(underlyings=("BTC", "ETH"))
    assert [draft.key for draft in builder.observe(_news(1, T0))] == ["BTC", "ETH"]
    assert [draft.key for draft in builder.observe(_news(1, T0 + 1, "eth"))] == ["ETH"]
    assert [draft.key for draft in builder.observe(_news(1, T0 + 2, "DOGE"))] == []


def test_a_headline_older_than_the_memory_changes_nothing_and_memory_is_bounded() -> None:
    builder = _builder(memory_s=3600, max_headlines=3)
    builder.observe(_news(1, T0))
    assert builder.observe(_news(1, T0 - HOUR - 1)) == []
    for second in range(1, 10):
        state = _state(_only(builder.observe(_news(1, T0 + second * NANOSECONDS))))
    assert state.headlines == 3
    state = _state(_only(builder.observe(_news(1, T0 + 3 * HOUR))))
    assert state.headlines == 1


def test_messages_that_are_no_headlines_change_nothing() -> None:
    assert _builder().observe(FeatureWindow()) == []


def test_the_engine_digest_of_a_mood_follows_its_config() -> None:
    drafts = [_only(_builder(half_life_s=half_life).observe(_news(1, T0))) for half_life in (60, 61)]
    assert drafts[0].engine_digest != drafts[1].engine_digest


@pytest.mark.parametrize(
    ("title", "sign"),
    [
        ("Bitcoin surges past record high as ETF inflows soar", 1),
        ("SEC approves spot Bitcoin ETF", 1),
        ("Exchange hacked, $200 million drained", -1),
        ("Bitcoin plunges as liquidations mount", -1),
        ("Regulator sues exchange over unregistered securities", -1),
        ("Conference to be held in Lisbon in May", 0),
    ],
)
def test_headlines_of_markets_have_the_polarity_a_trader_gives_them(title: str, sign: int) -> None:
    assert np.sign(polarity_of_headlines()(title)) == sign


@given(st.text(max_size=300))
def test_any_text_has_a_polarity_between_minus_one_and_one(title: str) -> None:
    assert -1 <= POLARITY(title) <= 1


POLARITY = polarity_of_headlines()


def test_our_words_are_single_lower_case_words_on_the_scale_of_vader() -> None:
    assert all(word == word.lower() and " " not in word for word in WORDS)
    assert all(0 < abs(weight) <= 4 for weight in WORDS.values())


def test_a_good_mood_tilts_up_and_a_bad_one_down_around_a_strong_flat_prior() -> None:
    good, bad = _forecast(0.8, 5), _forecast(-0.8, 5)
    assert good.p_up > good.p_down
    assert (good.p_up, good.p_down) == (bad.p_down, bad.p_up)
    assert good.p_flat == bad.p_flat == 0.6
    assert good.expected_move_bps is None


def test_a_mood_of_few_headlines_is_believed_less() -> None:
    tilts = [answer.p_up - answer.p_down for answer in (_forecast(1, weight) for weight in (0.1, 1, 10, 1e9))]
    assert tilts == sorted(tilts)
    assert tilts[-1] == pytest.approx(0.3)


@given(st.floats(-1, 1), st.floats(0, 1e300, exclude_min=True))
def test_any_mood_gives_probabilities(polarity: float, weight: float) -> None:
    answer = _forecast(polarity, weight)
    assert min(answer.p_down, answer.p_flat, answer.p_up) >= 0
    assert abs(answer.p_down + answer.p_flat + answer.p_up - 1) < 1e-9


@pytest.mark.parametrize(
    ("polarity", "weight", "headlines"),
    [(0.5, 1, 0), (0.5, 0, 1), (float("nan"), 1, 1), (0.5, float("nan"), 1)],
)
def test_a_mood_that_rests_on_nothing_is_no_input(polarity: float, weight: float, headlines: int) -> None:
    mood = {"mood": _context(polarity, weight, headlines)}
    answer = MoodResponder(SentimentConfig()).forecast(WINDOW, mood)
    assert answer == AbstainReason.ABSTAIN_REASON_NO_INPUT


@pytest.mark.parametrize(
    "wrong",
    [
        {"flat_share": 0.9, "largest_tilt": 0.3},
        {"mood": {"underlyings": ("btc",)}},
        {"mood": {"underlyings": ()}},
        {"mood": {"half_life_s": 0}},
        {"speed": 1},
    ],
)
def test_a_configuration_outside_its_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SentimentConfig.model_validate(wrong)
