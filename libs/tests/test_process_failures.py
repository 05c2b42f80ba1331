"""A process from inside, on a real server: how it fails, and what it says of it."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import structlog

from huracan.errors import BadInput, Fatal
from huracan.ports import Record, Store
from huracan.service import __main__ as program
from huracan.service.process import Process, failures
from huracan.service.settings import ProcessSettings

from .hosted import (
    INSTRUMENT,
    Doing,
    Hearer,
    Install,
    Make,
    Server,
    finished,
    installing,
    login,
    new_name,
    nothing,
    settings_of,
    started,
    terminate,
    watcher,
)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    return installing(monkeypatch)


@pytest.fixture
def name() -> str:
    return new_name()


def _failing(error: Exception, *, draining: bool = False) -> Make:
    async def fail(service: Doing) -> None:
        if draining:
            inbox = service.ports.bus.inbox()
            async for _ in inbox:
                raise AssertionError("nothing was to come")
        async with asyncio.TaskGroup() as group:  # as most services have one
            group.create_task(_raise(error))

    return lambda name, ports: Doing(name, ports, fail)


async def _raise(error: Exception) -> None:
    raise error


@pytest.fixture
def quiet() -> Iterator[None]:
    """Give the log back as it was before a program set it up."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers = []  # else the program would close those of pytest
    yield
    logging.captureWarnings(capture=False)
    root.handlers = handlers
    root.setLevel(level)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("error", "code"), [(Fatal("disk is full"), 1), (BadInput("file was empty"), 2), (ZeroDivisionError("by 0"), 1)]
)
def test_a_service_that_fails_ends_its_process_and_is_named(
    error: Exception,
    code: int,
    shared: bool,
    nats_server: Server,
    install: Install,
    name: str,
    tmp_path: Path,
    quiet: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = {name: _failing(error)}
    if shared:
        made[f"{name}-b"] = lambda one, ports: Hearer(one, ports, nothing)
    asyncio.run(_with_streams(nats_server))
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(settings_of(nats_server, install(made))))
    assert program.main(["--config", str(path)]) == code
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    failed = [line for line in lines if line["event"] == "service.failed"]
    assert [(line["service"], line["error"], line["kind"], line["level"]) for line in failed] == [
        (name, str(error), type(error).__name__, "error")
    ]
    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)
    assert lines[-1]["event"] == "process.failed"
    assert lines[-1]["errors"] == [f"{type(error).__name__}: {error}"]


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_what_libraries_say_is_logged_as_our_own_is_and_no_variables(
    log_format: str, quiet: None, capsys: pytest.CaptureFixture[str]
) -> None:
    program._log(ProcessSettings.model_validate({"services": {"flow": {}}, "log_format": log_format}))
    local_secret = secrets.token_hex(8)
    try:
        raise ZeroDivisionError("by 0")
    except ZeroDivisionError as error:
        structlog.get_logger().error("ours", exc_info=error)
        logging.getLogger("asyncio").exception("theirs")
    logging.getLogger("asyncio").info("of no interest")
    said = capsys.readouterr().err
    assert said.count("ZeroDivisionError: by 0") == 2
    assert local_secret not in said
    if log_format == "json":
        lines = [json.loads(line) for line in said.splitlines()]
        assert [(line["event"], line["level"]) for line in lines] == [("ours", "error"), ("theirs", "error")]


async def _with_streams(server: Server) -> None:
    async with watcher(server):
        pass


def test_a_service_that_fails_while_it_drains_fails_its_process(
    nats_server: Server, install: Install, name: str
) -> None:
    services = install({name: _failing(Fatal("nothing left to do it with"), draining=True)})

    async def main() -> None:
        async with watcher(nats_server), started(settings_of(nats_server, services)) as (_, running):
            terminate()
            with pytest.raises(BaseExceptionGroup) as failed:
                await finished(running)
            assert [str(failure) for failure in failures(failed.value)] == ["nothing left to do it with"]

    asyncio.run(main())


def test_a_connection_that_is_closed_for_good_ends_the_process(
    nats_server: Server, install: Install, name: str
) -> None:
    services = install({name: lambda one, ports: Hearer(one, ports, nothing)})

    async def main() -> None:
        async with watcher(nats_server), started(settings_of(nats_server, services)) as (hosting, running):
            hosted = hosting._hosted[0]
            await hosted._connection._client.close()
            with pytest.raises(BaseExceptionGroup) as failed:
                await finished(running)
            assert [type(failure) for failure in failures(failed.value)] == [Fatal]
            assert "closed for good" in str(next(failures(failed.value)))
            assert not hosted.watched().alive()

    asyncio.run(main())


def test_a_login_that_is_refused_ends_the_process_without_its_password(
    nats_server: Server, install: Install, name: str
) -> None:
    url, user, _ = login(nats_server)
    services = install({name: lambda one, ports: Hearer(one, ports, nothing)})
    settings = {"services": services, "nats": {"url": url, "user": user, "passwords": {user: "wrong-secret"}}}

    async def main() -> None:
        async with started(settings) as (_, running):
            with pytest.raises(BaseExceptionGroup) as failed:
                await finished(running)
            (failure,) = failures(failed.value)
            assert isinstance(failure, BadInput)
            assert "check its password" in str(failure)
            assert "wrong-secret" not in str(failure)

    asyncio.run(main())


def test_a_port_that_is_taken_is_refused_before_any_service_runs(
    nats_server: Server, install: Install, name: str
) -> None:
    port = int(login(nats_server)[0].rpartition(":")[2])
    services = install({name: lambda one, ports: Hearer(one, ports, nothing)})

    async def main() -> None:
        hosting = Process(ProcessSettings.model_validate(settings_of(nats_server, services, http_port=port)))
        with pytest.raises(BadInput, match=f"http_port was {port}"):
            await hosting.run()
        assert hosting._hosted[0].service is None

    asyncio.run(main())


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.save([INSTRUMENT]),
        lambda store: store.skip("topic", "key", 1, schema="schema", raw=b""),
        lambda store: store.restore("topic", "key", Record(1, INSTRUMENT)),
    ],
    ids=["save", "skip", "restore"],
)
def test_a_service_that_keeps_nothing_is_refused_the_store(
    nats_server: Server, install: Install, name: str, ask: Callable[[Store], Awaitable[object]]
) -> None:
    async def save(service: Doing) -> None:
        await ask(service.ports.store)

    services = install({name: lambda one, ports: Doing(one, ports, save)})

    async def main() -> None:
        async with watcher(nats_server), started(settings_of(nats_server, services)) as (_, running):
            with pytest.raises(BaseExceptionGroup) as failed:
                await finished(running)
            assert "keeps nothing" in str(next(failures(failed.value)))

    asyncio.run(main())
