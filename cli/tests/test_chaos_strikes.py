"""The schedule of strikes follows from its seed and leaves nobody out."""

from __future__ import annotations

from collections import Counter

import pytest

from huracan.errors import BadInput
from huracan.rng import SeededRng
from huracan_cli.chaos.ledger import STRIKES, STRUCK_S
from huracan_cli.chaos.proxy import Trouble
from huracan_cli.chaos.strikes import FIRST, HAND_OVER, KILL, KILLED, LASTS_S, LINKS, SECOND, Strike, schedule

SEEDS = range(1, 30)


def _planned(seed: int, strikes: int = STRIKES) -> list[Strike]:
    return schedule(SeededRng(seed), strikes=strikes, lasts_s=STRUCK_S)


def test_a_seed_gives_its_strikes_again_and_another_gives_others() -> None:
    assert _planned(1) == _planned(1) != _planned(2)


@pytest.mark.parametrize("seed", SEEDS)
def test_everyone_is_killed_every_trouble_is_made_and_shards_are_handed_over_once(seed: int) -> None:
    planned = _planned(seed)
    assert len(planned) == STRIKES
    assert [strike.at_s for strike in planned] == sorted(strike.at_s for strike in planned)
    kills = Counter(FIRST if strike.target == SECOND else strike.target for strike in planned if strike.kind == KILL)
    assert set(kills) == set(KILLED)
    assert max(kills.values()) - min(kills.values()) <= 1
    assert {strike.kind for strike in planned} >= {str(kind) for kind in Trouble}
    assert [strike.target for strike in planned if strike.kind == HAND_OVER] == [SECOND]
    for strike in planned:
        assert 0 <= strike.at_s <= STRUCK_S
        if strike.kind in tuple(Trouble):
            assert strike.target in LINKS
            shortest_s, longest_s = LASTS_S[Trouble(strike.kind)]
            assert shortest_s <= strike.lasts_s <= longest_s


@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_kills_a_replica_that_was_stopped_for_good(seed: int) -> None:
    planned = _planned(seed)
    given_s = next(strike.at_s for strike in planned if strike.kind == HAND_OVER)
    assert all(strike.at_s <= given_s for strike in planned if strike.target == SECOND)


def test_three_seeds_are_sixty_strikes_and_more() -> None:
    assert 3 * STRIKES >= 60


def test_too_few_strikes_are_refused() -> None:
    with pytest.raises(BadInput, match="strikes was 3"):
        _planned(1, strikes=3)


def test_a_strike_is_told_in_one_line() -> None:
    assert str(Strike(at_s=1.25, kind=KILL, target="kafka")) == "1.2 s kill kafka"
    assert str(Strike(at_s=2.0, kind="cut", target="nats", lasts_s=0.5)) == "2.0 s cut nats for 0.5 s"
