"""What is asked of data before they count."""

from __future__ import annotations

from pydantic import PositiveInt

from huracan.config import Config
from huracan_gateway.anomaly import AnomalyConfig
from huracan_gateway.reliability import ReliabilityConfig
from huracan_gateway.validate import ValidationConfig


class QualityConfig(Config):
    """What is refused, what counts as out of the ordinary, and what is expected of a feed."""

    validation: ValidationConfig = ValidationConfig()
    anomalies: AnomalyConfig = AnomalyConfig()
    reliability: ReliabilityConfig = ReliabilityConfig()
    book_silent_ms: PositiveInt = 2_000
    """A book that no update has reached for this long is dropped when the venue's best bid and ask are others. Below
    500 a late update costs the book, above 10,000 decisions rest on a market that has gone."""
    hold_ms: PositiveInt = 1_000
    """With the policy `hold` windows say for this long that the book is not in step. Below 100 no window closes
    meanwhile; above 10,000 one false alarm costs a hundred decisions."""
