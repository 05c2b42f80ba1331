"""What is recorded of a live feed replays, in step and the same each time."""

from __future__ import annotations

import asyncio
import gzip
import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from shutil import rmtree

import pytest

from huracan.clock import NANOSECONDS, SystemClock
from huracan.embedded.supervisor import running
from huracan.errors import BadInput, Recoverable
from huracan.sim.exchange import OKX, SimulatedExchange, SimulatedExchangeConfig
from huracan.sim.venue.misbehaviour import Kind, Misbehaviour
from huracan.sim.venue.server import VenueServer
from huracan_cli.local_venues import SYMBOLS, LocalVenues
from huracan_cli.record import Recorded, Tape, feed_config, record
from huracan_cli.replay import Replay, replay
from huracan_gateway.config import FeedConfig
from huracan_gateway.recording import Line, read_head, read_lines
from huracan_gateway.reject import Reason

RECORDED_S = 4.0
LOST_AFTER_LINES = 30
ENOUGH_LINES = 90
"""With these the book that was lost has long been found again."""


@contextmanager
def local_venues() -> Iterator[LocalVenues]:
    """Give simulated venues of their own."""
    directory = Path(tempfile.mkdtemp(prefix="huracan-venues-"))
    try:
        local = LocalVenues(directory, seed=3)
        with running(local.program()):
            yield local
    finally:
        rmtree(directory)


@dataclass(frozen=True, slots=True)
class Taped:
    """A recording, and what was said of it."""

    path: Path
    told: Recorded


@pytest.fixture(scope="module")
def taped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Taped]:
    """Record all three venues at once, by venue."""
    directory = tmp_path_factory.mktemp("recorded")

    async def all_of(local: LocalVenues) -> list[Recorded]:
        feeds = local.feeds()
        return await asyncio.gather(
            *(record(feed, directory / f"{feed.venue}.jsonl.gz", lasts_s=RECORDED_S) for feed in feeds)
        )

    with local_venues() as local:
        told = asyncio.run(all_of(local))
    return {each.venue: Taped(Path(each.path), each) for each in told}


@pytest.mark.parametrize("venue", SYMBOLS)
def test_a_recording_of_a_live_feed_replays_in_step_and_the_same_twice(taped: dict[str, Taped], venue: str) -> None:
    path, told = taped[venue].path, taped[venue].told
    once, again = (replay(Replay(recording=path)).summary for _ in range(2))
    assert once == again
    assert once.instrument == told.instrument
    assert once.simulated
    assert once.frames_in == told.lines
    assert once.windows >= 10 * RECORDED_S * 0.8
    assert once.gaps_by_stream == told.gaps == {}
    assert once.rejected == told.rejected == {}
    assert once.book_match_ratio == 1.0


@pytest.mark.parametrize("venue", SYMBOLS)
def test_a_recording_begins_with_the_definition_and_is_told_of_in_full(taped: dict[str, Taped], venue: str) -> None:
    path, told = taped[venue].path, taped[venue].told
    lines = list(read_lines(path))
    assert read_head(path).adapter.defines(lines[0].raw) == read_head(path).definition
    assert told.lines == len(lines)
    assert told.bytes == len(gzip.decompress(path.read_bytes()))
    assert (told.first_ns, told.last_ns) == (lines[0].recv_ns, lines[-1].recv_ns)
    assert (told.last_ns - told.first_ns) / NANOSECONDS >= RECORDED_S * 0.8
    assert told.feed["connected"] == (2 if venue == "binance_usdm" else 1), "a connection each for book and market"
    assert told.missed == 0
    assert all(earlier.recv_ns <= later.recv_ns for earlier, later in pairwise(lines))


def test_a_book_that_was_lost_and_found_again_is_told_of(tmp_path: Path) -> None:
    async def main() -> Recorded:
        clock = SystemClock()
        market = SimulatedExchange(SimulatedExchangeConfig(seed=3, start_ns=clock.now_ns(), venues=(OKX,)))
        async with VenueServer(market=market, on_wall_time=True, clock=clock) as server:

            def lose(tape: Tape) -> None:
                if tape.lines == LOST_AFTER_LINES:
                    server.misbehave(Misbehaviour(kind=Kind.GAP, venue="okx"))
                if tape.lines == ENOUGH_LINES:
                    os.kill(os.getpid(), signal.SIGINT)

            feed = FeedConfig(
                venue="okx",
                symbol=SYMBOLS["okx"],
                websocket_url=f"ws://127.0.0.1:{server.port}/okx/ws/v5/public",
                rest_url=f"{server.url}/okx",
            )
            return await record(feed, tmp_path / "lost.jsonl", progress=lose)

    told = asyncio.run(main())
    assert told.gaps == {"depth": 1}
    assert told.feed["resynced"] == 1


def test_what_is_there_already_is_never_written_over(taped: dict[str, Taped]) -> None:
    (path, before) = (taped["okx"].path, taped["okx"].path.read_bytes())
    with local_venues() as local, pytest.raises(BadInput, match="is there already"):
        asyncio.run(record(local.feed("okx", SYMBOLS["okx"]), path, lasts_s=1.0))
    assert path.read_bytes() == before


def test_a_venue_that_cannot_be_reached_is_named_with_its_address(tmp_path: Path) -> None:
    feed = FeedConfig(venue="okx", symbol="SIM-USDT-SWAP", rest_url="http://127.0.0.1:1", answer_within_s=0.2)
    with pytest.raises(Recoverable, match=r"--rest-url was http://127.0.0.1:1 and gives no answer"):
        asyncio.run(record(feed, tmp_path / "nothing.jsonl"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["flushed.jsonl.gz", "flushed.jsonl"])
def test_what_was_flushed_can_be_read_whatever_follows(tmp_path: Path, name: str) -> None:
    tape, written = Tape(tmp_path / name), Line(1_700_000_000 * NANOSECONDS, b'{"frame": 1}')
    tape.write(written)
    tape.flush()
    assert next(read_lines(tmp_path / name)) == written
    tape.close()


def test_a_recording_that_was_killed_can_be_read_up_to_its_broken_end(tmp_path: Path) -> None:
    path = tmp_path / "killed.jsonl.gz"
    options = f"--venue okx --symbol {SYMBOLS['okx']} --out {path}".split()

    async def main() -> None:
        clock = SystemClock()
        market = SimulatedExchange(SimulatedExchangeConfig(seed=3, start_ns=clock.now_ns(), venues=(OKX,)))
        async with VenueServer(market=market, on_wall_time=True, clock=clock) as server:
            addresses = ["--rest-url", f"{server.url}/okx", "--websocket-url"]
            addresses.append(f"ws://127.0.0.1:{server.port}/okx/ws/v5/public")
            recorder = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "huracan_cli", "record", *options, *addresses, stdout=asyncio.subprocess.DEVNULL
            )
            try:
                async with asyncio.timeout(30):
                    while not path.exists() or path.stat().st_size < 1_000:  # noqa: ASYNC110 - another process writes
                        await asyncio.sleep(0.02)
            finally:
                recorder.kill()
                await recorder.wait()

    asyncio.run(main())
    *lines, broken = read_lines(path)
    assert broken.rejected is not None
    assert broken.rejected.reason is Reason.TRUNCATED_GZIP
    assert len(lines) > 10
    assert all(line.rejected is None for line in lines)
    assert read_head(path).definition.venue_symbol == SYMBOLS["okx"]


@pytest.mark.parametrize(
    ("option", "address"),
    [
        ("rest_url", "http://a..b"),
        ("rest_url", "http://[bad"),
        ("rest_url", "http://127.0.0.1:99999"),
        ("websocket_url", "ws://127.0.0.1:99999"),
        ("websocket_url", "http://127.0.0.1"),
    ],
)
def test_an_address_that_is_none_is_refused_by_its_option(option: str, address: str) -> None:
    given = {"rest_url": None, "websocket_url": None, option: address}
    with pytest.raises(BadInput, match=f"^--{option.replace('_', '-')} was {re.escape(repr(address))}"):
        feed_config("okx", "BTC-USDT-SWAP", **given)


def test_a_symbol_that_no_venue_could_have_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="symbol was 'foo', which bybit does not define"):
        asyncio.run(record(FeedConfig(venue="bybit", symbol="foo"), tmp_path / "nothing.jsonl"))
    assert list(tmp_path.iterdir()) == []
