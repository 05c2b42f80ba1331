"""One websocket connection of a client: everything that is sent on it, faults included, goes through here.

Frames are written to the transport as bytes (RFC 6455, section 5.2), so that one can be made once for all connections,
can trickle, and is never held up by another task.
"""

from __future__ import annotations

import asyncio
import re
import struct
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from huracan.errors import BadInput
from huracan.sim.venue.misbehaviour import OF_CONNECTIONS, OF_FRAMES, Channel, Command, Kind, Misbehaviours

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
"""Opcodes."""
UNSENT_BYTES = 16 << 20
"""A client that leaves so much unread is cut off."""
CLOSE_WITHIN_S = 1.0
"""Longest wait for a client's answer to a close frame."""
POLICY = 1008
"""Close code of whoever breaks a rule."""
NO_JSON = b"<html><body>502 Bad Gateway</body></html>"
_CHECKSUM = re.compile(rb'("checksum":)(-?[0-9]+)')


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return an unmasked, final websocket frame."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 1 << 16:
        return struct.pack("!BBH", 0x80 | opcode, 126, size) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, size) + payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When a venue closes a connection."""

    ping_every_s: float | None = None
    """The venue sends websocket pings; None: the client has to send what the venue calls a ping."""
    pong_within_s: float | None = None
    """Seconds without any pong after which it closes."""
    idle_after_s: float | None = None
    """Seconds without market data and without a message of the client after which it closes."""
    idle_code: int = 1000
    longest_s: float = 86_400.0
    messages_per_s: int | None = None
    """Most messages of a client in a second."""


class Said(NamedTuple):
    """Market data about to be sent."""

    channel: Channel
    symbol: str
    stream: str
    payload: bytes
    frame: bytes
    begins: bool = False
    """It is the snapshot that a subscription begins with."""


class _Late(NamedTuple):
    at_s: float
    data: bytes
    byte_every_s: float


class Connection:
    """What is sent on one websocket."""

    def __init__(self, venue: str, number: int, transport: asyncio.Transport, wrong: Misbehaviours) -> None:
        self.venue = venue
        self.name = f"{number:08x}"
        self.subscribed: dict[str, set[str]] = {}
        """Names of streams in order of subscription, with the symbols they are about."""
        self.half_open = False
        self.closing = False
        self._transport = transport
        self._wrong = wrong
        self._loop = asyncio.get_running_loop()
        self.opened_s = self.active_s = self.ponged_s = self.pinged_s = self._loop.time()
        self._recent: deque[float] = deque()
        self._late: deque[_Late] = deque()
        self._drain: asyncio.Task[None] | None = None
        self._cut_off: asyncio.TimerHandle | None = None
        self._held: dict[str, Said] = {}

    def reply(self, payload: bytes) -> None:
        """Send what is no market data: an acknowledgement, an error, a pong in text."""
        self._write(frame(payload))

    def ping(self, payload: bytes = b"") -> None:
        """Send a websocket ping."""
        self.pinged_s = self._loop.time()
        self._write(frame(payload, PING))

    def pong(self, payload: bytes) -> None:
        """Answer a websocket ping."""
        self._write(frame(payload, PONG))

    def say(self, said: Said) -> None:
        """Send market data, or what the commands under way make of it."""
        if self.half_open or self.closing:
            return
        if self._wrong.quiet(self.venue) and not self._held:
            self.active_s = self._loop.time()
            self._write(said.frame)
            return
        commands = self._wrong.of(self.venue, OF_FRAMES, said.symbol, said.channel)
        if said.begins:
            commands = [command for command in commands if not command.what.is_of_a_silent_stream]
        held = self._held.pop(said.stream, None)
        self._carry_out(said, commands, hold=held is None)
        if held is not None:
            self._carry_out(held, [], hold=False)

    def _carry_out(self, said: Said, commands: list[Command], *, hold: bool) -> None:
        payload, copies, delay_s, byte_every_s, send = said.payload, 1, 0.0, 0.0, True
        for command in commands:
            what = command.what
            match what.kind:
                case Kind.REORDER:
                    if not hold:
                        continue
                    self._held[said.stream] = said
                    send = False
                case Kind.GAP | Kind.SILENCE:
                    send = False
                case Kind.DUPLICATE:
                    copies = 2
                case Kind.DELAY:
                    delay_s = what.delay_s
                case Kind.SLOW_LORIS:
                    byte_every_s = what.byte_every_s
                case _:
                    payload = _damaged(payload, said.symbol, command)
            self._wrong.take(command, said.symbol, said.channel, said.stream)
            if not send:
                return
        self.active_s = self._loop.time()
        data = said.frame if payload is said.payload else frame(payload)
        for _ in range(copies):
            self._write(data, delay_s, byte_every_s)

    def _write(self, data: bytes, delay_s: float = 0.0, byte_every_s: float = 0.0) -> None:
        if self.half_open or self.closing or self._transport.is_closing():
            return
        if not self._late and not delay_s and not byte_every_s:
            self._transport.write(data)
            if self._transport.get_write_buffer_size() > UNSENT_BYTES:
                self._transport.abort()
            return
        due_s = self._loop.time() + delay_s
        self._late.append(_Late(due_s, data, byte_every_s))
        if self._drain is None or self._drain.done():
            self._drain = self._loop.create_task(self._send_late())

    async def _send_late(self) -> None:
        """Send what waits, in its order: what came later never overtakes."""
        while self._late and not self._transport.is_closing() and not self.half_open:
            at_s, data, byte_every_s = self._late[0]
            await asyncio.sleep(max(0.0, at_s - self._loop.time()))
            if byte_every_s:
                for at in range(len(data)):
                    if self._transport.is_closing() or self.half_open:
                        return
                    self._transport.write(data[at : at + 1])
                    await asyncio.sleep(byte_every_s)
            else:
                self._transport.write(data)
            self._late.popleft()
        self._late.clear()

    def heard(self, rules: Rules) -> bool:
        """Note that the client sent a message; return whether it may send so many, and close it otherwise."""
        self.active_s = self._loop.time()
        if rules.messages_per_s is None:
            return True
        self._recent.append(self.active_s)
        while self._recent[0] <= self.active_s - 1.0:
            self._recent.popleft()
        if len(self._recent) <= rules.messages_per_s:
            return True
        self.close(POLICY, "Too many requests")
        return False

    def keep(self, rules: Rules, patience: float) -> None:
        """Apply the venue's rules to a connection: ping it, or close it."""
        now_s = self._loop.time()
        if rules.ping_every_s is not None and now_s - self.pinged_s >= rules.ping_every_s * patience:
            self.ping(b"%d" % int(now_s * 1000))
        if rules.pong_within_s is not None and now_s - self.ponged_s >= rules.pong_within_s * patience:
            self.close(POLICY, "Pong timeout")
        elif rules.idle_after_s is not None and now_s - self.active_s >= rules.idle_after_s * patience:
            self.close(rules.idle_code, "No data received in 30s." if rules.idle_code != 1000 else "")
        elif now_s - self.opened_s >= rules.longest_s * patience:
            self.close(1001, "")

    def ponged(self) -> None:
        """Note a pong of the client."""
        self.ponged_s = self._loop.time()

    def suffer(self, command: Command) -> None:
        """Carry out a command that is done to a connection."""
        if self.half_open or self.closing:
            return
        symbol = command.what.symbol
        self._wrong.take(command, symbol, None, self.name)
        match command.what.kind:
            case Kind.DROP:
                self.abort()
            case Kind.HALF_OPEN:
                self.half_open = True
            case Kind.CLOSE_CODE:
                self.close(command.what.close_code, "")
            case kind:
                raise BadInput(
                    f"kind was {kind}, which is not done to connections; use one of {sorted(OF_CONNECTIONS)}"
                )

    def is_about(self, symbol: str | None) -> bool:
        """Return whether it is subscribed to a symbol; None: always."""
        return symbol is None or any(symbol in symbols for symbols in self.subscribed.values())

    def close(self, code: int, reason: str) -> None:
        """Send a close frame; whoever does not answer it is cut off."""
        if self.closing or self.half_open or self._transport.is_closing():
            return
        if self._late:  # perhaps half a frame
            self.abort()
            return
        self._transport.write(frame(struct.pack("!H", code) + reason.encode(), CLOSE))
        self.closing = True
        self._cut_off = self._loop.call_later(CLOSE_WITHIN_S, self.abort)

    def abort(self) -> None:
        """Reset the connection."""
        self._end()
        self._transport.abort()

    def hang_up(self) -> None:
        """Let what was written be sent, and close."""
        self._end()
        self._transport.close()

    def _end(self) -> None:
        self.closing = True
        if self._drain is not None:
            self._drain.cancel()
        if self._cut_off is not None:
            self._cut_off.cancel()


def _damaged(payload: bytes, symbol: str, command: Command) -> bytes:
    return _DAMAGE[command.what.kind](payload, symbol, command)


def _garbage(payload: bytes, symbol: str, command: Command) -> bytes:  # noqa: ARG001 - one form for all
    return NO_JSON


def _oversized(payload: bytes, symbol: str, command: Command) -> bytes:  # noqa: ARG001 - one form for all
    return payload.ljust(command.what.size_bytes)


def _renamed(payload: bytes, symbol: str, command: Command) -> bytes:  # noqa: ARG001 - one form for all
    return payload.replace(symbol.encode(), b"X" + symbol.encode())


def _misadded(payload: bytes, symbol: str, command: Command) -> bytes:  # noqa: ARG001 - one form for all
    return _CHECKSUM.sub(lambda found: b"%s%d" % (found[1], int(found[2]) ^ 1), payload)


_DAMAGE = {
    Kind.GARBAGE: _garbage,
    Kind.OVERSIZED: _oversized,
    Kind.WRONG_SYMBOL: _renamed,
    Kind.BAD_CHECKSUM: _misadded,
}
