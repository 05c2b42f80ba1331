"""Keep one Apache Kafka broker with our topics up on 127.0.0.1 until it is told to stop.

Settings come from the environment: KAFKA_PORT (19092), KAFKA_CONTROLLER_PORT (19093), KAFKA_DIR (.tools/kafka: data,
log and configuration), KAFKA_HEAP_MB (512). It needs Java 17 or newer and, the first time, Maven; anyone on this
machine may use the broker.
"""

import argparse
import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path

from huracan.embedded import binaries
from huracan.embedded.files import make_directory
from huracan.embedded.kafka import HEAP_MB, READY_WITHIN_S, STOP_WITHIN_S, KafkaServer
from huracan.embedded.supervisor import running
from huracan.errors import BadInput, Fatal, HuracanError
from huracan.service.service import GROUP, spec
from huracan.ticklog.kafka.acls import grant, rights
from huracan.ticklog.kafka.config import KafkaConfig, from_environment
from huracan.ticklog.kafka.topics import TOPICS, make_topics

REPO = Path(__file__).resolve().parent.parent
APT = ("openjdk-17-jre-headless", "maven")
LOOK_EVERY_S = 0.1
KEYS_ALONE = {"orchestrator": {"shard": 0}}
"""Settings that a service must be given, and that change its keys and none of its topics."""


def server() -> KafkaServer:
    """Return the broker that the environment describes; BadInput for a value that is no number."""
    return KafkaServer(
        directory=Path(os.environ.get("KAFKA_DIR", REPO / ".tools" / "kafka")),
        port=_number("KAFKA_PORT", 19_092),
        controller_port=_number("KAFKA_CONTROLLER_PORT", 19_093),
        heap_mb=_number("KAFKA_HEAP_MB", HEAP_MB),
    )


def _number(name: str, default: int) -> int:
    given = os.environ.get(name, str(default))
    if not given.isdecimal():
        raise BadInput(f"{name} was {given!r}; it is a whole number")
    return int(given)


def keeper(broker: KafkaServer) -> int | None:
    """Return the process that keeps the broker up; None when none does."""
    pid, lock = broker.directory / "pid", broker.directory / "lock"
    if not (pid.exists() and lock.exists()):
        return None
    with lock.open() as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(pid.read_text(encoding="ascii"))
    return None


def keep() -> None:
    """Run the broker, make the topics, and stop it at SIGTERM; end when it ends by itself."""
    broker = server()
    make_directory(broker.directory, mode=0o700)
    with (broker.directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        with running(broker.prepare()) as kafka:
            asyncio.run(make_topics(KafkaConfig(servers=broker.address)))
            (broker.directory / "pid").write_text(str(os.getpid()), encoding="ascii")
            while signal.sigtimedwait({signal.SIGTERM, signal.SIGINT}, 1.0) is None:
                if os.waitid(os.P_PID, kafka, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                    break
            (broker.directory / "pid").unlink()


def up() -> None:
    """Start a keeper in the background and return once the broker is up with its topics."""
    broker = server()
    if keeper(broker) is None:
        make_directory(broker.directory, mode=0o700)
        (broker.directory / "pid").unlink(missing_ok=True)
        with (broker.directory / "keeper.log").open("w+") as log:
            kept = subprocess.Popen(
                [sys.executable, __file__, "keep"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            until_s = time.monotonic() + READY_WITHIN_S + binaries.FETCH_WITHIN_S
            while not (broker.directory / "pid").exists():
                if kept.poll() is not None or time.monotonic() > until_s:
                    log.seek(0)
                    raise Fatal(log.read().strip() or "the broker did not come up")
                time.sleep(LOOK_EVERY_S)
    print(f"up on {broker.address}, in {broker.directory}")


def down(*, wipe: bool) -> None:
    """Stop the broker; remove its data if told to."""
    broker = server()
    pid = keeper(broker)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        until_s = time.monotonic() + 2 * STOP_WITHIN_S
        while keeper(broker) is not None or (broker.directory / "pid").exists():
            if time.monotonic() > until_s:
                raise Fatal(f"process {pid} still runs {2 * STOP_WITHIN_S:.0f} s after it was asked to stop")
            time.sleep(LOOK_EVERY_S)
    if wipe:
        shutil.rmtree(broker.directory / "data", ignore_errors=True)
    print("down")


def status() -> None:
    """Say whether the broker is up; exit with 3 when it is not."""
    broker = server()
    pid = keeper(broker)
    print(f"up on {broker.address}, kept by process {pid}" if pid else "down")
    if pid is None:
        sys.exit(3)


def env() -> None:
    """Print what tells a process of ours to keep its log there."""
    print(f"HURACAN_TICKLOG=kafka\nHURACAN_KAFKA__SERVERS={server().address}")


def topics() -> None:
    """Make the topics on the servers that HURACAN_KAFKA__SERVERS and its like name."""
    config = from_environment()
    made = asyncio.run(make_topics(config))
    for topic in TOPICS:
        print(f"{topic}: {'made' if topic in made else 'there'} on {config.servers}")


def acls(*, apply: bool) -> None:
    """Print what each installed service needs of the topics, as kafka-acls takes it; give it to them if told to."""
    config = from_environment()
    for service in sorted(entry_points(group=GROUP).names):
        found = spec(service)
        granted = rights(found.access(found.config.model_validate(KEYS_ALONE.get(service, {}))))
        for topic, operation in granted:
            print(f"--add --allow-principal User:{service} --operation {operation.name} --topic {topic}")
        if apply:
            asyncio.run(grant(config, service, granted))
    if apply:
        print(f"given on {config.servers}")


def fetch() -> None:
    """Have Java, Maven and Kafka here, with apt where we are root; say what is missing, and under CI=true fail."""
    try:
        apt = shutil.which("apt-get") if os.geteuid() == 0 else None
        if apt is not None and not (shutil.which("java") and shutil.which("mvn")):
            for command in (["update"], ["install", "--yes", "--no-install-recommends", *APT]):
                subprocess.run([apt, "--quiet", *command], check=False, stdout=subprocess.DEVNULL)
        binaries.java()
        binaries.kafka_jars()
    except BadInput as missing:
        print(f"kafka: its tests are skipped ({missing})", file=sys.stderr)
        if os.environ.get("CI") == "true":
            sys.exit(1)


COMMANDS = {"up": up, "status": status, "env": env, "topics": topics, "fetch": fetch, "keep": keep}


def main() -> None:
    """Run the command that is given; exit with 1 and say why when it fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=[*COMMANDS, "acls", "down"])
    parser.add_argument("--apply", action="store_true", help="with acls: give the rights to the users of that name")
    parser.add_argument("--wipe", action="store_true", help="with down: remove the data")
    given = parser.parse_args()
    try:
        if given.command == "down":
            down(wipe=given.wipe)
        elif given.command == "acls":
            acls(apply=given.apply)
        else:
            COMMANDS[given.command]()
    except (HuracanError, ValueError) as error:
        sys.exit(f"kafka: {error}")


if __name__ == "__main__":
    main()
