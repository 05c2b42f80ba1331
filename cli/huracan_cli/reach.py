"""How a command reaches the servers of a running system."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from pydantic import SecretStr

from huracan.bus.nats.connection import NatsLogin
from huracan.errors import BadInput
from huracan_cli.state import RunState
from huracan_cli.system import OPERATOR

REACHED_WITHIN_S = 10.0
"""Longest wait for a server that should be running."""


async def answered(server: str, opening: Awaitable[None]) -> None:
    """Wait for a server; raise BadInput that names it when it does not answer."""
    try:
        async with asyncio.timeout(REACHED_WITHIN_S):
            await opening
    except TimeoutError:
        raise BadInput(f"{server} did not answer within {REACHED_WITHIN_S:g} s: is it up?") from None


def operator(state: RunState, name: str) -> NatsLogin:
    """Return the login of who runs the system, under the name of a command."""
    user = state.nats_user or OPERATOR
    return NatsLogin(url=state.nats_url, name=name, user=user, password=state.passwords.get(user, SecretStr("")))
