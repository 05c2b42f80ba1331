"""The account's journal: written ahead, folded, and what it gives rise to published through the outbox."""

from __future__ import annotations

from collections.abc import Sequence

from huracan.bus import subjects
from huracan.bus.outbox import Backoff, Outbox
from huracan.contracts.codec import encode
from huracan.contracts.journal import EpochStarted, JournalEntry, Payload, Published, journal_entry
from huracan.ids import derived_id
from huracan.ports import Ports, Record
from huracan_executor.account import AccountFold, Effect
from huracan_executor.config import ExecutorConfig


class AccountJournal:
    """Append an entry, then fold it, then queue its messages: nobody hears of what is not written.

    The fold changes only here. One caller at a time.
    """

    def __init__(self, config: ExecutorConfig, ports: Ports, account: AccountFold) -> None:
        self.account = account
        self._config = config
        self._log = ports.log
        self._key = subjects.account_key(config.account)
        self._outbox = Outbox(ports, name=self._key)
        self._backoff = Backoff(ports.rng, f"journal.{self._key}")
        self._lockstep = ports.lockstep
        self._written = 0
        self._unmarked: int | None = None

    async def read(self) -> Sequence[Record]:
        """Return all records of the journal."""
        return await self._log.read(subjects.JOURNAL_TOPIC, self._key, 0)

    async def recover(self, records: Sequence[Record], *, at_ns: int) -> None:
        """Fold the records, start the next epoch, and queue again what is not marked as published."""
        entries = [(r.offset, r.message) for r in records if isinstance(r.message, JournalEntry)]
        published = -1
        for _, entry in entries:
            if entry.WhichOneof("entry") == "published":
                published = max(published, entry.published.through)
        unpublished: list[tuple[int, Effect]] = []
        for offset, entry in entries:
            given = self.account.apply(entry)
            if offset > published:
                unpublished += [(offset, effect) for effect in given]
        started = EpochStarted(config_json=self._config.canonical_json(), config_digest=self._config.digest())
        await self.write(started, at_ns=at_ns, epoch=self.account.epoch + 1)
        for offset, effect in unpublished:
            await self._put(offset, effect)

    async def write(self, payload: Payload, *, at_ns: int, key: str = "", epoch: int | None = None) -> list[Effect]:
        """Append an entry under this account's key and epoch, or as the copy of another key's, and fold
        it."""
        if epoch is None:
            epoch = self.account.epoch
        entry = journal_entry(key or self._key, payload, epoch=epoch, at_ns=at_ns)
        record_id = derived_id("journal", self._key, self.account.epoch, self._written, encode(entry))
        self._written += 1
        offset = await self._backoff.until_done(
            lambda: self._log.append(subjects.JOURNAL_TOPIC, self._key, entry, record_id=record_id)
        )
        effects = self.account.apply(entry)
        for effect in effects:
            await self._put(offset, effect)
        return effects

    async def publish(self) -> None:
        """Publish messages as they are queued, until cancelled."""
        await self._outbox.run()

    async def settle(self, *, wholly: bool = False) -> None:
        """Mark in the journal what is published.

        In a replay, and when asked to settle wholly, return only once every message is published and acknowledged; a
        live account goes on meanwhile.
        """
        if wholly or self._lockstep:
            await self._outbox.flush()
        if self._unmarked is not None and not len(self._outbox):
            through, self._unmarked = self._unmarked, None
            await self.write(Published(through=through), at_ns=self.account.as_of_ns)

    async def _put(self, offset: int, effect: Effect) -> None:
        subject = subjects.execution(self.account.account, effect.kind, effect.instrument)
        await self._outbox.put(subject, effect.message, message_id=effect.message_id, epoch=self.account.epoch)
        self._unmarked = offset
