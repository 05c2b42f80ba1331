"""Randomness: named streams from one seed."""

from __future__ import annotations

from huracan.rng import SeededRng


def _draw(seed: int, name: str) -> list[int]:
    stream = SeededRng(seed).stream(name)
    return [stream.getrandbits(32) for _ in range(3)]


def test_a_seed_gives_the_same_stream_in_every_release() -> None:
    assert _draw(7, "x") == [2684085563, 4121593553, 3203476585]


def test_another_seed_or_name_gives_another_stream() -> None:
    assert _draw(7, "x") != _draw(8, "x")
    assert _draw(7, "x") != _draw(7, "y")


def test_a_new_consumer_does_not_disturb_the_others() -> None:
    rng = SeededRng(7)
    rng.stream("newcomer").random()
    stream = rng.stream("x")
    assert [stream.getrandbits(32) for _ in range(3)] == _draw(7, "x")
