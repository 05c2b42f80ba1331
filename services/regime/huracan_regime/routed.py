"""Order flow to odds by the net of the regime that a window is of: one of four small ones, or one of all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from huracan.clock import MILLISECOND_NS
from huracan.contracts.context import REGIME, Context
from huracan.contracts.opinion import AbstainReason
from huracan.errors import BadInput
from huracan.expert.order_flow import forecast_of, int8_of, load_order_flow
from huracan.expert.port import Forecast
from huracan.features.micro import MICRO
from huracan.features.regimes import REGIMES, UNKNOWN
from huracan.features.routing import FILE, MONOLITH, read_routes
from huracan.ids import digest_of
from huracan.inference.bundle import Bundle
from huracan.inference.engine import Engine, EngineFault, OnnxEngine

METHOD = "regime routed nets 1"


class RoutedResponder:
    """Say which way the mid price goes over the horizon of a bundle, as the net of the window's regime sees it.

    The regime is that of the window itself, told as in training; where its mids are not all known it is the most
    probable one of the context. Routing is sparse: one net is asked, and the monolith only where a specialist gives no
    numbers. A copy loads the bundle again.
    """

    name = "regime"
    context_kinds: tuple[str, ...] = (REGIME,)
    without_context = AbstainReason.ABSTAIN_REASON_WARMING

    def __init__(self, source: Path | Bundle, validity_ms: int) -> None:
        """Open the nets of a bundle, or of the one in a directory.

        Raises BadInput for a bundle that is not whole, lacks routes or a net, or is of other features.
        """
        bundle, self._view = load_order_flow(source)
        directory = bundle.directory
        if FILE not in bundle.contents:
            raise BadInput(f"{directory} has no {FILE}: nothing says which net answers what; train it again")
        self._routes = read_routes(bundle.contents[FILE], str(directory / FILE))
        names = sorted({MONOLITH, *self._routes.nets.values()})
        self._engines = {name: OnnxEngine(bundle, (int8_of(name),)) for name in names}
        self.engines: tuple[Engine, ...] = tuple(self._engines.values())
        for engine in self._engines.values():
            engine.check_features(MICRO.digest, self._view.columns)
        self._from = (directory, validity_ms)
        self.feature_set_digest = MICRO.digest
        self.engine_digest = digest_of(METHOD, *(self._engines[name].digest for name in names))
        self.horizon_ns = bundle.manifest.horizon_steps * bundle.manifest.interval_ns
        self.validity_ns = validity_ms * MILLISECOND_NS

    def __reduce__(self) -> tuple[type[RoutedResponder], tuple[Path, int]]:
        """Return how to make a copy: sessions of a runtime cannot be pickled."""
        return RoutedResponder, self._from

    def forecast(self, window: NDArray[np.float32], contexts: Mapping[str, Context]) -> Forecast | AbstainReason:
        """Return the odds of a window; NO_INPUT when all it looks at is missing, or its regime is not known.

        Raises EngineFault where the monolith gives no numbers either.
        """
        windows, regime = self._view.windows(window), self._regime(window, contexts)
        if windows is None or regime not in self._routes.nets:
            return AbstainReason.ABSTAIN_REASON_NO_INPUT
        moves_bps = self._routes.moves_bps[regime]
        try:
            return forecast_of(self._engines[self._routes.nets[regime]], windows, moves_bps)
        except EngineFault:
            return forecast_of(self._engines[MONOLITH], windows, moves_bps)

    def _regime(self, window: NDArray[np.float32], contexts: Mapping[str, Context]) -> str:
        told = self._routes.regime(window)
        if told != UNKNOWN:
            return REGIMES[told]
        shares = contexts[REGIME].regime.shares
        return max(shares, key=lambda share: share.probability).regime if shares else ""
