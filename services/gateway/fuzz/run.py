"""Fuzz the readers of what venues send with atheris (libFuzzer), or turn its inputs into the kept corpus and back.

    run.py unpack DIRECTORY                  writes each kept input as a file
    run.py fuzz [libFuzzer's arguments]      fuzzes; the first directory named gets new inputs
    run.py pack DIRECTORY                    replaces corpus.jsonl with the inputs of a directory

atheris is no requirement of the project: README.md here says how to have it.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

_LEAVES: tuple[object, ...] = (
    None, True, -1, 0, 1, 1.5, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 10**30, "", "0", "-0", "-1", "1", "0.1", "1e5",
    "NaN", "9" * 18, "9" * 19, "0." + "0" * 30 + "1", "00.10", "1.", ".1", "٣", "１", "\x00", "x", "-", [], {}, [[]],
    [None], ["1", "0"], "SIMUSDT", "SIM-USDT-SWAP", "SIMUSD_PERP", "SIMUSD_240230", "1795250413121", 1795250413121,
    "snapshot", "update", "delta", "Buy", "sell",
)  # fmt: skip
"""What takes the place of a value."""
_PATHS = 64
"""Places of a frame that are looked at."""


def main(arguments: list[str]) -> None:
    """Do what the first argument says."""
    command, rest = arguments[1], arguments[2:]
    if command == "fuzz":
        _fuzz(arguments[0], rest)
    elif command == "unpack":
        _unpack(importlib.import_module("decoders"), Path(rest[0]))
    elif command == "pack":
        _pack(importlib.import_module("decoders"), Path(rest[0]))
    else:
        sys.exit(f"the first argument was {command!r}, not unpack, fuzz or pack")


def _fuzz(program: str, arguments: list[str]) -> None:
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["huracan_gateway", "huracan.market.book"]):
        decoders = importlib.import_module("decoders")
    again = f"{sys.executable} {program} fuzz"  # what libFuzzer starts when it merges
    atheris.Setup([again, *arguments], decoders.feed, custom_mutator=_mutator(atheris))
    atheris.Fuzz()


def _unpack(decoders: Any, directory: Path) -> None:
    places = {name: place for place, name in enumerate(decoders.TARGETS)}
    directory.mkdir(parents=True, exist_ok=True)
    for target, given in decoders.kept():
        data = bytes([places[target]]) + given
        (directory / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def _pack(decoders: Any, directory: Path) -> None:
    inputs = sorted((decoders.target_of(data), data[1:]) for data in _files(directory))
    lines = [json.dumps({"target": target, "bytes": b64encode(given).decode()}) for target, given in inputs]
    decoders.CORPUS.write_text("".join(f"{line}\n" for line in lines))


def _files(directory: Path) -> list[bytes]:
    return [path.read_bytes() for path in directory.iterdir()]


def _mutator(atheris: Any) -> Any:
    """Return what changes an input: half of the time one value of one JSON frame, which bytes alone rarely hit."""

    def mutated(data: bytes, most: int, seed: int) -> bytes:
        seed, kind = divmod(seed, 2)
        changed = _change(data, seed) if kind else None
        if changed is None or len(changed) > most:
            return bytes(atheris.Mutate(data, most))
        return changed

    return mutated


def _change(data: bytes, seed: int) -> bytes | None:
    lines = data[1:].split(b"\n")
    seed, at = divmod(seed, len(lines))
    head = re.match(rb"-?[0-9]{1,20} ", lines[at])
    prefix = head.group() if head else b""
    try:
        frame: object = json.loads(lines[at][len(prefix) :])
    except (ValueError, RecursionError):
        return None
    places = _places(frame)
    if not places:
        return None
    seed, chosen = divmod(seed, len(places))
    _replace(*places[chosen], seed)
    lines[at] = prefix + json.dumps(frame, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    return data[:1] + b"\n".join(lines)


def _places(frame: object) -> list[tuple[Any, Any]]:
    """Return the first places that hold a value: the object or list, and the key or index."""
    found: list[tuple[Any, Any]] = []
    waiting: list[object] = [frame]
    while waiting and len(found) < _PATHS:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            found.append((holder, key))
            waiting.append(holder[key])  # type: ignore[index] # it is what holds them
    return found


def _replace(holder: Any, key: Any, seed: int) -> None:
    """Change a value: another in its place, none at all, or one that is close to it."""
    seed, kind = divmod(seed, 4)
    value = holder[key]
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, list):
        holder.insert(key, value)
    elif kind == 2 and isinstance(value, int | str):
        holder[key] = value + seed % 7 - 3 if isinstance(value, int) else value[: seed % (len(value) + 1)]
    else:
        holder[key] = _LEAVES[seed % len(_LEAVES)]


if __name__ == "__main__":
    main(sys.argv)
