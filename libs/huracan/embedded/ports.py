"""Free ports on this machine."""

from __future__ import annotations

import socket

from huracan.errors import BadInput


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on now; another process may take it before its use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def require_free(field: str, port: int) -> None:
    """Raise BadInput, naming the field, when somebody listens on this port of 127.0.0.1 or it cannot be had."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that linger are in nobody's way
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise BadInput(f"{field} was {port}, which cannot be had: {error.strerror}; choose another") from error
