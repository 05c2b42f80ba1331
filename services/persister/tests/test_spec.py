"""The persister as it is installed."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from huracan.bus import subjects
from huracan.bus.nats.streams import STREAMS, stream_of
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.world import World
from huracan_persister.spec import SPEC, PersisterConfig


def test_the_defaults_and_a_store_are_all_it_needs() -> None:
    async def main(clock: VirtualClock) -> None:
        assert SPEC.make(PersisterConfig(), World(clock, seed=1).ports("persister")).name == SPEC.name == "persister"

    run_virtual(main, start_ns=1)
    assert SPEC.keeps


def test_a_wait_before_now_is_refused() -> None:
    with pytest.raises(ValidationError, match="linger_ms"):
        PersisterConfig(linger_ms=-1)


def test_it_says_nothing_but_that_it_is_there() -> None:
    access = SPEC.access(PersisterConfig())
    assert access.publish == ("ops.v1.persister.>",)
    assert access.append == (("huracan.journal.v1.dlq", "persister"),)
    assert access.read == ()


def test_all_that_it_must_not_lose_is_kept_by_the_stream_that_it_reads() -> None:
    for _, pattern in SPEC.access(PersisterConfig()).consume:
        (stream,) = (stream for stream in STREAMS if stream.name == stream_of(pattern))
        assert any(pattern == kept or subjects.matches(kept, pattern) for kept in stream.subjects), pattern
