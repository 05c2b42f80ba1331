"""`huracan dlq`: what could not be read, why, and once more through the same validator after a fix."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import typer
from google.protobuf import json_format
from pydantic import BaseModel, ConfigDict
from rich import box
from rich.table import Table
from rich.text import Text

from huracan.bus import subjects
from huracan.bus.nats.bus import ATTEMPT, MESSAGE_ID, SCHEMA, SENT, NatsBus
from huracan.bus.nats.connection import Connection, answer_of
from huracan.bus.nats.streams import ACKNOWLEDGED, STREAM_OF_TOPIC
from huracan.clock import SystemClock
from huracan.contracts import codec
from huracan.contracts.market import TickBatch
from huracan.contracts.ops import DeadLetter, dead_letter
from huracan.errors import BadInput, PoisonMessage, PoisonRecord, Recoverable
from huracan.ids import derived_id
from huracan.ports import Clock, TickLog
from huracan.service.dead_letters import letter_record_id
from huracan.ticklog.jetstream import JetStreamLog
from huracan.ticklog.kafka.log import KafkaLog
from huracan.ticklog.newest import between, newest_of, newest_offset
from huracan_cli.options import JsonOption, StateOption, console, examples, on_the_loop
from huracan_cli.query import text_of_time
from huracan_cli.reach import answered, operator
from huracan_cli.state import RunState, default_directory, load
from huracan_cli.tail import printable
from huracan_gateway import venues
from huracan_gateway.reject import Rejected

app = typer.Typer(no_args_is_help=True, help="What could not be read: list it, show it, replay it after a fix.")

TOPICS = tuple(topic for topic in STREAM_OF_TOPIC if topic.endswith(".dlq"))
"""Where dead letters are kept."""
SHORT_ID = 12
_REPLAYED = "replayed"
"""Reason of the note that a letter was replayed, which is kept beside it and names its id."""
_FRAME = "frame"
"""Schema of what venues sent."""

Publish = Callable[[DeadLetter, bytes], Awaitable[None]]
"""Publish what a letter holds, under an id, as it was published the first time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """The newest letter about one message."""

    id: str
    """The same for every attempt at the same message."""
    topic: str
    key: str
    """Who refused it: a service, or the instrument of a frame."""
    offset: int
    said: DeadLetter
    replayed: bool
    """Whether the message was published again, for whomever, and has not come back."""

    @property
    def message_id(self) -> str:
        """Return the id of the message, whoever refused it: published again for one reader, all have it again."""
        return derived_id(_REPLAYED, self.said.source, self.said.schema, self.said.whole_digest or self.said.raw).hex()


class Replayed(BaseModel):
    """What became of a letter."""

    model_config = ConfigDict(frozen=True)

    id: str
    outcome: str
    """`replayed`: published again; `readable`: a frame that would be read now; `refused`: still not readable, and kept
    with the next attempt; `cut`: only its beginning is kept, and nothing was sent; `done`: it was dealt with before."""
    detail: str


def _id(topic: str, key: str, letter: DeadLetter) -> str:
    return derived_id("letter", topic, key, letter.source, letter.schema, letter.whole_digest or letter.raw).hex()


async def read_letters(log: TickLog) -> tuple[list[Letter], int]:
    """Return the newest letter about each message, oldest first, and how many records cannot be read themselves."""
    newest: dict[str, Letter] = {}
    replayed: dict[str, int] = {}
    unread = 0
    for topic in TOPICS:
        for key in await log.keys(topic):
            async for record in between(log, topic, key, 0, await newest_offset(log, topic, key) + 1):
                if isinstance(record, PoisonRecord):
                    unread += 1
                    continue
                said = record.message
                if not isinstance(said, DeadLetter):
                    continue
                if said.reason == _REPLAYED:
                    replayed[said.detail] = max(said.attempt, replayed.get(said.detail, 0))
                    continue
                name = _id(topic, key, said)
                if name not in newest or said.attempt >= newest[name].said.attempt:
                    newest[name] = Letter(
                        id=name, topic=topic, key=key, offset=record.offset, said=said, replayed=False
                    )
    letters = [
        dataclasses.replace(letter, replayed=replayed.get(letter.message_id, 0) >= letter.said.attempt)
        for letter in newest.values()
    ]
    return sorted(letters, key=lambda letter: (letter.said.at_ns, letter.topic, letter.offset)), unread


def find(letters: Sequence[Letter], wanted: str) -> Letter:
    """Return the letter whose id begins so; raise BadInput when none does, or several do."""
    found = [letter for letter in letters if letter.id.startswith(wanted.lower())]
    if not wanted or len(found) != 1:
        raise BadInput(f"letter id was {wanted!r}: {len(found)} begin so; `huracan dlq list` has them")
    return found[0]


async def replay_letter(letter: Letter, log: TickLog, publish: Publish, clock: Clock) -> Replayed:
    """Put a letter once more through its validator: publish it again, or keep it as refused once more.

    A frame is read by the decoder of its venue, and not fed again: books have gone on.
    Whatever ends this halfway, it can be done again: the message goes out under an id that letter and attempt give,
    and whoever reads it knows the ids within.
    """
    said = letter.said
    if letter.replayed:
        return Replayed(id=letter.id, outcome="done", detail=f"attempt {said.attempt} was replayed before")
    if said.whole_digest:
        return Replayed(id=letter.id, outcome="cut", detail=f"only its beginning is kept: {said.detail}")
    try:
        if said.schema == _FRAME:
            kind = await _read_frame(letter, log)
            outcome = Replayed(
                id=letter.id,
                outcome="readable",
                detail=f"read as {kind} now; its moment in the feed is over, so it goes into no book",
            )
        else:
            codec.decode(said.schema, said.raw)
            await publish(said, derived_id(letter.message_id, said.attempt))
            outcome = Replayed(id=letter.id, outcome="replayed", detail=said.source)
    except PoisonMessage as poison:
        again = _next(letter, clock, said.attempt + 1, poison.reason, poison.detail, said.raw)
        await log.append(letter.topic, letter.key, again, record_id=letter_record_id(again))
        return Replayed(id=letter.id, outcome="refused", detail=str(poison))
    note = _next(letter, clock, said.attempt, _REPLAYED, letter.message_id, b"")
    await log.append(letter.topic, letter.key, note, record_id=derived_id("note", letter.message_id, said.attempt))
    return outcome


def _next(letter: Letter, clock: Clock, attempt: int, reason: str, detail: str, raw: bytes) -> DeadLetter:
    return dead_letter(
        raw=raw,
        source=letter.said.source,
        schema=letter.said.schema,
        reason=reason,
        detail=detail,
        attempt=attempt,
        at_ns=clock.now_ns(),
    )


async def _read_frame(letter: Letter, log: TickLog) -> str:
    """Return as what a frame is read now, by the decoder of its venue; raise PoisonMessage when it is refused again."""
    newest = await newest_of(log, subjects.TICKS_TOPIC, letter.key, TickBatch)
    if newest.message is None:
        raise PoisonMessage("unknown_instrument", f"nothing of {letter.key} is in the log to say how frames are read")
    definition = newest.message.instrument
    try:
        kind, _ = venues.named(definition.id.venue).decoder(definition).decode(letter.said.raw)
    except Rejected as rejected:
        raise PoisonMessage(rejected.reason, rejected.detail) from None
    except BadInput as error:
        raise PoisonMessage("unknown_venue", str(error)) from None
    return str(kind)


@dataclass(frozen=True, slots=True)
class Office:
    """What the commands need of a running system."""

    log: TickLog
    publish: Publish


@asynccontextmanager
async def reached(state: RunState) -> AsyncIterator[Office]:
    """Give the log and the bus of a running system; raise BadInput when a server does not answer or refuses."""
    connection = Connection(operator(state, "dlq"))
    kafka = KafkaLog(state.kafka, name="dlq") if state.kafka else None
    try:
        await answered(state.nats_url, connection.open())
        if kafka is not None and state.kafka is not None:
            await answered(state.kafka.servers, kafka.open())
        bus = NatsBus(connection, wall=SystemClock())

        async def publish(letter: DeadLetter, message_id: bytes) -> None:
            await _publish(connection, letter, message_id)

        yield Office(kafka or JetStreamLog(bus), publish)
    finally:
        if kafka is not None:
            await kafka.close()
        await connection.close()


async def _publish(connection: Connection, letter: DeadLetter, message_id: bytes) -> None:
    headers = {SCHEMA: letter.schema, SENT: str(SystemClock().now_ns()), ATTEMPT: str(letter.attempt + 1)}
    if any(subjects.matches(pattern, letter.source) for pattern in ACKNOWLEDGED):
        headers[MESSAGE_ID] = message_id.hex()
        answer_of(letter.source, await connection.request(letter.source, letter.raw, headers))
    else:
        await connection.publish(letter.source, letter.raw, headers)
        await connection.flush()


async def list_letters(state: RunState) -> tuple[list[Letter], int]:
    """Return the dead letters of a running system, as `read_letters` does."""
    async with reached(state) as office:
        return await read_letters(office.log)


async def replay_letters(state: RunState, wanted: str | None) -> tuple[list[Replayed], int]:
    """Replay one letter, or all that were not; return what became of them, and how many records cannot be read.

    Raises BadInput for an id that is none's, Recoverable half-way.
    """
    async with reached(state) as office:
        letters, unread = await read_letters(office.log)
        chosen = [letter for letter in letters if not letter.replayed] if wanted is None else [find(letters, wanted)]
        return await replay_all(chosen, office.log, office.publish, SystemClock()), unread


async def replay_all(letters: Sequence[Letter], log: TickLog, publish: Publish, clock: Clock) -> list[Replayed]:
    """Replay letters in their order; a message that several readers refused is published once."""
    published: set[tuple[str, int]] = set()
    outcomes = []
    for letter in letters:
        attempt = (letter.message_id, letter.said.attempt)
        outcome = await replay_letter(
            dataclasses.replace(letter, replayed=letter.replayed or attempt in published), log, publish, clock
        )
        if outcome.outcome == "replayed":
            published.add(attempt)
        outcomes.append(outcome)
    return outcomes


def as_json(letter: Letter) -> dict[str, object]:
    """Return what a listing tells of a letter."""
    said = letter.said
    return {
        "id": letter.id,
        "at_ns": said.at_ns,
        "topic": letter.topic,
        "key": letter.key,
        "offset": letter.offset,
        "source": said.source,
        "schema": said.schema,
        "reason": said.reason,
        "detail": said.detail,
        "attempt": said.attempt,
        "bytes": len(said.raw),
        "replayed": letter.replayed,
    }


def whole(letter: Letter) -> dict[str, object]:
    """Return all of a letter: its bytes in hexadecimal, and what they say where they can be read now."""
    said = letter.said
    told = {**as_json(letter), "raw": said.raw.hex(), "text": "", "message": None}
    if said.schema == _FRAME:
        return {**told, "text": said.raw.decode(errors="replace")}
    try:
        return {**told, "message": json_format.MessageToDict(codec.decode(said.schema, said.raw))}
    except PoisonMessage:
        return told


def render(letters: Sequence[Letter]) -> Table:
    """Return letters as people read them; what others wrote cannot steer the terminal."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), header_style="bold")
    for name in ("id", "at", "refused by", "source", "reason", "attempt", "state"):
        table.add_column(name, overflow="fold")
    for letter in letters:
        said = letter.said
        cells = (
            letter.id[:SHORT_ID],
            text_of_time(said.at_ns),
            letter.key,
            said.source,
            said.reason,
            str(said.attempt),
            "replayed" if letter.replayed else "waits",
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _tell(unread: int) -> None:
    # Beside what is asked for, which stays one document for whoever reads it.
    if unread:
        typer.echo(f"records of the dead letters that could not be read, and were passed over: {unread}", err=True)


@app.command("list", epilog=examples("dlq list", "dlq list --reason undecodable --json"))
def list_command(
    reason: Annotated[str | None, typer.Option(help="Only those refused for this reason.")] = None,
    key: Annotated[str | None, typer.Option(help="Only those refused by this service, or of this instrument.")] = None,
    state: StateOption = None,
    as_json_: JsonOption = False,
) -> None:
    """List what could not be read, oldest first: when, by whom, from where, why, and at which attempt."""
    every, unread = on_the_loop(list_letters(load(state or default_directory())))
    _tell(unread)
    letters = [letter for letter in every if reason in (None, letter.said.reason) and key in (None, letter.key)]
    if as_json_:
        typer.echo(json.dumps([as_json(letter) for letter in letters]))
    else:
        console.print(render(letters) if letters else "no dead letters")


@app.command("show", epilog=examples("dlq show 3fa9c1", "dlq show 3fa9c1 --json"))
def show_command(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="Id of a letter, or enough of its beginning.")],
    state: StateOption = None,
    as_json_: JsonOption = False,
) -> None:
    """Show one letter whole, with its bytes, and with what they say where they can be read now."""
    letters, unread = on_the_loop(list_letters(load(state or default_directory())))
    _tell(unread)
    told = whole(find(letters, letter_id))
    if as_json_:
        typer.echo(json.dumps({**told, "unread_records": unread}))
        return
    for name, value in told.items():
        shown = json.dumps(value) if isinstance(value, dict) else str(value)
        console.print(Text(f"{name:<9}{printable(shown)}"), soft_wrap=True)


@app.command("replay", epilog=examples("dlq replay 3fa9c1", "dlq replay --all --json"))
def replay_command(
    letter_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Id of a letter, or its beginning.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that were not replayed yet.")] = False,
    state: StateOption = None,
    as_json_: JsonOption = False,
) -> None:
    """Publish letters again, each once; what still cannot be read is kept with the next attempt, and exits 1."""
    if (letter_id is None) == (not everything):
        raise BadInput("dlq replay needs the id of a letter or --all, one of them")
    try:
        replayed, unread = on_the_loop(replay_letters(load(state or default_directory()), letter_id))
    except Recoverable as error:
        raise BadInput(f"{error}; run it again: what was replayed is not replayed twice") from None
    _tell(unread)
    if as_json_:
        typer.echo(json.dumps([each.model_dump() for each in replayed]))
    else:
        for each in replayed:
            console.print(Text(f"{each.id[:SHORT_ID]} {each.outcome}: {printable(each.detail)}"), soft_wrap=True)
        if not replayed:
            console.print("nothing waits")
    if any(each.outcome == "refused" for each in replayed):
        raise typer.Exit(1)
