"""What an expert is: an opinion is a function of a window, named context versions and an engine (law 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from huracan.contracts.context import Context, EngineBundle, Payload
from huracan.contracts.opinion import AbstainReason
from huracan.contracts.ops import DriftChanged, HeatMap
from huracan.inference.bundle import Bundle
from huracan.inference.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Probabilities that the mid price is lower, about the same, or higher at the horizon; they sum to 1."""

    p_down: float
    p_flat: float
    p_up: float
    expected_move_bps: float | None = None


class Responder(Protocol):
    """Answer one window. Keeps no state between calls: any copy of it gives the same answer to the same question."""

    name: str
    """Name of the expert: regime, flow or sentiment."""
    feature_set_digest: bytes
    """Feature set the engine was made for; windows of another are answered FEATURE_SET_MISMATCH."""
    engine_digest: bytes
    """SHA-256 over everything that shapes the answer: parameters, version of the method."""
    horizon_ns: int
    """How far ahead the forecast looks."""
    validity_ns: int
    """How long an opinion may be used after the close of its step."""
    context_kinds: tuple[str, ...]
    """Kinds of context it reads."""
    without_context: AbstainReason
    """Reason to abstain while no version of such a context has been built yet: WARMING or NO_INPUT."""
    engines: tuple[Engine, ...]
    """What it asks, where it asks any: their counts tell of faults, those too that another of them made up for."""

    def forecast(self, window: NDArray[np.float32], contexts: Mapping[str, Context]) -> Forecast | AbstainReason:
        """Return a forecast, or why there is none.

        `window` has shape (64, columns), all rows filled, NaN where a value is missing; `contexts` holds one version
        for each of `context_kinds`. Never raises for any finite, missing or extreme values, but EngineFault where its
        engine gives no numbers: its host then abstains.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextDraft:
    """What a builder found; its host adds version, epoch, digests and the step from which it counts."""

    kind: str
    key: str
    as_of_ns: int
    valid_until_ns: int
    payload: Payload
    engine_digest: bytes
    shows: HeatMap | DriftChanged | None = None
    """What people are shown of it, on `ops.v1.<expert>.heat_map` or `.drift`; best effort."""


class ContextBuilder(Protocol):
    """Build slow state from messages, one writer per key."""

    inputs: tuple[str, ...]
    """Subject patterns it reads: of the acknowledged path, as a watcher those of the best-effort path."""

    def observe(self, message: Message) -> Sequence[ContextDraft]:
        """Take one message and return the contexts that are new because of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A builder of contexts that stands on an engine, in whose place another may come."""

    key: str
    """What its choices are under: `<expert>.<part>`."""
    builder: ContextBuilder
    name: EngineBundle
    """The bundle of its engine; what has none, by its engine digest."""
    opened: Callable[[Bundle], ContextBuilder]
    """Return a builder on another bundle, warm; raise BadInput for one that it cannot stand on."""
    engines: Callable[[ContextBuilder], tuple[Engine, ...]]
    """Return what a builder asks."""
    odds: Callable[[ContextDraft], Sequence[float]]
    """Return the probabilities that a context tells, in the same order whatever made it."""


@dataclass(frozen=True, slots=True)
class Expert:
    """One expert: a responder, and the builders of the contexts that it owns."""

    responder: Responder
    builders: tuple[ContextBuilder, ...] = ()
    bundle: Bundle | None = None
    """What the responder's engine is of; None: it has none."""
    opened: Callable[[Bundle], Responder] | None = None
    """Return a responder of another bundle, warm; raise BadInput for one that it cannot serve. None: there is no
    other."""
    part: Part | None = None
    """The one of its builders that may be another."""
    watchers: tuple[ContextBuilder, ...] = ()
    """Builders that hear what is published once, and count what they miss; no responder reads what they build."""
