"""`huracan engine`: bundles on their way into the library, what is printed, and how it fails."""

from __future__ import annotations

import asyncio
import getpass
import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from huracan.bus.nats.bus import NatsBus
from huracan.bus.nats.connection import Connection
from huracan.bus.nats.users import EVERYTHING
from huracan.clock import SystemClock
from huracan.contracts.context import EngineBundle, EngineChoice, EngineStage, engine_choice
from huracan.contracts.ops import EngineAction, EngineEvent, EngineReport, EngineRequest, EngineTrial
from huracan.embedded.nats import NatsServer, NatsUser
from huracan.embedded.ports import free_port
from huracan.embedded.supervisor import running
from huracan.errors import BadInput
from huracan.expert.engines import Library
from huracan.inference.bundle import MANIFEST, load_bundle
from huracan_cli import engine
from huracan_cli.composition import BUNDLES
from huracan_cli.engine import placed
from huracan_cli.main import app
from huracan_cli.reach import operator
from huracan_cli.state import RunState, load
from huracan_cli.system import OPERATOR

from .run_states import run_state

FLOW = BUNDLES / "flow"
OLD = EngineBundle(digest=b"\1" * 32, name="flow", version=1)
NEW = EngineBundle(digest=b"\2" * 32, name="flow", version=2)
THIRD = EngineBundle(digest=b"\3" * 32, name="flow", version=3)
SHADOW = engine_choice(OLD, beside=NEW, stage=EngineStage.ENGINE_STAGE_SHADOW, author="ann", reason="better")
PROBATION = engine_choice(NEW, beside=OLD, stage=EngineStage.ENGINE_STAGE_PROBATION, author="flow", reason="within")
OTHERS = engine_choice(OLD, beside=THIRD, stage=EngineStage.ENGINE_STAGE_SHADOW, author="ben", reason="newer")
Event = EngineEvent


# The library.


def test_a_directory_is_copied_into_the_library_once_and_named_by_its_digest(tmp_path: Path) -> None:
    bundle = load_bundle(FLOW)
    for _ in range(2):
        assert placed(str(FLOW), tmp_path / "engines") == bundle.digest.hex()
    (((place,), name),) = Library(tmp_path / "engines").bundles().values()
    assert (place.name, name.version) == (f"flow-{name.version}-{bundle.digest.hex()[:12]}", bundle.manifest.version)
    assert load_bundle(place).contents == bundle.contents


def test_what_is_no_directory_is_taken_as_it_is(tmp_path: Path) -> None:
    assert placed("configured", None) == "configured"
    assert placed("3fa9c1", tmp_path) == "3fa9c1"


def test_a_directory_that_is_no_bundle_or_was_tampered_with_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is no model bundle: it has no manifest\.json"):
        placed(str(tmp_path), tmp_path)
    tampered = shutil.copytree(FLOW, tmp_path / "tampered")
    (tampered / "card.md").write_text("another")
    with pytest.raises(BadInput, match=r"card\.md was .*it is not what was exported"):
        placed(str(tampered), tmp_path / "engines")
    assert not (tmp_path / "engines").exists()
    with pytest.raises(BadInput, match="names no library"):
        placed(str(FLOW), None)


@pytest.mark.parametrize("name", ["../../elsewhere", "/elsewhere", "..", "a b"])
def test_a_bundle_says_by_its_name_nothing_of_where_it_is_written(tmp_path: Path, name: str) -> None:
    other = shutil.copytree(FLOW, tmp_path / "given" / "bundle")
    manifest = json.loads((other / MANIFEST).read_text())
    (other / MANIFEST).write_text(json.dumps(manifest | {"name": name}))
    with pytest.raises(BadInput, match=r"manifest\.json: name: String should match"):
        placed(str(other), tmp_path / "library" / "engines")
    assert [each.name for each in tmp_path.iterdir()] == ["given"]


def test_a_copy_in_the_library_that_was_damaged_is_written_anew(tmp_path: Path) -> None:
    placed(str(FLOW), tmp_path)
    (place,) = tmp_path.iterdir()
    whole = load_bundle(place)
    (place / "card.md").write_text("another")
    assert placed(str(FLOW), tmp_path) == whole.digest.hex()
    assert load_bundle(place) == whole


def test_a_link_in_the_library_to_a_copy_that_was_damaged_is_replaced_and_the_copy_left_alone(tmp_path: Path) -> None:
    placed(str(FLOW), tmp_path / "engines")
    (place,) = (tmp_path / "engines").iterdir()
    whole, elsewhere = load_bundle(place), place.rename(tmp_path / "elsewhere")
    (elsewhere / "card.md").write_text("another")
    place.symlink_to(elsewhere)
    assert placed(str(FLOW), tmp_path / "engines") == whole.digest.hex()
    assert load_bundle(place) == whole
    assert (elsewhere / "card.md").read_text() == "another"
    assert list((tmp_path / "engines").iterdir()) == [place]


@pytest.mark.parametrize(
    ("library", "why"),
    [
        ("{tmp}/file", "File exists"),
        ("{tmp}/file/engines", "Not a directory"),
        ("/proc/engines", "No such file or directory"),
    ],
)
def test_a_library_that_cannot_take_a_bundle_is_refused_by_name_with_the_reason(
    tmp_path: Path, library: str, why: str
) -> None:
    (tmp_path / "file").write_text("mine")
    place = Path(library.format(tmp=tmp_path))
    with pytest.raises(BadInput, match=rf"^{place} cannot be made: {why}$"):
        placed(str(FLOW), place)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_what_is_too_long_for_a_directory_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^a{300} cannot be read: File name too long$"):
        placed("a" * 300, tmp_path)


# The command, and a service that answers it.


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """Run a server, and give a state directory that says how it is reached."""
    home = Path(tempfile.mkdtemp(prefix="huracan-engine-"))
    server = NatsServer(directory=home / "nats", port=free_port(), monitor_port=free_port())
    user = NatsUser(name=OPERATOR, password="secret", publish=EVERYTHING.publish, subscribe=EVERYTHING.subscribe)
    with running(server.prepare([user])):
        _state(server.url, home / "engines").write(home)
        yield home
    shutil.rmtree(home)


def _state(url: str, engines: Path) -> RunState:
    return run_state(nats_url=url, passwords={OPERATOR: SecretStr("secret")}, engines=engines)


@contextmanager
def _answering(
    directory: Path, *reports: EngineReport, again: EngineReport | None = None
) -> Iterator[list[EngineRequest]]:
    """Answer one request with reports, the first under its id, and a second with another; give what was asked."""
    asked: list[EngineRequest] = []
    listening = threading.Event()

    async def answer() -> None:
        connection = Connection(operator(load(directory), "stub"))
        await connection.open()
        try:
            bus = NatsBus(connection, wall=SystemClock())
            inbox = bus.inbox()
            for key in ("flow", "regime"):
                inbox.subscribe(f"rpc.v1.{key}.engine")
            await bus.prepared()
            await connection.flush()
            listening.set()
            for told in (reports, (again,)) if again else (reports,):
                delivery = await anext(inbox)
                request = delivery.decode()
                assert isinstance(request, EngineRequest)
                asked.append(request)
                service = request.key.partition(".")[0]
                anothers = EngineReport(request_id=b"another's", key=request.key, event=Event.ENGINE_EVENT_REFUSED)
                await bus.publish(f"ops.v1.{service}.engine", anothers)
                for number, report in enumerate(told):
                    said = EngineReport(request_id=b"" if number else request.request_id, key=request.key)
                    said.MergeFrom(report)
                    await bus.publish(f"ops.v1.{service}.engine", said)
                await connection.flush()
        finally:
            await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(answer()))
    thread.start()
    assert listening.wait(30)
    yield asked
    thread.join()


def _typed(directory: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["engine", *arguments, "--state", str(directory)])


OFFERED = EngineReport(
    event=Event.ENGINE_EVENT_OFFERED,
    detail="flow 2 (020202020202): better",
    choice=SHADOW,
    trial=EngineTrial(windows=3, planned=9),
)


def test_a_list_says_what_serves_what_is_tried_and_what_there_is(directory: Path) -> None:
    listed = EngineReport(event=Event.ENGINE_EVENT_LISTED, choice=SHADOW, library=[OLD, NEW, THIRD])
    with _answering(directory, listed) as asked:
        done = _typed(directory, "list", "flow")
    assert done.exit_code == 0
    assert [line.rstrip() for line in done.output.splitlines()] == [
        "flow listed; flow 1 (010101010101) serves; flow 2 (020202020202) in the shadow",
        "  flow 1 (010101010101) serves",
        "  flow 2 (020202020202) on trial",
        "  flow 3 (030303030303)",
    ]
    assert (asked[0].action, asked[0].key) == (EngineAction.ENGINE_ACTION_LIST, "flow")
    with _answering(directory, listed):
        told = json.loads(_typed(directory, "list", "flow", "--json").output)
    assert told["choice"]["beside"]["digest"] == "02" * 32


def test_an_offer_puts_the_bundle_into_the_library_and_asks_for_it_by_its_digest(directory: Path) -> None:
    with _answering(directory, OFFERED) as asked:
        done = _typed(directory, "offer", "flow", str(FLOW), "--author", "ann", "--reason", "better")
    assert (done.exit_code, "3 of 9 windows tried" in done.output) == (0, True)
    (request,) = asked
    assert (request.bundle, request.author, request.reason) == (load_bundle(FLOW).digest.hex(), "ann", "better")
    assert bytes.fromhex(request.bundle) in Library(directory / "engines").bundles()


def test_a_part_of_an_expert_is_asked_where_its_service_is(directory: Path) -> None:
    taken = EngineReport(event=Event.ENGINE_EVENT_TAKEN_OVER, choice=SHADOW)
    with _answering(directory, taken) as asked:
        assert _typed(directory, "use", "regime.detector", "configured").exit_code == 0
    (request,) = asked
    assert (request.key, request.action) == ("regime.detector", EngineAction.ENGINE_ACTION_USE)
    assert request.author == getpass.getuser()


def _said(done: Result) -> list[int]:
    return [Event.Value(json.loads(line)["event"]) for line in done.output.splitlines()]


@pytest.mark.parametrize(
    ("ends", "choice", "code"),
    [
        (Event.ENGINE_EVENT_SETTLED, engine_choice(NEW, author="flow", reason="within"), 0),
        (Event.ENGINE_EVENT_REJECTED, engine_choice(OLD, author="flow", reason="slow"), 1),
        (Event.ENGINE_EVENT_ROLLED_BACK, engine_choice(OLD, author="flow", reason="slow"), 1),
        (Event.ENGINE_EVENT_LOST, engine_choice(OLD, author="flow", reason="gone"), 1),
        (Event.ENGINE_EVENT_OFFERED, OTHERS, 1),
        (Event.ENGINE_EVENT_SETTLED, engine_choice(THIRD, author="flow", reason="within"), 1),
    ],
)
def test_who_waits_is_told_all_until_the_trial_ends_and_whether_the_bundle_serves(
    directory: Path, ends: EngineEvent, choice: EngineChoice, code: int
) -> None:
    told = [
        OFFERED,
        EngineReport(event=Event.ENGINE_EVENT_TAKEN_OVER, choice=PROBATION, version=1),
        EngineReport(event=ends, choice=choice, version=2),
    ]
    with _answering(directory, *told):
        done = _typed(directory, "offer", "flow", "02", "--wait", "--json")
    assert _said(done) == [report.event for report in told]
    assert done.exit_code == code


def test_who_waits_takes_nothing_that_is_not_of_the_trial_for_its_end(directory: Path) -> None:
    settled = EngineReport(event=Event.ENGINE_EVENT_SETTLED, choice=engine_choice(NEW, author="", reason=""), version=1)
    anothers = [
        EngineReport(event=Event.ENGINE_EVENT_SETTLED, key="regime.detector", choice=OTHERS, version=9),
        EngineReport(event=Event.ENGINE_EVENT_REFUSED, request_id=b"another's", choice=SHADOW),
        EngineReport(event=Event.ENGINE_EVENT_LISTED, request_id=b"another's", choice=SHADOW),
        EngineReport(event=Event.ENGINE_EVENT_OPENED, choice=engine_choice(OLD, author="", reason="")),
    ]
    behind = EngineReport(event=Event.ENGINE_EVENT_LISTED, choice=engine_choice(OLD, author="", reason=""))
    taken = EngineReport(event=Event.ENGINE_EVENT_TAKEN_OVER, choice=PROBATION, version=1)
    with _answering(directory, OFFERED, *anothers, taken, behind, settled):
        done = _typed(directory, "offer", "flow", "02", "--wait", "--json")
    assert _said(done) == [OFFERED.event, taken.event, settled.event]
    assert done.exit_code == 0


def test_who_goes_back_to_what_served_before_has_what_it_wanted(directory: Path) -> None:
    back = EngineReport(event=Event.ENGINE_EVENT_ROLLED_BACK, choice=engine_choice(OLD, author="ann", reason="slow"))
    with _answering(directory, back):
        assert _typed(directory, "use", "flow", "configured", "--wait").exit_code == 0


def test_to_settle_names_the_bundle_that_goes_on(directory: Path) -> None:
    settled = EngineReport(event=Event.ENGINE_EVENT_SETTLED, choice=engine_choice(NEW, author="ann", reason="good"))
    with _answering(directory, settled) as asked:
        assert _typed(directory, "settle", "flow", "02", "--author", "ann").exit_code == 0
    (request,) = asked
    assert (request.action, request.bundle) == (EngineAction.ENGINE_ACTION_SETTLE, "02")


def test_who_waits_asks_how_things_are_when_the_last_report_was_lost(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "ASK_AGAIN_S", 0.2)
    settled = engine_choice(NEW, author="flow", reason="within")
    listed = EngineReport(event=Event.ENGINE_EVENT_LISTED, choice=settled, version=2)
    with _answering(directory, OFFERED, again=listed) as asked:
        done = _typed(directory, "offer", "flow", "02", "--wait", "--json")
    assert [request.action for request in asked] == [
        EngineAction.ENGINE_ACTION_OFFER,
        EngineAction.ENGINE_ACTION_LIST,
    ]
    assert (_said(done), done.exit_code) == ([OFFERED.event, listed.event], 0)


def test_who_waits_for_a_service_that_is_gone_is_told_so(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "ASK_AGAIN_S", 0.1)
    monkeypatch.setattr(engine, "GONE_AFTER_S", 0.3)
    with _answering(directory, OFFERED):
        done = _typed(directory, "offer", "flow", "02", "--wait")
    assert isinstance(done.exception, BadInput)
    assert str(done.exception).startswith("flow has said nothing of flow for 0.3 s")


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_a_list_of_a_part_that_an_expert_has_not_ends_with_1(directory: Path, arguments: tuple[str, ...]) -> None:
    refused = EngineReport(event=Event.ENGINE_EVENT_REFUSED, detail="there is no regime.nope")
    with _answering(directory, refused):
        done = _typed(directory, "list", "regime.nope", *arguments)
    assert (done.exit_code, "there is no regime.nope" in done.output) == (1, True)


def test_what_is_refused_ends_with_1_and_its_reason(directory: Path) -> None:
    refused = EngineReport(event=Event.ENGINE_EVENT_REFUSED, detail="model.onnx was \x1b[2Janother")
    with _answering(directory, refused):
        done = _typed(directory, "offer", "flow", "02")
    assert (done.exit_code, "flow refused; model.onnx was" in done.output) == (1, True)
    assert "\x1b" not in done.output


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("author", ("flow", str(FLOW), "--author", "\udcff")),
        ("reason", ("flow", str(FLOW), "--reason", "\udcff")),
        ("expert", ("\udcff", str(FLOW))),
        ("bundle", ("flow", "\udcff")),
    ],
)
def test_what_is_no_text_is_refused_by_its_field_before_anything_is_copied(
    tmp_path: Path, field: str, arguments: tuple[str, ...]
) -> None:
    _state("nats://127.0.0.1:1", tmp_path / "engines").write(tmp_path)
    done = _typed(tmp_path, "offer", *arguments)
    assert isinstance(done.exception, BadInput)
    assert str(done.exception) == rf"{field} was '\udcff': it is no text in UTF-8"
    assert not (tmp_path / "engines").exists()


def test_an_expert_that_does_not_answer_is_named(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "ANSWER_WITHIN_S", 0.3)
    done = _typed(directory, "list", "nobody")
    assert isinstance(done.exception, BadInput)
    assert str(done.exception).startswith("nobody did not answer within 0.3 s")
