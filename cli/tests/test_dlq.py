"""`huracan dlq` against a real server: what was refused is listed, shown and, after a fix, comes back once."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from shutil import rmtree

import pytest
from pydantic import SecretStr
from rich.console import Console
from typer.testing import CliRunner

from huracan.bus import subjects
from huracan.bus.nats.bus import SCHEMA, NatsBus
from huracan.bus.nats.connection import Connection, NatsLogin
from huracan.bus.nats.streams import make_streams
from huracan.bus.nats.users import EVERYTHING
from huracan.clock import SystemClock
from huracan.contracts import codec
from huracan.contracts.execution import ExecutionReport, Fill
from huracan.contracts.journal import DeadlineFired, JournalEntry, journal_entry
from huracan.contracts.market import InstrumentDefinition, InstrumentId, TickBatch
from huracan.contracts.ops import DeadLetter, dead_letter
from huracan.embedded.nats import NatsServer, NatsUser
from huracan.embedded.ports import free_port
from huracan.embedded.supervisor import running
from huracan.errors import BadInput, Recoverable
from huracan.ports import Ports
from huracan.rng import SeededRng
from huracan.store.memory import MemoryStore
from huracan.ticklog.jetstream import JetStreamLog
from huracan.ticklog.memory import MemoryLog
from huracan_cli.dlq import (
    Letter,
    as_json,
    find,
    list_letters,
    read_letters,
    render,
    replay_all,
    replay_letter,
    replay_letters,
    whole,
)
from huracan_cli.main import app
from huracan_cli.state import RunState
from huracan_cli.system import OPERATOR
from huracan_persister.config import PersisterConfig
from huracan_persister.service import NAME, Persister

from .run_states import run_state

BTC = InstrumentId(venue="sim", symbol="btc")
SUBJECT = subjects.execution("paper", "fill", BTC)
LATER = "huracan.execution.v2.Fill"
"""A schema that this release does not know, until it does."""
FILL = Fill(fill_id=b"1" * 16, account="paper", instrument=BTC)
JOURNAL_LETTERS = subjects.dead_letters(subjects.JOURNAL_TOPIC)
TICK_LETTERS = subjects.dead_letters(subjects.TICKS_TOPIC)
TRADE = (
    b'{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":1700000000000,"a":1,"s":"BTCUSDT","p":"64250.1",'
    b'"q":"0.5","f":1,"l":1,"T":1700000000000,"m":true}}'
)
FRAME = dead_letter(
    raw=b"{\x1b[2J", source="okx.btc", schema="frame", reason="not_json", detail="x", attempt=1, at_ns=10**18
)


@pytest.fixture
def state() -> Iterator[RunState]:
    """Run a server of its own, for a log that is empty, and give how it is reached."""
    directory = Path(tempfile.mkdtemp(prefix="huracan-dlq-"))
    server = NatsServer(directory=directory, port=free_port(), monitor_port=free_port())
    user = NatsUser(name=OPERATOR, password="secret", publish=EVERYTHING.publish, subscribe=EVERYTHING.subscribe)
    with running(server.prepare([user])):
        yield _state(server.url)
    rmtree(directory)


def _state(url: str, password: str = "secret") -> RunState:
    return run_state(nats_url=url, passwords={OPERATOR: SecretStr(password)})


@dataclass
class Site:
    """A persister on a real server, and whoever publishes."""

    state: RunState
    connection: Connection
    log: JetStreamLog
    store: MemoryStore
    persister: Persister

    async def say(self, raw: bytes, schema: str) -> None:
        """Publish bytes as a message, acknowledged."""
        await self.connection.request(SUBJECT, raw, {SCHEMA: schema})

    async def counted(self, name: str, count: int) -> None:
        """Return once the persister has counted so many."""
        async with asyncio.timeout(30):
            while self.persister.counts[name] < count:  # noqa: ASYNC110 - counted by another task
                await asyncio.sleep(0.01)

    async def listed(self) -> list[tuple[str, int, bool]]:
        """Return reason and attempt of every letter, and whether it was replayed."""
        letters, _ = await list_letters(self.state)
        return [(each.said.reason, each.said.attempt, each.replayed) for each in letters]


@asynccontextmanager
async def _site(state: RunState) -> AsyncIterator[Site]:
    connection = Connection(NatsLogin(url=state.nats_url, name=OPERATOR, password=state.passwords[OPERATOR]))
    await connection.open()
    await make_streams(connection)
    bus = NatsBus(connection, wall=SystemClock())
    log, store = JetStreamLog(bus), MemoryStore()
    ports = Ports(bus=bus, log=log, clock=SystemClock(), store=store, rng=SeededRng(1))
    persister = Persister(ports, PersisterConfig(linger_ms=0, tables=("journal",), tables_every_s=0.05))
    serving = asyncio.create_task(persister.run())
    try:
        await persister.ready.wait()
        yield Site(state, connection, log, store, persister)
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await connection.close()


async def _outcomes(state: RunState) -> list[str]:
    replayed, _ = await replay_letters(state, None)
    return [each.outcome for each in replayed]


def _run(state: RunState, scenario: Callable[[Site], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), _site(state) as site:
            await scenario(site)

    asyncio.run(main())


def test_a_poison_message_comes_back_after_a_fix_and_once(state: RunState, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(site: Site) -> None:
        await site.say(codec.encode(FILL), LATER)
        await site.counted("poison.unknown_schema", 1)
        assert await site.listed() == [("unknown_schema", 1, False)]
        (refused,), _ = await replay_letters(state, None)
        assert refused.outcome == "refused"
        assert refused.detail == f"unknown_schema: schema was '{LATER}'"
        assert await site.listed() == [("unknown_schema", 2, False)]
        monkeypatch.setitem(codec.SCHEMAS, LATER, Fill)
        (replayed,), _ = await replay_letters(state, refused.id[:6])
        assert (replayed.id, replayed.outcome, replayed.detail) == (refused.id, "replayed", SUBJECT)
        await site.counted("fills", 1)
        assert await site.store.load(Fill) == [FILL]
        assert await site.listed() == [("unknown_schema", 2, True)]
        assert await replay_letters(state, None) == ([], 0)
        (done,), _ = await replay_letters(state, refused.id)
        assert done.outcome == "done"
        assert site.persister.counts == {"poison.unknown_schema": 1, "fills": 1}

    _run(state, scenario)


def test_an_unreadable_record_of_the_log_comes_back_to_its_place_after_a_fix_and_once(
    state: RunState, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [journal_entry("shard.01", DeadlineFired(step=step), epoch=1, at_ns=1) for step in range(3)]
    place = (subjects.JOURNAL_TOPIC, "shard.01")

    async def scenario(site: Site) -> None:
        for entry, schema in zip(
            entries, (codec.schema_of(entries[0]), LATER, codec.schema_of(entries[0])), strict=True
        ):
            await site.connection.request(subjects.log(*place), codec.encode(entry), {SCHEMA: schema})
        await site.counted("log.records", 2)
        assert await site.listed() == [("unknown_schema", 1, False)]
        assert await _outcomes(state) == ["refused"]
        monkeypatch.setitem(codec.SCHEMAS, LATER, JournalEntry)
        assert await _outcomes(state) == ["replayed"]
        await site.counted("log.restored", 1)
        assert [record.message for record in site.store.records[place]] == entries
        assert await replay_letters(state, None) == ([], 0)

    _run(state, scenario)


def test_what_its_reader_refuses_again_returns_with_the_next_attempt(state: RunState) -> None:
    async def scenario(site: Site) -> None:
        report = ExecutionReport()
        await site.say(codec.encode(report), codec.schema_of(report))
        for attempt in (1, 2, 3):
            await site.counted("poison.unexpected_kind", attempt)
            async with asyncio.timeout(30):
                while await site.listed() != [("unexpected_kind", attempt, False)]:
                    pass
            (replayed,), _ = await replay_letters(state, None)
            assert replayed.outcome == "replayed"

    _run(state, scenario)


def test_the_commands_print_one_json_document(state: RunState, tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        await site.say(b"\xff", "huracan.execution.v1.Fill")
        await site.counted("poison.undecodable", 1)
        await site.log.append(TICK_LETTERS, "okx.btc", FRAME, record_id=b"1")

    _run(state, scenario)
    state.write(tmp_path)
    given, run = ["--state", str(tmp_path), "--json"], CliRunner()
    listed = run.invoke(app, ["dlq", "list", *given])
    frame, fill = json.loads(listed.stdout)
    assert (frame["topic"], frame["key"], frame["source"], frame["at_ns"]) == (TICK_LETTERS, *["okx.btc"] * 2, 10**18)
    assert (fill["topic"], fill["key"], fill["source"]) == (JOURNAL_LETTERS, NAME, SUBJECT)
    assert (fill["schema"], fill["reason"], fill["attempt"]) == ("huracan.execution.v1.Fill", "undecodable", 1)
    only = run.invoke(app, ["dlq", "list", "--reason", "undecodable", "--key", NAME, *given])
    assert [each["id"] for each in json.loads(only.stdout)] == [fill["id"]]
    shown = run.invoke(app, ["dlq", "show", fill["id"][:8], *given])
    assert json.loads(shown.stdout) == {**fill, "raw": "ff", "text": "", "message": None, "unread_records": 0}
    again = run.invoke(app, ["dlq", "replay", "--all", *given])
    assert again.exit_code == 1
    assert {each["id"]: each["outcome"] for each in json.loads(again.stdout)} == {
        frame["id"]: "refused",
        fill["id"]: "refused",
    }
    people = run.invoke(app, ["dlq", "show", frame["id"], "--state", str(tmp_path)])
    assert people.exit_code == 0
    assert "\x1b" not in people.stdout


def test_letters_that_cannot_be_read_keep_nobody_from_the_others_and_are_counted(
    state: RunState, tmp_path: Path
) -> None:
    async def unreadable(site: Site, topic: str, key: str) -> None:
        await site.connection.request(subjects.log(topic, key), b"\xff", {SCHEMA: "huracan.ops.v2.DeadLetter"})

    async def scenario(site: Site) -> None:
        await unreadable(site, TICK_LETTERS, "okx.btc")
        await site.log.append(TICK_LETTERS, "okx.btc", FRAME, record_id=b"1")
        await unreadable(site, TICK_LETTERS, "okx.btc")
        await site.log.append(JOURNAL_LETTERS, NAME, _letter(codec.encode(FILL)), record_id=b"1")
        await unreadable(site, JOURNAL_LETTERS, "executor")

    _run(state, scenario)
    state.write(tmp_path)
    given, run = ["--state", str(tmp_path)], CliRunner()
    told = "records of the dead letters that could not be read, and were passed over: 3\n"
    people = run.invoke(app, ["dlq", "list", *given])
    assert (people.exit_code, people.stderr) == (0, told)
    listed = run.invoke(app, ["dlq", "list", *given, "--json"])
    assert listed.stderr == told
    fill, frame = json.loads(listed.stdout)
    assert (fill["source"], frame["source"]) == (SUBJECT, "okx.btc")
    shown = run.invoke(app, ["dlq", "show", frame["id"], *given, "--json"])
    assert (json.loads(shown.stdout)["unread_records"], shown.stderr) == (3, told)
    replayed = run.invoke(app, ["dlq", "replay", fill["id"], *given, "--json"])
    assert ([each["outcome"] for each in json.loads(replayed.stdout)], replayed.stderr) == (["replayed"], told)


@pytest.mark.parametrize("arguments", [[], ["3fa9", "--all"]])
def test_what_to_replay_is_named_one_way(arguments: list[str]) -> None:
    failed = CliRunner().invoke(app, ["dlq", "replay", *arguments])
    assert isinstance(failed.exception, BadInput)


def test_an_empty_id_names_no_letter_and_replays_nothing(state: RunState, tmp_path: Path) -> None:
    async def scenario(site: Site) -> None:
        await site.log.append(JOURNAL_LETTERS, NAME, _letter(codec.encode(FILL)), record_id=b"1")
        state.write(tmp_path)
        failed = await asyncio.to_thread(CliRunner().invoke, app, ["dlq", "replay", "", "--state", str(tmp_path)])
        assert isinstance(failed.exception, BadInput)
        assert str(failed.exception).startswith("letter id was ''")
        assert await site.listed() == [("r", 1, False)]

    _run(state, scenario)


def test_a_password_that_is_refused_is_told(state: RunState) -> None:
    with pytest.raises(BadInput, match="refused user 'operator': check its password"):
        asyncio.run(list_letters(_state(state.nats_url, "wrong")))


# In memory.


@pytest.mark.parametrize(
    ("venue", "raw", "outcome", "detail"),
    [
        ("binance_usdm", TRADE, "readable", "read as trade now; its moment in the feed is over"),
        ("binance_usdm", b"{", "refused", "bad_json: "),
        ("nowhere", TRADE, "refused", "unknown_venue: venue was 'nowhere'"),
        ("", TRADE, "refused", "unknown_instrument: nothing of binance_usdm.btc-usdt-perp is in the log"),
    ],
    ids=["after a fix", "still damaged", "a venue that is gone", "never logged"],
)
def test_a_frame_is_read_again_by_the_decoder_of_its_venue(venue: str, raw: bytes, outcome: str, detail: str) -> None:
    async def nowhere(letter: DeadLetter, message_id: bytes) -> None:
        raise AssertionError(letter, message_id)

    async def main() -> None:
        memory, key = MemoryLog(), "binance_usdm.btc-usdt-perp"
        log = memory.node("x")
        if venue:
            definition = InstrumentDefinition(
                id=InstrumentId(venue=venue, symbol="btc-usdt-perp", definition_version=1),
                venue_symbol="BTCUSDT",
                price_increment="0.1",
                size_increment="0.001",
            )
            await log.append(subjects.TICKS_TOPIC, key, TickBatch(instrument=definition), record_id=b"1")
        memory.put(subjects.TICKS_TOPIC, key, "huracan.later.v1.Thing", b"", b"2")
        letter = dead_letter(raw=raw, source=key, schema="frame", reason="r", detail="d", attempt=1, at_ns=1)
        await log.append(TICK_LETTERS, key, letter, record_id=b"1")
        (found,), _ = await read_letters(log)
        replayed = await replay_letter(found, log, nowhere, SystemClock())
        assert replayed.outcome == outcome
        assert replayed.detail.startswith(detail)
        (after,), _ = await read_letters(log)
        assert (after.replayed, after.said.attempt) == ((True, 1) if outcome == "readable" else (False, 2))

    asyncio.run(main())


async def _buried(log: MemoryLog, *letters: DeadLetter) -> list[Letter]:
    for number, letter in enumerate(letters):
        await log.node("x").append(JOURNAL_LETTERS, NAME, letter, record_id=b"%d" % number)
    buried, _ = await read_letters(log.node("x"))
    return buried


def _letter(raw: bytes = b"", attempt: int = 1, at_ns: int = 1) -> DeadLetter:
    schema = codec.schema_of(FILL)
    return dead_letter(raw=raw, source=SUBJECT, schema=schema, reason="r", detail="d", attempt=attempt, at_ns=at_ns)


def test_of_a_message_the_newest_attempt_is_listed() -> None:
    async def main() -> None:
        letters = await _buried(MemoryLog(), _letter(b"1"), _letter(b"2", at_ns=0), _letter(b"1", attempt=2))
        assert [(each.said.raw, each.said.attempt) for each in letters] == [(b"2", 1), (b"1", 2)]
        assert find(letters, letters[0].id[:8].upper()) == letters[0]
        for wanted in ("", "nothing"):
            with pytest.raises(BadInput, match=f"letter id was '{wanted}'"):
                find(letters, wanted)

    asyncio.run(main())


def test_of_letters_that_were_cut_each_is_listed_and_none_is_sent() -> None:
    async def publish(letter: DeadLetter, message_id: bytes) -> None:
        raise AssertionError(letter, message_id)

    async def main() -> None:
        log = MemoryLog()
        cut = [_letter(codec.encode(FILL)) for _ in range(2)]
        for number, letter in enumerate(cut):
            letter.whole_digest = bytes([number]) * 32
        letters = await _buried(log, *cut)
        assert [letter.said for letter in letters] == cut
        replayed = await replay_all(letters, log.node("x"), publish, SystemClock())
        assert [each.outcome for each in replayed] == ["cut", "cut"]
        assert await read_letters(log.node("x")) == (letters, 0)

    asyncio.run(main())


def test_a_replay_that_ends_halfway_is_done_again_under_the_same_id() -> None:
    ids: list[bytes] = []

    async def publish(letter: DeadLetter, message_id: bytes) -> None:
        ids.append(message_id)
        if len(ids) == 1:
            raise Recoverable("no acknowledgement came")

    async def main() -> None:
        log = MemoryLog()
        (letter,) = await _buried(log, _letter(codec.encode(FILL)))
        with pytest.raises(Recoverable):
            await replay_letter(letter, log.node("x"), publish, SystemClock())
        (letter,), _ = await read_letters(log.node("x"))
        assert not letter.replayed
        assert (await replay_letter(letter, log.node("x"), publish, SystemClock())).outcome == "replayed"
        (letter,), _ = await read_letters(log.node("x"))
        assert letter.replayed

    asyncio.run(main())
    assert ids[0] == ids[1]


def test_a_message_that_several_refused_is_published_once() -> None:
    said: list[DeadLetter] = []

    async def publish(letter: DeadLetter, message_id: bytes) -> None:
        said.append(letter)

    async def main() -> None:
        log = MemoryLog().node("x")
        for service in ("executor", "persister"):
            await log.append(JOURNAL_LETTERS, service, _letter(codec.encode(FILL)), record_id=b"1")
        letters, _ = await read_letters(log)
        replayed = await replay_all(letters, log, publish, SystemClock())
        assert [each.outcome for each in replayed] == ["replayed", "done"]
        letters, _ = await read_letters(log)
        assert [letter.replayed for letter in letters] == [True, True]
        await log.append(JOURNAL_LETTERS, "executor", _letter(codec.encode(FILL), attempt=2), record_id=b"2")
        letters, _ = await read_letters(log)
        waiting = {letter.key: not letter.replayed for letter in letters}
        assert waiting == {"executor": True, "persister": False}

    asyncio.run(main())
    assert len(said) == 1


def test_people_see_what_waits_and_nothing_steers_their_terminal() -> None:
    async def main() -> None:
        letters = await _buried(MemoryLog(), _letter(codec.encode(FILL)), FRAME)
        assert whole(letters[0])["message"] == {
            "fillId": "MTExMTExMTExMTExMTExMQ==",
            "account": "paper",
            "instrument": {"venue": "sim", "symbol": "btc"},
        }
        assert whole(letters[1])["text"] == "{\x1b[2J"
        assert as_json(letters[0])["bytes"] == len(codec.encode(FILL))
        console = Console(width=200, record=True, file=StringIO())
        console.print(render(letters))
        text = console.export_text()
        assert letters[0].id[:12] in text
        assert "waits" in text

    asyncio.run(main())
