"""Journal replay: a run's journals folded again, and the decisions compared with those it made, byte for byte."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from huracan.contracts import codec
from huracan.contracts.decision import Decision, decisions_digest
from huracan.store.parquet import read_journals, read_table
from huracan_cli.results import fold_decisions

SHARD = "shard."


class JournalReplay(BaseModel):
    """What folding the journals of a run again gave."""

    model_config = ConfigDict(frozen=True)

    run: str
    journals: int
    """Shards."""
    entries: int
    decisions: int
    """Decisions that follow from the journals."""
    kept: int
    """Decisions that the run kept."""
    different: int
    """Decisions whose bytes are not the same."""
    missing: int
    """Decisions that follow and were not kept."""
    unexplained: int
    """Decisions that were kept and do not follow."""
    decisions_digest: str
    same_bytes: bool
    """Whether every decision of the run follows from its journals byte for byte, and no other."""


def replay_journals(run: Path) -> JournalReplay:
    """Fold the journals of a run; raise BadInput when its files are no run's."""
    shards = {key: entries for key, entries in read_journals(run).items() if key.startswith(SHARD)}
    folded = [decision for entries in shards.values() for decision in fold_decisions(entries)]
    follows = {decision.decision_id: codec.encode(decision) for decision in folded}
    kept = {decision.decision_id: codec.encode(decision) for decision in read_table(run, Decision)}
    different = sum(kept[name] != data for name, data in follows.items() if name in kept)
    missing, unexplained = len(follows.keys() - kept.keys()), len(kept.keys() - follows.keys())
    return JournalReplay(
        run=str(run),
        journals=len(shards),
        entries=sum(map(len, shards.values())),
        decisions=len(follows),
        kept=len(kept),
        different=different,
        missing=missing,
        unexplained=unexplained,
        decisions_digest=decisions_digest(folded),
        same_bytes=not (different or missing or unexplained),
    )
