"""Settings of the regime expert."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveInt, model_validator

from huracan.config import Config
from huracan.expert.score import Term
from huracan.expert.trial import SwapConfig
from huracan.features.regimes import REGIMES
from huracan.inference.opening import RuntimeConfig

HIGH_VOLATILITY, LOW_VOLATILITY, TRENDING, RANGING = REGIMES


class RegimeModelConfig(Config):
    """How the hidden Markov model is fitted, and for how long its word counts."""

    min_history_bars: int = Field(default=500, ge=200)
    """No fit on fewer bars of 15 minutes (500 are five days): four states would be named after noise."""
    max_history_bars: int = Field(default=8000, ge=500, le=200_000)
    """Newest bars that are fitted, 83 days: the fit takes seconds and a year ago was another market."""
    stay_probability: float = Field(default=0.95, gt=0.25, lt=1)
    """First guess of the probability that a state lasts another bar; the fit moves it."""
    max_iterations: int = Field(default=300, ge=10, le=10_000)
    """Bound on the iterations of expectation-maximisation."""
    tolerance_nats: float = Field(default=0.01, gt=0, le=1)
    """Iterate until the log-likelihood of the history gains less than this; larger is faster and coarser."""
    min_variance: float = Field(default=0.001, gt=0, lt=1)
    """Added to no variance below it, in squared standard deviations: no state may sit on a single value."""
    valid_intervals: int = Field(default=2, ge=1, le=16)
    """A context may be used until this many intervals after its bar's close; SEMANTICS says 2."""


class CorrelationConfig(Config):
    """How it is estimated how the moves of instruments go together."""

    half_life_bars: float = Field(default=60.0, ge=1, le=10_000)
    """Weights of bars halve in so many: 60 of 15 minutes are 15 hours."""
    max_bars: int = Field(default=300, ge=64, le=10_000)
    """Newest bars that are kept: of five half-lives, a bar beyond weighs 3 %."""
    min_bars: int = Field(default=32, ge=8, le=10_000)
    """Bars that instruments must have together: half of a window."""
    valid_intervals: int = Field(default=2, ge=1, le=16)
    """A context may be used until this many intervals after its bar's close."""


class DistributionConfig(Config):
    """How it is told that columns are spread otherwise than they were."""

    window_rows: int = Field(default=300, ge=100, le=6000, multiple_of=10)
    """Newest rows that are compared, 30 s: with fewer an index is mostly chance, with more a minute does not do."""
    min_windows: int = Field(default=4, ge=3, le=100)
    """Windows of reference before anything is judged: two minutes, and one more until they are apart."""
    reference_windows: int = Field(default=20, ge=4, le=1000)
    """Windows of reference that are kept, 10 minutes: more of them take 15 ms and more when they are sorted anew."""
    watch_index: float = Field(default=0.1, gt=0)
    """Index past which a column is to be watched that is spread much the same in every window."""
    noise_factor: float = Field(default=3.0, ge=1)
    """Where windows of the reference are themselves farther from it, so many times the farthest of them is needed."""
    act_ratio: float = Field(default=2.5, gt=1)
    """How many times as far it has moved for good: 0.25 where 0.1 is to be watched."""
    forget_rows: int = Field(default=9000, ge=600)
    """Rows after which what has moved and stayed is the new reference, 15 minutes: nobody restarts for a new market."""

    @model_validator(mode="after")
    def _keeps_what_it_needs(self) -> DistributionConfig:
        if self.min_windows > self.reference_windows:
            raise ValueError(
                f"min_windows was {self.min_windows}, more than the {self.reference_windows} that are kept"
            )
        return self


class MeanConfig(Config):
    """How ADWIN (Bifet and Gavalda 2007) tells that the mean of a stream has changed."""

    delta: float = Field(default=0.002, gt=0, lt=1)
    """Chance of a false alarm at each check; smaller waits for more evidence."""
    clock_steps: int = Field(default=32, ge=1)
    """Check once in so many steps."""
    grace_period: int = Field(default=10, ge=1)
    """Check none before so many values."""
    told_rows: int = Field(default=3000, ge=600)
    """Rows for which a change counts as drift, 5 minutes: after them it is how things are."""


class LossConfig(Config):
    """Which losses are followed."""

    experts: tuple[str, ...] = ("regime", "flow")
    """Experts whose opinions are held against what came."""
    flat_bps: float = Field(default=0.25, gt=0, le=100)
    """A move of the mid up to this size is flat: what their odds are about."""
    largest_loss: float = Field(default=5.0, gt=0)
    """No loss counts for more, in nats: ADWIN takes means of bounded values."""
    min_rise: float = Field(default=0.1, ge=0)
    """Smaller rises of the mean are left alone, in nats: a good net is ahead of the base rates by as much."""


class DriftConfig(Config):
    """How it is told that an instrument is no longer as it was."""

    distribution: DistributionConfig = DistributionConfig()
    mean: MeanConfig = MeanConfig()
    loss: LossConfig = LossConfig()
    told_again_rows: int = Field(default=3000, ge=600)
    """A version of the context is followed by another after so many rows, 5 minutes, and may be used for twice that."""


class Specialist(Config):
    """What one regime makes of a micro window: an ordered logit on a few terms."""

    terms: tuple[Term, ...] = Field(min_length=1)
    """What the score is made of."""
    must_agree: bool = False
    """Say flat unless all terms point the same way: one confirms the other."""
    flat_threshold: float = Field(ge=0, le=10)
    """Log odds against a move either way at score 0: 1.3 is flat in 57 %, 2 in 76 %."""
    move_bps: float = Field(ge=0, le=1000)
    """Mean size of a move that is not flat, for the expected move."""


class RegimeConfig(Config):
    """Parameters of the regime expert; README.md says where the defaults come from."""

    model: RegimeModelConfig = RegimeModelConfig()
    trending: Specialist = Specialist(
        terms=(
            Term(column="mid_return_bps", half_life_steps=32, limit=5, weight=0.3),
            Term(column="ofi_integrated", half_life_steps=4, limit=3, weight=0.7),
        ),
        must_agree=True,
        flat_threshold=1.2,
        move_bps=1.3,
    )
    """Momentum goes on where order flow confirms it."""
    ranging: Specialist = Specialist(
        terms=(
            Term(column="mid_return_bps", kernel="displacement", limit=5, weight=-0.06),
            Term(column="queue_imbalance", half_life_steps=1, limit=1, weight=1.2),
        ),
        flat_threshold=1.3,
        move_bps=1.0,
    )
    """The mid returns to its mean over the window, and to the microprice side of the queue."""
    high_volatility: Specialist = Specialist(
        terms=(
            Term(column="ofi_integrated", half_life_steps=4, limit=3, weight=0.5),
            Term(column="queue_imbalance", half_life_steps=1, limit=1, weight=1.0),
        ),
        flat_threshold=1.4,
        move_bps=1.5,
    )
    """Follow the flow, with a wide flat mass: moves are large and their direction is noise."""
    low_volatility: Specialist = Specialist(
        terms=(Term(column="queue_imbalance", half_life_steps=1, limit=1, weight=1.2),),
        flat_threshold=1.5,
        move_bps=0.5,
    )
    """The queue decides the next tick; moves are small."""
    flat_bps: float = Field(default=0.25, gt=0, le=100)
    """A move of the mid up to this size counts as flat: what `p_flat` is to be judged by."""
    horizon_ms: int = Field(default=1000, ge=100, le=60_000)
    """How far ahead the forecast looks."""
    validity_ms: int = Field(default=300, ge=100, le=1000)
    """How long an opinion may be used after its step; SEMANTICS says 300 for every opinion on `micro`."""

    def specialists(self) -> dict[str, Specialist]:
        """Return the specialist of each regime by its public name."""
        return {
            HIGH_VOLATILITY: self.high_volatility,
            LOW_VOLATILITY: self.low_volatility,
            TRENDING: self.trending,
            RANGING: self.ranging,
        }


class DetectorSwapConfig(SwapConfig):
    """Where detectors are found that may tell the regimes instead, and what one must keep. Windows are bars here."""

    shadow_windows: PositiveInt = 16
    """Bars, of all instruments, that a challenger sees in the shadow: of one instrument four hours."""
    probation_windows: PositiveInt = 16
    """Bars for which the detector before it goes on beside one that took over, and may come back."""
    max_p99_us: PositiveInt = 20_000
    """Slowest bar, which has 15 minutes until the next: beyond it order flow waits. Not judged in lockstep."""
    max_p99_ratio: float = Field(default=1_000.0, gt=1)
    """The same, as a multiple of the other's: a net and a filter take times of another order."""


class RegimeServiceConfig(Config):
    """How the regime service runs."""

    regime: RegimeConfig = RegimeConfig()
    engine: Path | None = None
    """Directory of the bundle of a detector: its net tells the regimes, and needs no history. None: a hidden Markov
    model does, which is fitted on one."""
    runtime: RuntimeConfig = RuntimeConfig()
    """Of the detector; routed nets have artefacts for ONNX Runtime alone."""
    swap: DetectorSwapConfig = DetectorSwapConfig()
    """Which bundles may tell the regimes instead while it runs, and what they must keep."""
    experts: Path | None = None
    """Directory of the bundle of routed nets: they answer, and of `regime` only the validity counts for the responder.
    None: the specialists that are set there do."""
    experts_swap: SwapConfig = SwapConfig()
    """Which bundles of routed nets may answer instead while it runs, and what they must keep."""
    correlation: CorrelationConfig = CorrelationConfig()
    drift: DriftConfig = DriftConfig()
    history: dict[str, Path] = Field(default_factory=dict)
    """Files of 15-minute bars by `venue.symbol`, to fit the regimes on; without one an instrument has no regime."""
    history_before_ns: int | None = None
    """Fit on bars that had closed by then; in a replay the first receive time. None: by the window's close."""
