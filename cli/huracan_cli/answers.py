"""Whether a process on this machine answers."""

from __future__ import annotations

import asyncio


async def answers(port: int, path: str) -> bool:
    """Return whether a path of a local process answers 200; raise OSError when nobody listens."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        return b" 200 " in await reader.readline()
    finally:
        writer.close()
