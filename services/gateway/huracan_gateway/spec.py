"""The gateway as an installed service."""

from __future__ import annotations

from collections.abc import Sequence

from huracan.bus import subjects
from huracan.bus.access import Access
from huracan.errors import BadInput
from huracan.ports import Ports
from huracan.service.service import ServiceSpec
from huracan_gateway.channel import NAME
from huracan_gateway.config import GatewayConfig
from huracan_gateway.feed import RecordingFeed, Source, opened, recorded
from huracan_gateway.live.open import live_sources
from huracan_gateway.paced import PacedFeed
from huracan_gateway.service import Gateway


def _make(config: GatewayConfig, ports: Ports) -> Gateway:
    return Gateway(config, _sources(config, ports), ports)


def _sources(config: GatewayConfig, ports: Ports) -> Sequence[Source]:
    """Return what is played: in a replay as fast as it is acknowledged, else when the clock says so, or as it comes."""
    if config.recording is not None and config.lockstep_services:
        return [opened(RecordingFeed(config.recording))]
    if config.recording is not None:
        tape = recorded(config.recording)
        return [opened(PacedFeed(tape.lines, tape.adapter, tape.definition, ports.clock))]
    if not config.feeds:
        raise BadInput("gateway: neither recording nor feeds was set: there is nothing to play")
    return live_sources(config.feeds, ports)


def _access(config: GatewayConfig) -> Access:  # noqa: ARG001 - the spec's form
    ticks, features = subjects.TICKS_TOPIC, subjects.FEATURES_TOPIC
    return Access(
        publish=("feat.v1.>", "news.v1.>", f"ops.v1.{NAME}.>"),
        subscribe=("ops.v1.*.step",),
        latest=("ctx.v1.>", "ops.v1.*.service"),
        append=(
            (ticks, ""),
            (features, ""),
            (subjects.dead_letters(ticks), ""),
            (subjects.dead_letters(subjects.JOURNAL_TOPIC), NAME),
        ),
        read=(ticks,),
    )


SPEC = ServiceSpec(name=NAME, config=GatewayConfig, make=_make, access=_access)
