"""What one service reads and writes, by pattern: the servers' permissions are made from it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Patterns of subjects, and topics of the log. What is not named is forbidden."""

    publish: tuple[str, ...] = ()
    """Subjects to publish on, acknowledged or not."""
    subscribe: tuple[str, ...] = ()
    """Best-effort patterns to hear."""
    consume: tuple[tuple[str, str], ...] = ()
    """Durable and pattern of the acknowledged path."""
    latest: tuple[str, ...] = ()
    everything: tuple[str, ...] = ()
    append: tuple[tuple[str, str], ...] = ()
    """Topic and the beginning of the keys to append under, `""` for any."""
    read: tuple[str, ...] = ()
    """Topics to read."""
    follow: tuple[str, ...] = field(default=())
    """Topics to wait on."""
    keys: tuple[str, ...] = ()
    """Topics whose keys are listed."""
