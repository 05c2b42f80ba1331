"""What is done to a run and when: a schedule that follows from its seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from huracan.errors import BadInput
from huracan.ports import Rng
from huracan_cli.chaos.proxy import Trouble

KILL, HAND_OVER = "kill", "hand_over"
KAFKA, NATS, POSTGRES = "kafka", "nats", "postgres"
GATEWAY, DESK, FIRST, SECOND = "gateway", "desk", "persister-1", "persister-2"
"""Processes: the desk has experts, orchestrator and executor; the two replicas of the persister share its work."""
VENUES = "venues"
"""The markets, which no strike stops: only the way to them."""
KILLED = (KAFKA, NATS, POSTGRES, GATEWAY, FIRST, DESK)
"""Who is killed; before the hand-over the replica is drawn, after it one is left."""
LINKS = (KAFKA, NATS, POSTGRES, VENUES)
"""Servers with a network before them."""
LASTS_S: dict[Trouble, tuple[float, float]] = {
    Trouble.DELAY: (1.0, 4.0),
    Trouble.CUT: (0.1, 2.0),
    Trouble.PARTITION: (0.5, 4.0),
    Trouble.MUTE: (0.2, 1.5),
}
"""Shortest and longest of each trouble."""
DELAY_S = (0.02, 0.25)
"""Least and most that what passes is late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """One fault."""

    at_s: float
    """After the first moment at which all runs."""
    kind: str
    """`kill`, `hand_over`, or what the network does."""
    target: str
    lasts_s: float = 0.0
    """Of trouble with the network; a process that is killed comes back as soon as it can."""
    delay_s: float = 0.0

    def __str__(self) -> str:
        """Return it in one line."""
        return f"{self.at_s:.1f} s {self.kind} {self.target}" + (f" for {self.lasts_s:.1f} s" if self.lasts_s else "")


def schedule(rng: Rng, *, strikes: int, lasts_s: float, killed: Sequence[str] = KILLED) -> list[Strike]:
    """Return so many seeded strikes within a time, oldest first: kills and troubles by turns, and one hand-over.

    Everyone who can be killed is, as often as any other, and each link has each trouble before one has it again. Raises
    BadInput for fewer strikes than make one of every sort.
    """
    least = 2 * len(killed) + 1
    if strikes < least:
        raise BadInput(f"strikes was {strikes}; {least} are needed for every sort of them")
    random = rng.stream("strikes")
    kills = (strikes - 1) // 2
    troubles = [(kind, link) for kind in Trouble for link in LINKS]
    random.shuffle(troubles)
    wanted = [(KILL, target) for target in islice(cycle(killed), kills)]
    wanted += [(str(kind), link) for kind, link in islice(cycle(troubles), strikes - 1 - kills)]
    random.shuffle(wanted)
    given_s = random.uniform(0.3, 0.7) * lasts_s
    found = [Strike(at_s=given_s, kind=HAND_OVER, target=SECOND)]
    for kind, target in wanted:
        at_s = random.uniform(0.0, lasts_s)
        if kind != KILL:
            shortest_s, longest_s = LASTS_S[Trouble(kind)]
            trouble_s, delay_s = random.uniform(shortest_s, longest_s), random.uniform(*DELAY_S)
            found.append(Strike(at_s=at_s, kind=kind, target=target, lasts_s=trouble_s, delay_s=delay_s))
            continue
        replica = random.choice((FIRST, SECOND)) if at_s < given_s else FIRST
        found.append(Strike(at_s=at_s, kind=kind, target=replica if target == FIRST else target))
    return sorted(found, key=lambda strike: strike.at_s)
