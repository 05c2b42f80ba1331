"""The spill: messages on disk while the database is away, synced before they are acknowledged, read back in order."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import Message

from huracan.contracts import codec
from huracan.contracts.ops import LAST_ATTEMPT
from huracan.errors import BadInput, Recoverable
from huracan.ports import Delivery
from huracan.store.files import sync_directory

SEGMENT_BYTES = 8 << 20
"""A file is closed past this; one is read back at a time."""
SUFFIX, DAMAGED, LOCK = ".spill", ".damaged", "lock"
_FRAME = struct.Struct(">III")
"""Length of the payload, checksum of the length, checksum of the payload."""
_PAYLOAD = struct.Struct(">QIHH")
"""Epoch, attempt, length of the subject, length of the schema; then subject, schema and bytes."""


class SpillFull(Recoverable):
    """What is to wait has no room; the message says where, and why."""


@dataclass(frozen=True, slots=True)
class Spilled:
    """A message that waited on disk."""

    subject: str
    epoch: int
    attempt: int
    raw: tuple[str, bytes]

    def decode(self) -> Message:
        """Return the message; raise PoisonMessage when it cannot be read."""
        return codec.decode(*self.raw)

    def ack(self) -> None:
        """Do nothing: it was acknowledged when it came here."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of the spill, read."""

    path: Path
    messages: list[Spilled]
    damage: tuple[str, ...]
    """Each message that was passed over, and where the file cannot be read on, with the reason."""


class Spill:
    """Files of messages, numbered in their order, in a directory that one process at a time has.

    Bound: `max_bytes` on disk. Overflow: `append` raises SpillFull, and whoever acknowledges waits (block).
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.bytes = 0
        """Bytes that wait."""
        self._directory = directory
        self._max_bytes = max_bytes
        self._segments: list[Path] = []
        self._number = 0
        self._active: int | None = None
        self._lock: int | None = None

    def open(self) -> None:
        """Take the directory and what waits there; raise BadInput when it cannot be used or another process has it."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self._directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._segments = sorted(self._directory.glob(f"*{SUFFIX}"))
            self.bytes = sum(path.stat().st_size for path in self._segments)
            numbers = [path.name.partition(".")[0] for path in self._directory.glob(f"*{SUFFIX}*")]
            self._number = max((int(number) for number in numbers), default=0)
        except BlockingIOError:
            raise BadInput(
                f"spill.directory was {self._directory}, which another process has: give each its own"
            ) from None
        except (OSError, ValueError) as error:
            raise BadInput(f"spill.directory was {self._directory}, which cannot be used: {error}") from None

    def close(self) -> None:
        """Leave the directory; what waits, waits for whoever opens it next."""
        self._seal()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __len__(self) -> int:
        """Return how many files wait."""
        return len(self._segments)

    def append(self, deliveries: Sequence[Delivery]) -> None:
        """Write messages after those that wait and return once they are on the disk; raise SpillFull and keep none."""
        data = b"".join(_framed(delivery) for delivery in deliveries)
        if self.bytes + len(data) > self._max_bytes:
            raise SpillFull(
                f"spill {self._directory} holds {self.bytes} bytes and may hold {self._max_bytes}: bring the database "
                "back, or raise spill.max_bytes"
            )
        try:
            file = self._writable()
            size = os.fstat(file).st_size
            try:
                _write(file, data)
                os.fsync(file)
            except OSError:
                with contextlib.suppress(OSError):  # then the file ends within a message, and is told of as damaged
                    os.ftruncate(file, size)
                raise
        except OSError as error:
            self._seal()
            raise SpillFull(
                f"spill {self._directory} cannot be written: {error.strerror}; make room on its disk"
            ) from None
        if data and not size:  # a file waits only once it holds something
            self._segments.append(self._next)
            self._number += 1
        self.bytes += len(data)
        if size + len(data) >= SEGMENT_BYTES:
            self._seal()

    @property
    def _next(self) -> Path:
        return self._directory / f"{self._number + 1:012d}{SUFFIX}"

    def _writable(self) -> int:
        if self._active is None:
            # Emptied of what a try before this one may have left in it.
            self._active = os.open(self._next, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
            sync_directory(self._directory)
        return self._active

    def _seal(self) -> None:
        if self._active is not None:
            os.close(self._active)
            self._active = None

    def oldest(self) -> Segment:
        """Return the messages of the file that waits longest; what comes from now on goes into another."""
        path = self._segments[0]
        if len(self._segments) == 1:
            self._seal()
        try:
            return _read(path)
        except OSError as error:
            return Segment(path, [], (f"byte 0: {error.strerror}",))

    def remove(self, segment: Segment) -> Path | None:
        """Forget a file whose messages are saved; return where it is set aside when it was damaged."""
        self._segments.remove(segment.path)
        self.bytes = sum(path.stat().st_size for path in self._segments)
        aside = segment.path.with_name(segment.path.name + DAMAGED) if segment.damage else None
        if aside is None:
            segment.path.unlink()
        else:
            segment.path.rename(aside)
        sync_directory(self._directory)
        return aside


def _framed(delivery: Delivery) -> bytes:
    schema, raw = delivery.raw
    subject, name = delivery.subject.encode(), schema.encode()
    attempt = min(delivery.attempt, LAST_ATTEMPT)
    payload = _PAYLOAD.pack(delivery.epoch, attempt, len(subject), len(name)) + subject + name + raw
    return _FRAME.pack(len(payload), _sum_of(len(payload)), zlib.crc32(payload)) + payload


def _sum_of(length: int) -> int:
    return zlib.crc32(length.to_bytes(4, "big"))


def _write(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def _read(path: Path) -> Segment:
    data, at = path.read_bytes(), 0
    messages: list[Spilled] = []
    damage: list[str] = []
    while at < len(data):
        if len(data) - at < _FRAME.size:
            damage.append(f"byte {at}: the file ends within a message")
            break
        length, length_sum, payload_sum = _FRAME.unpack_from(data, at)
        payload = data[at + _FRAME.size : at + _FRAME.size + length]
        if _sum_of(length) != length_sum:
            damage.append(f"byte {at}: the length of a message does not fit its checksum")
            break
        if len(payload) < length:
            damage.append(f"byte {at}: the file ends within a message")
            break
        if zlib.crc32(payload) == payload_sum:
            messages.append(_unpacked(payload))
        else:  # where the next one begins is known all the same
            damage.append(f"byte {at}: a message does not fit its checksum")
        at += _FRAME.size + length
    return Segment(path, messages, tuple(damage))


def _unpacked(payload: bytes) -> Spilled:
    epoch, attempt, subject, schema = _PAYLOAD.unpack_from(payload)
    names = _PAYLOAD.size + subject
    return Spilled(
        payload[_PAYLOAD.size : names].decode(),
        epoch,
        attempt,
        (payload[names : names + schema].decode(), payload[names + schema :]),
    )
