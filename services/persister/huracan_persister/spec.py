"""The persister as an installed service."""

from __future__ import annotations

from huracan.bus import subjects
from huracan.bus.access import Access
from huracan.ports import Ports
from huracan.service.service import ServiceSpec
from huracan_persister.config import TOPICS, PersisterConfig
from huracan_persister.service import NAME, Persister
from huracan_persister.share import Share

__all__ = ["SPEC", "PersisterConfig"]


def _make(config: PersisterConfig, ports: Ports) -> Persister:
    return Persister(ports, config)


def _access(config: PersisterConfig) -> Access:
    share = Share(config.shards, config.of)
    steps = (subjects.ops("executor", "step"),) if share.first else ()
    named = {*config.tables, *(config.archive.topics if config.archive else ())}
    topics = tuple(topic for name, topic in TOPICS.items() if name in named)
    return Access(
        publish=(f"ops.v1.{NAME}.>",),
        subscribe=(*share.best_effort, *steps),
        consume=tuple((NAME, pattern) for pattern in share.acknowledged),
        append=((subjects.dead_letters(subjects.JOURNAL_TOPIC), NAME),),
        read=topics,
        keys=topics,
    )


SPEC = ServiceSpec(name=NAME, config=PersisterConfig, make=_make, access=_access, keeps=True)
