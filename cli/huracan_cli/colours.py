"""Colours of what is said, the same wherever a terminal shows it."""

from __future__ import annotations

COLOURS = {"BUY": "bold green", "SELL": "bold red", "HOLD": "dim"}
"""Style of a direction or side."""


def tilt_colour(tilt: float) -> str:
    """Return the style of how far an opinion leans up (above 0) or down."""
    return "green" if tilt > 0 else "red"
