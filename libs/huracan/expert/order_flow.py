"""What nets of order flow share: a bundle that tells directions, and the forecast that an engine's answer is."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from huracan.errors import BadInput
from huracan.expert.port import Forecast
from huracan.features.order_flow import FILE, Moves, Rows, View
from huracan.inference.bundle import Bundle, load_bundle
from huracan.inference.engine import INT8_CPU, Engine

CLASSES = ("down", "flat", "up")


def load_order_flow(source: Path | Bundle) -> tuple[Bundle, View]:
    """Return the bundle of a net of order flow, or of the one in a directory, and how it sees rows of `micro`.

    Raises BadInput for one that is not whole, not of directions, or does not say how rows are seen.
    """
    bundle = source if isinstance(source, Bundle) else load_bundle(source)
    if bundle.manifest.classes != CLASSES:
        raise BadInput(f"{bundle.directory} tells {', '.join(bundle.manifest.classes)} apart, not {', '.join(CLASSES)}")
    try:
        return bundle, View.model_validate_json(bundle.contents[FILE])
    except (KeyError, ValidationError) as error:
        raise BadInput(f"{bundle.directory} is no bundle of order flow: {FILE}: {error}") from error


def int8_of(net: str) -> str:
    """Return the file in which a bundle of several nets has one of them, in INT8 for ONNX Runtime."""
    return f"{net}.{INT8_CPU}"


def forecast_of(engine: Engine, windows: Rows, moves_bps: Moves) -> Forecast:
    """Return what an engine says of a window as it is seen, shape (1, columns, 64), and the move that it expects.

    `moves_bps` are the mean moves in the classes. Raises EngineFault where the engine gives no numbers.
    """
    p_down, p_flat, p_up = engine.run(windows)[0].tolist()
    down, flat, up = moves_bps
    return Forecast(
        p_down=p_down, p_flat=p_flat, p_up=p_up, expected_move_bps=p_down * down + p_flat * flat + p_up * up
    )
