"""What a running system says comes out as one table, and every hop is timed by the messages that bound it."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

import pytest
from google.protobuf.message import Message
from rich.console import Console

from huracan.bus import subjects
from huracan.clock import step_close
from huracan.contracts.context import REGIME, context, regime_state
from huracan.contracts.decision import Decision, Vote
from huracan.contracts.execution import OrderState, RiskState, account_state, fill
from huracan.contracts.features import FeatureWindow
from huracan.contracts.market import instrument_key
from huracan.contracts.opinion import AbstainReason, Opinion, abstention, opinion
from huracan_cli.watch import PENDING_STEPS, WINDOW_TO_DECISION, Watch, render

from .messages import bitcoin, sell_decision, sell_order, window_of

WALL_NS = 1_800_000_000 * 10**9
"""The wall clock of the senders is not the market's clock."""
ENGINE = bytes(32)


@dataclass
class Told:
    """A system that speaks: each method builds a message and lets the watch hear it."""

    watch: Watch = field(default_factory=Watch)
    venue: str = "binance_usdm"
    epoch: int = 1

    def __post_init__(self) -> None:
        self.definition = bitcoin(self.venue)
        self.key = instrument_key(self.definition.id)

    def hear(self, subject: str, message: Message, sent_us: float | None = None, market_ns: int = 0) -> None:
        sent_ns = 0 if sent_us is None else WALL_NS + round(sent_us * 1_000)
        self.watch.heard(subject, message, sent_ns=sent_ns, market_ns=market_ns)

    def a_window(self, step: int, feature_set: str = subjects.MICRO) -> FeatureWindow:
        return window_of(self.definition, step, step_close(step), epoch=self.epoch, feature_set=feature_set)

    def window(self, step: int, sent_us: float | None = None, market_ns: int = 0) -> FeatureWindow:
        made = self.a_window(step)
        self.hear(subjects.features(subjects.MICRO, self.definition), made, sent_us, market_ns)
        return made

    def opinion(self, step: int, expert: str, sent_us: float | None, tilt: float = 0.2) -> Opinion:
        made = opinion(
            self.a_window(step),
            expert=expert,
            engine_digest=ENGINE,
            horizon_ns=1,
            validity_ns=1,
            contexts=(),
            p_down=0.3,
            p_flat=0.4 - tilt,
            p_up=0.3 + tilt,
        )
        self.hear(subjects.opinion(expert, self.definition.shard, self.definition.id), made, sent_us)
        return made

    def abstain(self, step: int, expert: str) -> None:
        reason = AbstainReason.ABSTAIN_REASON_NO_INPUT
        window = self.a_window(step)
        made = abstention(window, reason, expert=expert, engine_digest=ENGINE, horizon_ns=1, validity_ns=1)
        self.hear(subjects.opinion(expert, self.definition.shard, self.definition.id), made)

    def a_decision(self, step: int, rests_on: tuple[Opinion, ...] = ()) -> Decision:
        votes = [Vote(expert=each.expert, opinion_id=each.opinion_id) for each in rests_on]
        return sell_decision(self.definition, step, step_close(step), epoch=9, gateway_epoch=self.epoch, votes=votes)

    def decision(self, step: int, sent_us: float | None, rests_on: tuple[Opinion, ...] = ()) -> Decision:
        made = self.a_decision(step, rests_on)
        self.hear(subjects.decision("core", made.shard, made.instrument), made, sent_us)
        return made

    def order(self, decision: Decision, sent_us: float | None, revision: int = 1) -> None:
        made = sell_order(decision, OrderState.ORDER_STATE_PENDING)
        made.revision = revision
        self.hear(subjects.execution("paper", "order", self.definition.id), made, sent_us)
        filled = fill(made, number=1, quantity=37, price=618_000, fee=Decimal(1), matched_ns=1, received_ns=2)
        self.hear(subjects.execution("paper", "fill", self.definition.id), filled, sent_us)

    def account(self, equity: str, lots: int, as_of_ns: int) -> None:
        made = account_state(
            account="paper",
            epoch=1,
            as_of_ns=as_of_ns,
            cash=Decimal(equity),
            fees=Decimal("3.50"),
            equity=Decimal(equity),
            peak_equity=Decimal(100_000),
            risk_state=RiskState.RISK_STATE_ACTIVE,
            positions={("binance_usdm", "btc-usdt-perp"): (self.definition.id, lots)},
        )
        self.hear(subjects.execution("paper", "quality", self.definition.id), made)

    def regime(self, version: int, shares: dict[str, float]) -> None:
        made = context(
            kind=REGIME,
            key=self.key,
            version=version,
            epoch=1,
            as_of_ns=1,
            effective_from_ns=2,
            valid_until_ns=3,
            payload=regime_state(shares=shares, volatility=0.01, bars=64),
            engine_digest=ENGINE,
        )
        self.hear(subjects.context(REGIME, self.key), made)

    def samples(self) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for hop, _, latency_us in self.watch.latencies():
            found.setdefault(hop, []).append(latency_us)
        return found

    def shown(self, states: dict[str, str] | None = None, width: int = 100) -> str:
        console = Console(width=width, color_system=None)
        with console.capture() as capture:
            console.print(render(self.watch, states or {}))
        return capture.get()


def test_each_hop_is_timed_from_the_message_before_it() -> None:
    told = Told()
    told.window(7, sent_us=100, market_ns=step_close(7) + 250_000)
    flow, regime = told.opinion(7, "flow", sent_us=340), told.opinion(7, "regime", sent_us=420)
    told.order(told.decision(7, sent_us=600, rests_on=(flow, regime)), sent_us=950)
    assert told.samples() == {
        "gateway": [250],
        "flow": [240],
        "regime": [320],
        WINDOW_TO_DECISION: [500],
        "orchestrator": [180],
        "executor": [350],
    }
    assert {close_ns for _, close_ns, _ in told.watch.latencies()} == {step_close(7)}


def test_messages_heard_in_another_order_give_the_same_times() -> None:
    told = Told()
    flow = told.opinion(7, "flow", sent_us=340)
    decision = told.a_decision(7, rests_on=(flow,))
    told.order(decision, sent_us=950)
    told.decision(7, sent_us=600, rests_on=(flow,))
    told.window(7, sent_us=100)
    assert told.samples() == {"orchestrator": [260], "executor": [350], "flow": [240], WINDOW_TO_DECISION: [500]}


def test_an_opinion_that_came_too_late_does_not_shorten_the_hop_of_the_orchestrator() -> None:
    told = Told()
    told.window(7, sent_us=100)
    flow = told.opinion(7, "flow", sent_us=340)
    told.opinion(7, "regime", sent_us=590)
    told.decision(7, sent_us=600, rests_on=(flow,))
    assert told.samples()["orchestrator"] == [260]


def test_a_decision_without_opinions_is_timed_from_its_window() -> None:
    told = Told()
    told.window(7, sent_us=100)
    told.decision(7, sent_us=25_100)
    assert told.samples()["orchestrator"] == [25_000]


def test_a_repeat_counts_once() -> None:
    told = Told()
    for late_us in (0, 5_000):
        told.window(7, sent_us=100 + late_us, market_ns=step_close(7) + 1)
        flow = told.opinion(7, "flow", sent_us=200 + late_us)
        told.order(told.decision(7, sent_us=300 + late_us, rests_on=(flow,)), sent_us=400 + late_us)
    assert all(len(values) == 1 for values in told.samples().values())
    counts = told.watch.instruments[told.key].counts
    assert counts == {"windows": 1, "opinions": 1, "decisions": 1, "orders": 1, "fills": 1}


def test_the_same_step_of_two_gateway_epochs_is_two_steps() -> None:
    told = Told()
    told.window(7, sent_us=100)
    told.epoch = 2
    told.window(7, sent_us=900)
    told.decision(7, sent_us=1_000)
    assert told.samples()[WINDOW_TO_DECISION] == [100]


@pytest.mark.parametrize(("speed", "expected"), [(1.0, [250.0]), (10.0, [25.0]), (None, None)])
def test_the_hop_of_the_gateway_is_wall_time_whatever_the_speed(
    speed: float | None, expected: list[float] | None
) -> None:
    told = Told(Watch(speed=speed))
    told.window(7, sent_us=100, market_ns=step_close(7) + 250_000)
    assert told.samples().get("gateway") == expected


def test_unknown_times_are_not_measured() -> None:
    told = Told()
    told.window(7)
    flow = told.opinion(7, "flow", sent_us=None)
    told.order(told.decision(7, sent_us=600, rests_on=(flow,)), sent_us=None)
    assert told.watch.latencies() == []
    assert told.watch.percentiles() == {}


def test_only_the_first_revision_of_an_order_is_timed() -> None:
    told = Told()
    told.order(told.decision(7, sent_us=600), sent_us=90_000, revision=2)
    assert "executor" not in told.samples()


def test_bar_windows_and_windows_asked_for_again_are_no_steps() -> None:
    told = Told()
    told.hear(subjects.features(subjects.BAR_1M, told.definition), told.a_window(7, subjects.BAR_1M), 100)
    told.hear(subjects.rpc("flow", "opine"), told.a_window(7), 100)
    assert told.watch.instruments == {}


def test_pending_steps_are_bounded_and_samples_are_all_kept() -> None:
    told = Told()
    for step in range(3 * PENDING_STEPS):
        told.window(step, sent_us=step)
        told.order(told.decision(step, sent_us=step + 5), sent_us=step + 6)
    view = told.watch.instruments[told.key]
    assert len(view.pending) == len(view.step_of_decision) == PENDING_STEPS
    assert told.watch.percentiles()[WINDOW_TO_DECISION] == {"p50": 5, "p99": 5, "count": 3 * PENDING_STEPS}
    told.opinion(1, "flow", sent_us=10**9)
    assert "flow" not in told.samples()


def test_the_newest_word_stays_whatever_comes_late() -> None:
    told = Told()
    told.regime(2, {"Ranging": 0.9, "Trending": 0.1})
    told.regime(1, {"Trending": 1.0})
    told.opinion(8, "flow", sent_us=1, tilt=0.3)
    told.opinion(7, "flow", sent_us=2, tilt=-0.3)
    told.decision(8, sent_us=3)
    told.decision(7, sent_us=4)
    told.account("100000", 5, as_of_ns=1)
    told.account("99990.50", -11, as_of_ns=3)
    told.account("99995", 2, as_of_ns=2)
    view, account = told.watch.instruments[told.key], told.watch.accounts["paper"]
    assert view.regime is not None
    assert view.regime.shares[0].regime == "Ranging"
    assert view.opinions["flow"].step == 8
    assert view.decision is not None
    assert view.decision.step == 8
    assert account.pnl == Decimal("-9.50")
    assert account.newest.positions[0].quantity == -11


def test_profit_counts_from_a_given_equity_where_there_is_one() -> None:
    told = Told(Watch(equity=Decimal(100_000)))
    told.account("99999.66", 11, as_of_ns=1)
    assert told.watch.accounts["paper"].pnl == Decimal("-0.34")


def test_the_table_says_what_was_heard_in_base_units() -> None:
    told = Told()
    told.window(7, sent_us=100, market_ns=step_close(7) + 250_000)
    flow = told.opinion(7, "flow", sent_us=340, tilt=0.25)
    told.abstain(7, "sentiment")
    told.order(told.decision(7, sent_us=1_600, rests_on=(flow,)), sent_us=1_950)
    told.regime(1, {"High_Volatility": 0.78, "Ranging": 0.22})
    told.account("100000", 0, as_of_ns=1)
    told.account("99671.29", -11, as_of_ns=2)
    shown = told.shown({"gateway": "ready", "flow": "restarting"})
    for part in (
        "btc-usdt-perp",
        "High Volatility",
        "78%",
        "flow      +0.250",
        "sentiment NO_INPUT",
        "SELL -0.037",
        "confidence 62.0%",
        "-0.011 BTC",
        "PnL -328.71",
        "restarting",
        "window → decision",
        "1.50 ms",
    ):
        assert part in shown
    assert "SIMULATED" not in shown


def test_a_simulated_market_is_labelled() -> None:
    told = Told(venue="sim")
    told.window(7)
    assert "SIMULATED" in told.shown()


def test_the_table_fits_a_terminal_of_100_columns_and_one_with_nothing_heard() -> None:
    told = Told()
    assert "instrument" in told.shown()
    told.window(7, sent_us=1)
    told.abstain(7, "sentiment")
    told.decision(7, sent_us=2)
    told.regime(1, {"High_Volatility": 1.0})
    wide, narrow = told.shown({"orchestrator": "restarting"}, width=200), told.shown({"orchestrator": "restarting"})
    assert [line.rstrip() for line in wide.splitlines()] == [line.rstrip() for line in narrow.splitlines()]
