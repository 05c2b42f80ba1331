"""The sentiment expert as it is installed."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.world import World
from huracan_sentiment.config import SentimentConfig
from huracan_sentiment.spec import SPEC


def test_the_defaults_are_all_it_needs() -> None:
    async def main(clock: VirtualClock) -> None:
        assert SPEC.make(SentimentConfig(), World(clock, seed=1).ports("sentiment")).name == SPEC.name == "sentiment"

    run_virtual(main, start_ns=1)


def test_an_unknown_setting_is_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="colour"):
        SentimentConfig.model_validate({"mood": {"colour": "red"}})


def test_it_writes_moods_and_no_other_context() -> None:
    access = SPEC.access(SentimentConfig())
    assert [pattern for pattern in access.publish if pattern.startswith("ctx.")] == ["ctx.v1.mood.>"]
    assert access.everything == ("news.v1.>",)
    assert not SPEC.keeps
