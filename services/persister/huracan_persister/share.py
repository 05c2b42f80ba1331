"""What one replica keeps: a share of the shards, fixed by configuration, so that no two read the same (law 7)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from huracan.bus import subjects
from huracan.ids import SHARDS

_SHARDED = ("sig.v1.decision.*", "feat.v1.bar_1m", "feat.v1.bar_15m")
_EXPERTS = ("sig.v1.regime", "sig.v1.flow", "sig.v1.sentiment")
_EVERY_DECISION = "sig.v1.decision.>"
_UNSHARDED = (
    "ctx.v1.>",
    "exec.v1.>",
    subjects.ops("gateway", "anomaly"),
    subjects.ops("gateway", "reliability"),
    subjects.ops("gateway", "feed"),
    subjects.ops("orchestrator", "report"),
    "ops.v1.*.service",
    subjects.UNKEPT,
)


@dataclass(frozen=True, slots=True)
class Share:
    """The parts of a replica, of so many."""

    parts: tuple[int, ...] = (0,)
    of: int = 1

    @property
    def first(self) -> bool:
        """Return whether what belongs to no shard is here."""
        return 0 in self.parts

    @property
    def acknowledged(self) -> tuple[str, ...]:
        """Return the patterns of what must not be lost.

        A shard has patterns of its own, and with them its place in the stream: it goes on there in whatever replica.
        """
        if self.of == 1:
            return (_EVERY_DECISION, *(f"{prefix}.>" for prefix in _SHARDED[1:]), *_UNSHARDED)
        return (*self._of_shards(_SHARDED), *(_UNSHARDED if self.first else ()))

    @property
    def best_effort(self) -> tuple[str, ...]:
        """Return the patterns of what the journal also holds."""
        return tuple(f"{prefix}.>" for prefix in _EXPERTS) if self.of == 1 else self._of_shards(_EXPERTS)

    def _of_shards(self, prefixes: tuple[str, ...]) -> tuple[str, ...]:
        shards = [subjects.shard_token(shard) for shard in range(SHARDS) if shard % self.of in self.parts]
        return tuple(f"{prefix}.{shard}.>" for prefix in prefixes for shard in shards)

    def has_key(self, key: str) -> bool:
        """Return whether the records of a key of the log are kept here."""
        return zlib.crc32(key.encode()) % self.of in self.parts
