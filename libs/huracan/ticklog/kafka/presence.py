"""Whether the brokers answer: asked again and again, for whoever watches a process."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, errors

from huracan.errors import HuracanError
from huracan.ticklog.kafka.client import closed
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

    def watch(self) -> None:
        """Ask from now on; what was just reached counts as there."""
        self.there = True
        self._task = asyncio.create_task(self._watch(), name=f"{self._name} asks for Kafka")

    async def _watch(self) -> None:
        while True:
            try:
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    await self._ask()
                self.there = True
            except (HuracanError, errors.KafkaError, OSError, TimeoutError):
                self.there = False
            await asyncio.sleep(ASK_EVERY_S)

    async def _ask(self) -> None:
        if self._client is None:
            self._client = await consuming(self._config, self._name)
        await self._client.topics()

    async def close(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._client is not None:
            await closed(self._client.stop())
