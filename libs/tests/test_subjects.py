"""Subjects: every text becomes a token, every builder's subject is well formed, patterns mean what NATS means."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from huracan.bus import subjects
from huracan.contracts.market import InstrumentDefinition, InstrumentId
from huracan.errors import BadInput

BTC = InstrumentDefinition(id=InstrumentId(venue="binance_usdm", symbol="btc-usdt-perp"), shard=6)
ODD = InstrumentId(venue="Sim.x", symbol="a*b>c d")


@given(st.text(min_size=1, max_size=30))
def test_any_text_becomes_one_valid_token(text: str) -> None:
    token = subjects.token(text)
    assert re.fullmatch(r"[a-z0-9_=-]+", token)
    if len(token) <= 255:
        subjects.check(token)


@given(st.text(min_size=1, max_size=8), st.text(min_size=1, max_size=8))
def test_different_texts_are_different_tokens(one: str, two: str) -> None:
    assert (subjects.token(one) == subjects.token(two)) == (one == two)


@given(st.text(alphabet="=3d2a.*", min_size=1, max_size=8), st.text(alphabet="=3d2a.*", min_size=1, max_size=8))
def test_text_that_looks_escaped_is_not_taken_for_what_it_looks_like(one: str, two: str) -> None:
    assert (subjects.token(one) == subjects.token(two)) == (one == two)


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("btc-usdt-perp", "btc-usdt-perp"),
        ("bar_1m", "bar_1m"),
        ("BTC", "=42==54==43="),
        ("a.b", "a=2e=b"),
        ("*", "=2a="),
        (">", "=3e="),
        ("=2a=", "=3d=2a=3d="),
        (" ", "=20="),
        ("é", "=e9="),
        ("₿", "=20bf="),
    ],
)
def test_golden_tokens(text: str, token: str) -> None:
    assert subjects.token(text) == token


def test_empty_text_is_refused() -> None:
    with pytest.raises(BadInput, match="subject token was empty"):
        subjects.token("")


@pytest.mark.parametrize(
    ("made", "subject"),
    [
        (subjects.features("micro", BTC), "feat.v1.micro.06.binance_usdm.btc-usdt-perp"),
        (subjects.opinion("flow", 6, BTC.id), "sig.v1.flow.06.binance_usdm.btc-usdt-perp"),
        (subjects.decision("core", 6, BTC.id), "sig.v1.decision.core.06.binance_usdm.btc-usdt-perp"),
        (subjects.signal("core", 63, ODD), "sig.v1.signal.core.63.=53=im=2e=x.a=2a=b=3e=c=20=d"),
        (subjects.execution("paper", "fill", BTC.id), "exec.v1.paper.fill.binance_usdm.btc-usdt-perp"),
        (subjects.context("regime", "binance_usdm.btc"), "ctx.v1.regime.binance_usdm=2e=btc"),
        (subjects.context("mood", "BTC"), "ctx.v1.mood.=42==54==43="),
        (subjects.news("wire"), "news.v1.wire"),
        (subjects.ops("gateway", "gap"), "ops.v1.gateway.gap"),
        (subjects.rpc("flow", "opine"), "rpc.v1.flow.opine"),
    ],
)
def test_every_builder_gives_the_documented_subject(made: str, subject: str) -> None:
    assert made == subject
    subjects.check(made)


def test_keys_and_topics_of_the_log() -> None:
    assert subjects.shard_token(6) == "06"
    assert subjects.journal_key(6) == "shard.06"
    assert subjects.account_key("paper") == "account.paper"
    assert subjects.venue_key("paper") == "venue.paper"
    assert subjects.dead_letters(subjects.TICKS_TOPIC) == "huracan.ticks.v1.dlq"
    assert (subjects.FEATURES_TOPIC, subjects.JOURNAL_TOPIC) == ("huracan.features.v1", "huracan.journal.v1")


@pytest.mark.parametrize(
    "pattern", ["", ".", "a.", ".a", "a..b", "a b", "a.>.b", "a*", "a.b>", "é", "a\n", "a" * 256, "**"]
)
def test_a_malformed_pattern_is_refused_and_named(pattern: str) -> None:
    with pytest.raises(BadInput) as refused:
        subjects.check(pattern)
    assert repr(pattern) in str(refused.value)


@pytest.mark.parametrize("pattern", ["a", ">", "*", "a.*.b.>", "A-b_c=1", "a" * 255])
def test_a_well_formed_pattern_passes(pattern: str) -> None:
    subjects.check(pattern)


tokens = st.sampled_from(["a", "b", "ab"])


@given(
    st.lists(st.sampled_from(["a", "b", "ab", "*"]), max_size=4),
    st.booleans(),
    st.lists(tokens, min_size=1, max_size=5),
)
def test_a_pattern_matches_as_a_regular_expression_model_says(wanted: list[str], rest: bool, given: list[str]) -> None:
    assume(wanted or rest)
    pattern = ".".join([*wanted, ">"] if rest else wanted)
    model = r"\.".join("[^.]+" if token == "*" else token for token in wanted)
    if rest:
        model += (r"\." if wanted else "") + ".+"
    assert subjects.matches(pattern, ".".join(given)) == (re.fullmatch(model, ".".join(given)) is not None)


@given(st.text(min_size=1, max_size=30))
def test_a_token_is_read_back(text: str) -> None:
    assert subjects.text(subjects.token(text)) == text


topics = st.sampled_from([subjects.TICKS_TOPIC, subjects.FEATURES_TOPIC, subjects.JOURNAL_TOPIC]).flatmap(
    lambda topic: st.sampled_from([topic, subjects.dead_letters(topic)])
)
keys = st.lists(st.text(alphabet="aZ0-_=*> é", min_size=1, max_size=4), min_size=1, max_size=3).map(".".join)


@given(topics, topics, keys)
def test_a_record_is_under_its_own_topic_alone_and_gives_back_its_key(topic: str, other: str, key: str) -> None:
    subject = subjects.log(topic, key)
    subjects.check_subject(subject)
    assert subjects.log_key(topic, subject) == key
    assert subjects.matches(subjects.log_pattern(other), subject) == (topic == other)


@given(topics, keys, keys)
def test_different_keys_are_different_subjects(topic: str, one: str, two: str) -> None:
    assert (subjects.log(topic, one) == subjects.log(topic, two)) == (one == two)


@pytest.mark.parametrize(
    ("topic", "key", "subject"),
    [
        ("huracan.ticks.v1", "sim.btc", "log.v1.ticks.sim.btc"),
        ("huracan.ticks.v1.dlq", "gateway", "log.v1.ticks_dlq.gateway"),
        ("huracan.journal.v1", "account.Paper", "log.v1.journal.account.=50=aper"),
    ],
)
def test_golden_subjects_of_the_log(topic: str, key: str, subject: str) -> None:
    assert subjects.log(topic, key) == subject


@pytest.mark.parametrize("key", ["", ".", "a.", ".a", "a..b"])
def test_a_key_with_an_empty_part_is_refused(key: str) -> None:
    with pytest.raises(BadInput, match="token was empty"):
        subjects.log(subjects.TICKS_TOPIC, key)


@pytest.mark.parametrize("subject", ["a.*", ">", "a.>", "*"])
def test_nothing_is_published_on_a_pattern(subject: str) -> None:
    subjects.check(subject)
    with pytest.raises(BadInput, match="are for subscribing"):
        subjects.check_subject(subject)


@pytest.mark.parametrize("subject", ["", "a..b", "a b", "a\r\nPUB b 0"])
def test_nothing_is_published_on_a_malformed_subject(subject: str) -> None:
    with pytest.raises(BadInput, match="subject was"):
        subjects.check_subject(subject)
