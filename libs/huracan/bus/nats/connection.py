"""One service's connection to NATS: kept for ever, its failures counted, its requests answered or refused.

What the client does by default and must not do here (each has a test against the real server): it gives up after 60
attempts to reconnect; it says nothing to a publisher whose subject is forbidden; it keeps a request waiting whose
connection is gone; its own drain can hang; its flush overtakes what waits to be sent; it counts a message without its
headers, and the server throws out whoever sends one that is too large.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from nats import errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from pydantic import SecretStr

from huracan.bus import subjects
from huracan.bus.nats.client import MendedClient
from huracan.errors import BadInput, Fatal, HuracanError, Recoverable

RECONNECT_WAIT_S = 0.1
"""Wait between two attempts to reach the server: short, as a restarted server is back within a second."""
CONNECT_TIMEOUT_S = 2.0
PING_INTERVAL_S = 5.0
"""With two pings missed a half-open connection is given up: 10 to 15 s."""
REQUEST_TIMEOUT_S = 2.0
"""Wait for an acknowledgement or an answer; ordinary round trips take well under a millisecond."""
IN_FLIGHT_BOUND = 1_024
"""Requests that wait for an answer at once; past it the next one waits for its turn (block)."""
FLUSH_TIMEOUT_S = 2
"""Longest wait of a publisher whose server takes nothing although it is connected, and of half a flush."""
DRAIN_TIMEOUT_S = 5.0
"""Longest wait for the last bytes to leave before the connection is closed all the same."""
FORBIDDEN_BOUND = 1_024
"""Subjects remembered as forbidden; past it a publisher is not told of more."""

_FRAMING = len(b"NATS/1.0\r\n\r\n")
_VIOLATION = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"', re.IGNORECASE)

logger = structlog.get_logger()

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsLogin:
    """Where the server is, and who comes."""

    url: str
    name: str
    """Names the connection, its answers and its places in streams; one process a name."""
    user: str = ""
    """User of the server, where that is not the name."""
    password: SecretStr = field(default=SecretStr(""))


class Connection:
    """A connection that never gives up, and a window of requests over one shared inbox."""

    def __init__(self, login: NatsLogin) -> None:
        self.login = login
        self.counts: Counter[str] = Counter()
        """What happened: reconnects, disconnects, errors, slow_consumers, refused, discarded (by a full stream)."""
        self.on_reconnected: list[Callable[[], Awaitable[None]]] = []
        self.on_refused: list[Callable[[str, Fatal], None]] = []
        """Called with the subject, in lower case, of a subscription that the server has forbidden."""
        self.gone = asyncio.Event()
        """Set when the connection is closed for good although nobody here closed it."""
        self._client = MendedClient()
        self._closing = False
        self._waiting: dict[str, tuple[str, asyncio.Future[Msg]]] = {}
        self._collecting: dict[str, tuple[str, asyncio.Queue[Msg | HuracanError]]] = {}
        self._window = asyncio.Semaphore(IN_FLIGHT_BOUND)
        self._asked = 0
        self._answers = ""
        self._unheard = False
        self._forbidden: set[str] = set()
        self._login_refused: asyncio.Future[None] | None = None
        self._outgoing: deque[tuple[str, bytes]] = deque()
        self._waits_to_leave = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect, waiting for the server as long as it takes; raise BadInput when it refuses the login."""
        refused = self._login_refused = asyncio.get_running_loop().create_future()
        connecting = asyncio.ensure_future(self._connect())
        try:
            await asyncio.wait([connecting, refused], return_when=asyncio.FIRST_COMPLETED)
            if refused.done():
                raise BadInput(f"{self.login.url} refused user {self._user!r}: check its password")
            await connecting
        except BaseException:
            connecting.cancel()
            await asyncio.wait([connecting])
            await self._close_client(abort=True)
            raise
        finally:
            refused.cancel()
        self._answers = self._client.new_inbox()
        await self._client.subscribe(f"{self._answers}.*", cb=self._answered)
        self._sender = asyncio.create_task(self._send(), name=f"acknowledge {self.login.name}")

    async def _connect(self) -> None:
        login = self.login
        waits: dict[str, Any] = {  # the library says int and takes any number
            "reconnect_time_wait": RECONNECT_WAIT_S,
            "connect_timeout": CONNECT_TIMEOUT_S,
            "ping_interval": PING_INTERVAL_S,
            "flush_timeout": FLUSH_TIMEOUT_S,
        }
        await self._client.connect(
            login.url,
            name=login.name,
            user=self._user,
            password=login.password.get_secret_value(),
            inbox_prefix=inbox_prefix(login.name).encode(),
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            max_outstanding_pings=2,
            error_cb=self._failed,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
            closed_cb=self._closed,
            **waits,
        )

    @property
    def _user(self) -> str:
        return self.login.user or self.login.name

    @property
    def connected(self) -> bool:
        """Return whether the server can be reached now."""
        return self._client.is_connected

    @property
    def closed(self) -> bool:
        """Return whether the connection is gone for good: the process must be restarted."""
        return self._client.is_closed

    @property
    def max_payload(self) -> int:
        """Return the largest message that the server takes, in bytes, its headers included."""
        return self._client.max_payload

    async def publish(self, subject: str, data: bytes, headers: Headers | None = None, *, reply: str = "") -> None:
        """Send at most once; raise Recoverable when it cannot even be handed to the socket.

        Raises Fatal for a message that is, with its headers, larger than the server takes, and for a subject that it
        has refused before: it says so only after the first message.
        """
        if self._forbidden and subject.lower() in self._forbidden:
            raise self._not_permitted("publish", subject)
        size = len(data) + _size(headers)
        if size > self.max_payload:
            raise Fatal(f"{subject}: message was {size} bytes with its headers, the server takes {self.max_payload}")
        try:
            await self._client.publish(subject, data, reply=reply, headers=dict(headers) if headers else None)
        except (errors.Error, OSError) as error:
            raise Recoverable(f"{subject}: not sent: {error}") from None

    def send_soon(self, subject: str, data: bytes) -> None:
        """Send at most once, in order, once the server is there: acknowledgements, no more than are in hand."""
        self._outgoing.append((subject, data))
        self._waits_to_leave.set()

    async def _send(self) -> None:
        while True:
            await self._waits_to_leave.wait()
            self._waits_to_leave.clear()
            await self._send_all()

    async def _send_all(self) -> None:
        while self._outgoing and self.connected:
            subject, data = self._outgoing.popleft()
            with contextlib.suppress(HuracanError):
                await self.publish(subject, data)

    async def request(
        self, subject: str, data: bytes, headers: Headers | None = None, *, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> Msg:
        """Return the answer; raise Recoverable when none comes, Fatal when this user may not ask."""
        async with self._window:
            if not self.connected:
                raise Recoverable(f"{subject}: {self.login.url} is away")
            token = self._token()
            answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
            self._waiting[token] = subject, answer
            try:
                await self.publish(subject, data, headers, reply=f"{self._answers}.{token}")
                async with asyncio.timeout(timeout_s):
                    return await answer
            except TimeoutError:
                raise Recoverable(f"{subject}: no answer within {timeout_s} s") from None
            finally:
                del self._waiting[token]

    async def request_many(self, subject: str, data: bytes) -> list[Msg]:
        """Return all answers up to the one with a status, which comes last; raise as `request` does."""
        if not self.connected:
            raise Recoverable(f"{subject}: {self.login.url} is away")
        token = self._token()
        answers: asyncio.Queue[Msg | HuracanError] = asyncio.Queue()
        self._collecting[token] = subject, answers
        taken: list[Msg] = []
        try:
            await self.publish(subject, data, reply=f"{self._answers}.{token}")
            while not taken or not (taken[-1].headers and "Status" in taken[-1].headers):
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    answer = await answers.get()
                if isinstance(answer, HuracanError):
                    raise answer
                taken.append(answer)
        except TimeoutError:
            raise Recoverable(f"{subject}: no answer within {REQUEST_TIMEOUT_S} s") from None
        finally:
            del self._collecting[token]
        return taken

    def _token(self) -> str:
        if self._unheard:
            raise Fatal(f"user {self._user!r} may not hear the answers to {self.login.name!r}: give them one name")
        self._asked += 1
        return str(self._asked)

    async def ask(self, subject: str, question: Mapping[str, object] | None = None) -> dict[str, object]:
        """Ask JetStream's API and return its answer; raise NotThere for what it does not have, else as `request`."""
        message = await self.request(subject, json.dumps(question).encode() if question else b"")
        return answer_of(subject, message)

    async def subscribe(
        self, subject: str, callback: Callable[[Msg], Awaitable[None]], queue: str = ""
    ) -> Subscription:
        """Receive what is published from now on, over reconnects too; raise Fatal once the connection is closed."""
        try:
            return await self._client.subscribe(subject, queue=queue, cb=callback)
        except errors.Error as error:
            raise Fatal(f"{subject}: not subscribed to: {error}") from None

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Receive no more; what has come and was not handed on is forgotten."""
        with contextlib.suppress(errors.Error):  # the connection is closed, and the subscription with it
            await subscription.unsubscribe()

    def new_inbox(self) -> str:
        """Return a subject that nobody else uses and this user may hear."""
        return self._client.new_inbox()

    async def flush(self) -> None:
        """Return once the server has seen all that was sent; raise Recoverable when it does not say so."""
        try:
            for _ in range(2):  # the first ping is written ahead of what waits to be written, the second after it
                await self._client.flush(timeout=FLUSH_TIMEOUT_S)
        except (errors.Error, TimeoutError, OSError) as error:
            raise Recoverable(f"{self.login.url}: not flushed: {error}") from None

    async def close(self) -> None:
        """Send what waits, then close; close all the same when the server does not take it."""
        if self._sender is not None:
            self._sender.cancel()
        sent = False
        if self.connected:
            with contextlib.suppress(Recoverable, TimeoutError):
                async with asyncio.timeout(DRAIN_TIMEOUT_S):
                    await self._send_all()
                    await self.flush()
                    sent = True
        await self._close_client(abort=not sent)

    async def _close_client(self, *, abort: bool) -> None:
        self._closing = True
        if abort:
            self._client.abort()
        await self._client.close()

    async def _answered(self, message: Msg) -> None:
        token = message.subject.rpartition(".")[2]
        if token in self._collecting:
            self._collecting[token][1].put_nowait(message)
        waiting = self._waiting.get(token)
        if waiting is not None and not waiting[1].done():
            waiting[1].set_result(message)

    async def _failed(self, error: Exception) -> None:
        self.counts["errors"] += 1
        text = str(error)
        if isinstance(error, errors.SlowConsumerError):
            self.counts["slow_consumers"] += 1
        elif "authorization violation" in text.lower() and self._login_refused and not self._login_refused.done():
            self._login_refused.set_result(None)
        elif violation := _VIOLATION.search(text):
            self._refused(violation[1].lower(), violation[2])
        logger.warning("bus.error", service=self.login.name, error=text or type(error).__name__)

    def _refused(self, what: str, subject: str) -> None:
        """Take a refusal; the library gives its subject in lower case."""
        self.counts["refused"] += 1
        if what == "publish":
            if len(self._forbidden) < FORBIDDEN_BOUND:
                self._forbidden.add(subject)
            self._fail(lambda asked: self._not_permitted(what, asked), only=subject)
        elif subject == f"{self._answers}.*".lower():
            self._unheard = True
            self._fail(lambda _: self._not_permitted(what, subject))
        else:
            for refused in self.on_refused:
                refused(subject, self._not_permitted(what, subject))

    def _not_permitted(self, what: str, subject: str) -> Fatal:
        return Fatal(f"user {self._user!r} has no permission for {what} on {subject}")

    def _fail(self, error: Callable[[str], HuracanError], *, only: str | None = None) -> None:
        """Fail all requests that wait, or those on one subject."""
        for subject, answer in self._waiting.values():
            if only in (None, subject.lower()) and not answer.done():
                answer.set_exception(error(subject))
        for subject, answers in self._collecting.values():
            if only in (None, subject.lower()):
                answers.put_nowait(error(subject))

    async def _disconnected(self) -> None:
        self.counts["disconnects"] += 1
        self._fail(lambda subject: Recoverable(f"{subject}: {self.login.url} went away"))
        logger.warning("bus.disconnected", service=self.login.name)

    async def _reconnected(self) -> None:
        self.counts["reconnects"] += 1
        logger.info("bus.reconnected", service=self.login.name)
        self._forbidden.clear()
        self._unheard = False
        self._waits_to_leave.set()
        for reconnected in list(self.on_reconnected):
            await reconnected()

    async def _closed(self) -> None:
        if not self._closing:
            self.gone.set()
        logger.info("bus.closed", service=self.login.name)


def _size(headers: Headers | None) -> int:
    """Return how many bytes headers are on the wire, which the library does not count and the server does."""
    if not headers:
        return 0
    return _FRAMING + sum(len(f"{name}: {value}\r\n".encode()) for name, value in headers.items())


class NotThere(Recoverable):
    """JetStream has no such stream, consumer or message."""


def answer_of(subject: str, message: Msg) -> dict[str, object]:
    """Return what JetStream answered; raise NotThere, Fatal for what it will never do, or Recoverable."""
    if message.headers and message.headers.get("Status") == "503":
        raise Recoverable(f"{subject}: nobody answers: JetStream is not ready, or has no such stream")
    answer = json.loads(message.data)
    error = answer.get("error")
    if error is None:
        return dict(answer)
    text = f"{subject}: {error.get('description')}"
    if error["code"] == 404:
        raise NotThere(text)
    if error["code"] == 400:
        raise Fatal(text)
    raise Recoverable(text)


def inbox_prefix(name: str) -> str:
    """Return where the answers to a service go: nobody else may listen there."""
    return f"_INBOX_{subjects.token(name)}"
