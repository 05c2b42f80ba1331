"""`huracan engine`: which bundle an expert answers from, and another one in its place while it runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from huracan.bus import subjects
from huracan.bus.nats.bus import NatsBus
from huracan.bus.nats.connection import Connection
from huracan.clock import SystemClock
from huracan.contracts.context import EngineBundle
from huracan.contracts.ops import EngineAction, EngineEvent, EngineReport, EngineRequest, engine_event_name
from huracan.errors import BadInput, PoisonMessage
from huracan.expert.swap import told
from huracan.inference.bundle import Bundle, load_bundle, write_bundle
from huracan.ports import Inbox
from huracan.rng import SeededRng
from huracan.user import user_name
from huracan_cli.options import JsonOption, StateOption, console, examples, on_the_loop
from huracan_cli.reach import answered, operator
from huracan_cli.state import RunState, default_directory, load
from huracan_cli.tail import chosen, fields_of, printable

app = typer.Typer(no_args_is_help=True, help="Which net an expert answers from; another in its place while it runs.")

ANSWER_WITHIN_S = 10.0
"""Longest wait for an expert that should be running: opening a bundle takes it tens of milliseconds."""
ASK_AGAIN_S = 5.0
"""Silence after which who waits asks how things are: reports are best effort, and one that was lost may be the last."""
GONE_AFTER_S = 60.0
"""Silence after which it waits no more: a service that is started again answers within seconds."""
_SHORT = 12

ExpertArgument = Annotated[
    str, typer.Argument(metavar="EXPERT", help="Name of the expert, or of a part of it: flow, regime.detector.")
]
BundleArgument = Annotated[
    str,
    typer.Argument(
        metavar="BUNDLE",
        help="Directory of a bundle, which is copied into the library; or a digest of the library, or enough of its "
        "beginning; or `configured`.",
    ),
]
AuthorOption = Annotated[str, typer.Option(help="Who wants it; the user's own name without it.")]
ReasonOption = Annotated[str, typer.Option(help="Why: it is kept in the journal.")]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="Wait for the end of the trial; exits 1 unless the bundle serves then.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked of an expert; raises BadInput for what was typed and is no text."""

    expert: str
    action: EngineAction
    bundle: str = ""
    author: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        for name in ("expert", "bundle", "author", "reason"):
            typed: str = getattr(self, name)
            try:
                typed.encode()
            except UnicodeEncodeError:
                raise BadInput(f"{name} was {typed!r}: it is no text in UTF-8") from None


async def ask(state: RunState, wanted: Wanted) -> AsyncGenerator[EngineReport, None]:
    """Ask an expert about its engines; yield its answer, and then whatever happens to them, without end.

    What others are refused, or told that this one knows, is left out. A report that was lost is made up for: after some
    silence the expert is asked how things are. Raises BadInput when nobody answers.
    """
    connection, service = Connection(operator(state, "engine")), wanted.expert.partition(".")[0]
    try:
        await answered(state.nats_url, connection.open())
        bus = NatsBus(connection, wall=SystemClock())
        inbox = bus.inbox()
        inbox.subscribe(subjects.ops(service, "engine"))
        await bus.prepared()
        random = SeededRng.fresh().stream("engine")
        request = EngineRequest(
            request_id=random.randbytes(16),
            key=wanted.expert,
            action=wanted.action,
            bundle=wanted.bundle,
            author=wanted.author,
            reason=wanted.reason,
        )
        await bus.publish(subjects.rpc(service, "engine"), request)
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                report = EngineReport()
                while report.request_id != request.request_id:
                    report = await _next(inbox)
        except TimeoutError:
            raise BadInput(
                f"{service} did not answer within {ANSWER_WITHIN_S:g} s: is it an expert that runs, and has engines?"
            ) from None
        yield report
        known, silent_s = report.version, 0.0
        while silent_s < GONE_AFTER_S:
            try:
                async with asyncio.timeout(ASK_AGAIN_S):
                    report = await _next(inbox)
            except TimeoutError:
                silent_s += ASK_AGAIN_S
                how = EngineRequest(
                    request_id=random.randbytes(16), key=wanted.expert, action=EngineAction.ENGINE_ACTION_LIST
                )
                await bus.publish(subjects.rpc(service, "engine"), how)
                continue
            if report.key != wanted.expert:
                continue
            silent_s = 0.0
            if _is_news(report, known):
                known = report.version
                yield report
        raise BadInput(f"{service} has said nothing of {wanted.expert} for {GONE_AFTER_S:g} s: does it still run?")
    finally:
        await connection.close()


def _is_news(report: EngineReport, known: int) -> bool:
    """Return whether a report that answers others tells of what has become of the choice since a version of it."""
    if report.event == EngineEvent.ENGINE_EVENT_REFUSED:
        return False
    tells_nothing = report.event in (EngineEvent.ENGINE_EVENT_LISTED, EngineEvent.ENGINE_EVENT_OPENED)
    return report.version > known or (report.version == known and not tells_nothing)


async def _next(inbox: Inbox) -> EngineReport:
    while True:
        try:
            message = (await anext(inbox)).decode()
        except PoisonMessage:
            continue
        if isinstance(message, EngineReport):
            return message


def placed(bundle: str, library: Path | None) -> str:
    """Return the digest of a bundle that is named by its directory, of which a copy is put into the library.

    Whatever else names one is returned as it is. Raises BadInput for a bundle that is not as it was exported, and for
    a library that cannot take it.
    """
    directory = Path(bundle)
    try:
        if not directory.is_dir():
            return bundle
    except OSError as error:
        raise BadInput(f"{directory} cannot be read: {error.strerror}") from None
    given = load_bundle(directory)
    if library is None:
        raise BadInput("the system that runs names no library: put the bundle into that of its experts, by hand")
    digest, manifest = given.digest.hex(), given.manifest
    place = library / f"{manifest.name}-{manifest.version}-{digest[:_SHORT]}"
    if not _holds(place, given):
        write_bundle(place, manifest, given.contents)
    return digest


def _holds(place: Path, bundle: Bundle) -> bool:
    """Return whether a copy of a bundle is at a place, and undamaged."""
    try:
        return load_bundle(place).digest == bundle.digest
    except BadInput:
        return False


async def _told(state: RunState, wanted: Wanted, *, wait: bool, quiet: bool) -> bool:
    """Print what is said, the answer alone or all until the end of the trial; return whether it was as wanted."""
    asked_for = b""
    async with aclosing(ask(state, wanted)) as reports:
        async for report in reports:
            if quiet:
                typer.echo(json.dumps(fields_of(report)))
            else:
                _show(report)
            if report.event == EngineEvent.ENGINE_EVENT_REFUSED:
                return False
            if not wait:
                return True
            choice = report.choice
            offered = wanted.action == EngineAction.ENGINE_ACTION_OFFER
            asked_for = asked_for or (choice.beside if offered else choice.serves).digest
            if asked_for not in (choice.serves.digest, choice.beside.digest):
                return False
            if not choice.HasField("beside"):
                return True
    raise AssertionError("reports have no end")


def _show(report: EngineReport) -> None:
    said = [f"{report.key} {engine_event_name(report.event)}", report.detail]
    said += chosen(report.choice) if report.HasField("choice") else []
    if report.HasField("trial"):
        trial = report.trial
        said.append(f"{trial.windows} of {trial.planned} windows tried")
    console.print(Text(printable("; ".join(filter(None, said)))), soft_wrap=True)


@app.command("list", epilog=examples("engine list flow", "engine list flow --json"))
def list_command(expert: ExpertArgument, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Say which bundle an expert answers from, what is on trial, and what its library has. Exits 1 if refused."""

    async def listed() -> EngineReport:
        wanted = Wanted(expert=expert, action=EngineAction.ENGINE_ACTION_LIST)
        async with aclosing(ask(load(state or default_directory()), wanted)) as reports:
            return await anext(reports)

    report = on_the_loop(listed())
    if as_json:
        typer.echo(json.dumps(fields_of(report)))
    else:
        _show(report)
        for bundle in report.library:
            console.print(Text(printable(_listed(bundle, report))), soft_wrap=True)
    if report.event == EngineEvent.ENGINE_EVENT_REFUSED:
        raise typer.Exit(1)


def _listed(bundle: EngineBundle, report: EngineReport) -> str:
    choice = report.choice
    state = {choice.beside.digest: "on trial", choice.serves.digest: "serves"}.get(bundle.digest, "")
    return f"  {told(bundle)} {state}".rstrip()


@app.command("offer", epilog=examples("engine offer flow out/bundle", "engine offer flow 3fa9c1 --wait --json"))
def offer_command(
    expert: ExpertArgument,
    bundle: BundleArgument,
    author: AuthorOption = "",
    reason: ReasonOption = "offered",
    wait: WaitOption = False,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have an expert try a bundle in the shadow; it takes over if it keeps within the bounds. Exits 1 if refused."""
    _changed(expert, EngineAction.ENGINE_ACTION_OFFER, bundle, author, reason, wait, state, as_json)


@app.command("use", epilog=examples("engine use flow out/bundle", "engine use flow configured --reason 'too slow'"))
def use_command(
    expert: ExpertArgument,
    bundle: BundleArgument,
    author: AuthorOption = "",
    reason: ReasonOption = "wanted",
    wait: WaitOption = False,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have an expert answer from a bundle at once, on probation and not in the shadow before. Exits 1 if refused."""
    _changed(expert, EngineAction.ENGINE_ACTION_USE, bundle, author, reason, wait, state, as_json)


@app.command("settle", epilog=examples("engine settle flow 3fa9c1 --reason 'as it should be'"))
def settle_command(
    expert: ExpertArgument,
    bundle: BundleArgument,
    author: AuthorOption = "",
    reason: ReasonOption = "settled",
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """End the trial: the bundle that serves, which is named, goes on. Exits 1 if refused."""
    _changed(expert, EngineAction.ENGINE_ACTION_SETTLE, bundle, author, reason, False, state, as_json)


def _changed(
    expert: str,
    action: EngineAction,
    bundle: str,
    author: str,
    reason: str,
    wait: bool,
    state: Path | None,
    as_json: bool,
) -> None:
    running = load(state or default_directory())
    wanted = Wanted(expert=expert, action=action, author=author or user_name(), reason=reason)
    wanted = replace(wanted, bundle=placed(bundle, running.engines))
    if not on_the_loop(_told(running, wanted, wait=wait, quiet=as_json)):
        raise typer.Exit(1)
