"""The orchestrator as an installed service."""

from __future__ import annotations

from huracan.bus import subjects
from huracan.bus.access import Access
from huracan.ports import Ports
from huracan.service.service import ServiceSpec
from huracan_orchestrator.config import OrchestratorConfig
from huracan_orchestrator.service import NAME, Orchestrator


def _make(config: OrchestratorConfig, ports: Ports) -> Orchestrator:
    return Orchestrator(config.gate, ports, shard=config.shard, deadlines=config.deadlines)


def _access(config: OrchestratorConfig) -> Access:
    shard, strategy = subjects.shard_token(config.shard), subjects.token(config.gate.strategy)
    return Access(
        publish=(
            f"sig.v1.decision.{strategy}.>",
            f"sig.v1.signal.{strategy}.>",
            f"ops.v1.{NAME}.>",
            *(subjects.rpc(expert, "opine") for expert in config.gate.experts),
        ),
        subscribe=(
            f"feat.v1.{subjects.MICRO}.{shard}.>",
            *(f"sig.v1.{expert}.{shard}.>" for expert in config.gate.experts),
        ),
        latest=("ctx.v1.>", "ops.v1.*.service"),
        append=(
            (subjects.JOURNAL_TOPIC, subjects.journal_key(config.shard)),
            (subjects.dead_letters(subjects.JOURNAL_TOPIC), NAME),
        ),
        read=(subjects.JOURNAL_TOPIC,),
    )


SPEC = ServiceSpec(name=NAME, config=OrchestratorConfig, make=_make, access=_access)
