"""Ids: everything that is counted once derives from what it stands for, so a restart makes the same id again."""

from __future__ import annotations

import hashlib
import zlib

SHARDS = 64
PARTITIONS = 12
"""Partitions of each topic of the log: a shard's records are in partition shard % 12."""


def digest_of(*parts: str | int | bytes) -> bytes:
    """Return the SHA-256 over the parts, each prefixed by its length.

    The prefix keeps ("ab", "c") and ("a", "bc") apart; integers count as their decimal text.
    """
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(data).to_bytes(4, "big"))
        digest.update(data)
    return digest.digest()


def derived_id(*parts: str | int | bytes) -> bytes:
    """Return the first 16 bytes of the digest of the parts."""
    return digest_of(*parts)[:16]


def decision_id(strategy: str, instrument: str, epoch: int, step: int) -> bytes:
    """Return the id of the one decision of a strategy for an instrument and step."""
    return derived_id("decision", strategy, instrument, epoch, step)


def opinion_id(
    expert: str, instrument: str, epoch: int, step: int, engine_digest: bytes, window_digest: bytes
) -> bytes:
    """Return the id of the opinion that one engine of an expert has on a window, down to the window's last byte."""
    return derived_id("opinion", expert, instrument, epoch, step, engine_digest, window_digest)


def order_id(account: str, decision: bytes) -> bytes:
    """Return the id of the one order that a decision may give rise to in an account."""
    return derived_id("order", account, decision)


def client_order_id(order: bytes) -> str:
    """Return the order id as venues accept it: at most 36 letters and digits."""
    return "h" + order.hex()


def fill_id(order: bytes, number: int) -> bytes:
    """Return the id of the n-th fill of an order, counted from 1."""
    return derived_id("fill", order, number)


def news_id(source: str, published_ns: int, title: str) -> bytes:
    """Return the id of a headline."""
    return derived_id("news", source, published_ns, title)


def shard_of(underlying: str) -> int:
    """Return the shard of an underlying: CRC-32 of its upper-case name modulo 64."""
    return zlib.crc32(underlying.upper().encode()) % SHARDS
