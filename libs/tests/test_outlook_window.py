"""What an engine is fed of a window of bars: finite, bounded, and the same however long the history before it was."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from huracan.clock import MINUTE_NS
from huracan.contracts.features import WINDOW_ROWS, FeatureWindow, feature_window
from huracan.contracts.market import InstrumentDefinition, linear_perpetual
from huracan.errors import BadInput
from huracan.features.bar import BAR
from huracan.features.bar_batch import bar_rows
from huracan.features.outlook import FILE, LIMIT, POOLED, Outlook, Rows, asset_of, in_order, read_outlook
from huracan.inference.engine import OnnxEngine

from .models_of_tests import regime

PAGE = Path(__file__).resolve().parents[2] / "docs" / "engines.md"
BAR_NS = 15 * MINUTE_NS
START_NS = 1_700_000_100_000_000_000 // BAR_NS * BAR_NS


def _perpetual(base: str, venue: str) -> InstrumentDefinition:
    return linear_perpetual(base, venue=venue, price_increment=Decimal("0.1"), size_increment=Decimal("0.001"))


BTC = _perpetual("BTC", "binance_usdm")


def _outlook() -> Outlook:
    return read_outlook(regime().contents[FILE], FILE)


def _rows(count: int, *, seed: int = 0, spread: float = 0.002) -> Rows:
    """Return the rows of bars of a random walk, shape (count, columns)."""
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(spread * random.standard_normal(count)))
    opened = np.concatenate([[100.0], close[:-1]])
    wicks = np.exp(spread * np.abs(random.standard_normal((2, count))))
    high, low = np.maximum(opened, close) * wicks[0], np.minimum(opened, close) / wicks[1]
    open_ns = START_NS + BAR_NS * np.arange(count, dtype=np.int64)
    return bar_rows(open_ns, opened, high, low, close, np.exp(random.standard_normal(count)), interval_ns=BAR_NS)


def _window(values: Rows, last: int = WINDOW_ROWS - 1, **changes: object) -> FeatureWindow:
    """Return the window of 64 rows of bars; `last` is the number of the last bar from START_NS on."""
    given: dict[str, object] = {
        "instrument": BTC,
        "epoch": 1,
        "feature_set": "bar",
        "feature_set_digest": BAR.digest,
        "interval_ns": BAR_NS,
        "step": START_NS // BAR_NS + last,
        "first_step": 0,
        "close_ns": START_NS + (last + 1) * BAR_NS,
        "values": values,
        "valid_rows": WINDOW_ROWS,
        "first_ingest_seq": 1,
        "last_ingest_seq": 2,
        "last_frame_ns": START_NS,
        "book_synced": True,
    }
    return feature_window(**(given | changes))  # type: ignore[arg-type]


@settings(max_examples=25)
@given(seed=st.integers(0, 1_000), end=st.integers(WINDOW_ROWS, 900), spread=st.sampled_from([1e-5, 0.002, 0.05]))
def test_a_window_is_the_end_of_the_whole_history_to_the_bit(seed: int, end: int, spread: float) -> None:
    outlook, rows = _outlook(), _rows(900, seed=seed, spread=spread)
    close_ns = START_NS + BAR_NS * np.arange(1, 901, dtype=np.int64)
    whole = outlook.rows("binance_usdm_BTCUSDT", rows, close_ns, BAR_NS)[end - WINDOW_ROWS : end]
    fed = outlook.window(_window(rows[end - WINDOW_ROWS : end], end - 1))
    assert fed.dtype == np.float32
    assert fed.shape == (len(outlook.columns), 64)
    assert fed.flags.c_contiguous
    assert fed.tobytes() == np.ascontiguousarray(np.nan_to_num(whole).T).tobytes()


@given(st.integers(0, 2**32 - 1))
def test_whatever_is_in_a_window_the_engine_is_fed_finite_numbers(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.standard_normal((WINDOW_ROWS, BAR.columns)) * 10.0 ** random.integers(-30, 30, BAR.columns)
    values[random.random(values.shape) < 0.3] = np.nan
    values[random.random(values.shape) < 0.1] = 0
    fed = _outlook().window(_window(values.astype(np.float32)))
    assert np.isfinite(fed).all()
    assert np.abs(fed).max() <= LIMIT


def test_what_is_missing_is_fed_as_what_is_usual() -> None:
    outlook = _outlook()
    fed = outlook.window(_window(np.full((WINDOW_ROWS, BAR.columns), np.nan, dtype=np.float32)))
    clock = [outlook.columns.index(name) for name in ("clock_ahead", "clock_change")]
    assert not np.delete(fed, clock, axis=0).any()
    assert fed[clock].any(), "the clock is known without bars"


def test_an_instrument_is_seen_as_its_asset_was_in_training_and_another_as_all_together() -> None:
    values = _rows(900)[-WINDOW_ROWS:]
    unknown = _perpetual("NEW", "sim")
    assert asset_of(BTC) == "binance_usdm_BTCUSDT"
    outlook = _outlook()
    assert asset_of(BTC) in outlook.views
    assert asset_of(unknown) not in outlook.views
    as_btc, as_all = (outlook.window(_window(values, instrument=each)) for each in (BTC, unknown))
    assert as_btc.tobytes() != as_all.tobytes()
    pooled = outlook.model_copy(update={"views": {POOLED: outlook.views[POOLED]}})
    assert pooled.window(_window(values)).tobytes() == as_all.tobytes()


def test_windows_of_another_set_interval_or_of_too_few_rows_are_refused() -> None:
    outlook, values = _outlook(), _rows(WINDOW_ROWS)
    with pytest.raises(BadInput, match="window of binance_usdm_BTCUSDT was of bar 000000000000…, not bar "):
        outlook.window(_window(values, feature_set_digest=bytes(32)))
    with pytest.raises(BadInput, match="bars were of 60 s; the outlook was fitted on 96 bars a day"):
        outlook.window(_window(values, interval_ns=MINUTE_NS))
    with pytest.raises(BadInput, match="had 63 of 64 rows: wait until it is full"):
        outlook.window(_window(values, valid_rows=63))
    with pytest.raises(BadInput, match="rows had 5 columns: an outlook is of the 54 of bar"):
        outlook.window(_window(values[:, :5]))


def test_the_outlook_of_a_bundle_feeds_its_engine() -> None:
    engine, outlook = OnnxEngine(regime()), _outlook()
    engine.check_features(BAR.digest, outlook.columns)
    told = engine.run(outlook.window(_window(_rows(900)[-WINDOW_ROWS:]))[np.newaxis])
    assert told.shape == (1, 4)
    assert told.sum() == pytest.approx(1, abs=1e-9)


def test_the_page_of_engines_shows_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PAGE.parents[1])
    (script,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    shown: dict[str, Any] = {}
    exec(compile(script, str(PAGE), "exec"), shown)
    told = shown["regimes"](_window(_rows(900)[-WINDOW_ROWS:]))
    assert list(told) == ["High_Volatility", "Low_Volatility", "Trending", "Ranging"]
    assert sum(told.values()) == pytest.approx(1, abs=1e-9)


def _changed(**changes: object) -> bytes:
    return json.dumps(json.loads(regime().contents[FILE]) | changes).encode()


def _one_view(centre: list[float]) -> dict[str, object]:
    return {POOLED: {"scale": {"centre": centre, "spread": centre}, "clock": [0.0] * 192}}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", "outlook.json: it: Invalid JSON"),
        (_changed(horizon_bars=0), "horizon_bars: Input should be greater than 0"),
        (_changed(surprise=1), "surprise: Extra inputs are not permitted"),
        (_changed(views={}), r"views has no \*"),
        (_changed(columns=["move", "log_range"]), "columns are not in the order in which they are made"),
        (_changed(columns=["luck"]), "columns were luck: choose of "),
        (_changed(columns=[]), "columns were none: choose of "),
        (_changed(views=_one_view([1.0] * 3)), r"views\.\*\.scale is not of 45 columns"),
    ],
)
def test_an_outlook_that_cannot_be_used_is_refused_by_its_field(data: bytes, reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        read_outlook(data, FILE)


def test_columns_are_in_the_order_in_which_they_are_made() -> None:
    assert in_order(["clock_ahead", "move", "log_range"]) == ("log_range", "move", "clock_ahead")
    with pytest.raises(BadInput, match="columns were luck"):
        in_order(["move", "luck"])
