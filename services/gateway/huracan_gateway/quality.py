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
    hold_ms: PositiveInt = 1_000
    """With the policy `hold` windows say for this long that the book is not in step. Below 100 no window closes
    meanwhile; above 10,000 one false alarm costs a hundred decisions."""
