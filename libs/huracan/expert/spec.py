"""An expert as an installed service."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from huracan.bus import subjects
from huracan.bus.access import Access
from huracan.config import Config
from huracan.expert.port import Expert
from huracan.expert.service import ExpertService
from huracan.ports import Ports
from huracan.service.service import ServiceSpec

C = TypeVar("C", bound=Config)


def expert_spec(
    name: str,
    config: type[C],
    expert: Callable[[C], Expert],
    *,
    builds: tuple[str, ...] = (),
    builds_from: tuple[str, ...] = (),
    watches: Callable[[C], tuple[str, ...]] = lambda _: (),
) -> ServiceSpec[C]:
    """Return the spec of an expert: how it is made from its configuration, and which kinds of context it owns.

    `builds` are those kinds; `builds_from` and `watches` are the subjects that they are built from, of the acknowledged
    path and of the best-effort one. Without them it builds none.
    """

    def make(settings: C, ports: Ports) -> ExpertService:
        return ExpertService(expert(settings), ports)

    def access(settings: C) -> Access:
        letters = (subjects.dead_letters(subjects.JOURNAL_TOPIC), name)
        return Access(
            publish=(f"sig.v1.{name}.>", f"ops.v1.{name}.>", *(f"ctx.v1.{kind}.>" for kind in builds)),
            subscribe=tuple(dict.fromkeys(("feat.v1.micro.>", subjects.rpc(name, "opine"), *watches(settings)))),
            latest=("ctx.v1.>",),
            everything=builds_from,
            append=((subjects.JOURNAL_TOPIC, "context"), letters) if builds else (letters,),
            read=(subjects.JOURNAL_TOPIC,) if builds else (),
        )

    return ServiceSpec(name=name, config=config, make=make, access=access)
