"""Which decisions are worth a row: those that change anything or lead to an order, each with its opinions."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from google.protobuf.message import Message

from huracan.clock import NANOSECONDS
from huracan.contracts.decision import Decision
from huracan.contracts.execution import Order
from huracan.contracts.market import instrument_key
from huracan.contracts.opinion import Opinion
from huracan.ports import Delivery

Received = tuple[Delivery, Message]
"""A delivery with what is kept of it."""

HELD = 512
"""Decisions that wait for an order; past it the oldest is kept, for an order may still come. Fewer than a reader may
have unacknowledged, for none of them is."""
ORDER_WITHIN_NS = 5 * NANOSECONDS
"""How long after a decision's end, and after its coming here, an order that it led to may take: they come apart, and
after an outage both come late."""
REMEMBERED = 16_384
"""Opinions that wait for their decision, and ids that are waited for; past it the oldest go."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What becomes of what was received."""

    keep: list[Received] = field(default_factory=list)
    done: list[Delivery] = field(default_factory=list)
    """Not worth keeping: to be acknowledged."""


class KeepAll:
    """Keep everything."""

    def choose(self, received: Sequence[Received], now_ns: int) -> Chosen:  # noqa: ARG002 - the form of a policy
        """Return everything as worth keeping."""
        return Chosen(keep=list(received))

    def rest(self) -> list[Received]:
        """Return what was not chosen yet: nothing."""
        return []


class KeepChanged:
    """Keep of decisions the changed and acted-on, of opinions those of decisions that are kept, and all else.

    Changed is a decision whose direction, size or reason to abstain is not that of the one before of its strategy and
    instrument; after a start the first is. A decision that is not stays unacknowledged until no order can follow from
    it: a kill brings it again. In doubt a decision is kept.
    """

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._last: dict[tuple[str, str], tuple[object, ...]] = {}
        self._held: OrderedDict[bytes, tuple[Delivery, Decision, int]] = OrderedDict()
        """With the time at which each is let go."""
        self._acted: OrderedDict[bytes, None] = OrderedDict()
        self._opinions: OrderedDict[bytes, Received] = OrderedDict()
        self._wanted: OrderedDict[bytes, None] = OrderedDict()

    def choose(self, received: Sequence[Received], now_ns: int) -> Chosen:
        """Return what of this, and of what came before, is to be kept and what is done with."""
        chosen = Chosen()
        for delivery, message in received:
            match message:
                case Decision():
                    chosen.keep.extend(self._decision(delivery, message, now_ns))
                case Opinion():
                    chosen.keep.extend(self._opinion(delivery, message))
                case Order():
                    chosen.keep.extend([(delivery, message), *self._order(message)])
                case _:
                    chosen.keep.append((delivery, message))
        while len(self._held) > HELD:
            delivery, decision, _ = self._held.popitem(last=False)[1]
            self._counts["decisions.kept_in_doubt"] += 1
            chosen.keep.extend(self._kept(delivery, decision))
        chosen.done.extend(self._over(now_ns))
        return chosen

    def rest(self) -> list[Received]:
        """Return the decisions that still wait for an order, with their opinions."""
        held, self._held = self._held, OrderedDict()
        return [each for delivery, decision, _ in held.values() for each in self._kept(delivery, decision)]

    def _decision(self, delivery: Delivery, decision: Decision, now_ns: int) -> list[Received]:
        key = (decision.strategy, instrument_key(decision.instrument))
        said = (decision.direction, decision.size, decision.abstained, decision.reason)
        changed = self._last.get(key) != said
        self._last[key] = said
        if changed or decision.decision_id in self._acted:
            return self._kept(delivery, decision)
        self._held[decision.decision_id] = (delivery, decision, max(decision.valid_until_ns, now_ns) + ORDER_WITHIN_NS)
        return []

    def _kept(self, delivery: Delivery, decision: Decision) -> list[Received]:
        kept: list[Received] = [(delivery, decision)]
        for vote in decision.votes:
            opinion = self._opinions.get(vote.opinion_id)
            if opinion is not None:
                kept.append(opinion)
            elif vote.opinion_id:
                _remember(self._wanted, vote.opinion_id)
        return kept

    def _opinion(self, delivery: Delivery, opinion: Opinion) -> list[Received]:
        if opinion.opinion_id in self._wanted:
            del self._wanted[opinion.opinion_id]
            return [(delivery, opinion)]
        self._opinions[opinion.opinion_id] = (delivery, opinion)
        if len(self._opinions) > REMEMBERED:
            self._opinions.popitem(last=False)
        return []

    def _order(self, order: Order) -> list[Received]:
        held = self._held.pop(order.decision_id, None)
        if held is not None:
            return self._kept(held[0], held[1])
        _remember(self._acted, order.decision_id)
        return []

    def _over(self, now_ns: int) -> Iterator[Delivery]:
        over = [decision_id for decision_id, (_, _, until_ns) in self._held.items() if until_ns < now_ns]
        self._counts.update({"decisions.unchanged": len(over)} if over else {})
        for decision_id in over:
            yield self._held.pop(decision_id)[0]


def _remember(ids: OrderedDict[bytes, None], one: bytes) -> None:
    ids[one] = None
    if len(ids) > REMEMBERED:
        ids.popitem(last=False)
