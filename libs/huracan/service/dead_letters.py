"""Messages that cannot be read: kept whole with their reason, counted, and in nobody's way (law 9)."""

from __future__ import annotations

from collections import Counter

from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.bus.outbox import Backoff
from huracan.contracts.ops import DeadLetter, dead_letter
from huracan.errors import PoisonMessage
from huracan.ids import derived_id
from huracan.ports import Delivery, Ports


def letter_record_id(letter: DeadLetter) -> bytes:
    """Return the id under which a letter is in the log: the same message at the same attempt once."""
    again = (letter.attempt,) if letter.attempt > 1 else ()
    return derived_id(letter.source, letter.schema, letter.raw, *again)


class DeadLetters:
    """The dead letters of one service: in the log under the service's name, the same message once."""

    def __init__(self, ports: Ports, service: str, counts: Counter[str]) -> None:
        self._ports = ports
        self._service = service
        self._counts = counts
        self._backoff = Backoff(ports.rng, f"dead-letters.{service}")

    async def read(self, delivery: Delivery) -> Message | None:
        """Return what a delivery says; None, with the delivery buried, when that cannot be read."""
        try:
            return delivery.decode()
        except PoisonMessage as poison:
            await self.bury(delivery, poison)
            return None

    async def bury(self, delivery: Delivery, poison: PoisonMessage) -> None:
        """Count and keep a delivery, then acknowledge it: it would be no better the next time."""
        self._counts[f"poison.{poison.reason}"] += 1
        schema, raw = delivery.raw
        letter = dead_letter(
            raw=raw,
            source=delivery.subject,
            schema=schema,
            reason=poison.reason,
            detail=poison.detail,
            attempt=delivery.attempt,
            at_ns=self._ports.clock.now_ns(),
        )
        topic, record_id = subjects.dead_letters(subjects.JOURNAL_TOPIC), letter_record_id(letter)
        await self._backoff.until_done(
            lambda: self._ports.log.append(topic, self._service, letter, record_id=record_id)
        )
        delivery.ack()
