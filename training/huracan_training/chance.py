"""Randomness of training: named streams from one seed, so that adding a consumer does not disturb the others."""

from __future__ import annotations

import numpy as np

from huracan.rng import SeededRng


def generator(seed: int, name: str) -> np.random.Generator:
    """Return a generator that depends on `seed` and `name` only."""
    return np.random.Generator(np.random.PCG64(SeededRng(seed).stream(name).getrandbits(128)))


def seed_of(seed: int, name: str) -> int:
    """Return the seed of one name, in [0, 2**31), for libraries that make their own generator."""
    return SeededRng(seed).stream(name).getrandbits(31)
