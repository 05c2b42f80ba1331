"""What is tested of a venue's frames in the same way whatever the venue: its examples, and how they are damaged."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from huracan.clock import MINUTE_NS
from huracan.contracts.market import InstrumentDefinition
from huracan_gateway.adapter import Adapter, Control
from huracan_gateway.reject import Reason, Rejected

Says = tuple[str, list[Any]]
"""Kind and events of a frame."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Frames and messages of a venue, with what they mean."""

    adapter: Adapter
    definition: InstrumentDefinition
    says: Sequence[tuple[bytes, Says]]
    wrong: Sequence[tuple[bytes, Reason, str]]
    """Frames that are refused: why, and what the refusal names."""
    no_trades: bytes
    """The answer of an instrument that was never traded."""
    row: Sequence[str]
    """Of a closed bar."""
    bars: Callable[..., bytes]
    """Return the answer that has these rows."""
    messages: Sequence[tuple[bytes, Control | None]]

    def decoded(self, frame: bytes) -> Says:
        """Return what a decoder of its own says of a frame."""
        kind, events = self.adapter.decoder(self.definition).decode(frame)
        return kind, list(events)

    def read_bars(self, answer: bytes) -> object:
        """Return the bars of a minute in an answer."""
        return self.adapter.http.bars(answer, self.definition, MINUTE_NS)


def raw(frame: object) -> bytes:
    """Return JSON as venues send it."""
    return json.dumps(frame, separators=(",", ":")).encode()


def damaged(frame: bytes, data: st.DataObject) -> bytes:
    """Return a frame with one to four pieces replaced or gone."""
    bad = bytearray(frame)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(bad)))
        until = data.draw(st.integers(at, min(len(bad), at + 40)))
        bad[at:until] = data.draw(st.binary(max_size=3) | st.sampled_from([b"[", b'"', b"9" * 30, b"-", b"\\u", b""]))
    return bytes(bad)


def read(path: Path) -> Iterator[str]:
    """Yield the lines of a shared file; skip the test where it is absent."""
    if not path.is_file():
        pytest.skip(f"needs {path.name} in ../shared")
    with gzip.open(path, "rt") as lines:
        yield from lines


def fixtures(path: Path) -> dict[str, bytes]:
    """Return the shared fixtures of a file by name; skip the test where it is absent."""
    entries = [json.loads(line) for line in read(path)]
    return {Path(entry["path"]).stem: entry["text"].encode() for entry in entries}


def told(adapter: Adapter, definition: InstrumentDefinition, frame: bytes) -> str:
    """Return the kind of a frame, or the reason for refusing it."""
    try:
        return adapter.decoder(definition).decode(frame)[0]
    except Rejected as error:
        return error.reason
