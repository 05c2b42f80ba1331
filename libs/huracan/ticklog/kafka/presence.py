"""Whether the brokers answer: asked again and again, for whoever watches a process."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, errors

from huracan.errors import HuracanError
from huracan.ticklog.kafka.client import CLOSE_WITHIN_S, closed
from huracan.ticklog.kafka.config import KafkaConfig
from huracan.ticklog.kafka.reader import consuming

ASK_EVERY_S = 1.0
ANSWER_WITHIN_S = 2.0
"""A server that takes longer is as good as away."""


class Presence:
    """Knows whether the brokers answered when they were last asked."""

    def __init__(self, config: KafkaConfig, name: str) -> None:
        self.there = False
        self._config = config
        self._name = name
        self._client: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    def watch(self) -> None:
        """Ask from now on; what was just reached counts as there."""
        self.there = True
        self._task = asyncio.create_task(self._watch(), name=f"{self._name} asks for Kafka")

    async def _watch(self) -> None:
        while not self._over.is_set():
            asking = asyncio.create_task(self._answers())  # not cancelled: the library leaves half a connection behind
            await asyncio.wait([asking], timeout=ANSWER_WITHIN_S)
            self.there = asking.done() and asking.result()
            self.there = await asking
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), ASK_EVERY_S)

    async def _answers(self) -> bool:
        try:
            if self._client is None:
                self._client = await consuming(self._config, self._name)
            await self._client.topics()
        except (HuracanError, errors.KafkaError, OSError):
            return False
        return True

    async def close(self) -> None:
        """Ask no more."""
        self._over.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=CLOSE_WITHIN_S)
            self._task.cancel()
        if self._client is not None:
            await closed(self._client.stop())
