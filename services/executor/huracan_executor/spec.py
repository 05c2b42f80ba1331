"""The executor as an installed service."""

from __future__ import annotations

from huracan.bus import subjects
from huracan.bus.access import Access
from huracan.ports import Ports
from huracan.service.service import ServiceSpec
from huracan_executor.config import ExecutorConfig
from huracan_executor.service import SERVICE, Executor, decisions_read


def _make(config: ExecutorConfig, ports: Ports) -> Executor:
    return Executor(config, ports)


def _access(config: ExecutorConfig) -> Access:
    pattern, durable = decisions_read(config)
    return Access(
        publish=(f"exec.v1.{subjects.token(config.account)}.>", f"ops.v1.{SERVICE}.>"),
        consume=((durable, pattern),),
        append=(
            (subjects.JOURNAL_TOPIC, subjects.account_key(config.account)),
            (subjects.JOURNAL_TOPIC, subjects.venue_key(config.account)),
            (subjects.dead_letters(subjects.JOURNAL_TOPIC), SERVICE),
        ),
        read=(subjects.JOURNAL_TOPIC, subjects.TICKS_TOPIC),
        follow=(subjects.TICKS_TOPIC,),
    )


SPEC = ServiceSpec(name=SERVICE, config=ExecutorConfig, make=_make, access=_access)
