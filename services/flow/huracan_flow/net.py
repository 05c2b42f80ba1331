"""Order flow to odds: a net of the last 64 steps, served by an engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from huracan.clock import MILLISECOND_NS
from huracan.contracts.context import Context
from huracan.contracts.opinion import AbstainReason
from huracan.expert.order_flow import forecast_of, load_order_flow
from huracan.expert.port import Forecast
from huracan.features.micro import MICRO
from huracan.inference.bundle import Bundle
from huracan.inference.engine import Engine
from huracan.inference.opening import RuntimeConfig, open_engine


class NetResponder:
    """Say which way the mid price goes over the horizon of a bundle, in the words of its net.

    The digest is the engine's. A copy loads the bundle again.
    """

    name = "flow"
    context_kinds: tuple[str, ...] = ()
    without_context = AbstainReason.ABSTAIN_REASON_NO_INPUT

    def __init__(self, source: Path | Bundle, validity_ms: int, runtime: RuntimeConfig | None = None) -> None:
        """Open the engine of a bundle, or of the one in a directory.

        Raises BadInput for a bundle that is not whole, not of directions, or of other features.
        """
        bundle, self._view = load_order_flow(source)
        manifest, runtime = bundle.manifest, runtime or RuntimeConfig()
        self._engine = open_engine(bundle, prefer=runtime.prefer, cache=runtime.plans)
        self.engines: tuple[Engine, ...] = (self._engine,)
        self._engine.check_features(MICRO.digest, self._view.columns)
        self._from = (bundle.directory, validity_ms, runtime)
        self.feature_set_digest = MICRO.digest
        self.engine_digest = self._engine.digest
        self.horizon_ns = manifest.horizon_steps * manifest.interval_ns
        self.validity_ns = validity_ms * MILLISECOND_NS

    def __reduce__(self) -> tuple[type[NetResponder], tuple[Path, int, RuntimeConfig]]:
        """Return how to make a copy: sessions of a runtime cannot be pickled."""
        return NetResponder, self._from

    def forecast(
        self,
        window: NDArray[np.float32],
        contexts: Mapping[str, Context],  # noqa: ARG002 - part of the port
    ) -> Forecast | AbstainReason:
        """Return the odds of a window; NO_INPUT when all it looks at is missing.

        Raises EngineFault where the engine gives no numbers.
        """
        windows = self._view.windows(window)
        if windows is None:
            return AbstainReason.ABSTAIN_REASON_NO_INPUT
        return forecast_of(self._engine, windows, self._view.moves_bps)
