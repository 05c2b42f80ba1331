"""Whether a venue can be had from here."""

from __future__ import annotations

import aiohttp

from huracan_gateway.live.http import TOO_MANY

_NOT_HERE = 451


async def reachable(url: str, within_s: float) -> bool:
    """Return whether a REST address answers within a time, in seconds, and would serve us.

    One that is banned, barred in this region, or at fault itself (5xx) does not; a path that it does not know is an
    answer.
    """
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=within_s)) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            return answer.status < 500 and answer.status not in {*TOO_MANY, _NOT_HERE}
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return False
