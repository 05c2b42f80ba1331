"""An expert as an installed service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from huracan.bus import subjects
from huracan.bus.access import Access
from huracan.config import Config
from huracan.contracts.context import ENGINE
from huracan.expert.port import Expert
from huracan.expert.service import ExpertService
from huracan.expert.trial import SwapConfig
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
    swaps: Callable[[C], Mapping[str, SwapConfig]] = lambda _: {},
) -> ServiceSpec[C]:
    """Return the spec of an expert: how it is made from its configuration, and which kinds of context it owns.

    `builds` are those kinds; `builds_from` and `watches` are the subjects that they are built from, of the acknowledged
    path and of the best-effort one. Without them it builds none.
    `swaps` are the settings of the hot swap of its engines, by key; any other is what it was started with.
    """

    def make(settings: C, ports: Ports) -> ExpertService:
        return ExpertService(expert(settings), ports, swaps(settings))

    def access(settings: C) -> Access:
        deciding = [key for key, swap in swaps(settings).items() if swap.decides]
        letters = (subjects.dead_letters(subjects.JOURNAL_TOPIC), name)
        choices = tuple((subjects.JOURNAL_TOPIC, subjects.context_key(ENGINE, key)) for key in deciding)
        versions = ((subjects.JOURNAL_TOPIC, "context"),) if builds else choices
        return Access(
            publish=(
                f"sig.v1.{name}.>",
                f"ops.v1.{name}.>",
                *(f"ctx.v1.{kind}.>" for kind in builds),
                *((f"sig.v1.shadow.{name}.>",) if name in deciding else ()),
                *(subjects.context(ENGINE, key) for key in deciding),
            ),
            subscribe=tuple(
                dict.fromkeys(
                    (
                        "feat.v1.micro.>",
                        subjects.rpc(name, "opine"),
                        *((subjects.rpc(name, "engine"),) if deciding else ()),
                        *watches(settings),
                    )
                )
            ),
            latest=("ctx.v1.>",),
            everything=builds_from,
            append=(*versions, letters),
            read=(subjects.JOURNAL_TOPIC,) if versions else (),
        )

    return ServiceSpec(name=name, config=config, make=make, access=access)
