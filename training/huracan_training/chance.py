"""Randomness of training: a generator per name from one seed, so that adding a consumer does not disturb the others."""

from __future__ import annotations

import numpy as np

from huracan.rng import SeededRng


def generator(seed: int, name: str) -> np.random.Generator:
    """Return a generator that depends on `seed` and `name` only."""
    return np.random.Generator(np.random.PCG64(SeededRng(seed).stream(name).getrandbits(128)))
