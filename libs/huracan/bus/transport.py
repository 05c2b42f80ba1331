"""What lies between two nodes. In-memory buses and logs pass everything through it, so faults live in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Transport(Protocol):
    """Carry deliveries from node to node."""

    faulty: bool
    """Whether anything may be lost or late: then those who wait for an answer need a time-out."""

    def carry(self, source: str, target: str, deliver: Callable[[], None]) -> None:
        """Call `deliver` now, later, more than once or never."""


class PerfectTransport:
    """Deliver everything at once and exactly once."""

    faulty = False

    def carry(self, source: str, target: str, deliver: Callable[[], None]) -> None:  # noqa: ARG002 - the port's form
        """Deliver at once."""
        deliver()


PERFECT = PerfectTransport()
