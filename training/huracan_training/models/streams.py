"""Randomness of training: named streams from one seed, so that adding a consumer does not disturb the others."""

from __future__ import annotations

import numpy as np

from huracan.rng import SeededRng

_SEED_BITS = 31


def seed_of(seed: int, purpose: str) -> int:
    """Return the seed of one purpose, in [0, 2**31), for libraries that make their own generator."""
    return SeededRng(seed).stream(purpose).getrandbits(_SEED_BITS)


def generator(seed: int, purpose: str) -> np.random.Generator:
    """Return a new generator that depends on the seed and the purpose only."""
    return np.random.Generator(np.random.PCG64(seed_of(seed, purpose)))
