"""The persister as an installed service."""

from __future__ import annotations

from pydantic import NonNegativeInt, PositiveInt

from huracan.bus import subjects
from huracan.bus.access import Access
from huracan.config import Config
from huracan.ports import Ports
from huracan.service.service import ServiceSpec
from huracan_persister.service import ACKNOWLEDGED, BEST_EFFORT, NAME, Persister


class PersisterConfig(Config):
    """How the persister runs: it keeps everything that has a table."""

    linger_ms: NonNegativeInt = 100
    """Wait this long between two saves, so that one has more rows: a transaction costs as much as a hundred of them.
    0 in a replay, which waits for each step to be saved; above 1,000 people see the past."""
    keep_days: PositiveInt | None = None
    """Put days aside that ended this long before today, for `huracan.store.archive`; null keeps all. Below 2, rows
    that come late about yesterday would have no place."""


def _make(config: PersisterConfig, ports: Ports) -> Persister:
    return Persister(ports, linger_ms=config.linger_ms, keep_days=config.keep_days)


def _access(config: PersisterConfig) -> Access:  # noqa: ARG001 - the spec's form
    return Access(
        publish=(f"ops.v1.{NAME}.>",),
        subscribe=(*BEST_EFFORT, subjects.ops("executor", "step")),
        consume=tuple((NAME, pattern) for pattern in ACKNOWLEDGED),
        append=((subjects.dead_letters(subjects.JOURNAL_TOPIC), NAME),),
    )


SPEC = ServiceSpec(name=NAME, config=PersisterConfig, make=_make, access=_access, keeps=True)
