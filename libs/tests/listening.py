"""What processes listen on, as the kernel knows it."""

from __future__ import annotations

import re
from pathlib import Path


def listening(pid: int) -> set[tuple[str, int]]:
    """Return the addresses, IPv4 and IPv6, and ports that a process listens on."""
    sockets = {link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                address, port = words[1].split(":")
                octets = re.findall("..", address)
                shown = ".".join(str(int(octet, 16)) for octet in reversed(octets)) if table == "tcp" else address
                found.add((shown, int(port, 16)))
    return found
