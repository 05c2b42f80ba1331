"""Who may do what: one NATS user a service, with the least that its access needs; desks hear and never speak."""

from __future__ import annotations

from dataclasses import dataclass

from huracan.bus import subjects
from huracan.bus.access import Access
from huracan.bus.nats.bus import durable_name, follower_name
from huracan.bus.nats.connection import inbox_prefix
from huracan.bus.nats.streams import BUS, STREAM_OF_TOPIC, stream_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """What a user may publish on and subscribe to: patterns; nothing else is allowed."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


WATCHED = ("feat.v1.>", "sig.v1.>", "exec.v1.>", "ctx.v1.>", "news.v1.>", "ops.v1.>", "opt.v1.>", "rpc.v1.>")
EVERYTHING = Permissions(publish=(">",), subscribe=(">",))
"""For the operator: makes the streams, tells of the dead, reads what a run left."""


def service_permissions(user: str, access: Access) -> Permissions:
    """Return what a service needs for its access, JetStream's own subjects included."""
    followers = [
        (BUS.name, follower_name(user, start, pattern), pattern)
        for start, patterns in (("last_per_subject", access.latest), ("all", access.everything))
        for pattern in patterns
    ]
    durables = [(stream_of(pattern), durable_name(durable, pattern), pattern) for durable, pattern in access.consume]
    publish = [
        *access.publish,
        *(_append(topic, key) for topic, key in access.append),
        *(f"$JS.API.DIRECT.GET.{STREAM_OF_TOPIC[topic]}" for topic in access.read),
        *(f"$JS.API.STREAM.INFO.{STREAM_OF_TOPIC[topic]}" for topic in access.keys),
    ]
    for stream, name, pattern in followers + durables:
        publish += _consumer(stream, name, pattern)
    publish += [f"$JS.API.STREAM.INFO.{stream}" for stream, _, _ in durables]
    for topic in access.follow:
        publish += _consumer(STREAM_OF_TOPIC[topic], "*", subjects.log_pattern(topic))
    return Permissions(publish=tuple(dict.fromkeys(publish)), subscribe=(*access.subscribe, _inbox(user)))


def desk_permissions(user: str, *, strategies: tuple[str, ...] = (), accounts: tuple[str, ...] = ()) -> Permissions:
    """Return what a desk may do: hear the public signals and decisions of its strategies, and its own accounts."""
    heard = [
        f"sig.v1.{what}.{subjects.token(strategy)}.>" for strategy in strategies for what in ("decision", "signal")
    ]
    heard += [f"exec.v1.{subjects.token(account)}.>" for account in accounts]
    return Permissions(publish=(), subscribe=(*heard, _inbox(user)))


def watcher_permissions(name: str) -> Permissions:
    """Return what whoever watches may do: hear everything but logs, answers and JetStream itself; say nothing."""
    return Permissions(publish=(), subscribe=(*WATCHED, _inbox(name)))


def _inbox(user: str) -> str:
    return f"{inbox_prefix(user)}.>"


def _append(topic: str, key: str) -> str:
    """Return the subject of a whole key, or the pattern of all keys under its beginning."""
    if not key:
        return subjects.log_pattern(topic)
    subject = subjects.log(topic, key)
    return subject if "." in key or topic.endswith(".dlq") else f"{subject}.>"


def _consumer(stream: str, name: str, pattern: str) -> list[str]:
    """Return what making a consumer of a pattern, pulling from it and acknowledging take."""
    return [
        f"$JS.API.CONSUMER.CREATE.{stream}.{name}.{pattern}",
        f"$JS.API.CONSUMER.DELETE.{stream}.{name}",
        f"$JS.API.CONSUMER.INFO.{stream}.{name}",
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}",
        f"$JS.ACK.{stream}.{name}.>",
    ]
