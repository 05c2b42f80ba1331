"""The streams that JetStream keeps: the acknowledged path of the bus, and one for each topic of the log."""

from __future__ import annotations

from dataclasses import dataclass

from huracan.bus import subjects
from huracan.bus.nats.connection import Connection, NotThere
from huracan.errors import Fatal

DUPLICATE_WINDOW_S = 600
"""A message id is stored once within this long: longer than any retry after a restart takes to come."""

ACKNOWLEDGED = (
    "sig.v1.decision.>",
    "ctx.v1.>",
    "exec.v1.>",
    "feat.v1.bar_1m.>",
    "feat.v1.bar_15m.>",
    "news.v1.>",
    "ops.v1.*.service",
    "ops.v1.gateway.anomaly",
    "ops.v1.gateway.reliability",
    "ops.v1.gateway.feed",
    subjects.UNKEPT,
)
"""Subjects of the acknowledged path."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream: its subjects, and how much of them is kept (0: everything)."""

    name: str
    subjects: tuple[str, ...]
    max_bytes: int = 0
    """Past it the oldest messages go; JetStream sets as much aside, so a small disk has room for all of them."""


BUS = Stream("BUS", ACKNOWLEDGED, max_bytes=1 << 30)
REPORTS = Stream("REPORTS", ("ops.v1.*.report",), max_bytes=1 << 26)
"""What services say they counted, every second: apart, so that it pushes nothing out that matters."""
TICKS = Stream("TICKS", (subjects.log_pattern(subjects.TICKS_TOPIC),), max_bytes=4 << 30)
FEATURES = Stream("FEATURES", (subjects.log_pattern(subjects.FEATURES_TOPIC),), max_bytes=2 << 30)
JOURNAL = Stream("JOURNAL", (subjects.log_pattern(subjects.JOURNAL_TOPIC),))
"""Never shortened: decisions are folded from it."""
DEAD_LETTERS = Stream(
    "DEAD_LETTERS",
    tuple(
        subjects.log_pattern(subjects.dead_letters(topic)) for topic in (subjects.TICKS_TOPIC, subjects.JOURNAL_TOPIC)
    ),
    max_bytes=1 << 28,
)
STREAMS = (BUS, REPORTS, TICKS, FEATURES, JOURNAL, DEAD_LETTERS)

STREAM_OF_TOPIC = {
    subjects.TICKS_TOPIC: TICKS.name,
    subjects.FEATURES_TOPIC: FEATURES.name,
    subjects.JOURNAL_TOPIC: JOURNAL.name,
    subjects.dead_letters(subjects.TICKS_TOPIC): DEAD_LETTERS.name,
    subjects.dead_letters(subjects.JOURNAL_TOPIC): DEAD_LETTERS.name,
}


def stream_of(pattern: str) -> str:
    """Return the stream that keeps the messages of a pattern of the acknowledged path."""
    apart = any(subjects.matches(reported, pattern) for reported in REPORTS.subjects)
    return REPORTS.name if apart else BUS.name


async def make_streams(connection: Connection) -> None:
    """Make every stream, or bring it up to date; raise Fatal when one that is there cannot be changed to ours."""
    for stream in STREAMS:
        config = {
            "name": stream.name,
            "subjects": list(stream.subjects),
            "storage": "file",
            "retention": "limits",
            "discard": "old",
            "max_bytes": stream.max_bytes or -1,
            "duplicate_window": DUPLICATE_WINDOW_S * 1_000_000_000,
            "allow_direct": True,
            "num_replicas": 1,
        }
        try:
            await connection.ask(f"$JS.API.STREAM.UPDATE.{stream.name}", config)
        except NotThere:
            await connection.ask(f"$JS.API.STREAM.CREATE.{stream.name}", config)
        except Fatal as error:
            raise Fatal(f"stream {stream.name} is there, and not as this release needs it: {error}") from None
