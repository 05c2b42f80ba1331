"""Subjects and topics: every one that Huracan uses is made here, and every token is escaped by one function."""

from __future__ import annotations

import re
from functools import lru_cache

from huracan.contracts.market import InstrumentDefinition, InstrumentId
from huracan.errors import BadInput
from huracan.ids import PARTITIONS, shard_of

TICKS_TOPIC = "huracan.ticks.v1"
FEATURES_TOPIC = "huracan.features.v1"
JOURNAL_TOPIC = "huracan.journal.v1"

MICRO = "micro"
BAR_1M = "bar_1m"
BAR_15M = "bar_15m"

_UNKEPT = "ops.v1.persister.record"
UNKEPT = f"{_UNKEPT}.>"
"""Records of the log that come again after a fix, for the persister."""

_SAFE = re.compile(r"[a-z0-9_-]")
_ESCAPED = re.compile(r"=([0-9a-f]+)=")
_SHARD_KEY = re.compile(r"shard\.(\d+)")
_TOKEN = re.compile(r"[A-Za-z0-9_=-]+|\*|>")


@lru_cache(maxsize=4_096)
def token(text: str) -> str:
    """Return text as one subject token: lower case letters, digits, `_` and `-` stay, others become `=` and hex.

    Different texts give different tokens. Raises BadInput for empty text.
    """
    if not text:
        raise BadInput("subject token was empty")
    return "".join(char if _SAFE.match(char) else f"={ord(char):02x}=" for char in text)


def text(escaped: str) -> str:
    """Return the text that `token` escaped."""
    return _ESCAPED.sub(lambda code: chr(int(code[1], 16)), escaped)


def shard_token(shard: int) -> str:
    """Return a shard as two digits."""
    return f"{shard:02d}"


def _instrument_tokens(shard: int, instrument: InstrumentId) -> str:
    return f"{shard_token(shard)}.{token(instrument.venue)}.{token(instrument.symbol)}"


def features(feature_set: str, instrument: InstrumentDefinition) -> str:
    """Return the subject of an instrument's windows: micro, bar_1m or bar_15m."""
    return f"feat.v1.{token(feature_set)}.{_instrument_tokens(instrument.shard, instrument.id)}"


def opinion(expert: str, shard: int, instrument: InstrumentId) -> str:
    """Return the subject of an expert's opinions."""
    return f"sig.v1.{token(expert)}.{_instrument_tokens(shard, instrument)}"


def shadow(expert: str, shard: int, instrument: InstrumentId) -> str:
    """Return the subject of the opinions of an expert's challenger, on which nobody acts."""
    return f"sig.v1.shadow.{token(expert)}.{_instrument_tokens(shard, instrument)}"


def decision(strategy: str, shard: int, instrument: InstrumentId) -> str:
    """Return the subject of a strategy's decisions."""
    return f"sig.v1.decision.{token(strategy)}.{_instrument_tokens(shard, instrument)}"


def signal(strategy: str, shard: int, instrument: InstrumentId) -> str:
    """Return the subject of a strategy's public signals."""
    return f"sig.v1.signal.{token(strategy)}.{_instrument_tokens(shard, instrument)}"


def execution(account: str, kind: str, instrument: InstrumentId) -> str:
    """Return the subject of an account's orders (kind `order`), fills (`fill`) or account states (`quality`)."""
    return f"exec.v1.{token(account)}.{token(kind)}.{token(instrument.venue)}.{token(instrument.symbol)}"


def context(kind: str, key: str) -> str:
    """Return the subject of a context."""
    return f"ctx.v1.{token(kind)}.{token(key)}"


def news(source: str) -> str:
    """Return the subject of a source's headlines."""
    return f"news.v1.{token(source)}"


def ops(service: str, event: str) -> str:
    """Return the subject of a service's events."""
    return f"ops.v1.{token(service)}.{token(event)}"


def rpc(service: str, method: str) -> str:
    """Return the subject on which a service is asked."""
    return f"rpc.v1.{token(service)}.{token(method)}"


def check(pattern: str) -> None:
    """Raise BadInput when a subject or pattern is malformed."""
    tokens = pattern.split(".")
    if len(pattern) > 255 or not all(_TOKEN.fullmatch(part) for part in tokens) or ">" in tokens[:-1]:
        raise BadInput(
            f"subject was {pattern!r}: tokens of letters, digits, '_', '-', '='; '*' is one token, a last '>' any"
        )


@lru_cache(maxsize=65_536)
def check_subject(subject: str) -> None:
    """Raise BadInput when a subject cannot be published on: malformed, or with a wildcard."""
    check(subject)
    if "*" in subject or ">" in subject:
        raise BadInput(f"subject was {subject!r}: '*' and '>' are for subscribing")


@lru_cache(maxsize=65_536)
def matches(pattern: str, subject: str) -> bool:
    """Return whether a subject falls under a pattern: `*` stands for one token, a last `>` for one or more."""
    wanted, given = pattern.split("."), subject.split(".")
    for index, part in enumerate(wanted):
        if part == ">":
            return len(given) > index
        if index >= len(given) or part not in ("*", given[index]):
            return False
    return len(wanted) == len(given)


def journal_key(shard: int) -> str:
    """Return the key of a shard's journal."""
    return f"shard.{shard_token(shard)}"


def account_key(account: str) -> str:
    """Return the key of an account's journal."""
    return f"account.{account}"


def context_key(kind: str, key: str) -> str:
    """Return the key of the log of a context's versions."""
    return f"context.{kind}.{key}"


def venue_key(account: str) -> str:
    """Return the key of a paper venue's record of an account's orders."""
    return f"venue.{account}"


@lru_cache(maxsize=65_536)
def partition(key: str) -> int:
    """Return the partition that keeps a key in every topic, 0 to 11: that of its shard, shard % 12.

    `shard.07` is of shard 7. Any other key is of the shard of what its last token begins with, up to the first `-`:
    the underlying of `okx.btc-usdt-swap`, which is BTC, and the whole token of `account.paper`.
    """
    shard = _SHARD_KEY.fullmatch(key)
    if shard is not None:
        return int(shard[1]) % PARTITIONS
    return shard_of(key.rpartition(".")[2].partition("-")[0]) % PARTITIONS


def dead_letters(topic: str) -> str:
    """Return the topic that keeps what a topic refused."""
    return f"{topic}.dlq"


def log(topic: str, key: str) -> str:
    """Return the subject under which a stream keeps the records of a topic and key."""
    return f"{_log_prefix(topic)}.{'.'.join(token(part) for part in key.split('.'))}"


def unkept(topic: str, key: str, offset: int) -> str:
    """Return the subject on which a record of the log comes again that could not be kept."""
    return f"{_UNKEPT}.{offset}.{log(topic, key)}"


def unkept_place(subject: str) -> tuple[str, str, int]:
    """Return topic, key and offset of such a subject; raise BadInput for any other."""
    offset, _, place = subject.removeprefix(f"{_UNKEPT}.").partition(".")
    topic = next(
        (name for name in (TICKS_TOPIC, FEATURES_TOPIC, JOURNAL_TOPIC) if place.startswith(f"{_log_prefix(name)}.")), ""
    )
    if not topic or not offset.isdecimal():
        raise BadInput(f"subject was {subject!r}: give {_UNKEPT}.<offset>.<subject of the record in the log>")
    return topic, log_key(topic, place), int(offset)


def log_pattern(topic: str) -> str:
    """Return the pattern of all records of a topic."""
    return f"{_log_prefix(topic)}.>"


def log_key(topic: str, subject: str) -> str:
    """Return the key of a record from its subject."""
    return ".".join(text(part) for part in subject.removeprefix(f"{_log_prefix(topic)}.").split("."))


def _log_prefix(topic: str) -> str:
    """huracan.ticks.v1.dlq becomes log.v1.ticks_dlq: topics that begin alike must not share subjects."""
    _, name, version, *rest = topic.split(".")
    return f"log.{version}.{'_'.join([name, *rest])}"
