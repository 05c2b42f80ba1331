"""Shares: every subject and key belongs to one replica, whichever way they are split."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from huracan.bus import subjects
from huracan.contracts.market import InstrumentDefinition, InstrumentId
from huracan.ids import SHARDS
from huracan_persister.config import PersisterConfig
from huracan_persister.share import Share

BTC = InstrumentId(venue="sim", symbol="btc")
UNSHARDED = (
    subjects.context("mood", "BTC"),
    subjects.execution("paper", "fill", BTC),
    subjects.ops("gateway", "anomaly"),
    subjects.ops("gateway", "reliability"),
    subjects.ops("gateway", "feed"),
)


def _sharded(shard: int) -> list[str]:
    definition = InstrumentDefinition(id=BTC, shard=shard)
    return [
        subjects.decision("core", shard, BTC),
        subjects.opinion("flow", shard, BTC),
        subjects.features("bar_1m", definition),
        subjects.features("bar_15m", definition),
    ]


def _heard(share: Share, subject: str) -> int:
    return sum(subjects.matches(pattern, subject) for pattern in (*share.acknowledged, *share.best_effort))


@pytest.mark.parametrize("of", [1, 2, 3, 64])
def test_every_subject_and_key_is_kept_by_one_replica(of: int) -> None:
    shares = [Share((part,), of) for part in range(of)]
    for subject in [*UNSHARDED, *(subject for shard in range(SHARDS) for subject in _sharded(shard))]:
        assert sum(_heard(share, subject) for share in shares) == 1, subject
    for key in ("sim.btc", "shard.06", "account.paper", "context.mood.BTC"):
        assert sum(share.has_key(key) for share in shares) == 1


def test_a_replica_with_all_parts_keeps_what_they_keep() -> None:
    both, apart = Share((0, 1), 2), [Share((0,), 2), Share((1,), 2)]
    assert set(both.acknowledged) == set(apart[0].acknowledged) | set(apart[1].acknowledged)
    assert set(both.best_effort) == set(apart[0].best_effort) | set(apart[1].best_effort)


@pytest.mark.parametrize("shards", [(), (0, 0), (2,), (-1,)])
def test_parts_that_there_are_not_are_refused(shards: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="shards"):
        PersisterConfig(shards=shards, of=2)
