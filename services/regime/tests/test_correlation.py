"""How the moves of instruments go together: the estimate, and when a context is whole."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from huracan.clock import MINUTE_NS
from huracan.contracts.context import CORRELATION
from huracan.contracts.features import WINDOW_ROWS, FeatureWindow, feature_window
from huracan.contracts.market import NewsItem, instrument_key, linear_perpetual
from huracan.contracts.ops import HeatMap
from huracan.expert.port import ContextDraft
from huracan.features.bar import BAR
from huracan_regime.config import CorrelationConfig
from huracan_regime.correlation import CorrelationContextBuilder, correlated

INTERVAL_NS = 15 * MINUTE_NS
CLOSE_NS = 1_900_000 * INTERVAL_NS
LOG_RETURN = BAR.names.index("log_return")
BARS = 300
EVENLY = 1e9
"""A half-life so long that all bars weigh the same."""


def _returns(correlation: float, instruments: int, bars: int = BARS, seed: int = 1) -> NDArray[np.float64]:
    """Return normal returns, shape (bars, n), each pair of which goes together so far."""
    random = np.random.default_rng(seed)
    common = random.standard_normal((bars, 1))
    own = random.standard_normal((bars, instruments))
    returns: NDArray[np.float64] = 0.002 * (np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own)
    return returns


def _window(name: str, returns: NDArray[np.float64], close_ns: int, *, digest: bytes = BAR.digest) -> FeatureWindow:
    """Return a window whose newest bar closes at `close_ns`, with these returns, oldest first; the rest is missing."""
    filled = min(len(returns), WINDOW_ROWS)
    values = np.full((WINDOW_ROWS, len(BAR.names)), np.nan, dtype=np.float32)
    values[WINDOW_ROWS - filled :, LOG_RETURN] = returns[-filled:]
    return feature_window(
        instrument=linear_perpetual(name, venue="sim", price_increment=Decimal("0.1"), size_increment=Decimal("0.001")),
        epoch=1,
        feature_set="bar_15m",
        feature_set_digest=digest,
        interval_ns=INTERVAL_NS,
        step=close_ns // INTERVAL_NS,
        first_step=close_ns // INTERVAL_NS - WINDOW_ROWS + 1,
        close_ns=close_ns,
        values=values,
        valid_rows=filled,
        first_ingest_seq=1,
        last_ingest_seq=2,
        last_frame_ns=close_ns,
        book_synced=True,
    )


def _told(builder: CorrelationContextBuilder, *windows: FeatureWindow) -> list[ContextDraft]:
    return [draft for window in windows for draft in builder.observe(window)]


# The estimate.


def test_what_goes_together_is_found_and_shrunk_a_little_where_there_are_many_bars() -> None:
    found = correlated(_returns(0.8, 3, bars=5_000), EVENLY)
    assert found is not None
    assert found.correlations[~np.eye(3, dtype=bool)] == pytest.approx(0.8, abs=0.03)
    assert found.shrinkage < 0.02
    assert found.absorption_ratio == pytest.approx((1 + 2 * 0.8) / 3, abs=0.02)


def test_few_bars_of_many_instruments_are_shrunk_further_than_many_bars() -> None:
    few, many = correlated(_returns(0.3, 20, bars=40), EVENLY), correlated(_returns(0.3, 20, bars=4_000), EVENLY)
    assert few is not None
    assert many is not None
    assert few.shrinkage > 5 * many.shrinkage
    assert np.linalg.eigvalsh(few.correlations)[0] > 0.05  # 20 instruments over 40 bars: invertible all the same


def test_shrinkage_is_that_of_ledoit_and_wolf_where_all_bars_weigh_the_same() -> None:
    """Formula of Ledoit and Wolf 2004, lemma 3.2 to 3.4, written out over the bars one by one."""
    returns = _returns(0.5, 4, bars=64)
    scaled = returns / np.sqrt(np.square(returns).mean(axis=0))
    sample = scaled.T @ scaled / len(scaled)
    mean = np.trace(sample) / 4
    spread = np.square(sample - mean * np.eye(4)).sum()
    off = sum(np.square(np.outer(row, row) - sample).sum() for row in scaled) / len(scaled) ** 2
    found = correlated(returns, EVENLY)
    assert found is not None
    assert found.shrinkage == pytest.approx(min(off, spread) / spread, abs=1e-5)


def test_the_newest_bars_weigh_most() -> None:
    apart, together = _returns(0.0, 2, seed=1), _returns(0.9, 2, seed=2)
    turned = correlated(np.concatenate([apart, together]), 60.0)
    back = correlated(np.concatenate([together, apart]), 60.0)
    assert turned is not None
    assert back is not None
    assert turned.correlations[0, 1] > 0.7
    assert abs(back.correlations[0, 1]) < 0.3


def test_an_instrument_that_never_moves_has_no_correlation() -> None:
    returns = _returns(0.5, 3)
    returns[:, 1] = 0.0
    assert correlated(returns, 60.0) is None


@settings(max_examples=30, deadline=None)
@given(instruments=st.integers(2, 12), bars=st.integers(8, 80), half_life=st.floats(1, 500), seed=st.integers(0, 2**16))
def test_a_correlation_is_one_whatever_the_returns(instruments: int, bars: int, half_life: float, seed: int) -> None:
    found = correlated(_returns(0.4, instruments, bars=bars, seed=seed), half_life)
    assert found is not None
    assert np.array_equal(found.correlations, found.correlations.T)
    assert (np.diagonal(found.correlations) == 1.0).all()
    assert (np.abs(found.correlations) <= 1.0).all()
    assert 0 < found.absorption_ratio <= 1
    assert 0 <= found.shrinkage <= 1


# When a context is whole.

NAMES = ("ADA", "BTC", "ETH")


def _windows(returns: NDArray[np.float64], close_ns: int, names: Sequence[str] = NAMES) -> list[FeatureWindow]:
    return [_window(name, returns[:, at], close_ns) for at, name in enumerate(names)]


def _numbers(draft: ContextDraft) -> NDArray[np.float64]:
    instruments = len(draft.payload.instruments)  # type: ignore[union-attr]
    return np.frombuffer(draft.payload.correlations, dtype="<f8").reshape(instruments, instruments)  # type: ignore[union-attr]


def test_a_context_says_how_all_instruments_go_together_and_shows_it() -> None:
    builder = CorrelationContextBuilder(CorrelationConfig())
    returns = _returns(0.8, 3, bars=WINDOW_ROWS + 1)
    _told(builder, *_windows(returns[:-1], CLOSE_NS))
    (draft,) = _told(builder, *_windows(returns, CLOSE_NS + INTERVAL_NS))
    assert (draft.kind, draft.key, draft.as_of_ns) == (CORRELATION, "market", CLOSE_NS + INTERVAL_NS)
    assert draft.valid_until_ns == CLOSE_NS + 3 * INTERVAL_NS
    keys = sorted(instrument_key(window.instrument.id) for window in _windows(returns, CLOSE_NS))
    assert list(draft.payload.instruments) == keys  # type: ignore[union-attr]
    assert draft.payload.bars == WINDOW_ROWS + 1  # type: ignore[union-attr]
    expected = correlated(returns.astype(np.float32).astype(np.float64), 60.0)
    assert expected is not None
    assert np.array_equal(_numbers(draft), expected.correlations)
    assert isinstance(draft.shows, HeatMap)
    assert (list(draft.shows.rows), list(draft.shows.columns), draft.shows.low, draft.shows.high) == (keys, keys, -1, 1)
    assert draft.shows.values == draft.payload.correlations  # type: ignore[union-attr]


def test_nobody_is_told_before_the_last_instrument_has_closed_its_bar() -> None:
    builder = CorrelationContextBuilder(CorrelationConfig())
    returns = _returns(0.5, 3, bars=WINDOW_ROWS + 1)
    _told(builder, *_windows(returns[:-1], CLOSE_NS))
    first, second, third = _windows(returns, CLOSE_NS + INTERVAL_NS)
    assert _told(builder, first, second) == []
    assert [draft.as_of_ns for draft in _told(builder, third)] == [CLOSE_NS + INTERVAL_NS]
    assert _told(builder, first, second, third) == []  # heard twice


def test_an_instrument_that_falls_silent_is_left_out_and_holds_nobody_up() -> None:
    builder = CorrelationContextBuilder(CorrelationConfig())
    returns = _returns(0.5, 3, bars=WINDOW_ROWS + 2)
    _told(builder, *_windows(returns[:-2], CLOSE_NS))
    assert _told(builder, *_windows(returns[:-1], CLOSE_NS + INTERVAL_NS)[:2]) == []  # ETH is waited for
    drafts = _told(builder, *_windows(returns, CLOSE_NS + 2 * INTERVAL_NS)[:2])
    assert [draft.as_of_ns for draft in drafts] == [CLOSE_NS + INTERVAL_NS, CLOSE_NS + 2 * INTERVAL_NS]
    assert [len(draft.payload.instruments) for draft in drafts] == [2, 2]  # type: ignore[union-attr]


def test_one_instrument_alone_and_too_few_bars_give_none() -> None:
    builder = CorrelationContextBuilder(CorrelationConfig(min_bars=32))
    returns = _returns(0.5, 2, bars=40)
    assert _told(builder, _window("BTC", returns[:, 0], CLOSE_NS)) == []
    assert _told(builder, _window("ETH", returns[-20:, 1], CLOSE_NS)) == []  # too few of its own
    more = np.concatenate([returns, returns])
    drafts = [_told(builder, *_windows(more, CLOSE_NS + later * INTERVAL_NS, ("BTC", "ETH"))) for later in range(1, 13)]
    assert drafts[:11] == [[]] * 11
    assert drafts[11][0].payload.bars == 32  # type: ignore[union-attr]


def test_bars_that_only_some_of_them_have_are_not_compared() -> None:
    builder = CorrelationContextBuilder(CorrelationConfig(min_bars=32))
    returns = _returns(0.5, 2, bars=WINDOW_ROWS)
    one, other = returns[:, 0].copy(), returns[:, 1].copy()
    one[:20], other[40:50] = np.nan, np.nan
    _told(builder, _window("BTC", one, CLOSE_NS))
    (draft,) = _told(builder, _window("ETH", other, CLOSE_NS))
    assert draft.payload.bars == WINDOW_ROWS - 30  # type: ignore[union-attr]
    apart = CorrelationContextBuilder(CorrelationConfig(min_bars=40))
    assert _told(apart, _window("BTC", one, CLOSE_NS), _window("ETH", other, CLOSE_NS)) == []


def test_a_market_that_does_not_move_gives_none() -> None:
    builder = CorrelationContextBuilder(CorrelationConfig())
    assert _told(builder, *_windows(np.zeros((WINDOW_ROWS, 3)), CLOSE_NS)) == []


def test_windows_of_other_features_and_other_messages_change_nothing() -> None:
    builder = CorrelationContextBuilder(CorrelationConfig())
    returns = _returns(0.5, 2, bars=WINDOW_ROWS)
    assert builder.observe(NewsItem()) == []
    assert _told(builder, _window("BTC", returns[:, 0], CLOSE_NS, digest=bytes(32))) == []
    assert _told(builder, _window("ETH", returns[:, 1], CLOSE_NS)) == []  # BTC was not heard


def test_only_the_newest_bars_are_kept() -> None:
    builder = CorrelationContextBuilder(CorrelationConfig(max_bars=64, min_bars=32))
    returns = _returns(0.5, 2, bars=WINDOW_ROWS + 10)
    for bars in range(WINDOW_ROWS, len(returns) + 1):
        drafts = _told(builder, *_windows(returns[:bars], CLOSE_NS + bars * INTERVAL_NS, ("BTC", "ETH")))
    (draft,) = drafts
    assert draft.payload.bars == 64  # type: ignore[union-attr]
