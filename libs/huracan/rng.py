"""Randomness: named streams from one seed, so that adding a consumer does not disturb the others."""

from __future__ import annotations

import hashlib
import os
import random


class SeededRng:
    """Make reproducible random streams; the Rng port of simulations and replays."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    @classmethod
    def fresh(cls) -> SeededRng:
        """Return one whose streams nobody had before: for live processes."""
        return cls(int.from_bytes(os.urandom(16), "big"))

    def stream(self, name: str) -> random.Random:
        """Return a new generator that depends on the seed and the name only."""
        digest = hashlib.sha256(f"{self._seed}/{name}".encode()).digest()
        return random.Random(int.from_bytes(digest[:16], "big"))
